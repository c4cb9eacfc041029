//! Single flight: concurrent requests for the same value share one run that makes it.
//!
//! * F1: runs of `make` never overlap.
//! * F2: after a successful run, the next run begins only when `find` no longer finds the value.
//! * F3: a failure is returned to every caller that waited for that run. Callers that come later may start a new run.
//! * F4: a run that fails for lack of room ends the wait of callers with at most as much room. Of the waiting callers,
//!   the one with the most room runs next, and those with more room than the failed run keep waiting. So a caller sees
//!   at most one such failure before a run with at least as much room as its own.
//! * F5: a call never waits for a run that waits for it; see [`waits`](crate::nn::schedule::waits).

use std::collections::BTreeSet;
use std::sync::PoisonError;

use crate::nn::Error;
use crate::nn::schedule::waits::{Awaited, Holding, Waiting};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Merges concurrent requests for one value. The value itself is stored outside.
pub(crate) struct SingleFlight<T> {
    /// The current attempt, if any.
    attempt: Mutex<Option<Arc<Attempt<T>>>>,
    /// The lock of the caller that runs `make`.
    awaited: Awaited,
}

/// A series of runs of `make` that ends with the first success or the first failure for all.
struct Attempt<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    result: Option<Result<T, Error>>,
    /// The most room with which a run has failed for lack of it.
    short: Option<usize>,
    /// The waiting callers, by their room.
    waiting: BTreeSet<(usize, u64)>,
    /// The waiting caller that runs `make` next.
    next: Option<u64>,
    last: u64,
}

/// The cause of a failed run of `make`.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The caller's room was too small; a caller with more room may succeed.
    Short(Error),
    /// A cause that applies to every caller.
    ForAll(Error),
}

/// The result of a call of [`SingleFlight::join`].
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome<T> {
    /// The value was there, or this call ran `make`.
    Led(Result<T, Error>),
    /// Another call's run made the value, or failed.
    Joined(Result<T, Error>),
    /// Another call's run, which had at least as much room as this call, failed for lack of room.
    Short,
}

impl<T> Outcome<T> {
    /// Uses `short` for the error of a call whose room is too small, as another call's run has shown.
    pub(crate) fn result(self, short: impl FnOnce() -> Error) -> Result<T, Error> {
        match self {
            Self::Led(result) | Self::Joined(result) => result,
            Self::Short => Err(short()),
        }
    }
}

impl<T: Clone> SingleFlight<T> {
    pub(crate) fn new() -> Self {
        Self { attempt: Mutex::new(None), awaited: Awaited::new() }
    }

    /// Returns the value that `find` finds, or that `make` makes, in this call or in a concurrent one that it waits
    /// for.
    ///
    /// Before it returns, `make` stores the value where `find` looks; it has `room` for it. `find` must be quick: it is
    /// called once without a lock and, if it found nothing, once more under a lock that all such callers take.
    pub(crate) fn join(
        &self,
        room: usize,
        find: impl Fn() -> Option<T>,
        make: impl FnOnce() -> Result<T, Failed>,
    ) -> Outcome<T> {
        let waiter = match self.role(room, find) {
            Role::Found(value) => return Outcome::Led(Ok(value)),
            Role::Refused(error) => return Outcome::Led(Err(error)),
            Role::Leader(leader) => return leader.complete(make()),
            Role::Follower(waiter) => waiter,
        };
        match waiter.wait() {
            Waited::Ended(result) => Outcome::Joined(result),
            Waited::Short => Outcome::Short,
            Waited::Next(leader) => leader.complete(make()),
        }
    }

    fn role(&self, room: usize, find: impl Fn() -> Option<T>) -> Role<'_, T> {
        if let Some(value) = find() {
            return Role::Found(value);
        }
        let mut current = lock(&self.attempt);
        // F2: `find` finds the value of a successful run before that run leaves `attempt`.
        if let Some(value) = find() {
            return Role::Found(value);
        }
        if let Some(attempt) = &*current {
            // F5: checked before this call is listed as waiting, so that a refusal needs no undo.
            return match self.awaited.wait() {
                Ok(waiting) => Role::Follower(Waiter::new(self, attempt, room, waiting)),
                Err(error) => Role::Refused(error),
            };
        }
        let attempt = Arc::new(Attempt {
            state: Mutex::new(State { result: None, short: None, waiting: BTreeSet::new(), next: None, last: 0 }),
            changed: Condvar::new(),
        });
        *current = Some(Arc::clone(&attempt));
        Role::Leader(LeaderGuard::new(self, attempt, room))
    }
}

/// The position of a call of [`SingleFlight::join`].
enum Role<'a, T: Clone> {
    /// The value is there.
    Found(T),
    /// This call runs `make`.
    Leader(LeaderGuard<'a, T>),
    /// Another call runs `make`.
    Follower(Waiter<'a, T>),
    /// The current run waits for this call.
    Refused(Error),
}

/// A waiting caller.
struct Waiter<'a, T: Clone> {
    flight: &'a SingleFlight<T>,
    attempt: Arc<Attempt<T>>,
    room: usize,
    number: u64,
    waiting: Waiting,
}

/// The result of a wait.
enum Waited<'a, T: Clone> {
    Ended(Result<T, Error>),
    Short,
    /// This call runs `make` next.
    Next(LeaderGuard<'a, T>),
}

impl<'a, T: Clone> Waiter<'a, T> {
    /// The caller must hold the lock of the flight's attempt, which is `attempt`.
    fn new(flight: &'a SingleFlight<T>, attempt: &Arc<Attempt<T>>, room: usize, waiting: Waiting) -> Self {
        let number = {
            let mut state = lock(&attempt.state);
            state.last += 1;
            let number = state.last;
            state.waiting.insert((room, number));
            number
        };
        Self { flight, attempt: Arc::clone(attempt), room, number, waiting }
    }

    fn wait(self) -> Waited<'a, T> {
        let Self { flight, attempt, room, number, waiting } = self;
        let mut state = lock(&attempt.state);
        let next = loop {
            if let Some(result) = &state.result {
                return Waited::Ended(result.clone());
            }
            if state.next == Some(number) {
                break state.next.take();
            }
            if state.short.is_some_and(|short| room <= short) {
                state.waiting.remove(&(room, number));
                return Waited::Short;
            }
            state = attempt.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        drop((state, next, waiting));
        Waited::Next(LeaderGuard::new(flight, attempt, room))
    }
}

/// A run of `make`. Its drop ends the run, so that a run that unwinds wakes its waiting callers.
struct LeaderGuard<'a, T: Clone> {
    flight: &'a SingleFlight<T>,
    attempt: Arc<Attempt<T>>,
    room: usize,
    outcome: Option<RunEnd<T>>,
    /// `None` only during the drop.
    holding: Option<Holding<'a>>,
}

enum RunEnd<T> {
    ForAll(Result<T, Error>),
    Short,
}

impl<'a, T: Clone> LeaderGuard<'a, T> {
    fn new(flight: &'a SingleFlight<T>, attempt: Arc<Attempt<T>>, room: usize) -> Self {
        Self { flight, attempt, room, outcome: None, holding: Some(flight.awaited.hold()) }
    }

    fn complete(mut self, made: Result<T, Failed>) -> Outcome<T> {
        let (outcome, result) = match made {
            Ok(value) => (RunEnd::ForAll(Ok(value.clone())), Ok(value)),
            Err(Failed::ForAll(error)) => (RunEnd::ForAll(Err(error.clone())), Err(error)),
            Err(Failed::Short(error)) => (RunEnd::Short, Err(error)),
        };
        self.outcome = Some(outcome);
        Outcome::Led(result)
    }
}

impl<T: Clone> Drop for LeaderGuard<'_, T> {
    fn drop(&mut self) {
        let cut_off = || RunEnd::ForAll(Err(Error::runtime_error("the load was cut off by a panic")));
        let outcome = self.outcome.take().unwrap_or_else(cut_off);
        // Before another run can hold it.
        self.holding = None;
        {
            let mut current = lock(&self.flight.attempt);
            let mut state = lock(&self.attempt.state);
            match outcome {
                RunEnd::ForAll(result) => state.result = Some(result),
                RunEnd::Short => {
                    let short = state.short.max(Some(self.room));
                    state.short = short;
                    // F4.
                    state.next = match state.waiting.last() {
                        Some((room, _)) if Some(*room) > short => state.waiting.pop_last().map(|(_, number)| number),
                        _ => None,
                    };
                }
            }
            if state.next.is_none() {
                *current = None;
            }
        }
        self.attempt.changed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;
