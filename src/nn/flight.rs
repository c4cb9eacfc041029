//! Single flight: what many ask for at one moment is made once.
//!
//! * F1: no two runs of `make` overlap.
//! * F2: after one run has succeeded no other begins for as long as `find` finds what it made.
//! * F3: a failure is reported to everyone who waited for that run and to no one who came later, who may try again.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::Error;

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
        if let Some(value) = find() {
            return Landed::Own(Ok(value));
        }
        let (attempt, mine) = {
            let mut current = self.attempt.lock().unwrap_or_else(PoisonError::into_inner);
            // F2: the value of a run that has succeeded is found before the run leaves `attempt`.
            if let Some(value) = find() {
                return Landed::Own(Ok(value));
            }
            if let Some(attempt) = &*current {
                (Arc::clone(attempt), false)
            } else {
                let attempt = Arc::new(Attempt { result: Mutex::new(None), ended: Condvar::new() });
                (Arc::clone(current.insert(attempt)), true)
            }
        };
        if mine {
            let mut landing = Landing { flight: self, attempt, result: None };
            let result = make();
            landing.result = Some(result.clone());
            return Landed::Own(result);
        }
        Landed::Others(attempt.wait())
    }
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

impl<T: Clone> Drop for Landing<'_, T> {
    fn drop(&mut self) {
        let result = self.result.take().unwrap_or_else(|| Err(Error::runtime_error("the load was cut off by a panic")));
        *self.flight.attempt.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.attempt.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        self.attempt.ended.notify_all();
    }
}

#[cfg(test)]
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
