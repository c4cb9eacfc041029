//! The end of a guest by the host: `cancel_all` and `close`, against calls that run and wait.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use graphpool::GuestHandle;
use graphpool::nn::{Encoding, EngineLimits, Error, ErrorKind, Guest, Target, Tensor, TensorType, TensorView};

use crate::admission::block_on;
use crate::backends::{Model, Watch, eventually};

fn open(guest: &Guest, model: &str) -> GuestHandle {
    let graph = guest.load(&[model.as_bytes()], Encoding::PyTorch, Target::Cpu).unwrap();
    guest.init_execution_context(graph).unwrap()
}

fn closed(call: &str, result: Result<(), Error>) {
    let error = result.unwrap_err();
    assert_eq!(error.message(), format!("{call}: the guest is closed"));
    assert_eq!((error.kind(), error.errno()), (ErrorKind::RuntimeError, 5));
}

#[test]
fn cancel_all_ends_what_runs_and_what_waits_and_nothing_later() {
    let watch = Watch::default();
    let engine = watch.engine_within(EngineLimits::default().with_max_computing(2));
    let [guest, other] = [engine.guest(), engine.guest()];
    assert_eq!(guest.cancel_all(), 0);
    let contexts = ["loop", "loop", "loop"].map(|model| open(&guest, model));
    let others = open(&other, "loop");
    let running = guest.compute_async(contexts[0]);
    let of_other = other.compute_async(others);
    watch.wait_for(2);
    let byte = Tensor::from_slice([], &[1_u8]).unwrap();
    let waiting = guest.infer_async(contexts[1], [(0, &byte)]);
    assert_eq!(engine.stats().queued, 1);
    assert_eq!(guest.cancel_all(), 2);
    assert_eq!(block_on(waiting).unwrap_err().message(), "infer: cancelled before it began");
    assert_eq!(block_on(running).unwrap_err().message(), "compute: cancelled");
    assert_eq!((guest.cancel_all(), engine.stats().cancelled), (0, 2));
    // Those of another guest go on, and later ones of this one begin.
    let later = guest.compute_async(contexts[2]);
    watch.wait_for(3);
    watch.open();
    block_on(later).unwrap();
    block_on(of_other).unwrap();
}

#[test]
fn cancel_all_ends_the_compute_of_a_context_that_was_dropped_meanwhile() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    let context = open(&guest, "loop");
    let running = guest.compute_async(context);
    watch.wait_for(1);
    guest.drop_context(context).unwrap();
    assert_eq!(guest.cancel_all(), 1);
    assert_eq!(block_on(running).unwrap_err().message(), "compute: cancelled");
    eventually(|| engine.stats().contexts == 0);
}

#[test]
fn a_closed_guest_holds_nothing_and_refuses_every_call() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    let model = Model::default().bytes();
    let graph = guest.load(&[&model], Encoding::Onnx, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    let clone = guest.clone();
    assert!(!guest.is_closed());
    guest.close();
    assert!(clone.is_closed());
    let stats = engine.stats();
    assert_eq!((stats.contexts, stats.graph_handles, stats.guests), (0, 0, 1));
    eventually(|| engine.stats().graphs == 0);
    let data = [0; 8];
    let tensor = TensorView::new(&[2], TensorType::F32, &data).unwrap();
    for handle in [graph, context, GuestHandle::from_bits(0xabcd)] {
        closed("init_execution_context", clone.init_execution_context(handle).map(drop));
        closed("set_input", clone.set_input(handle, 0, tensor));
        closed("clear_inputs", clone.clear_inputs(handle));
        closed("compute", clone.compute(handle));
        closed("compute", block_on(clone.compute_async(handle)));
        closed("infer", clone.infer(handle, [(0, tensor)]).map(drop));
        closed("infer", block_on(clone.infer_async(handle, [(0, tensor)])).map(drop));
        closed("get_output", clone.get_output(handle, 0, &mut [0; 8]).map(drop));
        closed("get_output", clone.with_output(handle, 0, |_| Ok(())));
        closed("output", clone.output(handle, 0).map(drop));
        closed("cancel", clone.cancel(handle).map(drop));
        closed("drop_context", clone.drop_context(handle));
        closed("unload", clone.unload(handle));
        closed("inputs", clone.inputs(handle).map(drop));
        closed("outputs", clone.outputs(handle).map(drop));
    }
    closed("load", clone.load(&[&model], Encoding::Onnx, Target::Cpu).map(drop));
    closed("load_by_name", clone.load_by_name("any").map(drop));
    closed("load_by_name_with_config", clone.load_by_name_with_config("any", "x").map(drop));
    closed("reserve", clone.reserve(1).map(drop));
    assert_eq!((clone.cancel_all(), watch.loads()), (0, 1));
    clone.close();
    drop((guest, clone));
    assert_eq!(engine.stats().guests, 0);
    // Another guest is not concerned.
    open(&engine.guest(), "any");
}

#[test]
fn close_ends_what_runs_waits_and_was_dropped_meanwhile() {
    let watch = Watch::default();
    let engine = watch.engine_within(EngineLimits::default().with_max_computing(2));
    let guest = engine.guest();
    let contexts = ["loop", "loop", "any"].map(|model| open(&guest, model));
    let [running, dropped] = [0, 1].map(|context| guest.compute_async(contexts[context]));
    watch.wait_for(2);
    guest.drop_context(contexts[1]).unwrap();
    let waiting = guest.compute_async(contexts[2]);
    guest.close();
    assert_eq!(block_on(waiting).unwrap_err().message(), "compute: cancelled before it began");
    assert_eq!(block_on(running).unwrap_err().message(), "compute: cancelled");
    assert_eq!(block_on(dropped).unwrap_err().message(), "compute: cancelled");
    eventually(|| engine.stats().contexts == 0);
    assert_eq!(engine.stats().cancelled, 3);
}

#[test]
fn a_load_that_is_in_progress_at_the_close_gives_no_handle() {
    let watch = Watch::default();
    let engine = watch.engine();
    let guest = engine.guest();
    thread::scope(|scope| {
        let load = scope.spawn(|| guest.load(&[b"gate load"], Encoding::PyTorch, Target::Cpu).map(drop));
        watch.wait_for(1);
        guest.close();
        watch.open();
        closed("load", load.join().unwrap());
    });
    assert_eq!(engine.stats().graph_handles, 0);
    eventually(|| engine.stats().graphs == 0);
}

#[test]
fn threads_in_every_call_are_past_a_close_soon_and_leave_nothing() {
    let watch = Watch::default();
    let engine = watch.engine();
    for _ in 0..50 {
        let guest = engine.guest();
        let (ready, ended) = (Arc::new(Barrier::new(4)), AtomicBool::new(false));
        let begun = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                let (guest, ready, ended, begun) = (guest.clone(), Arc::clone(&ready), &ended, &begun);
                scope.spawn(move || {
                    ready.wait();
                    let work = || {
                        let after = ended.load(Ordering::SeqCst);
                        let graph = guest.load(&[b"loop"], Encoding::PyTorch, Target::Cpu)?;
                        let context = guest.init_execution_context(graph)?;
                        assert!(!after, "a handle after the close");
                        begun.fetch_add(1, Ordering::SeqCst);
                        guest.compute(context)
                    };
                    while let Err(error) = work() {
                        // The close may come between the look-up of the context and its use.
                        let dropped = error.message().ends_with("was dropped meanwhile");
                        assert!(error.kind() == ErrorKind::RuntimeError || dropped, "{error}");
                        if ended.load(Ordering::SeqCst) {
                            break;
                        }
                    }
                });
            }
            ready.wait();
            while begun.load(Ordering::SeqCst) == 0 {
                thread::yield_now();
            }
            guest.close();
            ended.store(true, Ordering::SeqCst);
        });
        let usage = guest.usage();
        assert_eq!((usage.graphs, usage.contexts, usage.context_bytes), (0, 0, 0));
    }
    eventually(|| engine.stats().graphs == 0 && engine.stats().contexts == 0);
    watch.all_gone();
}
