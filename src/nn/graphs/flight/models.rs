//! Loom models of the single flight.

use std::collections::BTreeSet;
use std::sync::Mutex as StdMutex;

use loom::cell::UnsafeCell;
use loom::thread;

use super::*;
use crate::model_support::{explore, explore_bounded};
use crate::sync::atomic::{AtomicU32, Ordering};

/// The room of callers for which it does not matter.
const ROOM: usize = 1;

/// A value that is made once, and the flight that makes it.
struct Once {
    flight: SingleFlight<u32>,
    value: AtomicU32,
    /// F1: loom reports two runs of `make` that are not ordered.
    running: UnsafeCell<()>,
    made: AtomicU32,
}

impl Once {
    fn new() -> Arc<Self> {
        let (value, made) = (AtomicU32::new(0), AtomicU32::new(0));
        Arc::new(Self { flight: SingleFlight::new(), value, running: UnsafeCell::new(()), made })
    }

    fn find(&self) -> Option<u32> {
        Some(self.value.load(Ordering::Acquire)).filter(|value| *value != 0)
    }

    fn make(&self, value: u32) -> Result<u32, Failed> {
        self.running.with_mut(|_| ());
        self.made.fetch_add(1, Ordering::Relaxed);
        if value == 0 {
            return Err(Failed::ForAll(failed()));
        }
        self.value.store(value, Ordering::Release);
        Ok(value)
    }

    /// Requests the value; 0 is a run that fails.
    fn join(&self, value: u32) -> Outcome<u32> {
        self.flight.join(ROOM, || self.find(), || self.make(value))
    }

    /// Requests the value in a run that is dropped before its end. (A panic can't be used: loom's threads are one
    /// thread to std, so all of them would panic.)
    fn join_and_be_cut_off(&self) -> Outcome<u32> {
        let Shared { awaited, .. } = &*self.flight.0;
        let follow =
            |attempt: &Arc<_>| awaited.wait().map(|waiting| Waiter::new(&self.flight.0, attempt, ROOM, waiting));
        match self.flight.role(ROOM, || self.find(), follow) {
            Role::Found(value) => Outcome::Led(Ok(value)),
            Role::Leader(mut leader) => {
                leader.begin();
                self.running.with_mut(|_| ());
                drop(leader);
                Outcome::Led(Err(failed()))
            }
            Role::Follower(Ok(waiter)) => match waiter.wait() {
                Waited::Ended(result) => Outcome::Joined(result),
                Waited::Short | Waited::Next(_) => panic!("no run is short"),
            },
            Role::Follower(Err(error)) => panic!("a thread cannot wait for itself: {error}"),
        }
    }
}

fn failed() -> Error {
    Error::busy("failed")
}

/// The results of all calls over all executions. Each model asserts that every expected result occurred.
#[derive(Default)]
struct Seen(StdMutex<BTreeSet<String>>);

impl Seen {
    fn note(&self, outcome: &Outcome<u32>) {
        let what = match outcome {
            Outcome::Led(result) => format!("own {}", result.is_ok()),
            Outcome::Joined(result) => format!("others {}", result.is_ok()),
            Outcome::Short => "short".to_owned(),
        };
        self.0.lock().unwrap().insert(what);
    }

    fn assert(&self, expected: &[&str]) {
        let seen = self.0.lock().unwrap();
        assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    }
}

/// F1, F3: one call's run fails while another call requests the value. A call that waited gets the failure and may
/// retry at once; a call that did not wait makes the value.
fn a_failure_against_another_that_asks(name: &str, fail: fn(&Once) -> Outcome<u32>) {
    let seen = std::sync::Arc::new([Seen::default(), Seen::default()]);
    let notes = std::sync::Arc::clone(&seen);
    explore(name, move || {
        let once = Once::new();
        let (other, its_notes) = (Arc::clone(&once), std::sync::Arc::clone(&notes));
        let other = thread::spawn(move || its_notes[1].note(&fail(&other)));
        let outcome = once.join(1);
        notes[0].note(&outcome);
        if outcome.result(failed).is_err() {
            assert_eq!(once.join(1), Outcome::Led(Ok(1)));
        }
        other.join().unwrap();
        assert_eq!(once.join(2), Outcome::Led(Ok(1)));
    });
    seen[0].assert(&["others false", "own true"]);
    seen[1].assert(&["others true", "own false", "own true"]);
}

#[test]
fn a_run_that_fails_against_another_that_asks() {
    a_failure_against_another_that_asks("a run that fails against another that asks", |once| once.join(0));
}

#[test]
fn a_run_that_is_cut_off_against_another_that_asks() {
    let name = "a run that is cut off against another that asks";
    a_failure_against_another_that_asks(name, Once::join_and_be_cut_off);
}

/// F1, F2: two calls request the value; one makes it and both get it.
#[test]
fn two_that_ask_share_one_run() {
    let seen = std::sync::Arc::new(Seen::default());
    let notes = std::sync::Arc::clone(&seen);
    explore("two that ask share one run", move || {
        let once = Once::new();
        let other = Arc::clone(&once);
        let other = thread::spawn(move || other.join(1));
        let (mine, theirs) = (once.join(1), other.join().unwrap());
        notes.note(&mine);
        assert_eq!((mine.result(failed), theirs.result(failed)), (Ok(1), Ok(1)));
        assert_eq!(once.made.load(Ordering::Relaxed), 1);
    });
    seen.assert(&["others true", "own true"]);
}

/// F1 to F3 with three threads: every waiting call returns.
#[test]
fn a_run_that_fails_against_two_that_ask_with_3_preemptions() {
    explore_bounded("a run that fails against two that ask", 3, || {
        let once = Once::new();
        let others: Vec<_> = (0..2)
            .map(|_| {
                let once = Arc::clone(&once);
                thread::spawn(move || once.join(0))
            })
            .collect();
        assert_eq!(once.join(0).result(failed), Err(failed()));
        assert!(others.into_iter().all(|other| other.join().unwrap().result(failed) == Err(failed())));
        assert_eq!(once.join(1), Outcome::Led(Ok(1)));
    });
}

/// A call with so much room: less than 2 is too little for a run.
fn ask(once: &Arc<Once>, room: usize) -> impl FnOnce() -> Outcome<u32> + 'static + use<> {
    let once = Arc::clone(once);
    move || once.flight.join(room, || once.find(), || run(&once, room))
}

/// Less than 2 is too little room.
fn run(once: &Once, room: usize) -> Result<u32, Failed> {
    if room < 2 { once.make(0).map_err(|_| Failed::Short(failed())) } else { once.make(1) }
}

/// F4: a call that is short of room, one with more room and one with as little. The call with more room makes the value
/// after at most two other runs, and it is made once; loom reports overlapping runs.
#[test]
fn a_run_that_is_short_of_room_against_two_that_ask_with_3_preemptions() {
    let seen = std::sync::Arc::new(Seen::default());
    let notes = std::sync::Arc::clone(&seen);
    explore_bounded("a run that is short of room against two that ask", 3, move || {
        let once = Once::new();
        let others = [thread::spawn(ask(&once, 1)), thread::spawn(ask(&once, 2))];
        let mine = ask(&once, 1)();
        let [theirs, large] = others.map(|other| other.join().unwrap());
        assert_eq!(large.result(failed), Ok(1));
        assert!(once.made.load(Ordering::Relaxed) <= 3);
        notes.note(&mine);
        notes.note(&theirs);
    });
    seen.assert(&["others true", "own false", "own true", "short"]);
}

/// F4: a call that is short of room, and two with more. One of the two makes the value, and both get it.
#[test]
fn a_run_that_is_short_of_room_against_two_with_more_with_3_preemptions() {
    explore_bounded("a run that is short of room against two with more", 3, || {
        let once = Once::new();
        let others = [thread::spawn(ask(&once, 2)), thread::spawn(ask(&once, 2))];
        let _ = ask(&once, 1)();
        for large in others.map(|other| other.join().unwrap()) {
            assert_eq!(large.result(failed), Ok(1));
        }
        assert!(once.made.load(Ordering::Relaxed) <= 2);
    });
}

/// F5: two calls each request, during their own run, the value that the other makes. At least one gets an error, and
/// both return.
#[test]
fn two_that_make_what_the_other_asks_for() {
    let seen = std::sync::Arc::new(Seen::default());
    let notes = std::sync::Arc::clone(&seen);
    explore("two that make what the other asks for", move || {
        let (one, two) = (Once::new(), Once::new());
        let ask = |own: &Arc<Once>, others: &Arc<Once>| {
            let (own, others) = (Arc::clone(own), Arc::clone(others));
            move || {
                let make = || match others.join(1).result(failed) {
                    Ok(_) => own.make(1),
                    Err(error) => Err(Failed::ForAll(error)),
                };
                own.flight.join(ROOM, || own.find(), make)
            }
        };
        let other = thread::spawn(ask(&two, &one));
        let outcome = [ask(&one, &two)(), other.join().unwrap()];
        for outcome in &outcome {
            notes.note(outcome);
        }
        // All of it is released.
        assert_eq!(one.join(1).result(failed), Ok(1));
        assert_eq!(two.join(1).result(failed), Ok(1));
    });
    seen.assert(&["others true", "own false", "own true"]);
}

/// What became of a call without a thread.
#[derive(Default)]
struct Waiting {
    resumed: AtomicU32,
    end: loom::sync::Mutex<Option<Resumed<u32>>>,
}

/// Requests the value without waiting; a run is led as by [`ask`].
fn enter(once: &Once, room: usize) -> (Arc<Waiting>, Option<Place<u32>>) {
    let waiting = Arc::<Waiting>::default();
    let its = Arc::clone(&waiting);
    let resume = Box::new(move |resumed| {
        its.resumed.fetch_add(1, Ordering::Relaxed);
        *its.end.lock().unwrap() = Some(resumed);
    });
    let (end, place) = match once.flight.enter(room, || once.find(), resume) {
        Entered::Ended(outcome) => (Resumed::Ended(outcome), None),
        Entered::Leader(leader) => (Resumed::Next(leader), None),
        Entered::Waits(place) => return (waiting, Some(place)),
    };
    *waiting.end.lock().unwrap() = Some(end);
    (waiting, place)
}

impl Waiting {
    /// The result of the call, which leads its own run here.
    fn outcome(&self, once: &Once, room: usize) -> Option<Outcome<u32>> {
        let end = self.end.lock().unwrap().take()?;
        Some(match end {
            Resumed::Ended(outcome) => outcome,
            Resumed::Next(leader) => leader.lead(|| run(once, room)),
        })
    }
}

/// F1, F6: a call without a thread gets the result of the run that it waits for, once.
#[test]
fn a_run_against_one_that_waits_without_a_thread() {
    let seen = std::sync::Arc::new(Seen::default());
    let notes = std::sync::Arc::clone(&seen);
    explore("a run against one that waits without a thread", move || {
        let once = Once::new();
        let other = thread::spawn(ask(&once, 2));
        let (waiting, place) = enter(&once, 2);
        let led = if place.is_none() { waiting.outcome(&once, 2) } else { None };
        other.join().unwrap();
        let outcome = led.or_else(|| waiting.outcome(&once, 2)).unwrap();
        notes.note(&outcome);
        assert_eq!(outcome.result(failed), Ok(1));
        assert_eq!(waiting.resumed.load(Ordering::Relaxed), u32::from(place.is_some()));
        assert_eq!(once.made.load(Ordering::Relaxed), 1);
        assert!(place.is_none_or(|place| place.leave().is_none()));
    });
    seen.assert(&["others true", "own true"]);
}

/// F6: a call that leaves while the run ends gets its continuation back, or is resumed.
#[test]
fn leaving_against_the_end_of_the_run() {
    let seen = std::sync::Arc::new(StdMutex::new(BTreeSet::new()));
    let notes = std::sync::Arc::clone(&seen);
    explore("leaving against the end of the run", move || {
        let once = Once::new();
        let other = thread::spawn(ask(&once, 2));
        let (waiting, place) = enter(&once, 2);
        let left = place.map(|place| place.leave().is_some());
        let led = if left.is_none() { waiting.outcome(&once, 2) } else { None };
        other.join().unwrap();
        let resumed = waiting.resumed.load(Ordering::Relaxed);
        assert_eq!(resumed, u32::from(left == Some(false)));
        assert_eq!(led.or_else(|| waiting.outcome(&once, 2)).is_some(), left != Some(true));
        notes.lock().unwrap().insert(left);
    });
    assert_eq!(seen.lock().unwrap().len(), 3);
}

/// F4: a call without a thread against a run that is short of room: it runs next if it has more, and is short if not.
#[test]
fn a_run_that_is_short_against_one_that_waits_without_a_thread() {
    for room in [1, 2] {
        let seen = std::sync::Arc::new(Seen::default());
        let notes = std::sync::Arc::clone(&seen);
        explore("a run that is short against one that waits without a thread", move || {
            let once = Once::new();
            let other = thread::spawn(ask(&once, 1));
            let (waiting, place) = enter(&once, room);
            let led = if place.is_none() { waiting.outcome(&once, room) } else { None };
            other.join().unwrap();
            let outcome = led.or_else(|| waiting.outcome(&once, room)).unwrap();
            notes.note(&outcome);
            assert_eq!(outcome.result(failed).is_ok(), room == 2);
            assert_eq!(once.join(1), Outcome::Led(Ok(1)));
        });
        seen.assert(if room == 2 { &["own true"] } else { &["own false", "short"] });
    }
}

/// F4, F6: the call that is to run next gives up, or leaves before; another one with more room than the run that was
/// short still gets the value.
#[test]
fn one_that_gives_up_its_run_against_one_that_waits_with_3_preemptions() {
    explore_bounded("one that gives up its run against one that waits", 3, || {
        let once = Once::new();
        let others = [thread::spawn(ask(&once, 1)), thread::spawn(ask(&once, 2))];
        let place = match once.flight.enter(3, || once.find(), Box::new(drop)) {
            Entered::Waits(place) => Some(place),
            Entered::Ended(outcome) => {
                assert_eq!(outcome.result(failed), Ok(1));
                None
            }
            Entered::Leader(leader) => {
                drop(leader);
                None
            }
        };
        drop(place.and_then(|place| place.leave()));
        let [_, large] = others.map(|other| other.join().unwrap());
        assert_eq!(large.result(failed), Ok(1));
        assert_eq!(once.join(1), Outcome::Led(Ok(1)));
    });
}
