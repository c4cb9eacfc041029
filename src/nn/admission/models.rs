//! What meets at the gate, under loom.

use std::sync::atomic::AtomicUsize as StdAtomicUsize;

use loom::thread;

use super::*;
use crate::model_support::{explore, explore_bounded};
use crate::nn::compute::Turn;
use crate::sync::atomic::AtomicUsize;

/// A gate, and how many are inside and have come to an end.
struct Gate {
    admission: Arc<Admission>,
    inside: AtomicUsize,
    ends: AtomicUsize,
}

impl Gate {
    fn new(bound: usize, queue_bound: usize) -> Arc<Self> {
        let (inside, ends) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { admission: Admission::new(bound, queue_bound), inside, ends })
    }

    /// Queues for what a caller waits for.
    fn queue(self: &Arc<Self>, deadline: Option<Instant>) -> Result<(Ticket, Arc<Turn>), Full> {
        let (gate, turn) = (Arc::clone(self), Arc::<Turn>::default());
        let its = Arc::clone(&turn);
        let end = move |result| {
            gate.ends.fetch_add(1, Ordering::Relaxed);
            its.come(result);
        };
        Ok((self.admission.queue(deadline, Box::new(end))?, turn))
    }

    fn pass(&self, permit: Permit) {
        // A1.
        assert!(self.inside.fetch_add(1, Ordering::Relaxed) < self.admission.bound);
        self.inside.fetch_sub(1, Ordering::Relaxed);
        drop(permit);
    }

    /// As a call that computes: in at once, or when its turn comes.
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

/// A1, A2: of two that compute where one may, the other waits, and is woken.
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

/// A2, A4: the permit that another gives back is handed on, or has become room by then.
#[test]
fn leaving_against_queueing() {
    explore("leaving against queueing", || {
        let gate = Gate::new(1, 1);
        let permit = gate.admission.enter().unwrap();
        let other = thread::spawn(move || drop(permit));
        let (_, turn) = gate.queue(None).unwrap();
        gate.pass(turn.wait(None).unwrap().unwrap());
        other.join().unwrap();
        gate.assert_ended(1);
    });
}

/// A1, A4: whoever is let in while it withdraws has its permit, once, or never had it.
#[test]
fn leaving_against_withdrawing() {
    explore("leaving against withdrawing", || {
        let gate = Gate::new(1, 1);
        let permit = gate.admission.enter().unwrap();
        let (ticket, turn) = gate.queue(None).unwrap();
        let other = thread::spawn(move || drop(permit));
        gate.admission.withdraw(ticket, Withdrawn::Cancelled);
        if let Ok(permit) = turn.wait(None).unwrap() {
            gate.pass(permit);
        }
        other.join().unwrap();
        gate.assert_ended(1);
    });
}

/// A4: of three that would end it, one does: the permit that comes, the caller, and the clock, for which the
/// deadline has passed.
#[test]
fn leaving_against_withdrawing_and_a_deadline() {
    explore("leaving against withdrawing and a deadline", || {
        let gate = Gate::new(1, 1);
        let permit = gate.admission.enter().unwrap();
        let (ticket, turn) = gate.queue(Some(Instant::now())).unwrap();
        let clock = Arc::clone(&gate);
        let others = [thread::spawn(move || drop(permit)), thread::spawn(move || clock.admission.run_clock())];
        gate.admission.withdraw(ticket, Withdrawn::Cancelled);
        if let Ok(permit) = turn.wait(None).unwrap() {
            gate.pass(permit);
        }
        for other in others {
            other.join().unwrap();
        }
        gate.assert_ended(1);
    });
}

/// A4: past the queue's bound one of two is told so at once, and never queued.
#[test]
fn queueing_against_queueing_for_the_last_place() {
    explore("queueing against queueing for the last place", || {
        let gate = Gate::new(1, 1);
        let permit = gate.admission.enter().unwrap();
        let other = Arc::clone(&gate);
        let other = thread::spawn(move || other.queue(None).ok());
        let mine = gate.queue(None).ok();
        let theirs = other.join().unwrap();
        assert!(mine.is_some() != theirs.is_some());
        drop(permit);
        let (_, turn) = mine.or(theirs).unwrap();
        gate.pass(turn.wait(None).unwrap().unwrap());
        gate.assert_ended(1);
    });
}
