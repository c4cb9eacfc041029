//! Sessions that share pages of their prompts: the same text, the same accounts, bounds on what is kept.

use super::{TINY, load, model, pass, tokens};
use crate::llm::cache::{Cache, CacheType, PAGE};
use crate::llm::graph::LanguageGraph;
use crate::llm::prefix::PrefixPages;
use graphpool::backend::{
    Backend as _, BackendContext, BackendGraph as _, CancelToken, ComputeControl, Encoding, ErrorKind, LoadRequest,
    Target, TensorType, TensorView,
};
use std::thread;

/// Greedy, in chunks that are no whole pages.
const GREEDY: &str =
    r#"{"temp": 0, "repeat-penalty": 1, "n-predict": 20, "ignore-eos": true, "ubatch-size": 50, "ctx-size": 512}"#;

/// A prompt of 100 tokens: three pages and 4 more.
fn long() -> String {
    "0123456789".repeat(10)
}

/// A graph that keeps so many MiB of pages.
fn graph(architecture: &str, mib: usize) -> LanguageGraph {
    let config = format!(r#"{{"cache-ram": {mib}}}"#);
    LanguageGraph::load(&model(architecture, TINY, 8, 2).finish(), b"", config.as_bytes(), 1 << 24).unwrap()
}

fn set(context: &mut dyn BackendContext, index: usize, text: &str) {
    let length = [u32::try_from(text.len()).unwrap()];
    context.set_input(index, TensorView::new(&length, TensorType::U8, text.as_bytes()).unwrap()).unwrap();
}

fn context(graph: &LanguageGraph, options: &str, prompt: &str) -> Box<dyn BackendContext> {
    let mut context = graph.init_context().unwrap();
    set(&mut *context, 1, options);
    set(&mut *context, 0, prompt);
    context
}

fn run(context: &mut dyn BackendContext) -> Vec<u8> {
    context.compute(&ComputeControl::default()).unwrap();
    context.output(0).unwrap().data().to_vec()
}

/// The rows that were passed so far.
fn rows(graph: &LanguageGraph) -> usize {
    graph.shared().batches.counts().rows
}

fn kept(graph: &LanguageGraph) -> usize {
    graph.shared().prefixes.kept().0
}

#[test]
fn a_prompt_that_begins_as_another_one_is_passed_from_the_first_difference_on() {
    for architecture in ["llama", "gemma3", "phi3"] {
        let (graph, alone) = (graph(architecture, 1), graph(architecture, 0));
        let first = long();
        let mut holder = context(&graph, GREEDY, &first);
        assert_eq!(run(&mut *holder), run(&mut *context(&alone, GREEDY, &first)));
        assert_eq!((kept(&graph), kept(&alone)), (3, 0));
        for (prompt, shared) in [
            // The last token is passed in any case.
            (first.clone(), 96),
            (first[..96].to_owned(), 64),
            (first[..97].to_owned(), 96),
            (format!("{}!{}", &first[..70], &first[71..]), 64),
            (format!("{first}{first}"), 96),
            (format!("x{first}"), 0),
            (first[..20].to_owned(), 0),
        ] {
            let (before, mut other) = (rows(&graph), context(&graph, GREEDY, &prompt));
            let text = run(&mut *other);
            // 20 steps pass one row each; the first of them is the prompt's last chunk.
            assert_eq!(rows(&graph) - before, prompt.len() - shared + 19, "{architecture} {}", prompt.len());
            let mut separate = context(&alone, GREEDY, &prompt);
            assert_eq!(text, run(&mut *separate), "{architecture} {}", prompt.len());
            // P5.
            assert_eq!(other.memory(), separate.memory());
            assert!(other.shared_memory() > 0 || prompt.len() < 32);
            assert_eq!(separate.shared_memory(), 0);
        }
    }
}

#[test]
fn what_a_session_keeps_of_its_own_is_shared_and_copied_at_the_first_difference() {
    let (graph, alone) = (graph("qwen3", 1), graph("qwen3", 0));
    let (mut holder, mut other) = (context(&graph, GREEDY, &long()), context(&graph, GREEDY, &long()[..40]));
    let mut separate = context(&alone, GREEDY, "x");
    run(&mut *holder);
    for prompt in [
        long()[..40].to_owned(),
        // Goes on within the second page, by itself and then as the holder's.
        format!("{} and on and on and on and on", &long()[..50]),
        long(),
        format!("{}?", &long()[..90]),
        "another".into(),
        long(),
    ] {
        set(&mut *other, 0, &prompt);
        set(&mut *separate, 0, &prompt);
        assert_eq!(run(&mut *other), run(&mut *separate), "{prompt}");
        assert_eq!(other.memory(), separate.memory(), "{prompt}");
    }
    // Nobody has changed the holder's pages.
    set(&mut *separate, 0, &long());
    assert_eq!(run(&mut *holder), run(&mut *separate));
}

#[test]
fn errors_and_limits_are_those_of_a_session_that_shares_nothing() {
    let (graph, alone) = (graph("llama", 1), graph("llama", 0));
    let _holder = {
        let mut holder = context(&graph, GREEDY, &long());
        run(&mut *holder);
        holder
    };
    let needed = {
        let mut separate = context(&alone, GREEDY, &long());
        run(&mut *separate);
        separate.memory()
    };
    let mut succeeded = 0;
    for limit in (0..needed + 150_000).step_by(1511) {
        let control = ComputeControl::default().with_context_memory_limit(limit);
        let [one, other] = [&graph, &alone].map(|graph| {
            let mut context = context(graph, GREEDY, &long());
            let result = context.compute(&control).map_err(|error| (error.kind(), error.message().to_owned()));
            (result, context.memory())
        });
        assert_eq!(one, other, "at a limit of {limit}");
        succeeded += usize::from(one.0.is_ok());
    }
    assert!((5..100).contains(&succeeded), "{succeeded}");
    // The engine's limit holds for what the session does not share.
    let mut own = ComputeControl::default();
    own.own_memory_limit = needed;
    let mut sharing = context(&graph, GREEDY, &long());
    sharing.compute(&ComputeControl::default()).unwrap();
    own.own_memory_limit = sharing.memory() - sharing.shared_memory() + 150_000;
    set(&mut *sharing, 0, &long());
    sharing.compute(&own).unwrap();
    own.own_memory_limit = sharing.memory() - sharing.shared_memory();
    assert_eq!(sharing.compute(&own).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn a_cancelled_session_shares_what_it_has_passed_and_goes_on() {
    let (graph, alone) = (graph("llama", 1), graph("llama", 0));
    let mut first = context(&graph, GREEDY, &long());
    let cancel = CancelToken::default();
    cancel.cancel();
    let cancelled = ComputeControl::default().with_cancel(cancel);
    assert_eq!(first.compute(&cancelled).unwrap_err().kind(), ErrorKind::RuntimeError);
    assert_eq!((kept(&graph), first.shared_memory()), (0, 0));
    // Room for the first chunk, and not for the second.
    let limit = (0..1 << 18)
        .step_by(256)
        .find(|&limit| {
            let mut context = context(&alone, GREEDY, &long());
            context.compute(&ComputeControl::default().with_memory_limit(limit)).unwrap_err();
            alone.shared().batches.counts().rows == 50
        })
        .unwrap();
    let tight = ComputeControl::default().with_memory_limit(limit);
    assert_eq!(first.compute(&tight).unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(kept(&graph), 1);
    let whole = run(&mut *context(&alone, GREEDY, &long()));
    let before = rows(&graph);
    assert_eq!(run(&mut *context(&graph, GREEDY, &long())), whole);
    assert_eq!(rows(&graph) - before, 100 - 32 + 19);
    // The one that was cut off has its first 50 tokens, and two pages of the other one.
    let before = rows(&graph);
    assert_eq!(run(&mut *first), whole);
    assert_eq!(rows(&graph) - before, 4 + 19);
}

#[test]
fn a_failed_pass_shares_nothing_of_it() {
    let graph = graph("llama", 1);
    let mut context = context(&graph, r#"{"temp": 0, "n-predict": 2}"#, &long());
    // Cancelled within the first pass: by the waker, as soon as there is one.
    let late = ComputeControl::default().with_deadline(std::time::Instant::now());
    assert_eq!(context.compute(&late).unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(kept(&graph), 0);
    run(&mut *context);
    assert_eq!(kept(&graph), 3);
}

#[test]
fn pages_are_kept_within_their_bound_and_the_oldest_go_first() {
    let model_file = model("llama", TINY, 8, 2);
    let hyper = load(&model_file).unwrap().shared().model.hyper.clone();
    let (_, sample) = pass(&load(&model_file).unwrap().shared().model, &tokens(), 100, CacheType::F16);
    let each = sample.page_bytes() + 1024;
    drop(sample);
    let graph = load(&model_file).unwrap();
    let mut pages = PrefixPages::new(4 * each);
    let fill = |pages: &PrefixPages, first: u32, count: usize| -> Cache {
        let tokens: Vec<u32> = (0..count as u32 * PAGE as u32).map(|at| (first + at) % 261).collect();
        let (_, mut cache) = pass(&graph.shared().model, &tokens, 100, CacheType::F16);
        pages.share(&mut cache, &tokens);
        cache
    };
    let found = |pages: &PrefixPages, first: u32| {
        let tokens: Vec<u32> = (0..320).map(|at| (first + at) % 261).collect();
        pages.find(CacheType::F16, &tokens).len()
    };
    let one = fill(&pages, 1, 3);
    assert_eq!((pages.kept().0, one.shared_pages(), found(&pages, 1), found(&pages, 2)), (3, 3, 3, 0));
    // A cache of another type has its own.
    assert!(pages.find(CacheType::F32, &(1..97).collect::<Vec<_>>()).is_empty());
    // One more fits; the rest stay the session's own, as nobody else's are taken.
    let two = fill(&pages, 2, 3);
    assert_eq!((pages.kept().0, two.shared_pages(), found(&pages, 2)), (4, 1, 1));
    assert!(pages.kept().1 <= 4 * each);
    // The other session's goes, as the first one's were found again, and then the last of the first one's.
    drop(one);
    drop(two);
    assert_eq!(found(&pages, 1), 3);
    let three = fill(&pages, 3, 2);
    assert_eq!((three.shared_pages(), found(&pages, 1), found(&pages, 2), found(&pages, 3)), (2, 2, 0, 2));
    drop(three);
    // Sharing is off.
    pages = PrefixPages::new(0);
    let off = fill(&pages, 1, 3);
    assert_eq!((pages.kept(), off.shared_pages(), found(&pages, 1)), ((0, 0), 0, 0));
    assert!(off.bytes() >= hyper.layers * 96 * 2 * 2 * 16);
}

#[test]
fn a_page_of_a_prompt_is_the_same_however_it_was_passed() {
    for architecture in super::ARCHITECTURES {
        let graph = load(&model(architecture, TINY, 8, 2)).unwrap();
        let model = &graph.shared().model;
        let tiles = |chunk| {
            let (_, cache) = pass(model, &tokens(), chunk, CacheType::F16);
            let mut all = Vec::new();
            let mut tile = vec![0.0; 2 * PAGE * model.hyper.head_dim];
            for (page, layer, head) in
                (0..3).flat_map(|page| (0..2).flat_map(move |layer| (0..2).map(move |head| (page, layer, head))))
            {
                cache.read(page, layer, head, &mut tile);
                all.extend(tile.iter().map(|x| x.to_bits()));
            }
            all
        };
        let whole = tiles(100);
        for chunk in [1, 2, 5, 31, 32, 64] {
            assert!(tiles(chunk) == whole, "{architecture} in chunks of {chunk}");
        }
    }
}

#[test]
fn many_sessions_share_one_copy_whoever_comes_first() {
    let (graph, alone) = (graph("llama", 1), graph("llama", 0));
    let prompts: Vec<String> = (0..8).map(|index| format!("{}{}", long(), "abcdefgh".split_at(index).0)).collect();
    let texts: Vec<_> = prompts.iter().map(|prompt| run(&mut *context(&alone, GREEDY, prompt))).collect();
    let contexts: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = prompts
            .iter()
            .map(|prompt| {
                let graph = &graph;
                scope.spawn(move || {
                    let mut context = context(graph, GREEDY, prompt);
                    (run(&mut *context), context)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(contexts.iter().map(|(text, _)| text).eq(&texts));
    // Three pages of the prompt, in all sessions.
    assert_eq!(kept(&graph), 3);
    let shared = contexts[0].1.shared_memory();
    assert!(shared > 0 && contexts.iter().all(|(_, context)| context.shared_memory() == shared));
    drop(contexts);
    assert_eq!(kept(&graph), 3);
}

#[test]
fn a_host_switches_sharing_off_and_pages_count_as_memory_of_the_graph() {
    let file = model("llama", TINY, 8, 2).finish();
    let load = |backend: crate::CandleBackend, config: &str, limit: usize| {
        let parts: [&[u8]; 1] = [&file];
        let request = LoadRequest::new(&parts, Encoding::Ggml, Target::Cpu).with_memory_limit(limit);
        backend.load(&request.with_config((!config.is_empty()).then_some(config))).map(|graph| graph.memory())
    };
    let on = crate::CandleBackend::new();
    let without = load(on.clone().with_shared_prompts(false), "", usize::MAX).unwrap();
    assert_eq!(load(on.clone(), r#"{"cache-ram": 0}"#, usize::MAX), Ok(without));
    assert_eq!(load(on.clone(), r#"{"cache-ram": 3}"#, usize::MAX), Ok(without + (3 << 20)));
    assert_eq!(load(on.clone().with_shared_prompts(false), r#"{"cache-ram": 3}"#, usize::MAX), Ok(without));
    let default = load(on.clone(), "", usize::MAX).unwrap();
    assert!((without + 1000..without + without / 8).contains(&default), "{default} {without}");
    assert_eq!(load(on.clone(), r#"{"cache-ram": -1}"#, usize::MAX), Ok(default));
    // No load fails for them.
    assert_eq!(load(on.clone(), r#"{"cache-ram": 3}"#, 1 << 20), Ok(1 << 20));
    assert_eq!(load(on, r#"{"cache-ram": -2}"#, usize::MAX).unwrap_err().kind(), ErrorKind::InvalidArgument);
}
