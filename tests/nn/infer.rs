//! Inferences: inputs, a compute and outputs in one call.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use std::{mem, thread};

use graphpool::GuestHandle;
use graphpool::backend::{Backend, BackendContext, BackendGraph, ComputeControl, LoadRequest};
use graphpool::nn::{
    Encoding, Engine, EngineLimits, Error, ErrorKind, Guest, Limits, Target, Tensor, TensorDescription, TensorType,
    TensorView,
};

use crate::admission::block_on;
use crate::backends::{Over, Watch, eventually};

/// Whose graphs have the inputs `a` and `b` and the outputs `sum` and `difference`. A compute fails where `a` is 13.
struct Pair;

struct Graph([TensorDescription; 2], [TensorDescription; 2]);

#[derive(Default)]
struct Context {
    inputs: [Option<i32>; 2],
    outputs: [Option<Tensor>; 2],
}

impl Backend for Pair {
    fn name(&self) -> &'static str {
        "pair"
    }

    fn supports(&self, _: Encoding, _: Target) -> bool {
        true
    }

    fn load(&self, _: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        let describe = |name| TensorDescription::new(name, TensorType::I32, Some(vec![]));
        Ok(Box::new(Graph(["a", "b"].map(describe), ["sum", "difference"].map(describe))))
    }
}

impl BackendGraph for Graph {
    fn inputs(&self) -> &[TensorDescription] {
        &self.0
    }

    fn outputs(&self) -> &[TensorDescription] {
        &self.1
    }

    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        Ok(Box::new(Context::default()))
    }

    fn memory(&self) -> usize {
        1
    }
}

impl BackendContext for Context {
    fn set_input(&mut self, index: usize, tensor: TensorView<'_>) -> Result<(), Error> {
        self.inputs[index] = tensor.to_vec().map(|elements| elements[0]);
        Ok(())
    }

    fn clear_inputs(&mut self) {
        self.inputs = [None; 2];
    }

    fn compute(&mut self, _: &ComputeControl) -> Result<(), Error> {
        // So that a call which came in between would show.
        thread::yield_now();
        let [Some(a), Some(b)] = self.inputs else { return Err(Error::invalid_argument("an input is missing")) };
        if a == 13 {
            return Err(Error::runtime_error("13"));
        }
        self.outputs = [a + b, a - b].map(|sum| Some(number(sum)));
        Ok(())
    }

    fn output(&self, index: usize) -> Result<TensorView<'_>, Error> {
        self.outputs[index].as_ref().map(Tensor::view).ok_or_else(nothing)
    }

    fn take_output(&mut self, index: usize) -> Result<Tensor, Error> {
        self.outputs[index].take().ok_or_else(nothing)
    }

    fn memory(&self) -> usize {
        4 * (self.inputs.iter().flatten().count() + self.outputs.iter().flatten().count())
    }
}

fn nothing() -> Error {
    Error::invalid_argument("nothing computed")
}

fn number(number: i32) -> Tensor {
    Tensor::from_slice([], &[number]).unwrap()
}

fn pair(engine: &Engine) -> (Guest, GuestHandle) {
    let guest = engine.guest();
    let graph = guest.load(&[b"pair"], Encoding::Onnx, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    (guest, context)
}

fn numbers(outputs: &[Tensor]) -> Vec<i32> {
    outputs.iter().flat_map(|output| output.to_vec().unwrap()).collect()
}

#[test]
fn inputs_go_in_and_every_output_comes_out() {
    let engine = Engine::new(Pair);
    let (guest, context) = pair(&engine);
    let long = Duration::from_mins(1);
    let [five, three, one] = [5, 3, 1].map(number);
    assert_eq!(numbers(&guest.infer(context, [(1, &three), (0, &five)]).unwrap()), [8, 2]);
    let inputs = [("b", one.view()), ("a", five.view())];
    assert_eq!(numbers(&guest.infer_within(context, inputs, long).unwrap()), [6, 4]);
    assert_eq!(numbers(&block_on(guest.infer_async(context, [("a", &one), ("b", &one)])).unwrap()), [2, 0]);
    let inputs = [(0, &three), (1, &one)];
    assert_eq!(numbers(&block_on(guest.infer_async_within(context, inputs, long)).unwrap()), [4, 2]);
    assert_eq!(engine.stats().computes, 4);
}

#[test]
fn an_inference_uses_no_input_of_an_earlier_call() {
    let (guest, context) = pair(&Engine::new(Pair));
    let [one, two] = [1, 2].map(number);
    guest.set_input(context, "b", &two).unwrap();
    for _ in 0..2 {
        let error = guest.infer(context, [("a", &one)]).unwrap_err();
        assert_eq!(error.message(), "infer: an input is missing");
        assert_eq!(block_on(guest.infer_async(context, [("a", &one)])).unwrap_err(), error);
        guest.infer(context, [("a", &one), ("b", &two)]).unwrap();
    }
    assert_eq!(guest.infer::<u32, &Tensor>(context, []).unwrap_err().message(), "infer: an input is missing");
}

#[test]
fn the_outputs_of_an_inference_are_moved_out_and_its_inputs_stay() {
    let engine = Engine::new(Pair);
    let (guest, context) = pair(&engine);
    let [one, two] = [1, 2].map(number);
    guest.infer(context, [("a", &one), ("b", &two)]).unwrap();
    // The two inputs: each output is in memory once, at its owner.
    assert_eq!(engine.stats().context_bytes, 8);
    for error in [
        guest.output(context, 0).unwrap_err(),
        guest.get_output(context, 1, &mut [0; 4]).unwrap_err(),
        guest.with_output(context, "sum", |_| Ok(())).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(
            error.message().ends_with(": infer has moved the outputs of the last compute out of the context"),
            "{error}"
        );
    }
    guest.compute(context).unwrap();
    assert_eq!((guest.output(context, "sum").unwrap(), engine.stats().context_bytes), (number(3), 16));
    // A compute that fails costs none of them.
    guest.infer(context, [("a", &number(13)), ("b", &two)]).unwrap_err();
    assert_eq!(guest.output(context, "difference").unwrap(), number(-1));
    assert_eq!(numbers(&guest.infer(context, [("a", &two), ("b", &two)]).unwrap()), [4, 0]);
    guest.infer(context, [("a", &number(13)), ("b", &two)]).unwrap_err();
    guest.output(context, 0).unwrap_err();
}

/// A backend that copies its outputs, as the default does, keeps them; the engine shows them to nobody all the same.
#[test]
fn what_a_backend_keeps_of_outputs_that_were_moved_out_cannot_be_read() {
    let watch = Watch::default();
    let guest = watch.engine().guest();
    let graph = guest.load(&[b"any"], Encoding::PyTorch, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    assert_eq!(guest.infer::<u32, &Tensor>(context, []).unwrap()[0].data(), [7]);
    guest.output(context, 0).unwrap_err();
    guest.compute(context).unwrap();
    assert_eq!(guest.output(context, 0).unwrap().data(), [7]);
}

#[test]
fn cleared_inputs_are_unset_and_count_no_more() {
    let engine = Engine::new(Pair);
    let (guest, context) = pair(&engine);
    let one = number(1);
    for name in ["a", "b"] {
        guest.set_input(context, name, &one).unwrap();
    }
    guest.compute(context).unwrap();
    assert_eq!(engine.stats().context_bytes, 16);
    guest.clear_inputs(context).unwrap();
    assert_eq!((engine.stats().context_bytes, guest.usage().context_bytes), (8, 8));
    assert_eq!(guest.compute(context).unwrap_err().message(), "compute: an input is missing");
    assert_eq!(guest.output(context, "sum").unwrap(), number(2));
    guest.set_input(context, "a", &one).unwrap();
    assert_eq!(guest.compute(context).unwrap_err().message(), "compute: an input is missing");
    assert_eq!(engine.stats().context_bytes, 12);
    guest.infer(context, [("a", &one), ("b", &one)]).unwrap();
    guest.clear_inputs(context).unwrap();
    assert_eq!(engine.stats().context_bytes, 0);
    guest.drop_context(context).unwrap();
    let error = guest.clear_inputs(context).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.message().starts_with("clear_inputs: the guest has no context"), "{error}");
}

#[test]
fn older_inputs_make_room_for_those_of_an_inference() {
    let guest = Watch::default().engine().guest_with(Limits::default().with_max_context_bytes(10));
    let graph = guest.load(&[b"any"], Encoding::PyTorch, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    let bytes = Tensor::from_slice([10], &[1_u8; 10]).unwrap();
    for _ in 0..2 {
        guest.infer(context, [(0, &bytes)]).unwrap();
    }
    assert_eq!(guest.usage().context_bytes, 10);
}

#[test]
fn an_input_that_is_refused_leaves_the_others_unset() {
    let (guest, context) = pair(&Engine::new(Pair));
    let [one, two, nine] = [1, 2, 9].map(number);
    guest.infer(context, [("a", &one), ("b", &two)]).unwrap();
    let row = Tensor::from_slice([1], &[9_i32]).unwrap();
    for (inputs, message) in [
        ([("a", &nine), ("c", &nine)], "infer: no input is named \"c\"; the graph has 2"),
        ([("a", &nine), ("a", &two)], "infer: input 0 is given twice"),
        ([("a", &nine), ("b", &row)], "infer: input 1 takes i32 []; the tensor is i32 [1]"),
    ] {
        let error = guest.infer(context, inputs).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::InvalidArgument, message));
        assert_eq!(block_on(guest.infer_async(context, inputs)).unwrap_err(), error);
    }
    guest.compute(context).unwrap();
    assert_eq!(guest.output(context, "sum").unwrap(), number(3));
    assert_eq!(guest.infer(context, [(2, &nine)]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let no_such = GuestHandle::from_bits(context.to_bits() + (1 << 20));
    assert_eq!(guest.infer(no_such, [(0, &nine)]).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn limits_hold_for_each_input() {
    let guest = Engine::new(Pair).guest_with(Limits::default().with_max_tensor_bytes(3));
    let graph = guest.load(&[b"pair"], Encoding::Onnx, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    let error = guest.infer(context, [(0, &number(1))]).unwrap_err();
    assert_eq!(error.message(), "infer: input 0 has 4 bytes; the limit is 3");
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[test]
fn a_failed_inference_leaves_what_a_failed_compute_leaves() {
    let engine = Engine::new(Pair);
    let [one, two, thirteen] = [1, 2, 13].map(number);
    let left = |guest: &Guest, context| {
        // The outputs of the last compute that succeeded, and the inputs of this one.
        assert_eq!(guest.output(context, "sum").unwrap(), number(3));
        assert_eq!(guest.compute(context).unwrap_err().message(), "compute: 13");
        guest.set_input(context, "a", &one).unwrap();
        guest.compute(context).unwrap();
        assert_eq!(guest.output(context, "sum").unwrap(), number(14));
    };
    let computed = |guest: &Guest, context| {
        guest.set_input(context, "a", &one).unwrap();
        guest.set_input(context, "b", &two).unwrap();
        guest.compute(context).unwrap();
    };
    let (guest, context) = pair(&engine);
    computed(&guest, context);
    guest.set_input(context, "a", &thirteen).unwrap();
    guest.set_input(context, "b", &thirteen).unwrap();
    guest.compute(context).unwrap_err();
    left(&guest, context);
    let (guest, context) = pair(&engine);
    computed(&guest, context);
    let error = guest.infer(context, [("a", &thirteen), ("b", &thirteen)]).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::RuntimeError, "infer: 13"));
    left(&guest, context);
    // What is missing is missing for both.
    let (guest, context) = pair(&engine);
    assert_eq!(guest.infer(context, [("a", &one)]).unwrap_err().message(), "infer: an input is missing");
    assert_eq!(guest.output(context, 0).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn threads_on_one_context_each_get_their_own_outputs() {
    let engine = Engine::new(Pair);
    let (guest, context) = pair(&engine);
    let (over, computes) = (AtomicBool::new(false), AtomicU64::new(4_000));
    let retry = |call: &dyn Fn() -> Result<Vec<Tensor>, Error>| loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Busy && !over.load(Ordering::SeqCst) => thread::yield_now(),
            result => return result.unwrap(),
        }
    };
    thread::scope(|scope| {
        let threads = [0, 1].map(|thread| {
            let (guest, over, retry) = (&guest, &over, &retry);
            scope.spawn(move || {
                let failed = Over(over);
                for turn in 0..2_000 {
                    let (a, b) = (1_000 * (thread + 1), turn);
                    let inputs = [number(a), number(b)];
                    let inputs = [("a", &inputs[0]), ("b", &inputs[1])];
                    let outputs = if turn % 2 == 0 {
                        retry(&|| guest.infer(context, inputs.into_iter().inspect(|_| thread::yield_now())))
                    } else {
                        retry(&|| block_on(guest.infer_async(context, inputs)))
                    };
                    assert_eq!(numbers(&outputs), [a + b, a - b]);
                }
                mem::forget(failed);
            })
        });
        // Calls of the other kind come in between two inferences, never into one.
        let (guest, its, computes) = (&guest, &over, &computes);
        scope.spawn(move || {
            while !its.load(Ordering::SeqCst) {
                let _ = guest.set_input(context, "a", &number(-7));
                computes.fetch_add(guest.compute(context).is_ok().into(), Ordering::SeqCst);
                thread::yield_now();
            }
        });
        let _over = Over(&over);
        for thread in threads {
            thread.join().unwrap();
        }
    });
    // None has computed and then not come to its outputs.
    assert_eq!(engine.stats().computes, computes.into_inner());
}

#[test]
fn an_inference_that_comes_while_inputs_are_gathered_is_another() {
    let (guest, context) = pair(&Engine::new(Pair));
    let [one, two, nine] = [1, 2, 9].map(number);
    let mut within = None;
    let gathered = [("a", &one), ("b", &two)].into_iter().inspect(|(name, _)| {
        if *name == "b" {
            within = Some(guest.infer(context, [("a", &nine), ("b", &nine)]));
        }
    });
    assert_eq!(numbers(&guest.infer(context, gathered).unwrap()), [3, -1]);
    assert_eq!(numbers(&within.unwrap().unwrap()), [18, 0]);
}

#[test]
fn another_call_on_the_context_meets_busy_until_the_outputs_are_read() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    let graph = guest.load(&[b"gate"], Encoding::PyTorch, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    let byte = Tensor::from_slice([], &[1_u8]).unwrap();
    let inference = guest.infer_async(context, [(0, &byte)]);
    watch.wait_for(1);
    let busy = [
        guest.infer(context, [(0, &byte)]).map(drop),
        block_on(guest.infer_async(context, [(0, &byte)])).map(drop),
        guest.set_input(context, 0, &byte),
        guest.compute(context),
        guest.output(context, 0).map(drop),
    ];
    for result in busy {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Busy);
    }
    watch.open();
    assert_eq!(block_on(inference).unwrap()[0].data(), [7]);
    assert_eq!((engine.stats().busy_contexts, engine.stats().computes), (5, 1));
}

#[test]
fn an_inference_that_finds_the_queue_full_has_set_its_inputs_and_no_more() {
    let watch = Watch::default();
    let engine = watch.engine_within(EngineLimits::default().with_max_computing(1).with_max_queued(0));
    let guest = engine.guest();
    let graph = guest.load(&[b"gate"], Encoding::PyTorch, Target::Cpu).unwrap();
    let [first, second] = [(); 2].map(|()| guest.init_execution_context(graph).unwrap());
    let byte = Tensor::from_slice([], &[1_u8]).unwrap();
    let running = guest.compute_async(first);
    watch.wait_for(1);
    let held = engine.stats().context_bytes;
    let error = guest.infer(second, [(0, &byte)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.message().starts_with("infer: the engine's queue of 0 computes is full"), "{error}");
    assert_eq!((engine.stats().context_bytes, engine.stats().limited), (held + 1, 1));
    watch.open();
    block_on(running).unwrap();
    guest.compute(second).unwrap();
    assert_eq!(guest.output(second, 0).unwrap().data(), [7]);
}

#[test]
fn an_inference_ends_when_it_is_dropped_or_cancelled_and_the_context_is_free() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    let graph = guest.load(&[b"loop"], Encoding::PyTorch, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    let byte = Tensor::from_slice([], &[1_u8]).unwrap();
    let inference = guest.infer_async(context, [(0, &byte)]);
    watch.wait_for(1);
    assert_eq!(guest.cancel(context), Ok(true));
    assert_eq!(block_on(inference).unwrap_err().message(), "infer: cancelled");
    let inference = guest.infer_async(context, [(0, &byte)]);
    watch.wait_for(2);
    drop(inference);
    eventually(|| engine.stats().cancelled == 2);
    watch.open();
    eventually(|| guest.infer(context, [(0, &byte)]).is_ok());
}

#[test]
fn a_panic_at_the_inputs_or_the_outputs_costs_the_context() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    let byte = Tensor::from_slice([], &[1_u8]).unwrap();
    for (panics, what) in [(1, "set_input"), (2, "output"), (3, "clear_inputs")] {
        let graph = guest.load(&[what.as_bytes()], Encoding::PyTorch, Target::Cpu).unwrap();
        let context = guest.init_execution_context(graph).unwrap();
        let error = guest.infer(context, [(0, &byte)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RuntimeError);
        assert_eq!(error.message(), format!("infer: the backend panicked: {what}"));
        assert_eq!(guest.compute(context).unwrap_err().kind(), ErrorKind::RuntimeError);
        assert_eq!(engine.stats().panics, panics);
    }
}
