//! How many computes run, who waits, and what ends them.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use graphpool::GuestHandle;
use graphpool::nn::{Encoding, Engine, EngineLimits, Error, ErrorKind, Guest, Limits, Target};

use crate::backends::{Watch, eventually};

const SHORT: Duration = Duration::from_millis(150);

fn context(guest: &Guest, model: &str) -> GuestHandle {
    let graph = guest.load(&[model.as_bytes()], Encoding::PyTorch, Target::Cpu).unwrap();
    guest.init_execution_context(graph).unwrap()
}

fn engine(watch: &Watch, computes: usize, queue: usize) -> Engine {
    watch.engine_within(EngineLimits::default().with_max_computing(computes).with_max_queued(queue))
}

/// The simplest executor: parks the thread until it is woken.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return result;
        }
        thread::park();
    }
}

fn cancelled(result: Result<(), Error>) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RuntimeError);
    assert!(error.message().starts_with("compute: ") && error.message().contains("cancelled"), "{error}");
}

#[test]
fn as_many_run_as_may_the_next_wait_and_the_one_after_is_told_busy() {
    let watch = Watch::default();
    let engine = engine(&watch, 2, 1);
    let guest = engine.guest();
    thread::scope(|scope| {
        let compute = |model| {
            let context = context(&guest, model);
            let guest = &guest;
            scope.spawn(move || guest.compute(context))
        };
        let running = [compute("gate"), compute("gate")];
        watch.wait_for(2);
        let waiting = compute("anything");
        eventually(|| engine.stats().queued == 1);
        let error = guest.compute(context(&guest, "anything")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert_eq!(error.message(), "compute: the engine's queue of 1 computes is full, 1 of them this guest's");
        let error = block_on(guest.compute_async(context(&guest, "anything"))).unwrap_err();
        assert_eq!((error.kind(), engine.stats().limited), (ErrorKind::Busy, 2));
        assert_eq!((engine.stats().computing, engine.stats().queued), (2, 1));
        watch.open();
        for thread in running.into_iter().chain([waiting]) {
            thread.join().unwrap().unwrap();
        }
    });
    assert_eq!((engine.stats().computing, engine.stats().queued, engine.stats().computes), (0, 0, 3));
}

#[test]
fn a_context_that_waits_for_its_turn_is_in_use() {
    let watch = Watch::default();
    let engine = engine(&watch, 1, 8);
    let guest = engine.guest();
    let running = guest.compute_async(context(&guest, "gate"));
    watch.wait_for(1);
    let second = context(&guest, "anything");
    let waiting = guest.compute_async(second);
    assert_eq!(guest.compute(second).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(guest.output(second, 0).unwrap_err().kind(), ErrorKind::Busy);
    watch.open();
    block_on(waiting).unwrap();
    block_on(running).unwrap();
    guest.output(second, 0).unwrap();
}

#[test]
fn a_deadline_ends_one_that_runs_and_one_that_waits() {
    let watch = Watch::default();
    let engine = engine(&watch, 1, 8);
    let guest = engine.guest();
    let error = guest.compute_within(context(&guest, "loop"), SHORT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.message(), "compute: exceeded the time limit of 150ms: the deadline passed");
    // The guest's own limit, where no time is given or more.
    let hurried = engine.guest_with(Limits::default().with_max_compute_time(SHORT));
    let looping = context(&hurried, "loop");
    assert_eq!(hurried.compute(looping).unwrap_err().kind(), ErrorKind::Timeout);
    let start = Instant::now();
    let error = hurried.compute_within(looping, Duration::from_mins(1)).unwrap_err();
    assert!(error.kind() == ErrorKind::Timeout && start.elapsed() < Duration::from_secs(10));

    let running = guest.compute_async(context(&guest, "gate"));
    watch.wait_for(4);
    let waiting = context(&guest, "anything");
    let errors = [
        guest.compute_within(waiting, SHORT).unwrap_err(),
        block_on(guest.compute_async_within(waiting, SHORT)).unwrap_err(),
        hurried.compute(context(&hurried, "anything")).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(
            error.message(),
            "compute: exceeded the time limit of 150ms before it began, while it waited for its turn"
        );
    }
    assert_eq!((engine.stats().timeouts, engine.stats().queued), (6, 0));
    watch.open();
    block_on(running).unwrap();
    // It is as good as it was.
    guest.compute(waiting).unwrap();
}

#[test]
fn a_compute_is_cancelled_from_another_thread_whether_it_runs_or_waits() {
    let watch = Watch::default();
    let engine = engine(&watch, 1, 8);
    let guest = engine.guest();
    let [running, waiting] = [context(&guest, "loop"), context(&guest, "anything")];
    assert_eq!(guest.cancel(running), Ok(false));
    thread::scope(|scope| {
        let first = scope.spawn(|| guest.compute(running));
        watch.wait_for(1);
        let second = scope.spawn(|| guest.compute(waiting));
        eventually(|| engine.stats().queued == 1);
        assert_eq!(guest.cancel(waiting), Ok(true));
        cancelled(second.join().unwrap());
        let third = guest.compute_async(waiting);
        assert_eq!((engine.stats().queued, guest.cancel(waiting)), (1, Ok(true)));
        cancelled(block_on(third));
        assert_eq!(guest.cancel(running), Ok(true));
        cancelled(first.join().unwrap());
    });
    assert_eq!((engine.stats().cancelled, engine.stats().queued, engine.stats().computing), (3, 0, 0));
    assert_eq!(guest.cancel(GuestHandle::from_bits(7)).unwrap_err().kind(), ErrorKind::InvalidArgument);
    // It was that compute and not the context.
    guest.compute(waiting).unwrap();
    watch.open();
    guest.compute(running).unwrap();
}

#[test]
fn a_future_that_is_dropped_cancels_its_compute() {
    let watch = Watch::default();
    let engine = engine(&watch, 1, 8);
    let guest = engine.guest();
    let [first, second] = [context(&guest, "loop"), context(&guest, "anything")];
    let running = guest.compute_async(first);
    watch.wait_for(1);
    drop(guest.compute_async(second));
    // At once: it waited.
    assert_eq!((engine.stats().queued, guest.cancel(second)), (0, Ok(false)));
    drop(running);
    // A compute is counted after it has handed its turn on.
    eventually(|| engine.stats().cancelled == 2);
    assert_eq!(engine.stats().computing, 0);
    guest.compute(second).unwrap();
    // One that has ended has nothing to cancel.
    let done = guest.compute_async(second);
    eventually(|| engine.stats().computes == 2);
    drop(done);
    assert_eq!((engine.stats().cancelled, engine.stats().computes), (2, 2));
}

#[test]
fn a_guest_that_is_dropped_cancels_what_it_computes() {
    let watch = Watch::default();
    let engine = engine(&watch, 1, 8);
    let guest = engine.guest();
    let futures = ["loop", "loop"].map(|model| guest.compute_async(context(&guest, model)));
    watch.wait_for(1);
    drop((guest, engine));
    for future in futures {
        cancelled(block_on(future));
    }
    watch.all_gone();
}

#[test]
fn a_guest_that_is_dropped_cancels_the_computes_of_contexts_that_it_gave_back_before() {
    let watch = Watch::default();
    let engine = engine(&watch, 1, 8);
    let guest = engine.guest();
    let contexts = ["loop", "anything"].map(|model| context(&guest, model));
    let futures = contexts.map(|context| guest.compute_async(context));
    watch.wait_for(1);
    for context in contexts {
        guest.drop_context(context).unwrap();
    }
    // What waited has ended.
    assert_eq!((engine.stats().computing, engine.stats().queued), (1, 0));
    drop(guest);
    for future in futures {
        cancelled(block_on(future));
    }
    eventually(|| engine.stats().contexts == 0);
}

#[test]
fn nothing_of_a_context_begins_after_it_was_given_back() {
    let watch = Watch::default();
    let engine = engine(&watch, 1, 8);
    let guest = engine.guest();
    let running = guest.compute_async(context(&guest, "gate"));
    watch.wait_for(1);
    let graph = guest.load(&[b"loop"], Encoding::PyTorch, Target::Cpu).unwrap();
    let [first, second] = [(); 2].map(|()| guest.init_execution_context(graph).unwrap());
    let waiting = guest.compute_async(first);
    thread::scope(|scope| {
        let blocked = scope.spawn(|| guest.compute(second));
        eventually(|| engine.stats().queued == 2);
        for context in [first, second] {
            guest.drop_context(context).unwrap();
        }
        guest.unload(graph).unwrap();
        // Though nobody has left the backend yet.
        cancelled(blocked.join().unwrap());
    });
    cancelled(block_on(waiting));
    assert_eq!((engine.stats().queued, engine.stats().contexts, engine.stats().cancelled), (0, 1, 2));
    watch.open();
    block_on(running).unwrap();
    assert_eq!(engine.stats().computes, 1);
    // One that has no time is late on an idle engine, too.
    let error = guest.compute_within(context(&guest, "anything"), Duration::ZERO).unwrap_err();
    assert_eq!(error.message(), "compute: exceeded the time limit of 0ns before it began");
}

#[test]
fn futures_end_in_any_order_with_what_their_computes_gave() {
    let watch = Watch::default();
    let engine = engine(&watch, 2, 200);
    let guest = engine.guest();
    let panicking = guest.compute_async(context(&guest, "compute"));
    let graph = guest.load(&[b"slow"], Encoding::PyTorch, Target::Cpu).unwrap();
    let slow = || guest.compute_async(guest.init_execution_context(graph).unwrap());
    let futures: Vec<_> = (0..100).map(|_| slow()).collect();
    futures.into_iter().rev().for_each(|future| block_on(future).unwrap());
    assert_eq!(block_on(panicking).unwrap_err().message(), "compute: the backend panicked: compute");
    assert_eq!(
        block_on(guest.compute_async(GuestHandle::from_bits(9))).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    drop((guest, engine));
    watch.all_gone();
}

#[test]
fn a_guest_has_no_more_computes_than_its_limits_say() {
    let watch = Watch::default();
    let engine = engine(&watch, 1, 8);
    let guest = engine.guest_with(Limits::default().with_max_computes(2));
    let contexts = ["gate", "anything", "anything"].map(|model| context(&guest, model));
    let [first, second] = [contexts[0], contexts[1]].map(|context| guest.compute_async(context));
    let error = guest.compute(contexts[2]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert_eq!(error.message(), "compute: compute limit exceeded: 2 of 2 computes in use, 1 more requested");
    // Another has its own.
    let other = engine.guest();
    let third = other.compute_async(context(&other, "anything"));
    watch.open();
    for future in [first, second, third] {
        block_on(future).unwrap();
    }
    guest.compute(contexts[2]).unwrap();
}

/// Cancels, deadlines and turns that come at the same moment.
#[test]
fn in_a_crowd_every_compute_ends_and_nothing_is_left() {
    let watch = Watch::default();
    let engine = engine(&watch, 2, 16);
    thread::scope(|scope| {
        for thread in 0..6_u64 {
            let engine = &engine;
            scope.spawn(move || {
                for round in 0..60_u64 {
                    let guest = engine.guest();
                    let contexts: Vec<_> = (0..4).map(|_| context(&guest, "slow")).collect();
                    let time = Duration::from_micros(500 * ((thread + round) % 8));
                    let futures: Vec<_> =
                        contexts.iter().map(|context| guest.compute_async_within(*context, time)).collect();
                    let _ = guest.cancel(contexts[(round % 4) as usize]);
                    match round % 3 {
                        0 => drop(guest),
                        1 => drop(guest.compute_within(context(&guest, "slow"), time)),
                        _ => {}
                    }
                    for (place, future) in futures.into_iter().enumerate() {
                        if place != (thread % 4) as usize {
                            let _ = block_on(future);
                        }
                    }
                }
            });
        }
    });
    eventually(|| {
        let stats = engine.stats();
        [stats.computing, stats.queued, stats.contexts, stats.graphs, stats.guests, stats.context_bytes] == [0; 6]
    });
    drop(engine);
    watch.all_gone();
}
