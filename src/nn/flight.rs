//! Single flight: what many ask for at one moment is made once.
//!
//! * F1: no two runs of `make` overlap.
//! * F2: after one run has succeeded no other begins for as long as `find` finds what it made.
//! * F3: a failure is reported to everyone who waited for that run and to no one who came later, who may try again.

use std::sync::PoisonError;

use super::Error;
use crate::sync::{Arc, Condvar, Mutex};

/// Brings those together who ask for the same value at the same time. The value itself is kept elsewhere.
pub(super) struct Flight<T> {
    /// The run that is under way.
    attempt: Mutex<Option<Arc<Attempt<T>>>>,
}

/// One run of `make`.
struct Attempt<T> {
    result: Mutex<Option<Result<T, Error>>>,
    ended: Condvar,
}

/// What a call of [`Flight::join`] came to.
#[derive(Debug, PartialEq)]
pub(super) enum Landed<T> {
    /// It was there, or this call has run `make`.
    Own(Result<T, Error>),
    /// Another call's run made it, or failed.
    Others(Result<T, Error>),
}

impl<T> Landed<T> {
    pub(super) fn result(self) -> Result<T, Error> {
        match self {
            Self::Own(result) | Self::Others(result) => result,
        }
    }
}

impl<T: Clone> Flight<T> {
    pub(super) fn new() -> Self {
        Self { attempt: Mutex::new(None) }
    }

    /// What `find` finds, or what `make` makes, in this call or in another that it waits for.
    ///
    /// `make` puts what it has made where `find` looks, before it returns. `find` is quick: it is asked once without
    /// and once with a lock held, which every caller takes that does not find the value at once.
    pub(super) fn join(&self, find: impl Fn() -> Option<T>, make: impl FnOnce() -> Result<T, Error>) -> Landed<T> {
        match self.board(find) {
            Boarding::Found(value) => Landed::Own(Ok(value)),
            Boarding::First(landing) => Landed::Own(landing.land(make())),
            Boarding::Later(attempt) => Landed::Others(attempt.wait()),
        }
    }

    fn board(&self, find: impl Fn() -> Option<T>) -> Boarding<'_, T> {
        if let Some(value) = find() {
            return Boarding::Found(value);
        }
        let mut current = self.attempt.lock().unwrap_or_else(PoisonError::into_inner);
        // F2: the value of a run that has succeeded is found before the run leaves `attempt`.
        if let Some(value) = find() {
            return Boarding::Found(value);
        }
        if let Some(attempt) = &*current {
            return Boarding::Later(Arc::clone(attempt));
        }
        let attempt = Arc::new(Attempt { result: Mutex::new(None), ended: Condvar::new() });
        *current = Some(Arc::clone(&attempt));
        Boarding::First(Landing { flight: self, attempt, result: None })
    }
}

/// What a call of [`Flight::join`] finds.
enum Boarding<'a, T: Clone> {
    /// The value.
    Found(T),
    /// Nothing: the run is this call's.
    First(Landing<'a, T>),
    /// Another call's run.
    Later(Arc<Attempt<T>>),
}

impl<T: Clone> Attempt<T> {
    fn wait(&self) -> Result<T, Error> {
        let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &*result {
                Some(result) => return result.clone(),
                None => result = self.ended.wait(result).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Ends the run when it is dropped, so that nobody waits for ever for a `make` that unwinds.
struct Landing<'a, T: Clone> {
    flight: &'a Flight<T>,
    attempt: Arc<Attempt<T>>,
    result: Option<Result<T, Error>>,
}

impl<T: Clone> Landing<'_, T> {
    fn land(mut self, result: Result<T, Error>) -> Result<T, Error> {
        self.result = Some(result.clone());
        result
    }
}

impl<T: Clone> Drop for Landing<'_, T> {
    fn drop(&mut self) {
        let result = self.result.take().unwrap_or_else(|| Err(Error::runtime_error("the load was cut off by a panic")));
        *self.flight.attempt.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.attempt.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        self.attempt.ended.notify_all();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Barrier, OnceLock};
    use std::thread;

    use super::*;

    struct Once<T>(Flight<T>, OnceLock<T>);

    impl<T: Clone> Once<T> {
        fn new() -> Self {
            Self(Flight::new(), OnceLock::new())
        }

        fn get_or_make(&self, make: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
            let Self(flight, value) = self;
            flight.join(|| value.get().cloned(), || make().map(|made| value.get_or_init(|| made).clone())).result()
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
                    // Both waiters are about to meet this attempt; which is all that can be seen from outside.
                    while waiting.load(Ordering::Relaxed) < 2 {
                        thread::yield_now();
                    }
                    thread::sleep(std::time::Duration::from_millis(50));
                    Err::<u8, _>(Error::busy("first"))
                })
            });
            while flight.0.attempt.lock().unwrap().is_none() {
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
}

#[cfg(all(test, loom))]
mod models {
    use std::collections::BTreeSet;
    use std::sync::Mutex as StdMutex;

    use loom::cell::UnsafeCell;
    use loom::thread;

    use super::*;
    use crate::model_support::{explore, explore_bounded};
    use crate::sync::atomic::{AtomicU32, Ordering};

    /// A value that is made once, and who makes it.
    struct Once {
        flight: Flight<u32>,
        value: AtomicU32,
        /// F1: loom reports two runs of `make` that nothing keeps apart.
        running: UnsafeCell<()>,
        made: AtomicU32,
    }

    impl Once {
        fn new() -> Arc<Self> {
            let (value, made) = (AtomicU32::new(0), AtomicU32::new(0));
            Arc::new(Self { flight: Flight::new(), value, running: UnsafeCell::new(()), made })
        }

        fn find(&self) -> Option<u32> {
            Some(self.value.load(Ordering::Acquire)).filter(|value| *value != 0)
        }

        fn make(&self, value: u32) -> Result<u32, Error> {
            self.running.with_mut(|_| ());
            self.made.fetch_add(1, Ordering::Relaxed);
            if value == 0 {
                return Err(failed());
            }
            self.value.store(value, Ordering::Release);
            Ok(value)
        }

        /// Asks for it; 0 is a run that fails.
        fn join(&self, value: u32) -> Landed<u32> {
            self.flight.join(|| self.find(), || self.make(value))
        }

        /// Asks for it, in a run that is cut off. (Not by a panic: loom's threads are one thread to std, and all of
        /// them would panic.)
        fn join_and_be_cut_off(&self) -> Landed<u32> {
            match self.flight.board(|| self.find()) {
                Boarding::Found(value) => Landed::Own(Ok(value)),
                Boarding::First(landing) => {
                    self.running.with_mut(|_| ());
                    drop(landing);
                    Landed::Own(Err(failed()))
                }
                Boarding::Later(attempt) => Landed::Others(attempt.wait()),
            }
        }
    }

    fn failed() -> Error {
        Error::busy("failed")
    }

    /// What calls came to over all executions; a model in which some of it never came shows nothing.
    #[derive(Default)]
    struct Seen(StdMutex<BTreeSet<String>>);

    impl Seen {
        fn note(&self, landed: &Landed<u32>) {
            let what = match landed {
                Landed::Own(result) => format!("own {}", result.is_ok()),
                Landed::Others(result) => format!("others {}", result.is_ok()),
            };
            self.0.lock().unwrap().insert(what);
        }

        fn assert(&self, expected: &[&str]) {
            let seen = self.0.lock().unwrap();
            assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), expected);
        }
    }

    /// F1, F3: one asks in a run that fails, another in one that does not. Whoever waited for the failure is told, and
    /// may try again at once; whoever did not makes it.
    fn a_failure_against_another_that_asks(name: &str, fail: fn(&Once) -> Landed<u32>) {
        let seen = std::sync::Arc::new([Seen::default(), Seen::default()]);
        let notes = std::sync::Arc::clone(&seen);
        explore(name, move || {
            let once = Once::new();
            let (other, its_notes) = (Arc::clone(&once), std::sync::Arc::clone(&notes));
            let other = thread::spawn(move || its_notes[1].note(&fail(&other)));
            let landed = once.join(1);
            notes[0].note(&landed);
            if landed.result().is_err() {
                assert_eq!(once.join(1), Landed::Own(Ok(1)));
            }
            other.join().unwrap();
            assert_eq!(once.join(2), Landed::Own(Ok(1)));
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

    /// F1, F2: of two that ask, one makes it, and both have it.
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
            assert_eq!((mine.result(), theirs.result()), (Ok(1), Ok(1)));
            assert_eq!(once.made.load(Ordering::Relaxed), 1);
        });
        seen.assert(&["others true", "own true"]);
    }

    /// F1 to F3 with three threads: nobody who waits is left behind.
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
            assert_eq!(once.join(0).result(), Err(failed()));
            assert!(others.into_iter().all(|other| other.join().unwrap().result() == Err(failed())));
            assert_eq!(once.join(1), Landed::Own(Ok(1)));
        });
    }
}
