//! Single steps: runs that make a text word by word, with calls in any order.

use std::thread;
use std::time::Duration;

use graphpool::GuestHandle;
use graphpool::nn::{
    Encoding, Engine, EngineLimits, Error, ErrorKind, Guest, Limits, Step, Target, Tensor, TensorType,
};

use crate::admission::block_on;
use crate::backends::{Watch, eventually};
use crate::speaker::{Speaker, model};

const ROOM: usize = 8;

pub fn opened(guest: &Guest, chain: &[&str]) -> GuestHandle {
    let graph = guest.load(&[&model(ROOM, chain)], Encoding::Ggml, Target::Cpu).unwrap();
    guest.init_execution_context(graph).unwrap()
}

/// A guest with a context, whose prompt is set.
pub fn speaker(chain: &[&str], prompt: &str) -> (Speaker, Engine, Guest, GuestHandle) {
    let speaker = Speaker::default();
    let engine = Engine::new(speaker.clone());
    let guest = engine.guest();
    let context = opened(&guest, chain);
    set(&guest, context, prompt).unwrap();
    (speaker, engine, guest, context)
}

pub fn set(guest: &Guest, context: GuestHandle, prompt: &str) -> Result<(), Error> {
    guest.set_input_given(context, 0, &[1], TensorType::U8, prompt.as_bytes())
}

pub fn read(guest: &Guest, context: GuestHandle, output: u32) -> String {
    String::from_utf8(guest.output(context, output).unwrap().into_data()).unwrap()
}

fn piece(guest: &Guest, context: GuestHandle) -> String {
    guest.with_output_single(context, 0, |piece| Ok(String::from_utf8(piece.data().to_vec()).unwrap())).unwrap()
}

/// Makes steps until the run ends.
fn rest(guest: &Guest, context: GuestHandle) -> (Step, String) {
    let mut text = String::new();
    loop {
        let step = guest.compute_single(context).unwrap();
        text += &piece(guest, context);
        if step.is_end() {
            return (step, text);
        }
    }
}

fn told<T: std::fmt::Debug>(result: Result<T, Error>) -> (ErrorKind, String) {
    let error = result.unwrap_err();
    (error.kind(), error.message().to_owned())
}

#[test]
fn a_run_makes_what_a_compute_makes_in_pieces_and_another_begins_from_the_same_prompt() {
    let (speaker, engine, guest, context) = speaker(&["one", "two", "three"], "say one");
    guest.compute(context).unwrap();
    assert_eq!((read(&guest, context, 0), read(&guest, context, 1)), (" two three".into(), "2 2".into()));
    for _ in 0..2 {
        assert_eq!(guest.compute_single(context), Ok(Step::More));
        assert_eq!((piece(&guest, context), read(&guest, context, 0)), (" two".into(), " two".into()));
        assert_eq!(block_on(guest.compute_single_async(context)), Ok(Step::More));
        let mut buffer = [0; 8];
        assert_eq!(guest.get_output_single(context, "text", &mut buffer), Ok(6));
        assert_eq!((&buffer[..6], read(&guest, context, 0)), (&b" three"[..], " two three".into()));
        assert_eq!(guest.compute_single_within(context, Duration::from_mins(1)), Ok(Step::EndOfSequence));
        assert_eq!((piece(&guest, context), read(&guest, context, 0)), (String::new(), " two three".into()));
        assert_eq!((guest.output(context, 1).unwrap().data(), speaker.runs()), (&b"2 2"[..], 1));
    }
    guest.fini_single(context).unwrap();
    assert_eq!(speaker.runs(), 0);
    assert_eq!(rest(&guest, context), (Step::EndOfSequence, " two three".into()));
    let stats = engine.stats();
    assert_eq!((stats.computes, stats.failed_computes, stats.errors), (1 + 3 + 3 + 3, 0, 0));
    assert!(guest.usage().compute_time > Duration::ZERO);
}

#[test]
fn a_run_ends_with_a_full_context_or_a_long_prompt_and_says_which() {
    let (_, engine, guest, context) = speaker(&["a", "b", "a"], "a");
    assert_eq!(rest(&guest, context), (Step::ContextFull, " b a b a b a b".into()));
    // What was made until then can be read, after a compute as well.
    let full = told(guest.compute(context));
    assert_eq!(full, (ErrorKind::ContextFull, "compute: the context has no room for more".into()));
    assert_eq!((read(&guest, context, 0), read(&guest, context, 1)), (" b a b a b a b".into(), "1 7".into()));
    set(&guest, context, "1 2 3 4 5 6 7 8 9").unwrap();
    assert_eq!(guest.compute_single(context), Ok(Step::PromptTooLong));
    assert_eq!(told(guest.compute(context)).0, ErrorKind::PromptTooLong);
    guest.fini_single(context).unwrap();
    set(&guest, context, "last").unwrap();
    assert_eq!(rest(&guest, context), (Step::EndOfSequence, String::new()));
    assert_eq!(engine.stats().errors, 2);
}

#[test]
fn the_counts_of_a_prompt_are_read_before_a_compute_and_after_an_inference() {
    let (_, _, guest, context) = speaker(&["one", "two"], "say one");
    assert_eq!(read(&guest, context, 1), "2 0");
    let told_so = told(guest.output(context, 0));
    assert_eq!(told_so, (ErrorKind::InvalidArgument, "output: nothing is computed yet".into()));
    let prompt = Tensor::from_slice([3], b"one").unwrap();
    let outputs = guest.infer(context, [(0, &prompt)]).unwrap();
    assert_eq!((outputs[0].data(), outputs[1].data()), (&b" two"[..], &b"1 1"[..]));
    assert_eq!(read(&guest, context, 1), "1 1");
    assert!(told(guest.output(context, 0)).1.ends_with("moved the outputs of the last compute out of the context"));
    // The piece of a step is new.
    assert_eq!(guest.compute_single(context), Ok(Step::More));
    assert_eq!(read(&guest, context, 0), " two");
    guest.clear_inputs(context).unwrap();
    assert_eq!(told(guest.output(context, 1)).0, ErrorKind::InvalidArgument);
}

#[test]
fn a_prompt_has_one_dimension_of_its_length_or_of_one_and_no_other() {
    let (_, _, guest, context) = speaker(&["one", "two"], "one");
    let given = |dimensions: &[u32], ty| guest.set_input_given(context, "prompt", dimensions, ty, b"say one");
    for dimensions in [[1], [7]] {
        given(&dimensions, TensorType::U8).unwrap();
        assert_eq!(rest(&guest, context).1, " two");
    }
    for (dimensions, ty, message) in [
        (&[6][..], TensorType::U8, "set_input: the tensor data has 7 bytes; u8 [6] needs 6"),
        (&[1, 1], TensorType::U8, "set_input: the tensor data has 7 bytes; u8 [1×1] needs 1"),
        (&[1], TensorType::I32, "set_input: the tensor data has 7 bytes; i32 [1] needs 4"),
        (&[1, 7], TensorType::U8, "set_input: input 0 takes u8 [?]; the tensor is u8 [1×7]"),
    ] {
        assert_eq!(told(given(dimensions, ty)), (ErrorKind::InvalidArgument, message.into()));
    }
    assert_eq!(told(guest.set_input_given(context, 2, &[1], TensorType::U8, b"x")).0, ErrorKind::InvalidArgument);
    // The limits see the bytes, whatever the dimensions say.
    let small = Engine::new(Speaker::default()).guest_with(Limits::default().with_max_tensor_bytes(6));
    let context = opened(&small, &["one", "two"]);
    assert_eq!(told(set(&small, context, "say one")).0, ErrorKind::TooLarge);
    // An input that is no string of bytes keeps its dimensions.
    let guest = Watch::default().engine().guest();
    let graph = guest.load(&[b"any"], Encoding::PyTorch, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    assert_eq!(told(set(&guest, context, "say one")).0, ErrorKind::InvalidArgument);
}

#[test]
fn calls_in_a_wrong_order_are_refused_and_change_nothing() {
    let (speaker, engine, guest, context) = speaker(&["one", "two", "three"], "one");
    let no_piece = (
        ErrorKind::InvalidArgument,
        "get_output_single: there is no piece of a single step; compute_single makes one".to_owned(),
    );
    assert_eq!(told(guest.get_output_single(context, 0, &mut [])), no_piece);
    guest.fini_single(context).unwrap();
    guest.compute_single(context).unwrap();
    // R1: a compute in an open run.
    let prompt = Tensor::from_slice([3], b"two").unwrap();
    let open = "a run of single steps is open in the context, and fini_single ends it";
    for (result, call) in [
        (guest.compute(context), "compute"),
        (block_on(guest.compute_async(context)), "compute"),
        (guest.infer(context, [(0, &prompt)]).map(drop), "infer"),
        (block_on(guest.infer_async(context, [(0, &prompt)])).map(drop), "infer"),
    ] {
        assert_eq!(told(result), (ErrorKind::InvalidArgument, format!("{call}: {open}")));
    }
    assert_eq!(told(guest.get_output_single(context, 2, &mut [])).0, ErrorKind::InvalidArgument);
    let short = guest.get_output_single(context, 0, &mut [0; 3]).unwrap_err();
    assert_eq!((short.kind(), short.needed_bytes()), (ErrorKind::TooLarge, Some(4)));
    assert_eq!(guest.compute_single(context), Ok(Step::More));
    assert_eq!(piece(&guest, context), " three");
    // Twice, and then nothing of the run is left.
    guest.fini_single(context).unwrap();
    guest.fini_single(context).unwrap();
    assert_eq!(told(guest.get_output_single(context, 0, &mut [])), no_piece);
    guest.compute(context).unwrap();
    assert_eq!((read(&guest, context, 0), speaker.runs()), (" two three".into(), 0));
    // An input ends a run: the next begins from the new prompt.
    guest.compute_single(context).unwrap();
    set(&guest, context, "two").unwrap();
    assert_eq!(told(guest.get_output_single(context, 0, &mut [])), no_piece);
    assert_eq!((speaker.runs(), rest(&guest, context).1), (0, " three".into()));
    guest.compute_single(context).unwrap();
    // One that is refused before the backend sees it does not.
    guest.set_input_given(context, 0, &[2], TensorType::U8, b"x").unwrap_err();
    assert_eq!((speaker.runs(), piece(&guest, context)), (1, " three".into()));
    guest.clear_inputs(context).unwrap();
    let missing = (ErrorKind::InvalidArgument, "compute_single: the prompt is missing".to_owned());
    assert_eq!((told(guest.compute_single(context)), speaker.runs()), (missing, 0));
    // Handles of nothing, of a graph, and of a context that was closed.
    let graph = guest.load(&[&model(1, &["x", "y"])], Encoding::Ggml, Target::Cpu).unwrap();
    guest.drop_context(context).unwrap();
    for handle in [GuestHandle::from_bits(0), GuestHandle::from_bits(u32::MAX), graph, context] {
        for result in [
            guest.compute_single(handle).map(drop),
            block_on(guest.compute_single_async(handle)).map(drop),
            guest.get_output_single(handle, 0, &mut []).map(drop),
            guest.fini_single(handle),
            guest.stream(handle, 0).map(drop),
        ] {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
    }
    assert_eq!(engine.stats().panics, 0);
}

#[test]
fn a_model_without_steps_refuses_them_and_computes_as_before() {
    let guest = Watch::default().engine().guest();
    let graph = guest.load(&[b"any"], Encoding::PyTorch, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    for _ in 0..2 {
        let refused = (
            ErrorKind::UnsupportedOperation,
            "compute_single: the model's outputs come as a whole, and not in steps".to_owned(),
        );
        assert_eq!(told(guest.compute_single(context)), refused);
        guest.compute(context).unwrap();
        assert_eq!(told(guest.get_output_single(context, 0, &mut [0])).0, ErrorKind::InvalidArgument);
        guest.fini_single(context).unwrap();
    }
}

#[test]
fn a_step_that_fails_is_made_again_and_a_first_one_begins_no_run() {
    let (speaker, engine, guest, context) = speaker(&["one", "fail", "two"], "one");
    assert_eq!(guest.compute_single(context), Ok(Step::More));
    let fails = (ErrorKind::RuntimeError, "compute_single: the model fails".to_owned());
    assert_eq!(told(guest.compute_single(context)), fails);
    // The newest piece is that of the last step that succeeded.
    assert_eq!((piece(&guest, context), speaker.runs()), (" fail".into(), 1));
    assert_eq!(rest(&guest, context), (Step::EndOfSequence, " two".into()));
    assert_eq!(read(&guest, context, 0), " fail two");
    set(&guest, context, "fail").unwrap();
    assert_eq!((told(guest.compute_single(context)), speaker.runs()), (fails, 0));
    assert_eq!(told(guest.get_output_single(context, 0, &mut [])).0, ErrorKind::InvalidArgument);
    assert_eq!(engine.stats().failed_computes, 2);
    set(&guest, context, "one").unwrap();
    assert_eq!(told(guest.compute(context)).0, ErrorKind::RuntimeError);
}

#[test]
fn steps_have_deadlines_and_are_cancelled_and_the_run_goes_on_afterwards() {
    let (speaker, engine, guest, context) = speaker(&["one", "hold", "two"], "one");
    assert_eq!(guest.compute_single(context), Ok(Step::More));
    let late = told(guest.compute_single_within(context, Duration::from_millis(5)));
    assert_eq!(late.0, ErrorKind::Timeout);
    assert!(late.1.starts_with("compute_single: exceeded the time limit of 5ms"), "{}", late.1);
    let step = guest.compute_single_async(context);
    speaker.wait_for(2);
    for result in [
        guest.compute_single(context).map(drop),
        guest.get_output_single(context, 0, &mut []).map(drop),
        guest.fini_single(context),
        guest.compute(context),
    ] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Busy);
    }
    assert_eq!(guest.cancel(context), Ok(true));
    assert_eq!(block_on(step).unwrap_err().message(), "compute_single: cancelled");
    // The drop of the future cancels, too.
    let step = guest.compute_single_async(context);
    speaker.wait_for(3);
    drop(step);
    eventually(|| guest.fini_single(context).is_ok());
    eventually(|| engine.stats().cancelled == 2);
    assert_eq!((engine.stats().timeouts, speaker.runs()), (1, 0));
    speaker.open();
    assert_eq!(rest(&guest, context), (Step::EndOfSequence, " hold two".into()));
}

#[test]
fn a_step_waits_for_its_turn_and_is_refused_where_the_queue_is_full() {
    let speaker = Speaker::default();
    let engine = Engine::builder(speaker.clone())
        .with_engine_limits(EngineLimits::default().with_max_computing(1).with_max_queued(1))
        .build();
    let guest = engine.guest();
    let contexts = [(); 3].map(|()| opened(&guest, &["hold", "two"]));
    for context in contexts {
        set(&guest, context, "hold").unwrap();
    }
    let first = guest.compute_single_async(contexts[0]);
    speaker.wait_for(1);
    let second = guest.compute_single_async(contexts[1]);
    eventually(|| engine.stats().queued == 1);
    let full = told(guest.compute_single(contexts[2]));
    assert_eq!(full.0, ErrorKind::Busy);
    assert!(full.1.starts_with("compute_single: the engine's queue of 1 computes is full"), "{}", full.1);
    // A close of its context withdraws the one that waits.
    guest.drop_context(contexts[1]).unwrap();
    assert_eq!(block_on(second).unwrap_err().message(), "compute_single: cancelled before it began");
    speaker.open();
    assert_eq!(block_on(first), Ok(Step::More));
}

#[test]
fn a_panic_in_a_step_costs_the_context_and_nothing_else() {
    let (speaker, engine, guest, context) = speaker(&["one", "panic", "two"], "one");
    assert_eq!(guest.compute_single(context), Ok(Step::More));
    let panicked = told(guest.compute_single(context));
    assert_eq!(panicked, (ErrorKind::RuntimeError, "compute_single: the backend panicked: speaker".into()));
    for result in [
        guest.compute_single(context).map(drop),
        guest.get_output_single(context, 0, &mut []).map(drop),
        guest.fini_single(context),
        set(&guest, context, "one"),
    ] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::RuntimeError);
    }
    assert_eq!((engine.stats().panics, speaker.runs(), engine.stats().context_bytes), (1, 0, 0));
    let other = opened(&guest, &["one", "two"]);
    set(&guest, other, "one").unwrap();
    assert_eq!(rest(&guest, other).1, " two");
}

#[test]
fn a_context_that_may_not_grow_is_full_and_not_lost() {
    let speaker = Speaker::default();
    let engine = Engine::new(speaker.clone());
    let guest = engine.guest_with(Limits::default().with_max_context_bytes(40));
    let context = opened(&guest, &["a", "b", "a"]);
    set(&guest, context, "a").unwrap();
    let (end, text) = rest(&guest, context);
    assert_eq!((end, text.as_str()), (Step::ContextFull, " b a"));
    assert!(guest.usage().context_bytes <= 40, "{:?}", guest.usage());
    guest.fini_single(context).unwrap();
    // What another context holds is not free.
    let other = opened(&guest, &["a", "b", "a"]);
    set(&guest, other, "a b a b a b a b a b").unwrap();
    assert_eq!(told(guest.compute(context)).0, ErrorKind::ContextFull);
    guest.drop_context(other).unwrap();
    assert_eq!(rest(&guest, context).1, " b a");
    assert_eq!(engine.stats().limited, 0);
}

#[test]
fn the_room_of_a_step_is_the_guests_limit() {
    let engine = Engine::new(Speaker::default());
    let guest = engine.guest_with(Limits::default().with_max_compute_bytes(7));
    let context = opened(&guest, &["one", "two"]);
    set(&guest, context, "one").unwrap();
    assert_eq!(told(guest.compute_single(context)).0, ErrorKind::TooLarge);
}

#[test]
fn guests_and_contexts_have_runs_of_their_own() {
    let speaker = Speaker::default();
    let engine = Engine::new(speaker.clone());
    thread::scope(|scope| {
        for prompt in ["one", "two", "three", "four"] {
            let engine = &engine;
            scope.spawn(move || {
                let guest = engine.guest();
                let context = opened(&guest, &["one", "two", "three", "four", "five"]);
                set(&guest, context, prompt).unwrap();
                guest.compute(context).unwrap();
                let whole = read(&guest, context, 0);
                for _ in 0..100 {
                    assert_eq!(rest(&guest, context), (Step::EndOfSequence, whole.clone()));
                }
            });
        }
    });
    assert_eq!((speaker.runs(), engine.stats().contexts), (0, 0));
}
