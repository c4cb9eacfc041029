//! Loom models of the admission control.

use std::sync::atomic::AtomicUsize as StdAtomicUsize;

use loom::thread;

use super::*;
use crate::model_support::{explore, explore_bounded};
use crate::nn::schedule::threads::modelled::Threads;
use crate::nn::schedule::turn::Turn;
use crate::sync::atomic::AtomicUsize;

/// An admission control, with counts of the computes that run and that have ended.
struct Gate {
    admission: Arc<Admission>,
    inside: AtomicUsize,
    ends: AtomicUsize,
}

impl Gate {
    fn new(bound: usize, queue_bound: usize) -> Arc<Self> {
        let (inside, ends) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { admission: Admission::new(bound, 0, queue_bound), inside, ends })
    }

    /// A gate for one compute at a time, and the permit that is out.
    fn taken(queue_bound: usize) -> (Arc<Self>, Permit) {
        let gate = Self::new(1, queue_bound);
        let permit = gate.admission.enter().unwrap();
        (gate, permit)
    }

    /// Queues a compute of the first guest.
    fn queue(self: &Arc<Self>, deadline: Option<Instant>) -> Result<(Ticket, Arc<Turn>), Full> {
        self.queue_for(1, deadline)
    }

    fn queue_for(self: &Arc<Self>, guest: u64, deadline: Option<Instant>) -> Result<(Ticket, Arc<Turn>), Full> {
        let (gate, turn) = (Arc::clone(self), Arc::<Turn>::default());
        let its = Arc::clone(&turn);
        let end = move |result| {
            gate.ends.fetch_add(1, Ordering::Relaxed);
            its.complete(result);
            None
        };
        Ok((self.admission.queue(guest, deadline, Box::new(end))?, turn))
    }

    fn pass(&self, permit: Permit) {
        // A1.
        assert!(self.inside.fetch_add(1, Ordering::Relaxed) < self.admission.bound);
        self.inside.fetch_sub(1, Ordering::Relaxed);
        drop(permit);
    }

    /// Passes with the permit that the turn gets.
    fn pass_at(&self, turn: &Turn) {
        self.pass(turn.wait(None).unwrap().unwrap());
    }

    /// Passes if the turn gets a permit.
    fn pass_if_admitted(&self, turn: &Turn) {
        if let Ok(permit) = turn.wait(None).unwrap() {
            self.pass(permit);
        }
    }

    /// A blocking compute: admitted at once, or when its turn comes.
    fn call(self: &Arc<Self>) {
        let permit = match self.admission.enter() {
            Some(permit) => permit,
            None => self.queue(None).unwrap().1.wait(None).unwrap().unwrap(),
        };
        self.pass(permit);
    }

    fn assert_ended(&self, ends: usize) {
        assert_eq!((self.admission.load(), self.ends.load(Ordering::Relaxed)), ((0, 0), ends));
    }
}

/// A1, A2: two computes with a bound of one: the second waits, and is woken.
#[test]
fn a_call_against_a_call() {
    let waited = Arc::new(StdAtomicUsize::new(0));
    let count = Arc::clone(&waited);
    explore("a call against a call", move || {
        let gate = Gate::new(1, 1);
        let other = Arc::clone(&gate);
        let other = thread::spawn(move || other.call());
        gate.call();
        other.join().unwrap();
        assert_eq!(gate.admission.load(), (0, 0));
        count.fetch_add(gate.ends.load(Ordering::Relaxed), Ordering::Relaxed);
    });
    assert_ne!(waited.load(Ordering::Relaxed), 0);
}

/// A1, A2 with three threads.
#[test]
fn three_calls_where_two_may_run_with_3_preemptions() {
    explore_bounded("three calls where two may run", 3, || {
        let gate = Gate::new(2, 3);
        let others = [(); 2].map(|()| {
            let gate = Arc::clone(&gate);
            thread::spawn(move || gate.call())
        });
        gate.call();
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(gate.admission.load(), (0, 0));
    });
}

/// A2, A4: a permit that is given back meanwhile is handed on, or becomes room.
#[test]
fn leaving_against_queueing() {
    explore("leaving against queueing", || {
        let (gate, permit) = Gate::taken(1);
        let other = thread::spawn(move || drop(permit));
        let (_, turn) = gate.queue(None).unwrap();
        gate.pass_at(&turn);
        other.join().unwrap();
        gate.assert_ended(1);
    });
}

/// A1, A4: a compute that is admitted while it withdraws gets exactly one permit, or none.
#[test]
fn leaving_against_withdrawing() {
    explore("leaving against withdrawing", || {
        let (gate, permit) = Gate::taken(1);
        let (ticket, turn) = gate.queue(None).unwrap();
        let other = thread::spawn(move || drop(permit));
        gate.admission.withdraw(ticket, Withdrawn::Cancelled);
        gate.pass_if_admitted(&turn);
        other.join().unwrap();
        gate.assert_ended(1);
    });
}

/// A4: exactly one of three ends the wait: the permit, the caller's withdrawal, or the timer, whose deadline has
/// passed.
#[test]
fn leaving_against_withdrawing_and_a_deadline() {
    explore("leaving against withdrawing and a deadline", || {
        let _threads = Threads::new();
        let (gate, permit) = Gate::taken(1);
        let (ticket, turn) = gate.queue(Some(Instant::now())).unwrap();
        let other = thread::spawn(move || drop(permit));
        gate.admission.withdraw(ticket, Withdrawn::Cancelled);
        gate.pass_if_admitted(&turn);
        other.join().unwrap();
        gate.assert_ended(1);
        gate.admission.close();
    });
}

/// A4: with a full queue, one of two computes is refused at once and never queued.
#[test]
fn queueing_against_queueing_for_the_last_place() {
    explore("queueing against queueing for the last place", || {
        let (gate, permit) = Gate::taken(1);
        let other = Arc::clone(&gate);
        let other = thread::spawn(move || other.queue(None).ok());
        let mine = gate.queue(None).ok();
        let theirs = other.join().unwrap();
        assert!(mine.is_some() != theirs.is_some());
        drop(permit);
        let (_, turn) = mine.or(theirs).unwrap();
        gate.pass_at(&turn);
        gate.assert_ended(1);
    });
}

/// A1, A2: two permits are given back at one time, and one compute waits.
#[test]
fn leaving_against_leaving() {
    explore("leaving against leaving", || {
        let gate = Gate::new(2, 2);
        let [one, two] = [(); 2].map(|()| gate.admission.enter().unwrap());
        let (_, first) = gate.queue(None).unwrap();
        let other = thread::spawn(move || drop(one));
        drop(two);
        gate.pass_at(&first);
        other.join().unwrap();
        gate.assert_ended(1);
    });
}

/// A1 to A3: two permits that are given back at one time admit the first compute of each guest.
#[test]
fn two_that_give_back_at_once_where_three_wait() {
    explore("two that give back at once where three wait", || {
        let gate = Gate::new(2, 3);
        let [one, two] = [(); 2].map(|()| gate.admission.enter().unwrap());
        let turns = [1, 1, 2].map(|guest| gate.queue_for(guest, None).unwrap().1);
        let other = thread::spawn(move || drop(one));
        drop(two);
        let permits = [&turns[0], &turns[2]].map(|turn| turn.wait(None).unwrap().unwrap());
        other.join().unwrap();
        assert_eq!(gate.admission.load(), (2, 1));
        drop(permits);
        gate.pass_at(&turns[1]);
        gate.assert_ended(3);
    });
}

/// A4, Q3: in a full queue the second compute of one guest makes room for another guest, unless it is admitted first.
#[test]
fn leaving_against_making_room() {
    let seen = Arc::new([StdAtomicUsize::new(0), StdAtomicUsize::new(0)]);
    let counts = Arc::clone(&seen);
    explore("leaving against making room", move || {
        let (gate, permit) = Gate::taken(2);
        let own = [(); 2].map(|()| gate.queue(None).unwrap().1);
        let other = Arc::clone(&gate);
        let other = thread::spawn(move || {
            let (_, turn) = other.queue_for(2, None).unwrap();
            other.pass_at(&turn);
        });
        drop(permit);
        gate.pass_at(&own[0]);
        let displaced = match own[1].wait(None).unwrap() {
            Ok(permit) => {
                gate.pass(permit);
                false
            }
            Err(why) => why == Withdrawn::Displaced,
        };
        other.join().unwrap();
        gate.assert_ended(3);
        counts[usize::from(displaced)].fetch_add(1, Ordering::Relaxed);
    });
    // Both permits came.
    assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) > 0));
}

/// A6, with the timer as a thread of the model: it enforces a deadline that is earlier than the one for which it
/// sleeps, and it ends with the engine.
#[test]
fn an_earlier_deadline_against_the_timer() {
    explore("an earlier deadline against the timer", || {
        let _threads = Threads::new();
        let (gate, permit) = Gate::taken(2);
        let far = Instant::now() + Duration::from_hours(1);
        let (_, last) = gate.queue(Some(far)).unwrap();
        let (_, late) = gate.queue(Some(Instant::now())).unwrap();
        assert_eq!(late.wait(None).unwrap().err(), Some(Withdrawn::Late));
        drop(permit);
        gate.pass_at(&last);
        gate.assert_ended(2);
        gate.admission.close();
    });
}

/// A4, A6: after one deadline the timer enforces the next one, too, while another thread gives a permit back.
#[test]
fn a_second_deadline_against_the_timer_and_leaving_with_3_preemptions() {
    explore_bounded("a second deadline against the timer and leaving", 3, || {
        let _threads = Threads::new();
        let (gate, permit) = Gate::taken(2);
        for _ in 0..2 {
            let (_, late) = gate.queue(Some(Instant::now())).unwrap();
            assert_eq!(late.wait(None).unwrap().err(), Some(Withdrawn::Late));
        }
        let (_, last) = gate.queue(Some(Instant::now())).unwrap();
        drop(permit);
        gate.pass_if_admitted(&last);
        gate.assert_ended(3);
        gate.admission.close();
    });
}
