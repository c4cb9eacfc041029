//! How long calls wait for a library that is busy, and what ends their wait.

use std::thread;
use std::time::{Duration, Instant};

use graphpool::GuestHandle;
use graphpool::nn::{Encoding, Engine, ErrorKind, Guest, Target, Tensor};
use graphpool_dylib::Serialized;

use crate::library::{Gate, Plugin, eventually, floats, model, settings};

/// Much longer than what ends the waits in these tests.
const LONG: Duration = Duration::from_secs(4);

fn load(guest: &Guest, words: &str) -> GuestHandle {
    guest.load(&[&model(words)], Encoding::Onnx, Target::Cpu).unwrap()
}

/// A context that has computed.
fn open(guest: &Guest, words: &str) -> GuestHandle {
    let context = guest.init_execution_context(load(guest, words)).unwrap();
    guest.set_input(context, 0, &Tensor::from_f32([1], &[1.0]).unwrap()).unwrap();
    guest.compute(context).unwrap();
    context
}

/// Runs `f`, and opens the gate if that takes too long.
fn behind<R>(gate: Gate, f: impl FnOnce() -> R) -> (R, Duration) {
    let (end, ended) = std::sync::mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let _ = ended.recv_timeout(LONG * 2);
            drop(gate);
        });
        let began = Instant::now();
        let result = f();
        let took = began.elapsed();
        drop(end);
        (result, took)
    })
}

/// A compute without an input that the guest has cleared needs a new `init_backend` context, for which it waits no
/// longer than for anything else.
#[test]
fn a_compute_that_starts_anew_ends_at_its_deadline_and_by_its_cancellation() {
    let plugin = Plugin::build(&["EXCLUSIVE"]);
    let declared = settings().with_serialized(Serialized::Library).with_max_wait(LONG);
    let engine = Engine::new(plugin.backend_with(declared));
    let (slow, guest) = (engine.guest(), engine.guest());
    let (long, context) = (open(&slow, "gate"), open(&guest, "add 1"));
    let gate = plugin.shut_gate();
    thread::scope(|scope| {
        let computing = scope.spawn(|| slow.compute(long));
        eventually(|| plugin.events('w') == 2);
        let ((), took) = behind(gate, || {
            let late = guest.infer_within::<u32, &Tensor>(context, [], Duration::from_millis(50)).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
            let inferring = scope.spawn(|| guest.infer::<u32, &Tensor>(context, []));
            eventually(|| guest.cancel(context).unwrap() || inferring.is_finished());
            let cancelled = inferring.join().unwrap().unwrap_err();
            assert!(cancelled.message().contains("cancelled"), "{cancelled}");
        });
        assert!(took < LONG, "the wait took {took:?}");
        computing.join().unwrap().unwrap();
    });
    let outputs = guest.infer(context, [(0, &Tensor::from_f32([1], &[5.0]).unwrap())]).unwrap();
    assert_eq!(floats(outputs[0].data()), [6.0]);
    drop((slow, guest, engine));
    plugin.assert_gone();
}

#[test]
fn a_compute_that_is_cancelled_while_its_model_loads_again_goes_no_further() {
    let plugin = Plugin::build(&[]);
    let engine = Engine::new(plugin.backend());
    let guest = engine.guest();
    let context = open(&guest, "loadgate");
    let (opened, gate) = (plugin.events('e'), plugin.shut_gate());
    thread::scope(|scope| {
        let inferring = scope.spawn(|| guest.infer::<u32, &Tensor>(context, []));
        eventually(|| plugin.events('w') == 2);
        assert!(guest.cancel(context).unwrap());
        drop(gate);
        assert!(inferring.join().unwrap().unwrap_err().message().contains("cancelled"));
    });
    assert_eq!(plugin.events('e'), opened, "an execution context was opened for a cancelled compute");
    let outputs = guest.infer(context, [(0, &Tensor::from_f32([1], &[5.0]).unwrap())]).unwrap();
    assert_eq!(floats(outputs[0].data()), [5.0]);
    drop((guest, engine));
    plugin.assert_gone();
}

/// The model is loaded again for every second context. While that load is slow, the other contexts of the graph wait
/// for it as long as is declared.
#[test]
fn a_context_waits_for_the_load_that_it_shares_for_a_bounded_time() {
    let plugin = Plugin::build(&[]);
    let declared = settings().with_contexts_per_load(2).with_max_wait(Duration::from_millis(50));
    let engine = Engine::new(plugin.backend_with(declared));
    let guest = engine.guest();
    let graph = load(&guest, "loadgate");
    let contexts = [(); 2].map(|()| guest.init_execution_context(graph).unwrap());
    let gate = plugin.shut_gate();
    thread::scope(|scope| {
        let loading = scope.spawn(|| guest.init_execution_context(graph));
        eventually(|| plugin.events('w') == 2);
        let (result, took) = behind(gate, || guest.init_execution_context(graph));
        let busy = result.unwrap_err();
        assert_eq!((busy.kind(), took < LONG), (ErrorKind::Busy, true), "{busy} after {took:?}");
        assert!(busy.message().contains("another call loads the model"), "{busy}");
        loading.join().unwrap().unwrap();
    });
    // It has room for one more.
    guest.init_execution_context(graph).unwrap();
    assert_eq!((plugin.events('l'), contexts.len()), (2, 2));
    drop((guest, engine));
    plugin.assert_gone();
}
