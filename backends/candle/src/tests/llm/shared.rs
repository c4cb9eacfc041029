//! Sessions that share passes: their text, how they end, and how fast they are.

use super::{TINY, load, model};
use crate::llm::batch::{Request, compute};
use crate::llm::cache::{Cache, CacheType};
use crate::llm::forward::{Buffers, Results, Run};
use crate::llm::graph::LanguageGraph;
use crate::llm::queue::{Joined, Leader, Seat};
use graphpool::GuestHandle;
use graphpool::backend::{
    Backend, BackendContext, BackendGraph, CancelToken, ComputeControl, Encoding, Error, ErrorKind, LoadRequest, Step,
    Target, TensorDescription, TensorType, TensorView,
};
use graphpool::nn::{Engine, EngineLimits, Guest};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const GREEDY: &str = r#"{"temp": 0, "repeat-penalty": 1, "n-predict": 24, "ignore-eos": true}"#;

const PROMPTS: [&str; 8] =
    ["a", "the cat", "in the hat", "and", "the hat the cat the hat", "on", "0123456789", "at the"];

/// With one pass at a time, on which others wait.
fn graph() -> LanguageGraph {
    let mut graph = load(&model("llama", TINY, 8, 2)).unwrap();
    graph.set_passes(1);
    graph
}

fn context(graph: &LanguageGraph, options: &str, prompt: &str) -> Box<dyn BackendContext> {
    let mut context = graph.init_context().unwrap();
    for (index, text) in [(1, options), (0, prompt)] {
        let length = [u32::try_from(text.len()).unwrap()];
        context.set_input(index, TensorView::new(&length, TensorType::U8, text.as_bytes()).unwrap()).unwrap();
    }
    context
}

/// The output of a compute.
fn generate(graph: &LanguageGraph, options: &str, prompt: &str, control: &ComputeControl) -> Result<Vec<u8>, Error> {
    let mut context = context(graph, options, prompt);
    context.compute(control)?;
    Ok(context.output(0)?.data().to_vec())
}

/// What sessions give alone.
fn alone(graph: &LanguageGraph, prompts: &[&str]) -> Vec<Vec<u8>> {
    prompts.iter().map(|prompt| generate(graph, GREEDY, prompt, &ComputeControl::default()).unwrap()).collect()
}

/// A request of no session.
fn request(graph: &LanguageGraph, tokens: Vec<u32>) -> Request {
    let shared = graph.shared();
    let mut cache = Cache::new(&shared.model.hyper, CacheType::F16);
    cache.reserve(tokens.len()).unwrap();
    let control = ComputeControl::default();
    let interrupt = shared.batches.caller(&control, &Seat::new()).interrupt();
    let (wanted, results, buffers) = (1, Results::Logits, Buffers::default());
    Request { cache, tokens, wanted, results, buffers, control, interrupt, outcome: Ok(()) }
}

/// Takes the lead of the graph's passes, so that those who come wait.
fn lead(graph: &LanguageGraph) -> Leader<'_, Request> {
    let request = request(graph, vec![1]);
    match graph.shared().batches.queue().join(request, 1, &Seat::new(), None, || false, || ()) {
        Joined::Leads(leader) => leader,
        _ => panic!("another thread leads"),
    }
}

fn until_waiting(graph: &LanguageGraph, count: usize) {
    while graph.shared().batches.queue().waiting() != count {
        thread::yield_now();
    }
}

#[test]
fn eight_sessions_have_the_texts_of_each_alone() {
    let graph = graph();
    let texts = alone(&graph, &PROMPTS);
    let leader = lead(&graph);
    thread::scope(|scope| {
        let threads =
            PROMPTS.map(|prompt| scope.spawn(|| generate(&graph, GREEDY, prompt, &ComputeControl::default()).unwrap()));
        // All of them are in the next pass.
        until_waiting(&graph, 8);
        leader.finish();
        for (thread, text) in threads.into_iter().zip(&texts) {
            assert!(thread.join().unwrap() == *text);
        }
    });
}

#[test]
fn a_row_has_the_same_logits_beside_any_others() {
    for architecture in super::ARCHITECTURES {
        for ty in [0, 1, 8] {
            let graph = load(&model(architecture, TINY, ty, 2)).unwrap();
            let tokens = super::tokens();
            let of = |requests: &mut [Request]| {
                compute(&graph.shared().model, requests);
                requests
                    .iter_mut()
                    .map(|request| {
                        request.outcome.clone().unwrap();
                        request.buffers.results().to_vec()
                    })
                    .collect::<Vec<_>>()
            };
            let runs: Vec<Vec<u32>> = (1..=16).map(|length| tokens[length..2 * length].to_vec()).collect();
            let alone: Vec<Vec<f32>> =
                runs.iter().map(|run| of(&mut [request(&graph, run.clone())]).remove(0)).collect();
            for count in [2, 3, 7, 8, 15] {
                let mut requests: Vec<Request> = runs[..count].iter().map(|run| request(&graph, run.clone())).collect();
                // An embedding among them.
                requests[1].results = Results::States;
                let states = of(&mut [Request { results: Results::States, ..request(&graph, runs[1].clone()) }]);
                for (index, results) in of(&mut requests).into_iter().enumerate() {
                    let wanted = if index == 1 { &states[0] } else { &alone[index] };
                    assert!(results == *wanted, "{architecture}, type {ty}: row {index} of {count}");
                    assert_eq!(requests[index].cache.len(), index + 1);
                }
            }
        }
    }
}

#[test]
fn sessions_that_are_cancelled_late_or_dropped_leave_the_others_their_text() {
    let graph = graph();
    let texts = alone(&graph, &PROMPTS[..4]);
    let leader = lead(&graph);
    let cancel = CancelToken::default();
    let long = r#"{"temp": 0, "n-predict": 100, "ignore-eos": true}"#;
    thread::scope(|scope| {
        let threads: Vec<_> = PROMPTS[..4]
            .iter()
            .map(|prompt| scope.spawn(|| generate(&graph, GREEDY, prompt, &ComputeControl::default()).unwrap()))
            .collect();
        let cancelled = scope.spawn(|| {
            generate(&graph, long, PROMPTS[4], &ComputeControl::default().with_cancel(cancel.clone())).unwrap_err()
        });
        let late = scope.spawn(|| {
            let soon = ComputeControl::default().with_deadline(Instant::now() + Duration::from_millis(50));
            generate(&graph, long, PROMPTS[5], &soon).unwrap_err()
        });
        let dropped = scope.spawn(|| {
            let mut context = context(&graph, long, PROMPTS[6]);
            for _ in 0..3 {
                context.step(&ComputeControl::default()).unwrap();
            }
        });
        // While they wait: at once.
        let error = late.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        until_waiting(&graph, 6);
        cancel.cancel();
        let error = cancelled.join().unwrap();
        assert_eq!((error.kind(), error.message()), (ErrorKind::RuntimeError, "cancelled"));
        until_waiting(&graph, 5);
        leader.finish();
        for (thread, text) in threads.into_iter().zip(&texts) {
            assert!(thread.join().unwrap() == *text);
        }
        dropped.join().unwrap();
    });
}

#[test]
fn a_session_in_a_pass_is_cancelled_at_its_end_and_goes_on_later() {
    let graph = graph();
    let texts = alone(&graph, &PROMPTS[..2]);
    let cancel = CancelToken::default();
    let cancelled = ComputeControl::default().with_cancel(cancel.clone());
    let (mut one, mut other) = (context(&graph, GREEDY, PROMPTS[0]), context(&graph, GREEDY, PROMPTS[1]));
    thread::scope(|scope| {
        let first = lead(&graph);
        let leads = scope.spawn(|| {
            let joined =
                graph.shared().batches.queue().join(request(&graph, vec![1]), 1, &Seat::new(), None, || false, || ());
            let Joined::Leads(mut leader) = joined else { panic!("the first that waits leads") };
            assert_eq!(leader.requests().len(), 3);
            cancel.cancel();
            compute(&graph.shared().model, leader.requests());
            leader.finish().outcome
        });
        until_waiting(&graph, 1);
        let in_pass = scope.spawn(|| one.step(&cancelled).unwrap_err());
        until_waiting(&graph, 2);
        let beside = scope.spawn(|| other.compute(&ComputeControl::default()));
        until_waiting(&graph, 3);
        first.finish();
        assert_eq!(leads.join().unwrap(), Ok(()));
        assert_eq!(in_pass.join().unwrap().kind(), ErrorKind::RuntimeError);
        beside.join().unwrap().unwrap();
    });
    assert!(other.output(0).unwrap().data() == texts[1]);
    one.compute(&ComputeControl::default()).unwrap();
    assert!(one.output(0).unwrap().data() == texts[0]);
}

#[test]
fn the_bounds_of_one_session_do_not_end_the_pass_of_another() {
    let graph = graph();
    let cancel = CancelToken::default();
    let tokens = vec![1, 2, 3];
    let bounded = |control: ComputeControl| {
        let interrupt = graph.shared().batches.caller(&control, &Seat::new()).interrupt();
        Request { control, interrupt, ..request(&graph, tokens.clone()) }
    };
    let late = || bounded(ComputeControl::default().with_deadline(Instant::now()));
    let stopped = || bounded(ComputeControl::default().with_cancel(cancel.clone()));
    cancel.cancel();
    let outcomes = |mut requests: Vec<Request>| {
        compute(&graph.shared().model, &mut requests);
        requests.into_iter().map(|request| request.outcome.map_err(|error| error.kind())).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(vec![late(), request(&graph, tokens.clone())]), [Ok(()), Ok(())]);
    assert_eq!(outcomes(vec![stopped(), request(&graph, tokens.clone())]), [Ok(()), Ok(())]);
    let soon = bounded(ComputeControl::default().with_deadline(Instant::now() + Duration::from_hours(1)));
    assert_eq!(outcomes(vec![late(), soon]), [Ok(()), Ok(())]);
    // None of them has a use for the results.
    assert_eq!(outcomes(vec![late(), late()]), [Err(ErrorKind::Timeout), Err(ErrorKind::Timeout)]);
    assert_eq!(outcomes(vec![stopped(), stopped()]), [Err(ErrorKind::RuntimeError), Err(ErrorKind::RuntimeError)]);
    assert_eq!(outcomes(vec![late(), stopped()]), [Ok(()), Ok(())]);
}

#[test]
fn a_panic_in_a_pass_fails_the_sessions_in_it_and_no_others() {
    let graph = graph();
    let texts = alone(&graph, &PROMPTS[..2]);
    let (mut beside, mut later) = (context(&graph, GREEDY, PROMPTS[0]), context(&graph, GREEDY, PROMPTS[1]));
    thread::scope(|scope| {
        let first = lead(&graph);
        let panics = scope.spawn(|| {
            let control = ComputeControl::default();
            let batches = &graph.shared().batches;
            let caller = batches.caller(&control, &Seat::new());
            // Its cache has no page.
            let cache = Cache::new(&graph.shared().model.hyper, CacheType::F16);
            let bad = Request { cache, ..request(&graph, vec![1]) };
            catch_unwind(AssertUnwindSafe(|| batches.pass(&graph.shared().model, bad, &caller))).is_err()
        });
        until_waiting(&graph, 1);
        let failed = scope.spawn(|| beside.compute(&ComputeControl::default()).unwrap_err());
        until_waiting(&graph, 2);
        first.finish();
        assert!(panics.join().unwrap());
        let error = failed.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::RuntimeError);
        assert_eq!(error.message(), "a panic has ended the pass through the model, beside other sessions");
        later.compute(&ComputeControl::default()).unwrap();
    });
    beside.compute(&ComputeControl::default()).unwrap();
    for (context, text) in [&beside, &later].into_iter().zip(&texts) {
        assert!(context.output(0).unwrap().data() == *text);
    }
}

/// Gives one graph to the engine, whatever is loaded.
struct Given(Arc<LanguageGraph>);

impl Backend for Given {
    fn name(&self) -> &'static str {
        "given"
    }

    fn supports(&self, _: Encoding, _: Target) -> bool {
        true
    }

    fn load(&self, _: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        Ok(Box::new(Shared(Arc::clone(&self.0))))
    }
}

#[derive(Debug)]
struct Shared(Arc<LanguageGraph>);

impl BackendGraph for Shared {
    fn inputs(&self) -> &[TensorDescription] {
        self.0.inputs()
    }

    fn outputs(&self) -> &[TensorDescription] {
        self.0.outputs()
    }

    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        self.0.init_context()
    }

    fn memory(&self) -> usize {
        self.0.memory()
    }
}

/// A context of a guest's, with its inputs.
fn open(guest: &Guest, prompt: &str) -> GuestHandle {
    let graph = guest.load(&[b""], Encoding::Ggml, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    for (index, text) in [(1, GREEDY), (0, prompt)] {
        guest.set_input_given(context, index, &[text.len() as u32], TensorType::U8, text.as_bytes()).unwrap();
    }
    context
}

#[test]
fn eight_guests_share_a_pass_where_one_compute_may_run() {
    let graph = Arc::new(graph());
    let texts = alone(&graph, &PROMPTS);
    for most in [1, 2] {
        let limits = EngineLimits::default().with_max_computing(most);
        let engine = Engine::builder(Given(Arc::clone(&graph))).with_engine_limits(limits).build();
        let leader = lead(&graph);
        thread::scope(|scope| {
            let threads = PROMPTS.map(|prompt| {
                let guest = engine.guest();
                scope.spawn(move || {
                    let context = open(&guest, prompt);
                    guest.compute(context).unwrap();
                    guest.output(context, 0).unwrap().into_data()
                })
            });
            until_waiting(&graph, 8);
            leader.finish();
            assert!(threads.map(|thread| thread.join().unwrap()).iter().eq(&texts));
        });
        assert_eq!((engine.stats().computing, engine.stats().suspended), (0, 0));
    }
    assert_eq!(graph.shared().batches.counts().sessions, 8);
}

/// Two guests that stream, a third that is cancelled, and a fourth that is dropped: the two have the texts that they
/// have alone.
#[test]
fn streams_go_on_beside_one_that_is_cancelled_and_one_that_is_dropped() {
    let graph = Arc::new(graph());
    let texts = alone(&graph, &PROMPTS[..2]);
    let limits = EngineLimits::default().with_max_computing(2);
    let engine = Engine::builder(Given(Arc::clone(&graph))).with_engine_limits(limits).build();
    let (cancelled, dropped) = (engine.guest(), engine.guest());
    let contexts = [&cancelled, &dropped].map(|guest| open(guest, PROMPTS[4]));
    let leader = lead(&graph);
    thread::scope(|scope| {
        let streams = [0, 1].map(|index: usize| {
            let guest = engine.guest();
            scope.spawn(move || {
                let context = open(&guest, PROMPTS[index]);
                let mut text = Vec::new();
                while guest.compute_single(context).unwrap() == Step::More {
                    let add = |piece: TensorView<'_>| {
                        text.extend_from_slice(piece.data());
                        Ok(())
                    };
                    guest.with_output_single(context, 0, add).unwrap();
                }
                text
            })
        });
        let compute = scope.spawn(|| cancelled.compute(contexts[0]).unwrap_err().kind());
        let step = dropped.compute_single_async(contexts[1]);
        until_waiting(&graph, 4);
        assert_eq!(cancelled.cancel(contexts[0]), Ok(true));
        drop((step, dropped));
        assert_eq!(compute.join().unwrap(), ErrorKind::RuntimeError);
        until_waiting(&graph, 2);
        leader.finish();
        assert!(streams.map(|stream| stream.join().unwrap()).iter().eq(&texts));
    });
    while engine.stats().computing + engine.stats().suspended + engine.stats().contexts > 1 {
        thread::yield_now();
    }
}

#[test]
fn a_long_prompt_leaves_room_for_others_between_its_chunks() {
    let graph = graph();
    let prompt = "0".repeat(100);
    let texts = alone(&graph, &[&prompt, PROMPTS[1]]);
    let first = lead(&graph);
    thread::scope(|scope| {
        let long = scope.spawn(|| generate(&graph, GREEDY, &prompt, &ComputeControl::default()).unwrap());
        until_waiting(&graph, 1);
        let short = scope.spawn(|| generate(&graph, GREEDY, PROMPTS[1], &ComputeControl::default()).unwrap());
        until_waiting(&graph, 2);
        first.finish();
        assert!(long.join().unwrap() == texts[0] && short.join().unwrap() == texts[1]);
    });
}

/// Prints the tokens a second of prompts in chunks, of one session, and of several at one time.
#[test]
#[ignore = "measures; needs scripts/fetch_models.sh --all, and --release"]
fn measure_smollm2() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.cache/models/smollm2/model.gguf");
    let mut graph = LanguageGraph::load(&std::fs::read(path).unwrap(), b"", b"", 1 << 30).unwrap();
    let tokens: Vec<u32> = (0..256).map(|index| 100 + index * 7).collect();
    for chunk in [16, 32, 64, 256] {
        let start = Instant::now();
        let model = &graph.shared().model;
        let (mut cache, mut buffers) = (Cache::new(&model.hyper, CacheType::F16), Buffers::default());
        cache.reserve(tokens.len()).unwrap();
        for tokens in tokens.chunks(chunk) {
            let run = Run { cache: &mut cache, tokens, wanted: 1 };
            model.step(&mut [run], Results::Logits, &mut buffers, &ComputeControl::default()).unwrap();
        }
        println!("a prompt in chunks of {chunk}: {:.1} tokens/s", tokens.len() as f64 / start.elapsed().as_secs_f64());
    }
    let count = 48;
    let options = format!(r#"{{"temp": 0, "n-predict": {count}, "ignore-eos": true, "ctx-size": 1024}}"#);
    for passes in [1, 2] {
        graph.set_passes(passes);
        for sessions in [1, 2, 8] {
            let before = graph.shared().batches.counts();
            let start = Instant::now();
            thread::scope(|scope| {
                for index in 0..sessions {
                    let (graph, options) = (&graph, &options);
                    scope.spawn(move || {
                        generate(graph, options, &format!("Chapter {index}"), &ComputeControl::default()).unwrap();
                    });
                }
            });
            let seconds = start.elapsed().as_secs_f64();
            let after = graph.shared().batches.counts();
            println!(
                "{sessions} sessions, {passes} passes at one time: {:.1} tokens/s, {:.2} rows a pass",
                f64::from(sessions * count) / seconds,
                (after.rows - before.rows) as f64 / (after.passes - before.passes) as f64
            );
        }
    }
}
