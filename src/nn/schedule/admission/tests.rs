//! Tests of the admission control with real threads.

use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::thread;

use super::*;

/// Hands the permit on to the next waiting compute, if there is one.
fn reporting(report: impl FnOnce(Result<Permit, Withdrawn>) + Send + 'static) -> End {
    Box::new(|result| {
        report(result);
        None
    })
}

#[test]
fn the_bound_may_run_and_the_next_may_not() {
    let admission = Admission::new(2, 0, 1);
    let (one, _two) = (admission.enter().unwrap(), admission.enter().unwrap());
    assert!(admission.enter().is_none());
    drop(one);
    let _three = admission.enter().unwrap();
    assert_eq!(admission.load(), (2, 0));
}

#[test]
fn who_waits_is_let_in_in_turn_and_past_the_queue_is_refused() {
    let admission = Admission::new(1, 0, 2);
    let first = admission.enter().unwrap();
    let (sender, ended) = mpsc::channel();
    let queue = |name: &'static str| {
        let sender = sender.clone();
        admission.queue(1, None, reporting(move |result| sender.send((name, result)).unwrap()))
    };
    queue("a").unwrap();
    queue("b").unwrap();
    assert_eq!(queue("c"), Err(Full { own: 2 }));
    assert_eq!(admission.load(), (1, 2));
    drop(first);
    let (name, permit) = ended.recv().unwrap();
    assert_eq!((name, admission.load()), ("a", (1, 1)));
    // A new compute does not overtake the waiting one.
    assert!(admission.enter().is_none());
    drop(permit);
    let (name, permit) = ended.recv().unwrap();
    assert_eq!(name, "b");
    drop(permit);
    assert_eq!(admission.load(), (0, 0));
}

#[test]
fn a_ticket_is_withdrawn_once_and_not_after_its_turn() {
    let admission = Admission::new(1, 0, 2);
    let first = admission.enter().unwrap();
    let (sender, ended) = mpsc::channel();
    let queue = |deadline| {
        let sender = sender.clone();
        admission.queue(1, deadline, reporting(move |result| sender.send(result).unwrap())).unwrap()
    };
    let ticket = queue(None);
    admission.withdraw(ticket, Withdrawn::Cancelled);
    admission.withdraw(ticket, Withdrawn::Cancelled);
    assert_eq!((ended.recv().unwrap().err(), admission.load()), (Some(Withdrawn::Cancelled), (1, 0)));
    let ticket = queue(None);
    drop(first);
    let permit = ended.recv().unwrap().unwrap();
    admission.withdraw(ticket, Withdrawn::Cancelled);
    assert!(ended.try_recv().is_err());
    // The timer ends one of them only.
    queue(Some(Instant::now() + Duration::from_millis(20)));
    queue(Some(Instant::now() + Duration::from_mins(10)));
    assert_eq!(ended.recv().unwrap().err(), Some(Withdrawn::Late));
    assert_eq!(admission.load(), (1, 1));
    drop(permit);
    assert!(ended.recv().unwrap().is_ok());
}

/// A1 and A4, with many threads.
#[test]
fn in_a_crowd_no_more_than_the_bound_are_inside_and_everyone_comes_to_an_end() {
    let admission = Admission::new(3, 0, 4);
    let (inside, highest, ends) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
    thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (admission, inside, highest, ends) = (&admission, &inside, &highest, &ends);
            scope.spawn(move || {
                for round in 0..2_000 {
                    let (sender, ended) = mpsc::channel();
                    let permit = match admission.enter() {
                        Some(permit) => Ok(permit),
                        None => {
                            match admission.queue(thread % 3, None, reporting(move |end| sender.send(end).unwrap())) {
                                Ok(ticket) => {
                                    if (thread + round) % 3 == 0 {
                                        admission.withdraw(ticket, Withdrawn::Cancelled);
                                    }
                                    ended.recv().unwrap()
                                }
                                Err(Full { .. }) => continue,
                            }
                        }
                    };
                    if permit.is_ok() {
                        highest.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                    ends.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(admission.load(), (0, 0));
    assert!((1..=3).contains(&highest.load(Ordering::SeqCst)));
}

#[test]
fn guests_take_turns_and_one_that_has_many_in_a_full_queue_makes_room() {
    let admission = Admission::new(1, 0, 4);
    let mut permit = admission.enter();
    let (sender, ended) = mpsc::channel();
    let queue = |guest, name: &'static str| {
        let sender = sender.clone();
        admission.queue(guest, None, reporting(move |result| sender.send((name, result)).unwrap()))
    };
    for name in ["a1", "a2", "a3", "a4"] {
        queue(1, name).unwrap();
    }
    assert_eq!(queue(1, "a5"), Err(Full { own: 4 }));
    queue(2, "b1").unwrap();
    let (name, result) = ended.recv().unwrap();
    assert_eq!((name, result.err(), admission.load()), ("a4", Some(Withdrawn::Displaced), (1, 4)));
    queue(2, "b2").unwrap();
    assert_eq!(ended.recv().unwrap().0, "a3");
    assert_eq!(queue(2, "b3"), Err(Full { own: 2 }));
    for expected in ["a1", "b1", "a2", "b2"] {
        drop(permit.take());
        let (name, next) = ended.recv().unwrap();
        assert_eq!(name, expected);
        permit = next.ok();
    }
    drop(permit);
    assert_eq!(admission.load(), (0, 0));
}

/// A5: on a stack that is too small for one call frame per compute.
#[test]
fn an_unused_permit_is_handed_on_without_a_call_frame_for_each() {
    let handing_on = || {
        let admission = Admission::new(1, 0, 200_000);
        let permit = admission.enter();
        let ends = Arc::new(AtomicUsize::new(0));
        for guest in 0..200_000 {
            let ends = Arc::clone(&ends);
            let end = move |result: Result<Permit, Withdrawn>| {
                ends.fetch_add(1, Ordering::Relaxed);
                result.ok()
            };
            admission.queue(guest % 7, None, Box::new(end)).unwrap();
        }
        drop(permit);
        assert_eq!((ends.load(Ordering::Relaxed), admission.load()), (200_000, (0, 0)));
    };
    thread::Builder::new().stack_size(256 << 10).spawn(handing_on).unwrap().join().unwrap();
}

/// A6: a later deadline uses the running timer, and an earlier deadline wakes it.
#[test]
fn one_timer_looks_at_all_deadlines_until_the_engine_ends() {
    let admission = Admission::new(1, 0, 8);
    let permit = admission.enter();
    let (sender, ended) = mpsc::channel();
    let mut timer = None;
    for _ in 0..20 {
        for millis in [600_000, 1] {
            let deadline = Instant::now() + Duration::from_millis(millis);
            let sender = sender.clone();
            let report =
                move |result: Result<Permit, Withdrawn>| sender.send((thread::current().id(), result.err())).unwrap();
            let ticket = admission.queue(1, Some(deadline), reporting(report)).unwrap();
            if millis > 1 {
                assert_ne!(admission.lock().timer, Timer::Stopped);
                continue;
            }
            let (thread, why) = ended.recv().unwrap();
            assert_eq!((*timer.get_or_insert(thread), why), (thread, Some(Withdrawn::Late)));
            admission.withdraw(Ticket { number: ticket.number - 1, ..ticket }, Withdrawn::Cancelled);
            assert_eq!(ended.recv().unwrap(), (thread::current().id(), Some(Withdrawn::Cancelled)));
        }
    }
    drop(permit);
    admission.close();
    while admission.lock().timer != Timer::Stopped {
        thread::yield_now();
    }
}
