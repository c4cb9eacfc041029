//! A compute ends with its call, its store or its guest, and a wait blocks no executor.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use tokio::task::yield_now;
use wasmtime::Trap;

use crate::backend::Event;
use crate::puppet::{Mode, block_on, engine};
use crate::setup::each;

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

#[test]
fn the_drop_of_a_calls_future_cancels_its_compute() {
    each(|setup| {
        if setup.mode == Mode::Sync {
            return;
        }
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
    each(|setup| {
        if setup.mode == Mode::Sync {
            return;
        }
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

#[test]
fn the_executor_runs_other_tasks_while_a_component_computes() {
    each(|setup| {
        if setup.mode == Mode::Sync {
            return;
        }
        let mut puppet = setup.puppet();
        let context = puppet.open("wait");
        let compute = puppet.func::<Compute, ()>("compute");
        let (open, events) = (setup.gate.open.clone(), &setup.gate.events);
        block_on(async {
            let call = async { compute.call_async(&mut puppet.store, (context, 0, 0, 0)).await };
            // The compute ends only if this runs meanwhile.
            let others = async {
                while events.try_recv() != Ok(Event::Began) {
                    yield_now().await;
                }
                for _ in 0..100 {
                    yield_now().await;
                }
                open.send(()).unwrap();
            };
            let (called, ()) = both(call, others).await;
            called.unwrap();
        });
        assert_eq!(puppet.get(0, 1), [0]);
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
