//! Tests of the single flight with real threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, OnceLock};
use std::thread;

use super::*;

struct Once<T: Clone>(SingleFlight<T>, OnceLock<T>);

impl<T: Clone> Once<T> {
    fn new() -> Self {
        Self(SingleFlight::new(), OnceLock::new())
    }

    fn get_or_make(&self, make: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let Self(flight, value) = self;
        let make = || make().map(|made| value.get_or_init(|| made).clone()).map_err(Failed::ForAll);
        flight.join(1, || value.get().cloned(), make).result(|| Error::too_large("no run is short"))
    }
}

#[test]
fn many_that_ask_at_once_share_one_run() {
    let flight = Once::new();
    let runs = AtomicUsize::new(0);
    let barrier = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                let value = flight.get_or_make(|| {
                    thread::yield_now();
                    Ok(runs.fetch_add(1, Ordering::Relaxed))
                });
                assert_eq!(value, Ok(0));
            });
        }
    });
    assert_eq!(runs.into_inner(), 1);
}

#[test]
fn a_failure_reaches_those_who_waited_and_the_next_may_try_again() {
    let flight = Once::new();
    let waiting = AtomicUsize::new(0);
    thread::scope(|scope| {
        let first = scope.spawn(|| {
            flight.get_or_make(|| {
                // Both waiting calls are about to join this attempt; no more can be observed from outside.
                while waiting.load(Ordering::Relaxed) < 2 {
                    thread::yield_now();
                }
                thread::sleep(std::time::Duration::from_millis(50));
                Err::<u8, _>(Error::busy("first"))
            })
        });
        while flight.0.0.attempt.lock().unwrap().is_none() {
            thread::yield_now();
        }
        let others: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    waiting.fetch_add(1, Ordering::Relaxed);
                    flight.get_or_make(|| Ok(1))
                })
            })
            .collect();
        assert_eq!(first.join().unwrap(), Err(Error::busy("first")));
        for other in others {
            assert_eq!(other.join().unwrap(), Err(Error::busy("first")));
        }
    });
    assert_eq!(flight.get_or_make(|| Ok(2)), Ok(2));
    assert_eq!(flight.get_or_make(|| Err(Error::busy("never asked"))), Ok(2));
}

#[test]
fn a_run_that_unwinds_lets_the_next_one_begin() {
    let flight = Once::<u8>::new();
    assert!(catch_unwind(AssertUnwindSafe(|| flight.get_or_make(|| panic!("cut")))).is_err());
    assert_eq!(flight.get_or_make(|| Ok(3)), Ok(3));
}

/// F4, with the waiting calls in any order of their room.
#[test]
fn a_run_that_is_short_of_room_is_followed_by_the_one_with_the_most() {
    let (flight, value) = (SingleFlight::new(), OnceLock::new());
    let runs = std::sync::Mutex::new(Vec::new());
    let join = |room: usize, ready: &dyn Fn()| {
        let make = || {
            runs.lock().unwrap().push(room);
            ready();
            if room < 8 { Err(Failed::Short(Error::too_large("short"))) } else { Ok(*value.get_or_init(|| room)) }
        };
        flight.join(room, || value.get().copied(), make)
    };
    let waiting = || flight.0.attempt.lock().unwrap().as_ref().map_or(0, |attempt| lock(&attempt.state).waiting.len());
    let until = |count| {
        while waiting() < count {
            thread::yield_now();
        }
    };
    let all_wait = Barrier::new(2);
    thread::scope(|scope| {
        let first = scope.spawn(|| {
            join(3, &|| {
                all_wait.wait();
            })
        });
        while runs.lock().unwrap().is_empty() {
            thread::yield_now();
        }
        let others = [7, 2, 9, 8, 3].map(|room| {
            let (join, place) = (&join, waiting());
            let other = scope.spawn(move || join(room, &|| ()));
            until(place + 1);
            other
        });
        all_wait.wait();
        assert_eq!(first.join().unwrap(), Outcome::Led(Err(Error::too_large("short"))));
        let outcome = others.map(|other| other.join().unwrap());
        let made = |outcome: &Outcome<usize>| matches!(outcome, Outcome::Joined(Ok(9)));
        // The call with the most room has made the value, and those with more room than the first have it.
        assert_eq!(outcome[2], Outcome::Led(Ok(9)));
        assert!(made(&outcome[0]) && made(&outcome[3]));
        // The others got the failure, or came after the value was made.
        assert!([&outcome[1], &outcome[4]].into_iter().all(|outcome| made(outcome) || *outcome == Outcome::Short));
    });
    assert_eq!(*runs.lock().unwrap(), [3, 9]);
}

/// F5.
#[test]
fn a_request_for_the_value_that_the_caller_makes_is_refused() {
    let flight = Once::<u8>::new();
    let made = flight.get_or_make(|| flight.get_or_make(|| Ok(1)));
    assert_eq!(made.unwrap_err().kind(), crate::nn::ErrorKind::RuntimeError);
    assert_eq!(flight.get_or_make(|| Ok(2)), Ok(2));
}
