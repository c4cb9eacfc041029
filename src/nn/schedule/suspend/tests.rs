use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::backend::CancelToken;
use crate::nn::schedule::inside::{ComputeScope, SUSPENDER};

/// Waits until another thread has come so far.
fn eventually(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

fn resuming(admission: &Admission) -> usize {
    admission.lock().resuming.len()
}

#[test]
fn a_wait_within_another_or_on_another_thread_neither_suspends_nor_resumes() {
    let admission = Admission::new(1, 1, 1);
    let control = ComputeControl { suspender: Some(SUSPENDER), ..ComputeControl::default() };
    let scope = ComputeScope::enter(&admission, &control, admission.enter().unwrap());
    thread::scope(|threads| {
        threads.spawn(|| drop(control.suspend()));
    });
    assert_eq!((admission.load(), admission.suspended()), ((1, 0), 0));
    let outer = control.suspend();
    drop(control.suspend());
    thread::scope(|threads| {
        threads.spawn(|| drop(control.suspend()));
    });
    assert_eq!((admission.load(), admission.suspended()), ((0, 0), 1));
    drop(outer);
    assert_eq!((admission.load(), admission.suspended()), ((1, 0), 0));
    assert!(scope.leave().is_some());
    assert_eq!(admission.load(), (0, 0));
}

#[test]
fn a_suspended_compute_lets_others_run_up_to_the_bound_of_both() {
    let admission = Admission::new(1, 2, 4);
    let control = ComputeControl::default();
    let [one, two, three] = [(); 3].map(|()| Suspended::new(admission.enter().unwrap()));
    // Three are admitted.
    assert_eq!((admission.load(), admission.suspended()), ((0, 0), 3));
    assert!(admission.enter().is_none());
    let turn = Arc::new(Turn::default());
    let its = Arc::clone(&turn);
    let end = move |result| {
        its.complete(result);
        None
    };
    admission.queue(1, None, Box::new(end)).unwrap();
    assert_eq!(admission.load(), (0, 1));
    // One that resumes goes before the one that waits, and takes its place among the admitted ones with it.
    let permit = one.resume(&control).unwrap();
    assert_eq!((admission.load(), admission.suspended()), ((1, 1), 2));
    drop(permit);
    let permit = turn.wait(None).unwrap().unwrap();
    assert_eq!((admission.load(), admission.suspended()), ((1, 0), 2));
    drop(permit);
    let permit = two.resume(&control);
    drop(three);
    assert_eq!((admission.load(), admission.suspended()), ((1, 0), 0));
    drop(permit);
    assert_eq!(admission.load(), (0, 0));
}

#[test]
fn computes_resume_in_order_before_those_that_wait() {
    let admission = Admission::new(1, 8, 8);
    let suspended = [(); 3].map(|()| Suspended::new(admission.enter().unwrap()));
    let permit = admission.enter().unwrap();
    let turn = Arc::new(Turn::default());
    let its = Arc::clone(&turn);
    let end = move |result| {
        its.complete(result);
        None
    };
    admission.queue(1, None, Box::new(end)).unwrap();
    let order = std::sync::Mutex::new(Vec::new());
    thread::scope(|scope| {
        for (index, suspended) in suspended.into_iter().enumerate() {
            let order = &order;
            scope.spawn(move || {
                let permit = suspended.resume(&ComputeControl::default()).unwrap();
                order.lock().unwrap().push(index);
                drop(permit);
            });
            eventually(|| resuming(&admission) == index + 1);
        }
        assert_eq!((admission.load(), admission.suspended()), ((1, 1), 3));
        drop(permit);
    });
    assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
    drop(turn.wait(None).unwrap().unwrap());
    assert_eq!((admission.load(), admission.suspended()), ((0, 0), 0));
}

#[test]
fn a_compute_that_is_cancelled_or_late_does_not_wait_for_a_permit() {
    let admission = Admission::new(1, 8, 8);
    let late = Suspended::new(admission.enter().unwrap());
    let cancelled = Suspended::new(admission.enter().unwrap());
    let permit = admission.enter().unwrap();
    let soon = Instant::now() + Duration::from_millis(2);
    assert!(late.resume(&ComputeControl::default().with_deadline(soon)).is_none());
    let cancel = CancelToken::default();
    let control = ComputeControl::default().with_cancel(cancel.clone());
    thread::scope(|scope| {
        let waits = scope.spawn(move || cancelled.resume(&control).is_none());
        eventually(|| resuming(&admission) == 1);
        cancel.cancel();
        assert!(waits.join().unwrap());
    });
    assert_eq!((admission.load(), admission.suspended()), ((1, 0), 0));
    drop(permit);
    assert_eq!(admission.load(), (0, 0));
}
