//! Runs of sessions: their text, how they end, options, limits.

use super::super::gguf::writer::{Sizes, array, string};
use super::{TINY, load, model};
use crate::llm::graph::LanguageGraph;
use graphpool::backend::{
    BackendContext, BackendGraph as _, CancelToken, ComputeControl, ErrorKind, Step, TensorType, TensorView,
};
use std::time::{Duration, Instant};

/// Greedy, and of a length that tests have time for.
const GREEDY: &str = r#"{"temp": 0, "repeat-penalty": 1, "n-predict": 12}"#;

fn graph() -> LanguageGraph {
    load(&model("llama", TINY, 8, 2)).unwrap()
}

fn set(context: &mut dyn BackendContext, index: usize, text: &[u8]) -> Result<(), graphpool::backend::Error> {
    let length = [u32::try_from(text.len()).unwrap()];
    context.set_input(index, TensorView::new(&length, TensorType::U8, text).unwrap())
}

fn context(graph: &LanguageGraph, options: &str, prompt: &str) -> Box<dyn BackendContext> {
    let mut context = graph.init_context().unwrap();
    set(&mut *context, 1, options.as_bytes()).unwrap();
    set(&mut *context, 0, prompt.as_bytes()).unwrap();
    context
}

fn text(context: &dyn BackendContext) -> Vec<u8> {
    context.output(0).unwrap().data().to_vec()
}

/// The tokens of prompt and text, from output 1.
fn counts(context: &dyn BackendContext) -> (u64, u64) {
    let json: serde_json::Value = serde_json::from_slice(context.output(1).unwrap().data()).unwrap();
    assert!(json["llama_build_number"].is_u64() && json["llama_commit"].is_string());
    (json["input_tokens"].as_u64().unwrap(), json["output_tokens"].as_u64().unwrap())
}

fn generate(graph: &LanguageGraph, options: &str, prompt: &str) -> Vec<u8> {
    let mut context = context(graph, options, prompt);
    context.compute(&ComputeControl::default()).unwrap();
    text(&*context)
}

#[test]
fn a_compute_is_the_steps_together() {
    let graph = graph();
    let whole = generate(&graph, GREEDY, "the cat in the hat");
    assert!(!whole.is_empty());
    let mut context = context(&graph, GREEDY, "the cat in the hat");
    let control = ComputeControl::default();
    for _ in 0..2 {
        let (mut pieces, mut steps) = (Vec::new(), 0);
        loop {
            let step = context.step(&control).unwrap();
            pieces.extend_from_slice(context.step_output(0).unwrap().data());
            if step.is_end() {
                assert_eq!(step, Step::EndOfSequence);
                assert!(context.step_output(0).unwrap().data().is_empty());
                break;
            }
            steps += 1;
            assert_eq!(counts(&*context).1, steps);
        }
        assert_eq!((&pieces, steps), (&whole, 12));
        context.end_steps();
    }
    // The prompt is still set.
    context.compute(&control).unwrap();
    assert_eq!(text(&*context), whole);
    assert_eq!(context.take_output(0).unwrap().data(), whole);
    assert_eq!(context.output(0).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(counts(&*context).1, 12);
}

#[test]
fn a_prompt_is_counted_as_soon_as_it_is_set() {
    let graph = graph();
    let mut context = graph.init_context().unwrap();
    assert_eq!(context.output(1).unwrap_err().kind(), ErrorKind::InvalidArgument);
    set(&mut *context, 0, b"the cat").unwrap();
    // `the`, and a token for each other byte; none is in front.
    assert_eq!(counts(&*context), (5, 0));
    set(&mut *context, 0, b"<|turn|>a<|end|>").unwrap();
    assert_eq!(counts(&*context), (3, 0));
    context.clear_inputs();
    assert_eq!(context.compute(&ComputeControl::default()).unwrap_err().kind(), ErrorKind::InvalidArgument);
    set(&mut *context, 0, b"").unwrap();
    let error = context.compute(&ComputeControl::default()).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::InvalidArgument, "the prompt has no token"));
}

#[test]
fn a_prompt_is_taken_apart_until_it_is_cancelled_or_late() {
    let graph = graph();
    let mut context = context(&graph, r#"{"ctx-size": 100000}"#, "the cat");
    let text = "the cat in the hat ".repeat(5000);
    let tensor = [u32::try_from(text.len()).unwrap()];
    let tensor = TensorView::new(&tensor, TensorType::U8, text.as_bytes()).unwrap();
    let cancel = CancelToken::default();
    cancel.cancel();
    for (control, kind, why) in [
        (ComputeControl::default().with_cancel(cancel), ErrorKind::RuntimeError, "cancelled"),
        (ComputeControl::default().with_deadline(Instant::now()), ErrorKind::Timeout, "the deadline passed"),
        (ComputeControl::default().with_memory_limit(1 << 20), ErrorKind::TooLarge, "a prompt needs "),
        (ComputeControl::default().with_context_memory_limit(1 << 20), ErrorKind::TooLarge, "a prompt needs "),
    ] {
        let error = context.set_input_within(0, tensor, &control).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.message().starts_with(why), "{error}");
    }
    // In the middle: a check of the tokenizer's comes each few thousand bytes.
    let soon = ComputeControl::default().with_deadline(Instant::now() + Duration::from_micros(300));
    let error = context.set_input_within(0, tensor, &soon).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    // The session has no prompt now, and takes another one.
    assert_eq!(context.output(1).unwrap_err().kind(), ErrorKind::InvalidArgument);
    set(&mut *context, 0, text.as_bytes()).unwrap();
    assert_eq!(counts(&*context).0, 5000 * 12 + 1);
}

#[test]
fn a_chat_that_goes_on_has_the_text_of_a_new_session() {
    let graph = graph();
    let mut context = context(&graph, GREEDY, "the cat");
    let control = ComputeControl::default();
    let mut history = b"the cat".to_vec();
    for turn in ["<|turn|> in the hat", "<|turn|> and on", "<|turn|>!"] {
        context.compute(&control).unwrap();
        history.extend(text(&*context));
        history.extend(turn.as_bytes());
        let prompt = String::from_utf8_lossy(&history).into_owned();
        set(&mut *context, 0, prompt.as_bytes()).unwrap();
        context.compute(&control).unwrap();
        assert_eq!(text(&*context), generate(&graph, GREEDY, &prompt), "{turn}");
        history = prompt.into_bytes();
    }
    // Another beginning, and the same prompt again.
    for prompt in ["a dog", "a dog", "a"] {
        set(&mut *context, 0, prompt.as_bytes()).unwrap();
        context.compute(&control).unwrap();
        assert_eq!(text(&*context), generate(&graph, GREEDY, prompt), "{prompt}");
    }
}

#[test]
fn a_long_prompt_and_a_full_context_have_their_own_ends() {
    let graph = graph();
    let options = r#"{"temp": 0, "ctx-size": 24, "ignore-eos": true}"#;
    let control = ComputeControl::default();
    // 24 - 4 tokens fit.
    let mut fits = context(&graph, options, &"a".repeat(20));
    let error = fits.compute(&control).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ContextFull);
    let (input, output) = counts(&*fits);
    assert_eq!((input, output), (20, 5));
    assert!(!text(&*fits).is_empty());
    let mut step = Step::More;
    for _ in 0..=5 {
        assert_eq!(step, Step::More);
        step = fits.step(&control).unwrap();
    }
    assert_eq!(step, Step::ContextFull);
    fits.end_steps();

    let mut long = context(&graph, options, &"a".repeat(21));
    assert_eq!(counts(&*long), (21, 0));
    assert_eq!(long.compute(&control).unwrap_err().kind(), ErrorKind::PromptTooLong);
    assert_eq!(long.step(&control).unwrap(), Step::PromptTooLong);
    let error = set(&mut *long, 0, &[b'a'; 24 * 16 + 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(error.message(), "the prompt has 385 bytes, and a context of 24 tokens takes at most 384");
}

#[test]
fn a_text_ends_before_a_stop_string() {
    let graph = graph();
    let whole = generate(&graph, GREEDY, "the cat");
    // A part of the text that is UTF-8.
    let whole_text = String::from_utf8_lossy(&whole);
    let at = whole_text.char_indices().map(|(at, _)| at).nth(4).unwrap();
    let stop: String = whole_text[at..].chars().take_while(|&c| c != '\u{fffd}').take(2).collect();
    assert!(!stop.is_empty(), "{whole_text}");
    let mut options: serde_json::Value = serde_json::from_str(GREEDY).unwrap();
    options["reverse-prompt"] = stop.clone().into();
    let first = whole.windows(stop.len()).position(|part| part == stop.as_bytes()).unwrap();
    assert_eq!(generate(&graph, &options.to_string(), "the cat"), whole[..first]);
    options["reverse-prompt"] = serde_json::json!(["no such text", stop]);
    assert_eq!(generate(&graph, &options.to_string(), "the cat"), whole[..first]);
    // Bytes that were held back come at the end.
    let tail = String::from_utf8_lossy(&whole[whole.len() - 1..]);
    options["reverse-prompt"] = format!("{tail}no such text").into();
    assert_eq!(generate(&graph, &options.to_string(), "the cat"), whole);
}

#[test]
fn the_same_seed_gives_the_same_text() {
    let graph = graph();
    let options = |seed: i64| format!(r#"{{"seed": {seed}, "temp": 2, "n-predict": 20, "ignore-eos": true}}"#);
    let first = generate(&graph, &options(1), "the");
    assert_eq!(generate(&graph, &options(1), "the"), first);
    assert_ne!(generate(&graph, &options(2), "the"), first);
    assert_ne!(generate(&graph, &options(-1), "the"), generate(&graph, &options(-1), "the"));
}

#[test]
fn options_are_checked_and_those_of_the_host_refused() {
    let graph = graph();
    let mut context = graph.init_context().unwrap();
    let mut kind = |options: &str| set(&mut *context, 1, options.as_bytes()).map_err(|error| error.kind());
    for good in [
        "",
        "  ",
        "{}",
        r#"{"unknown": [1, {"a": null}], "enable-log": true, "n-gpu-layers": 99, "threads": 8, "temp": 1}"#,
        r#"{"mmproj": "", "image": null, "grammar": "", "rope-freq-base": 0.0, "temp": null, "seed": 4294967295}"#,
        r#"{"ctx-size": 0, "n-predict": -1, "cache-type-k": "f32", "reverse-prompt": ["a", "b"]}"#,
        r#"{"embd-normalize": -1}"#,
    ] {
        assert_eq!(kind(good), Ok(()), "{good}");
    }
    for (bad, wanted) in [
        ("{", ErrorKind::InvalidEncoding),
        ("[]", ErrorKind::InvalidEncoding),
        ("7", ErrorKind::InvalidEncoding),
        ("\u{0}", ErrorKind::InvalidEncoding),
        (r#"{"temp": "hot"}"#, ErrorKind::InvalidArgument),
        (r#"{"temp": 1e300}"#, ErrorKind::InvalidArgument),
        (r#"{"n-predict": 1.5}"#, ErrorKind::InvalidArgument),
        (r#"{"ctx-size": -1}"#, ErrorKind::InvalidArgument),
        (r#"{"ctx-size": 99999999999}"#, ErrorKind::InvalidArgument),
        (r#"{"embedding": 1}"#, ErrorKind::InvalidArgument),
        (r#"{"reverse-prompt": [1]}"#, ErrorKind::InvalidArgument),
        (r#"{"ubatch-size": 0}"#, ErrorKind::InvalidArgument),
        (r#"{"top-k": 4294967296}"#, ErrorKind::InvalidArgument),
        (r#"{"mirostat": 3}"#, ErrorKind::InvalidArgument),
        (r#"{"cache-type-k": "q8_0"}"#, ErrorKind::UnsupportedOperation),
        (r#"{"grammar": "root ::= x"}"#, ErrorKind::UnsupportedOperation),
        (r#"{"rope-freq-scale": 0.5}"#, ErrorKind::UnsupportedOperation),
        (r#"{"rope-freq-base": 0.5}"#, ErrorKind::InvalidArgument),
        (r#"{"pooling": "rank"}"#, ErrorKind::UnsupportedOperation),
        (r#"{"pooling": 1}"#, ErrorKind::InvalidArgument),
        (r#"{"mmproj": "/etc/passwd"}"#, ErrorKind::UnsupportedOperation),
        (r#"{"hf-repo": "x"}"#, ErrorKind::UnsupportedOperation),
        (r#"{"tts-anything": {"a": 1}}"#, ErrorKind::UnsupportedOperation),
        (r#"{"port": 80}"#, ErrorKind::UnsupportedOperation),
    ] {
        assert_eq!(kind(bad), Err(wanted), "{bad}");
    }
    assert_eq!(kind(&" ".repeat((1 << 16) + 1)), Err(ErrorKind::TooLarge));
    let deep = format!(r#"{{"a": {}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
    assert_eq!(kind(&deep), Err(ErrorKind::InvalidEncoding));
}

#[test]
fn each_context_has_its_own_options_and_they_go_with_the_inputs() {
    let graph =
        LanguageGraph::load(&model("llama", TINY, 8, 2).finish(), GREEDY.as_bytes(), br#"{"n-predict": 3}"#, 1 << 24);
    let graph = graph.unwrap();
    let run = |context: &mut dyn BackendContext| {
        set(context, 0, b"the cat").unwrap();
        context.compute(&ComputeControl::default()).unwrap();
        counts(context).1
    };
    let (mut one, mut other) = (graph.init_context().unwrap(), graph.init_context().unwrap());
    set(&mut *one, 1, br#"{"n-predict": 2}"#).unwrap();
    assert_eq!((run(&mut *one), run(&mut *other)), (2, 3));
    one.clear_inputs();
    assert_eq!(run(&mut *one), 3);
}

#[test]
fn only_bytes_are_inputs() {
    let graph = graph();
    let mut context = graph.init_context().unwrap();
    let words = TensorView::new(&[1], TensorType::I32, &[0; 4]).unwrap();
    for (index, tensor) in [(0, words), (1, words), (2, TensorView::new(&[1], TensorType::U8, b"x").unwrap())] {
        assert_eq!(context.set_input(index, tensor).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    assert_eq!(context.output(2).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(context.output(0).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_cache_is_charged_before_it_is_there() {
    let graph = graph();
    let prompt = "a".repeat(100);
    let needed = {
        let mut context = context(&graph, GREEDY, &prompt);
        context.compute(&ComputeControl::default()).unwrap();
        context.memory()
    };
    assert!(needed > 100 * 2 * 2 * 2 * 8 * 2);
    let mut tight = context(&graph, GREEDY, &prompt);
    for control in [
        ComputeControl::default().with_memory_limit(needed - 1),
        ComputeControl::default().with_context_memory_limit(needed - 1),
        ComputeControl::default().with_memory_limit(0),
    ] {
        let before = tight.memory();
        let error = tight.compute(&control).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        assert!(tight.memory() <= needed.max(before));
        assert_eq!(tight.output(0).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    tight.compute(&ComputeControl::default()).unwrap();
    assert_eq!(text(&*tight), generate(&graph, GREEDY, &prompt));
}

#[test]
fn a_cancelled_run_goes_on_where_it_was() {
    let graph = graph();
    let whole = generate(&graph, GREEDY, "the cat in the hat");
    let mut context = context(&graph, GREEDY, "the cat in the hat");
    let cancel = CancelToken::default();
    cancel.cancel();
    let cancelled = ComputeControl::default().with_cancel(cancel);
    let late = ComputeControl::default().with_deadline(Instant::now());
    let control = ComputeControl::default();
    let mut pieces = Vec::new();
    loop {
        assert_eq!(context.step(&cancelled).unwrap_err().kind(), ErrorKind::RuntimeError);
        assert_eq!(context.step(&late).unwrap_err().kind(), ErrorKind::Timeout);
        if context.step(&control).unwrap().is_end() {
            break;
        }
        pieces.extend_from_slice(context.step_output(0).unwrap().data());
        if pieces.len() >= whole.len() {
            break;
        }
    }
    assert_eq!(pieces, whole);
    context.end_steps();
    assert_eq!(context.compute(&cancelled).unwrap_err().kind(), ErrorKind::RuntimeError);
    assert_eq!(context.compute(&late).unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(context.output(0).unwrap_err().kind(), ErrorKind::InvalidArgument);
    context.compute(&control).unwrap();
    assert_eq!(text(&*context), whole);
}

#[test]
fn an_embedding_is_the_state_of_the_prompt() {
    let graph = graph();
    let options = r#"{"embedding": true}"#;
    let embedding = |prompt: &str, options: &str| -> Vec<f64> {
        let json: serde_json::Value = serde_json::from_slice(&generate(&graph, options, prompt)).unwrap();
        assert_eq!(json["n_embedding"], TINY.width);
        serde_json::from_value(json["embedding"].clone()).unwrap()
    };
    let one = embedding("the cat", options);
    assert_eq!(one.len() as u64, TINY.width);
    let norm: f64 = one.iter().map(|x| x * x).sum();
    assert!((norm - 1.0).abs() < 1e-6, "{norm}");
    assert_eq!(embedding("the cat", r#"{"embedding": true, "ubatch-size": 1}"#), one);
    assert_ne!(embedding("the dog", options), one);
    let mut context = context(&graph, options, "the cat");
    assert_eq!(context.step(&ComputeControl::default()).unwrap_err().kind(), ErrorKind::UnsupportedOperation);
}

#[test]
fn an_embedding_is_that_of_the_first_or_last_token_or_the_mean_of_all() {
    let embedding = |graph: &LanguageGraph, prompt: &str, pooling: &str| -> Vec<f64> {
        let options = format!(r#"{{"embedding": true, "embd-normalize": -1, "ubatch-size": 3{pooling}}}"#);
        let json: serde_json::Value = serde_json::from_slice(&generate(graph, &options, prompt)).unwrap();
        serde_json::from_value(json["embedding"].clone()).unwrap()
    };
    let graph = graph();
    // A token for each letter.
    let prompt = "abcdefgh";
    let states: Vec<Vec<f64>> =
        (1..=8).map(|count| embedding(&graph, &prompt[..count], r#", "pooling": "last""#)).collect();
    let mean: Vec<f64> =
        (0..states[0].len()).map(|at| states.iter().map(|state| state[at]).sum::<f64>() / 8.0).collect();
    let near = |one: &[f64], other: &[f64]| one.iter().zip(other).all(|(x, y)| (x - y).abs() < 1e-6);
    assert!(near(&embedding(&graph, prompt, r#", "pooling": "mean""#), &mean));
    assert!(!near(&states[7], &mean) && !near(&states[0], &states[7]));
    assert!(near(&embedding(&graph, prompt, r#", "pooling": "cls""#), &states[0]));
    assert!(near(&embedding(&graph, prompt, ""), &states[7]));
    // What the file says holds unless the options say otherwise.
    for (number, state) in [(0, &states[7]), (1, &mean), (2, &states[0]), (3, &states[7])] {
        let mut writer = model("llama", TINY, 8, 2);
        writer.u32("llama.pooling_type", number);
        let graph = load(&writer).unwrap();
        assert!(near(&embedding(&graph, prompt, ""), state), "{number}");
        assert!(near(&embedding(&graph, prompt, r#", "pooling": "last""#), &states[7]));
    }
    // Twice in one session, and after a text.
    let mut context = context(&graph, GREEDY, prompt);
    context.compute(&ComputeControl::default()).unwrap();
    set(&mut *context, 1, br#"{"embedding": true, "pooling": "mean", "embd-normalize": -1}"#).unwrap();
    for _ in 0..2 {
        context.compute(&ComputeControl::default()).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&text(&*context)).unwrap();
        assert!(near(&serde_json::from_value::<Vec<f64>>(json["embedding"].clone()).unwrap(), &mean));
    }
    let error = context.compute(&ComputeControl::default().with_memory_limit(5000)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    context.compute(&ComputeControl::default()).unwrap();
}

#[test]
fn a_text_is_charged_as_it_grows() {
    // Every token but the prompt's has 10,000 bytes.
    let mut writer = model("llama", TINY, 8, 2);
    let tokens: Vec<Vec<u8>> = std::iter::once(string(b"x")).chain((1..264).map(|_| string(&[b'y'; 10_000]))).collect();
    writer.set("tokenizer.ggml.tokens", 9, array(8, &tokens));
    writer.set("tokenizer.ggml.token_type", 9, array(5, &vec![vec![1, 0, 0, 0]; 264]));
    writer.set("tokenizer.ggml.merges", 9, array(8, &[string(b"x x")]));
    writer.metadata.retain(|(key, ..)| key != b"tokenizer.ggml.eos_token_id");
    let graph = load(&writer).unwrap();
    let options = r#"{"temp": 5, "top-k": 0, "top-p": 1, "min-p": 0, "seed": 1, "n-predict": 100}"#;
    let mut context = context(&graph, options, "x");
    let error = context.compute(&ComputeControl::default().with_memory_limit(300_000)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.message().starts_with("the text of a session needs "), "{error}");
    // Step by step it is the same, and nothing is lost by the error.
    let control = ComputeControl::default().with_memory_limit(300_000);
    let mut steps = 0;
    while context.step(&control).is_ok() {
        steps += 1;
    }
    assert!((1..30).contains(&steps), "{steps} steps");
    assert!(context.memory() <= 300_000, "{} bytes", context.memory());
}

#[test]
fn a_sampler_is_charged_before_it_is_there() {
    let graph = graph();
    let control = ComputeControl::default().with_memory_limit(250_000);
    // The window of the penalties has 65,536 tokens of 4 bytes.
    let mut context = context(&graph, r#"{"repeat-last-n": -1, "n-predict": 1}"#, "the cat");
    let error = context.compute(&control).unwrap_err();
    assert!(error.message().starts_with("the run of a session needs "), "{error}");
    set(&mut *context, 1, br#"{"repeat-last-n": 64, "n-predict": 1}"#).unwrap();
    context.compute(&control).unwrap();
}

#[test]
fn the_frequencies_of_a_rotation_are_the_graphs() {
    let file = model("llama", TINY, 8, 2).finish();
    let text = |config: &[u8], options: &str| {
        let graph = LanguageGraph::load(&file, b"", config, 1 << 24).unwrap();
        let mut context = graph.init_context().unwrap();
        set(&mut *context, 1, options.as_bytes())?;
        set(&mut *context, 0, b"the cat in the hat and the hat")?;
        context.compute(&ComputeControl::default())?;
        Ok::<_, graphpool::backend::Error>(context.output(0)?.data().to_vec())
    };
    let plain = text(b"", GREEDY).unwrap();
    let scaled = text(br#"{"rope-freq-scale": 0.25}"#, GREEDY).unwrap();
    assert_ne!(scaled, plain);
    assert_ne!(text(br#"{"rope-freq-base": 20}"#, GREEDY).unwrap(), plain);
    assert_eq!(text(br#"{"rope-freq-base": 0, "rope-freq-scale": 0}"#, GREEDY).unwrap(), plain);
    // The same that the file would say.
    let mut writer = model("llama", TINY, 8, 2);
    writer.f32("llama.rope.scaling.factor", 4.0);
    assert_eq!(generate(&load(&writer).unwrap(), GREEDY, "the cat in the hat and the hat"), scaled);
    // A session may say what the graph has.
    let same = GREEDY.replace('}', r#", "rope-freq-scale": 0.25}"#);
    assert_eq!(text(br#"{"rope-freq-scale": 0.25}"#, &same).unwrap(), scaled);
    assert_eq!(text(b"", &same).unwrap_err().kind(), ErrorKind::UnsupportedOperation);
}

#[test]
fn a_context_reports_its_memory_and_keeps_little_after_a_run() {
    let sizes = Sizes { width: 128, head_dim: 32, hidden: 512, ..TINY };
    let graph = load(&model("llama", sizes, 8, 2)).unwrap();
    let mut context = context(&graph, GREEDY, &"a".repeat(100));
    let empty = context.memory();
    assert!(empty < 4096, "{empty}");
    context.compute(&ComputeControl::default()).unwrap();
    // Four pages of 32 positions, for two layers with two heads of 32 keys and as many values, in f16.
    let cache = 4 * 32 * 2 * 2 * 32 * 2 * 2;
    let after = context.memory();
    assert!((cache..cache + 8192).contains(&after), "{after} bytes, {cache} of them for the cache");
}
