//! The queue by which sessions of a language model share passes, which knows nothing of models. Its file is the candle
//! backend's, included here beside loom's primitives.

use std::collections::BTreeSet;
use std::sync::Mutex as StdMutex;
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

use crate::support::explore_bounded;
use queue::{BatchQueue, Joined, Seat};

mod sync {
    pub(super) use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
}

#[path = "../backends/candle/src/llm/queue.rs"]
mod queue;

/// A request. loom reports two accesses to it that are not ordered, and that it is not freed.
struct Request {
    number: usize,
    computed: UnsafeCell<usize>,
    _freed: Arc<()>,
}

impl Request {
    fn new(number: usize) -> Self {
        Self { number, computed: UnsafeCell::new(0), _freed: Arc::new(()) }
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Led,
    Computed,
    CutOff,
    Left,
}

/// A queue whose passes are checked.
struct Checked {
    queue: Arc<BatchQueue<Request>>,
    most: usize,
    passes: usize,
    running: AtomicUsize,
    /// For one pass at a time: loom reports two that are not ordered.
    pass: UnsafeCell<()>,
    stopped: AtomicBool,
}

impl Checked {
    fn new(most: usize, passes: usize) -> Arc<Self> {
        Self::patient(most, passes, |_| Duration::ZERO)
    }

    fn patient(most: usize, passes: usize, patience: fn(Duration) -> Duration) -> Arc<Self> {
        let (running, pass, stopped) = (AtomicUsize::new(0), UnsafeCell::new(()), AtomicBool::new(false));
        Arc::new(Self { queue: BatchQueue::new(most, passes, patience), most, passes, running, pass, stopped })
    }

    /// Brings a request of cost 1, and takes it back. A leader is cut off before its end if `is_cut_off`.
    fn join(&self, number: usize, seat: &Arc<Seat>, can_stop: bool, is_cut_off: bool) -> End {
        let request = Request::new(number);
        let stopped = || can_stop && self.stopped.load(Ordering::Acquire);
        let (request, end) = match self.queue.join(request, 1, seat, None, stopped, || ()) {
            Joined::Leads(mut leader) => {
                // B2.
                assert!(self.running.fetch_add(1, Ordering::Relaxed) < self.passes);
                if self.passes == 1 {
                    self.pass.with_mut(|_| ());
                }
                let requests = leader.requests();
                assert_eq!(requests[0].number, number, "a leader's own request is in its pass");
                assert!(requests.len() <= self.most);
                for request in requests {
                    // SAFETY: loom reports a concurrent access.
                    request.computed.with_mut(|computed| unsafe { *computed += 1 });
                }
                self.running.fetch_sub(1, Ordering::Relaxed);
                if is_cut_off {
                    return End::CutOff;
                }
                (leader.finish(), End::Led)
            }
            Joined::Computed(request) => (request, End::Computed),
            Joined::CutOff(request) => (request, End::CutOff),
            Joined::Left(request) => (request, End::Left),
        };
        // B4.
        assert_eq!(request.number, number, "another thread's request");
        // SAFETY: as above.
        let computed = request.computed.with(|computed| unsafe { *computed });
        assert_eq!(computed, usize::from(end != End::Left), "computed once, or not at all");
        end
    }

    fn stop(&self, seat: &Seat) {
        self.stopped.store(true, Ordering::Release);
        self.queue.wake(seat);
    }
}

/// The ends of all requests over all executions.
#[derive(Default)]
struct Seen(StdMutex<BTreeSet<Vec<End>>>);

impl Seen {
    fn new() -> std::sync::Arc<Self> {
        std::sync::Arc::default()
    }

    fn add(&self, ends: Vec<End>) {
        self.0.lock().unwrap().insert(ends);
    }

    /// Whether there was an execution with these ends.
    fn has(&self, ends: &[End]) -> bool {
        self.0.lock().unwrap().contains(ends)
    }
}

/// Runs requests on two further threads and this one, and adds their ends.
fn three(most: usize, passes: usize, seen: &Seen) {
    let checked = Checked::new(most, passes);
    let others: Vec<_> = (1..3)
        .map(|number| {
            let checked = Arc::clone(&checked);
            thread::spawn(move || checked.join(number, &Seat::new(), false, false))
        })
        .collect();
    let mut ends = vec![checked.join(0, &Seat::new(), false, false)];
    ends.extend(others.into_iter().map(|other| other.join().unwrap()));
    seen.add(ends);
}

/// B2, B3 and B4: three requests, each of which comes back; one of them leads the two others, too.
#[test]
fn requests_that_come_during_a_pass_share_the_next() {
    let seen = Seen::new();
    let inner = std::sync::Arc::clone(&seen);
    explore_bounded("batches: three requests", 4, move || three(2, 1, &inner));
    assert!(seen.has(&[End::Led, End::Led, End::Computed]));
    assert!(seen.has(&[End::Led, End::Led, End::Led]));
    assert!(!seen.has(&[End::Led, End::Computed, End::Computed]), "the first comes alone");
}

/// B2: passes of one request each.
#[test]
fn a_pass_has_no_more_than_its_bound() {
    let seen = Seen::new();
    let inner = std::sync::Arc::clone(&seen);
    explore_bounded("batches: three requests in passes of one", 4, move || three(1, 1, &inner));
    assert!(seen.0.lock().unwrap().iter().flatten().all(|end| *end == End::Led));
}

/// B2 and B3 with two passes at one time.
#[test]
fn two_passes_at_one_time() {
    let seen = Seen::new();
    let inner = std::sync::Arc::clone(&seen);
    explore_bounded("batches: three requests in two passes", 4, move || three(2, 2, &inner));
    assert!(seen.has(&[End::Led, End::Led, End::Led]));
}

/// B4 and B5: a request against its cancellation, while another leads: it is computed or leaves, and nobody waits for
/// ever.
#[test]
fn a_request_that_is_stopped_leaves() {
    let seen = Seen::new();
    let inner = std::sync::Arc::clone(&seen);
    explore_bounded("batches: a request against its cancellation", 4, move || {
        let (checked, seat) = (Checked::new(2, 1), Seat::new());
        let other = thread::spawn({
            let (checked, seat) = (Arc::clone(&checked), Arc::clone(&seat));
            move || checked.join(1, &seat, true, false)
        });
        let stopper = thread::spawn({
            let checked = Arc::clone(&checked);
            move || checked.stop(&seat)
        });
        let end = checked.join(0, &Seat::new(), false, false);
        inner.add(vec![end, other.join().unwrap()]);
        stopper.join().unwrap();
    });
    assert!(seen.has(&[End::Led, End::Left]));
    assert!(seen.has(&[End::Led, End::Led]));
}

/// B5: a request that is stopped leaves before the pass that it waits for ends.
#[test]
fn a_request_that_is_stopped_leaves_while_a_pass_lasts() {
    explore_bounded("batches: a cancellation while a pass lasts", 4, || {
        let (checked, seat) = (Checked::new(2, 1), Seat::new());
        let joined = checked.queue.join(Request::new(0), 1, &Seat::new(), None, || false, || ());
        let Joined::Leads(leader) = joined else { panic!("nobody was there before it") };
        let other = thread::spawn({
            let (checked, seat) = (Arc::clone(&checked), Arc::clone(&seat));
            move || checked.join(1, &seat, true, false)
        });
        checked.stop(&seat);
        assert_eq!(other.join().unwrap(), End::Left);
        leader.finish();
    });
}

/// B3 and B5: the first that waits is stopped, also when it is to lead: the one behind it goes on.
#[test]
fn a_leader_that_leaves_hands_on() {
    let seen = Seen::new();
    let inner = std::sync::Arc::clone(&seen);
    explore_bounded("batches: a leader that leaves", 3, move || {
        let (checked, seat) = (Checked::new(1, 1), Seat::new());
        let others = [(1, Some(Arc::clone(&seat))), (2, None)].map(|(number, seat)| {
            let checked = Arc::clone(&checked);
            thread::spawn(move || match seat {
                Some(seat) => checked.join(number, &seat, true, false),
                None => checked.join(number, &Seat::new(), false, false),
            })
        });
        let end = checked.join(0, &Seat::new(), false, false);
        checked.stop(&seat);
        inner.add([end].into_iter().chain(others.map(|other| other.join().unwrap())).collect());
    });
    assert!(seen.has(&[End::Led, End::Left, End::Led]));
    assert!(seen.has(&[End::Led, End::Led, End::Led]));
}

/// B3, B4 and B6: a pass that is cut off. Those in it are told, those that wait go on.
#[test]
fn a_pass_that_is_cut_off_fails_its_own_requests() {
    let seen = Seen::new();
    let inner = std::sync::Arc::clone(&seen);
    explore_bounded("batches: a pass that is cut off", 4, move || {
        let checked = Checked::new(2, 1);
        let others = [(1, true), (2, false)].map(|(number, is_cut_off)| {
            let checked = Arc::clone(&checked);
            thread::spawn(move || checked.join(number, &Seat::new(), false, is_cut_off))
        });
        let end = checked.join(0, &Seat::new(), false, false);
        inner.add([end].into_iter().chain(others.map(|other| other.join().unwrap())).collect());
    });
    assert!(seen.has(&[End::Led, End::CutOff, End::CutOff]));
    assert!(seen.has(&[End::Led, End::CutOff, End::Led]));
}

/// B3: two threads, each of which brings two requests and says goodbye: a leader waits for the other until then, for
/// loom's waits have no end by time.
#[test]
fn a_leader_waits_for_the_last_pass_until_its_threads_come_or_say_goodbye() {
    let seen = Seen::new();
    let inner = std::sync::Arc::clone(&seen);
    explore_bounded("batches: two threads that come again", 2, move || {
        let checked = Checked::patient(2, 1, |_| Duration::from_hours(1));
        let twice = |checked: &Checked, number: usize| {
            let seat = Seat::new();
            let ends = [(); 2].map(|()| checked.join(number, &seat, false, false));
            checked.queue.say_goodbye(&seat);
            ends
        };
        let other = thread::spawn({
            let checked = Arc::clone(&checked);
            move || twice(&checked, 1)
        });
        let ends = twice(&checked, 0);
        inner.add([ends, other.join().unwrap()].concat());
    });
    assert!(
        seen.0
            .lock()
            .unwrap()
            .iter()
            .any(|ends| ends[..2].contains(&End::Computed) || ends[2..].contains(&End::Computed))
    );
}
