//! Loom models of suspended computes.

use std::sync::atomic::AtomicUsize as StdAtomicUsize;

use loom::thread;

use super::*;
use crate::backend::CancelToken;
use crate::model_support::{explore, explore_bounded};
use crate::sync::atomic::AtomicUsize;

/// An admission control, and the number of computes between two of its calls.
struct Gate {
    admission: Arc<Admission>,
    inside: AtomicUsize,
}

impl Gate {
    fn new(bound: usize, suspended_bound: usize) -> Arc<Self> {
        Arc::new(Self { admission: Admission::new(bound, suspended_bound, 4), inside: AtomicUsize::new(0) })
    }

    /// A1: a compute works with this permit.
    fn work(&self, permit: Permit) -> Permit {
        assert!(self.inside.fetch_add(1, Ordering::Relaxed) < self.admission.bound());
        self.inside.fetch_sub(1, Ordering::Relaxed);
        permit
    }

    /// A compute that waits for its turn.
    fn queue(&self) -> Arc<Turn> {
        let turn = Arc::new(Turn::default());
        let its = Arc::clone(&turn);
        let end = move |result| {
            its.complete(result);
            None
        };
        self.admission.queue(1, None, Box::new(end)).unwrap();
        turn
    }

    /// A blocking compute: admitted at once, or when its turn comes.
    fn begin(&self) -> Permit {
        let permit = self.admission.enter().unwrap_or_else(|| self.queue().wait(None).unwrap().unwrap());
        self.work(permit)
    }

    /// A compute that sleeps between two parts of its work.
    fn call(&self) {
        let suspended = Suspended::new(self.begin());
        drop(self.work(suspended.resume(&ComputeControl::default()).unwrap()));
    }

    fn assert_idle(&self) {
        assert_eq!((self.admission.load(), self.admission.suspended()), ((0, 0), 0));
    }
}

/// Two computes, where one may run, and this many more may be suspended.
fn two_calls(suspended_bound: usize) {
    let gate = Gate::new(1, suspended_bound);
    let other = thread::spawn({
        let gate = Arc::clone(&gate);
        move || gate.call()
    });
    gate.call();
    other.join().unwrap();
    gate.assert_idle();
}

/// A1, A2, S1, S2: two computes that are suspended and resume, where one may run, and both are admitted.
#[test]
fn two_computes_that_are_suspended_with_3_preemptions() {
    explore_bounded("two computes that are suspended", 3, || two_calls(1));
}

/// A1, A2, S4: the same, where one is admitted at a time.
#[test]
fn two_computes_one_after_the_other_with_3_preemptions() {
    explore_bounded("two computes one after the other", 3, || two_calls(0));
}

/// S1: a compute that is suspended until another one has ended, which may wait for its turn before.
#[test]
fn a_compute_that_is_suspended_until_another_ends() {
    explore("a compute that is suspended until another ends", || {
        let gate = Gate::new(1, 1);
        let permit = gate.begin();
        let other = thread::spawn({
            let gate = Arc::clone(&gate);
            move || drop(gate.begin())
        });
        let suspended = Suspended::new(permit);
        other.join().unwrap();
        drop(gate.work(suspended.resume(&ComputeControl::default()).unwrap()));
        gate.assert_idle();
    });
}

/// A2, S2 with three threads: a compute that waits, one that resumes, and one that is suspended.
#[test]
fn three_computes_that_are_suspended_with_1_preemption() {
    explore_bounded("three computes that are suspended", 1, || {
        let gate = Gate::new(1, 1);
        let others = [(); 2].map(|()| {
            let gate = Arc::clone(&gate);
            thread::spawn(move || gate.call())
        });
        gate.call();
        others.into_iter().for_each(|other| other.join().unwrap());
        gate.assert_idle();
    });
}

/// S2: a compute resumes against the end of the one that runs, while one waits for its turn.
#[test]
fn resuming_against_an_end() {
    explore("resuming against an end", || {
        let gate = Gate::new(1, 1);
        let suspended = Suspended::new(gate.admission.enter().unwrap());
        let permit = gate.admission.enter().unwrap();
        let turn = gate.queue();
        let other = thread::spawn({
            let gate = Arc::clone(&gate);
            move || {
                drop(permit);
                // It may have the permit before the one that resumes waits for it.
                drop(gate.work(turn.wait(None).unwrap().unwrap()));
            }
        });
        let resumed = suspended.resume(&ComputeControl::default()).unwrap();
        drop(gate.work(resumed));
        other.join().unwrap();
        gate.assert_idle();
    });
}

/// A1: a suspension admits none of those that wait, where as many are admitted as may be.
#[test]
fn a_suspension_where_as_many_are_admitted_as_may_be() {
    explore("a suspension where as many are admitted as may be", || {
        let gate = Gate::new(1, 1);
        let first = Suspended::new(gate.admission.enter().unwrap());
        let permit = gate.admission.enter().unwrap();
        let turn = gate.queue();
        let other = thread::spawn({
            let gate = Arc::clone(&gate);
            move || drop(gate.work(turn.wait(None).unwrap().unwrap()))
        });
        let second = Suspended::new(permit);
        assert!(parts(gate.admission.word.load(Ordering::Relaxed)).admitted() <= gate.admission.admitted_bound);
        for suspended in [first, second] {
            drop(gate.work(suspended.resume(&ComputeControl::default()).unwrap()));
        }
        other.join().unwrap();
        gate.assert_idle();
    });
}

/// S4: a compute that waits for its turn has the place of one that ends while it is suspended.
#[test]
fn an_end_where_one_waits_for_the_place() {
    explore("an end where one waits for the place", || {
        let gate = Gate::new(1, 0);
        let suspended = Suspended::new(gate.admission.enter().unwrap());
        let turn = gate.queue();
        let other = thread::spawn(move || drop(suspended));
        drop(gate.work(turn.wait(None).unwrap().unwrap()));
        other.join().unwrap();
        gate.assert_idle();
    });
}

/// S3, S4: a wait for a permit against its cancellation and the end of the compute that runs; a third that waits for
/// its turn is admitted either way.
#[test]
fn resuming_against_a_cancellation_and_an_end() {
    let seen = Arc::new([StdAtomicUsize::new(0), StdAtomicUsize::new(0)]);
    let counts = Arc::clone(&seen);
    explore_bounded("resuming against a cancellation and an end", 3, move || {
        let gate = Gate::new(1, 1);
        let suspended = Suspended::new(gate.admission.enter().unwrap());
        let permit = gate.admission.enter().unwrap();
        let turn = gate.queue();
        let cancel = CancelToken::default();
        let control = ComputeControl::default().with_cancel(cancel.clone());
        let canceller = thread::spawn(move || cancel.cancel());
        let other = thread::spawn(move || drop(permit));
        let resumed = suspended.resume(&control);
        counts[usize::from(resumed.is_some())].fetch_add(1, Ordering::Relaxed);
        drop(resumed.map(|permit| gate.work(permit)));
        canceller.join().unwrap();
        other.join().unwrap();
        drop(gate.work(turn.wait(None).unwrap().unwrap()));
        gate.assert_idle();
    });
    assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) > 0));
}
