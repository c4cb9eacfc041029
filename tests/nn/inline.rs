//! Asynchronous computes that run where they are polled.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use graphpool::GuestHandle;
use graphpool::backend::ComputeControl;
use graphpool::nn::{Compute, Engine, EngineLimits, Error, ErrorKind, Guest, TensorView};

use crate::admission::block_on;
use crate::backends::eventually;
use crate::scripted::{self, Scripted};

const HOUR: Duration = Duration::from_hours(1);

/// What the next compute does.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    Nothing,
    /// Waits until the test says something else.
    Wait,
    /// Takes at least that time.
    Take(Duration),
    /// Goes on until its deadline; the one after does nothing.
    Deadline,
}

/// Computes as it is told, and notes the name of the thread of each.
#[derive(Clone)]
struct Told(Arc<Shared>);

struct Shared {
    told: Mutex<State>,
    changed: Condvar,
}

struct State {
    next: Next,
    threads: Vec<Option<String>>,
}

impl Told {
    fn new() -> Self {
        let told = Mutex::new(State { next: Next::Nothing, threads: Vec::new() });
        Self(Arc::new(Shared { told, changed: Condvar::new() }))
    }

    fn tell(&self, next: Next) {
        self.0.told.lock().unwrap().next = next;
        self.0.changed.notify_all();
    }

    /// The threads of the computes so far.
    fn threads(&self) -> Vec<Option<String>> {
        self.0.told.lock().unwrap().threads.clone()
    }

    fn last_was_here(&self) -> bool {
        self.threads().last().unwrap().as_deref() == thread::current().name()
    }

    fn compute(&self, control: &ComputeControl) -> Result<(), Error> {
        let Shared { told, changed } = &*self.0;
        let mut state = told.lock().unwrap();
        state.threads.push(thread::current().name().map(str::to_owned));
        match state.next {
            Next::Nothing => {}
            Next::Wait => drop(changed.wait_while(state, |state| state.next == Next::Wait).unwrap()),
            Next::Take(time) => thread::sleep(time),
            Next::Deadline => {
                state.next = Next::Nothing;
                drop(state);
                while control.check().is_ok() {
                    thread::sleep(Duration::from_millis(1));
                }
                control.check()?;
            }
        }
        Ok(())
    }

    fn engine(&self, bound: Duration, computing: usize) -> Engine {
        let its = self.clone();
        Scripted::controlled(move |_, control| its.compute(control))
            .builder()
            .with_engine_limits(EngineLimits::default().with_max_computing(computing))
            .with_inline_computes(bound)
            .build()
    }
}

/// Computes until the graph is quick.
fn warm_up(told: &Told, guest: &Guest, context: GuestHandle) {
    eventually(|| {
        block_on(guest.compute_async(context)).unwrap();
        told.last_was_here()
    });
}

fn poll(compute: &mut Compute) -> Poll<Result<(), Error>> {
    Pin::new(compute).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_quick_graph_computes_in_the_first_poll_and_the_first_computes_do_not() {
    let told = Told::new();
    let engine = told.engine(HOUR, 2);
    let guest = engine.guest();
    let context = scripted::context(&guest, 0);
    for _ in 0..8 {
        block_on(guest.compute_async(context)).unwrap();
    }
    assert!(told.threads().iter().all(|name| name.as_deref() == Some("graphpool-compute")));
    let mut compute = guest.compute_async(context);
    assert_eq!((told.threads().len(), engine.stats().computing), (8, 0));
    assert!(poll(&mut compute).is_ready() && told.last_was_here());
    // Another context of the graph, and the other form of the call.
    let [other, another] = [(); 2].map(|()| scripted::context(&guest, 0));
    block_on(guest.compute_async(other)).unwrap();
    assert!(told.last_was_here());
    let none: [(u32, TensorView<'_>); 0] = [];
    assert_eq!(block_on(guest.infer_async(another, none)).unwrap(), []);
    assert!(told.last_was_here());
    assert_eq!((engine.stats().computes, engine.stats().computing, told.threads().len()), (11, 0, 11));
}

#[test]
fn blocking_computes_count_and_without_the_option_none_is_quick() {
    let told = Told::new();
    for (bound, expected) in [(HOUR, true), (Duration::ZERO, false)] {
        let engine = told.engine(bound, 2);
        let guest = engine.guest();
        let context = scripted::context(&guest, 0);
        (0..8).for_each(|_| guest.compute(context).unwrap());
        block_on(guest.compute_async(context)).unwrap();
        assert_eq!(told.last_was_here(), expected);
    }
}

#[test]
fn a_compute_that_is_not_polled_is_released_by_its_drop_and_by_each_way_to_cancel_it() {
    let told = Told::new();
    let engine = told.engine(HOUR, 2);
    let guest = engine.guest();
    let context = scripted::context(&guest, 0);
    warm_up(&told, &guest, context);
    let before = told.threads().len();
    drop(guest.compute_async(context));
    let mut cancelled = guest.compute_async(context);
    assert_eq!(guest.compute(context).unwrap_err().kind(), ErrorKind::Busy);
    assert!(guest.cancel(context).unwrap());
    // Before any poll.
    guest.compute(context).unwrap();
    let error = |compute: &mut Compute| match poll(compute) {
        Poll::Ready(Err(error)) => error.message().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(error(&mut cancelled), "compute: cancelled before it began");
    let mut closed = guest.compute_async(context);
    guest.drop_context(context).unwrap();
    assert_eq!(engine.stats().contexts, 0);
    assert_eq!(error(&mut closed), "compute: cancelled before it began");
    let mut orphan = guest.compute_async(scripted::context(&guest, 0));
    drop(guest);
    assert_eq!((engine.stats().contexts, engine.stats().computing), (0, 0));
    assert_eq!(error(&mut orphan), "compute: cancelled before it began");
    assert_eq!((told.threads().len(), engine.stats().cancelled), (before + 1, 4));
}

#[test]
fn where_no_place_is_free_a_quick_compute_waits_and_runs_on_a_thread_of_the_engine() {
    let told = Told::new();
    let engine = told.engine(HOUR, 1);
    let guest = engine.guest();
    let [context, other] = [(); 2].map(|()| scripted::context(&guest, 0));
    warm_up(&told, &guest, context);
    told.tell(Next::Wait);
    thread::scope(|scope| {
        let running = scope.spawn(|| guest.compute(other));
        eventually(|| engine.stats().computing == 1);
        let mut compute = guest.compute_async(context);
        assert_eq!(engine.stats().queued, 0);
        assert!(poll(&mut compute).is_pending());
        assert_eq!(engine.stats().queued, 1);
        told.tell(Next::Nothing);
        block_on(compute).unwrap();
        assert!(!told.last_was_here());
        running.join().unwrap().unwrap();
    });
}

#[test]
fn a_slow_compute_sends_the_next_ones_to_a_thread_of_the_engine() {
    let told = Told::new();
    let bound = Duration::from_millis(200);
    let engine = told.engine(bound, 2);
    let guest = engine.guest();
    let context = scripted::context(&guest, 0);
    warm_up(&told, &guest, context);
    let waiting = [(); 2].map(|()| guest.compute_async(scripted::context(&guest, 0)));
    told.tell(Next::Take(bound));
    guest.compute(context).unwrap();
    told.tell(Next::Nothing);
    // Also those that were started before.
    for compute in waiting {
        block_on(compute).unwrap();
        assert!(!told.last_was_here());
    }
    block_on(guest.compute_async(context)).unwrap();
    assert!(!told.last_was_here());
    warm_up(&told, &guest, context);
}

#[test]
fn a_compute_that_takes_far_too_long_starts_again_on_a_thread_of_the_engine() {
    let told = Told::new();
    let engine = told.engine(Duration::from_millis(20), 1);
    let guest = engine.guest();
    let context = scripted::context(&guest, 0);
    warm_up(&told, &guest, context);
    let (before, computes) = (told.threads().len(), engine.stats().computes);
    let billed = guest.usage().computes;
    told.tell(Next::Deadline);
    block_on(guest.compute_async(context)).unwrap();
    let names = told.threads().split_off(before);
    assert_eq!(names, [thread::current().name().map(str::to_owned), Some("graphpool-compute".to_owned())]);
    let stats = engine.stats();
    assert_eq!((stats.computes, stats.failed_computes, stats.timeouts, stats.computing), (computes + 1, 0, 0, 0));
    // One compute on the bill, with the time of both.
    assert_eq!(guest.usage().computes, billed + 1);
    assert!(guest.usage().compute_time >= Duration::from_millis(8 * 20));
    // The compute's own limit is one.
    warm_up(&told, &guest, context);
    told.tell(Next::Deadline);
    let error = block_on(guest.compute_async_within(context, Duration::from_millis(5))).unwrap_err();
    assert_eq!((error.kind(), engine.stats().timeouts), (ErrorKind::Timeout, 1));
}

#[test]
fn a_panic_where_it_is_polled_is_the_error_of_the_compute() {
    let engine = Scripted::new(|model| {
        assert!(model == 0, "as it was told");
        Ok(())
    })
    .builder()
    .with_inline_computes(HOUR)
    .build();
    let guest = engine.guest();
    let context = scripted::context(&guest, 1);
    // A panic is a failure, which does not make the graph quick.
    let error = block_on(guest.compute_async(context)).unwrap_err();
    assert_eq!((error.kind(), engine.stats().panics), (ErrorKind::RuntimeError, 1));
}
