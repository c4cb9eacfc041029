//! A compute ends with its call, its store or its guest, and a wait blocks no executor.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use graphpool::nn::{Encoding, ModelSource, Target};
use tokio::task::yield_now;
use wasmtime::Trap;

use crate::backend::{Event, Gate};
use crate::puppet::{CPU, Mode, ONNX, block_on, engine};
use crate::setup::{Setup, each};

/// Runs two futures to their ends.
async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut of_a, mut of_b) = (None, None);
    poll_fn(|cx| {
        if of_a.is_none()
            && let Poll::Ready(output) = a.as_mut().poll(cx)
        {
            of_a = Some(output);
        }
        if of_b.is_none()
            && let Poll::Ready(output) = b.as_mut().poll(cx)
        {
            of_b = Some(output);
        }
        if of_a.is_none() || of_b.is_none() {
            return Poll::Pending;
        }
        of_a.take().zip(of_b.take()).map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

type Compute = (u32, u32, u32, u32);
type Load = (u32, u32, u32, u32, u32);

/// Runs a test of an asynchronous store.
fn each_async(test: impl Fn(&Setup)) {
    each(|setup| {
        if setup.mode == Mode::Async {
            test(setup);
        }
    });
}

#[test]
fn the_drop_of_a_calls_future_cancels_its_compute() {
    each_async(|setup| {
        let mut puppet = setup.puppet();
        let context = puppet.open("wait");
        let compute = puppet.func::<Compute, ()>("compute");
        {
            let mut call = pin!(compute.call_async(&mut puppet.store, (context, 0, 0, 0)));
            assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert_eq!(setup.gate.events.recv(), Ok(Event::Began));
        }
        // Not opened, so it was cancelled.
        assert_eq!(setup.gate.events.recv(), Ok(Event::Ended));
    });
}

#[test]
fn the_drop_of_a_store_in_a_call_cancels_its_compute_and_releases_everything() {
    each_async(|setup| {
        let mut puppet = setup.puppet();
        let context = puppet.open("wait");
        puppet.bytes(&[1; 1000]);
        let compute = puppet.func::<Compute, ()>("compute");
        let mut owner = Box::pin(async move { compute.call_async(&mut puppet.store, (context, 0, 0, 0)).await });
        assert!(owner.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(setup.gate.events.recv(), Ok(Event::Began));
        drop(owner);
        assert_eq!(setup.gate.events.recv(), Ok(Event::Ended));
    });
}

/// Opens the gate once a call waits there and the executor has run other tasks a hundred times: the call would never
/// end if it blocked the executor.
async fn open_meanwhile(gate: &Gate) {
    while gate.events.try_recv() != Ok(Event::Began) {
        yield_now().await;
    }
    for _ in 0..100 {
        yield_now().await;
    }
    gate.open.send(()).unwrap();
}

#[test]
fn the_executor_runs_other_tasks_while_a_component_computes() {
    each_async(|setup| {
        let mut puppet = setup.puppet();
        let context = puppet.open("wait");
        let compute = puppet.func::<Compute, ()>("compute");
        let call = compute.call_async(&mut puppet.store, (context, 0, 0, 0));
        block_on(both(call, open_meanwhile(&setup.gate))).0.unwrap();
        assert_eq!(puppet.get(0, 1), [0]);
    });
}

#[test]
fn the_executor_runs_other_tasks_while_a_component_loads() {
    each_async(|setup| {
        setup.engine.register_model("slow", ModelSource::bytes(b"load"), Encoding::Onnx, Target::Cpu).unwrap();
        let mut puppet = setup.puppet();
        let name = puppet.put(b"slow");
        let load = puppet.func::<(u32, u32, u32), ()>("load-by-name");
        let call = load.call_async(&mut puppet.store, (name, 4, 0));
        block_on(both(call, open_meanwhile(&setup.gate))).0.unwrap();
        let graph = puppet.result(0).unwrap();
        puppet.context(graph).unwrap();

        let part = puppet.put(b"load of bytes");
        let list = puppet.put_words(&[part, 13]);
        let load = puppet.func::<Load, ()>("load");
        let call = load.call_async(&mut puppet.store, (list, 1, ONNX, CPU, 0));
        block_on(both(call, open_meanwhile(&setup.gate))).0.unwrap();
        puppet.result(0).unwrap();
    });
}

#[test]
fn the_drop_of_a_calls_future_cancels_its_load() {
    each_async(|setup| {
        let mut puppet = setup.puppet();
        let part = puppet.put(b"load");
        let list = puppet.put_words(&[part, 4]);
        let load = puppet.func::<Load, ()>("load");
        {
            let mut call = pin!(load.call_async(&mut puppet.store, (list, 1, ONNX, CPU, 0)));
            assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert_eq!(setup.gate.events.recv(), Ok(Event::Began));
        }
        // The build, for which no load waits now, ends with the backend.
        setup.gate.open.send(()).unwrap();
        assert_eq!(setup.gate.events.recv(), Ok(Event::Ended));
        while setup.engine.stats().graphs > 0 || setup.engine.stats().builds == 0 {
            thread::yield_now();
        }
        assert_eq!(setup.engine.stats().graph_handles, 0);
    });
}

#[test]
fn fuel_ends_a_guest_that_computes_without_end() {
    each(|setup| {
        let mut puppet = setup.puppet();
        let context = puppet.open("constant");
        puppet.store.set_fuel(10_000).unwrap();
        let trap = puppet.call::<_, ()>("compute-forever", (context, 0_u32)).unwrap_err();
        assert_eq!(trap.downcast_ref::<Trap>(), Some(&Trap::OutOfFuel));
    });
}

#[test]
fn epoch_interruption_ends_a_guest_that_computes_without_end() {
    each(|setup| {
        // Their outputs and errors are many, so that the store's table must not grow with them.
        for model in ["constant", "fail busy"] {
            let mut puppet = setup.puppet();
            let context = puppet.open(model);
            puppet.store.set_epoch_deadline(1);
            let ended = AtomicBool::new(false);
            let trap = thread::scope(|scope| {
                scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        engine().increment_epoch();
                        thread::yield_now();
                    }
                });
                let trap = puppet.call::<_, ()>("compute-forever", (context, 0_u32)).unwrap_err();
                ended.store(true, Ordering::Relaxed);
                trap
            });
            assert_eq!(trap.downcast_ref::<Trap>(), Some(&Trap::Interrupt));
        }
    });
}
