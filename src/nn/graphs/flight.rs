//! Single flight: what many ask for at one moment is made once.
//!
//! * F1: no two runs of `make` overlap.
//! * F2: after one run has succeeded no other begins for as long as `find` finds what it made.
//! * F3: a failure is reported to everyone who waited for that run and to no one who came later, who may try again.
//! * F4: a run that fails for want of room decides for nobody with more room than its own caller. Of those who wait,
//!   the one with the most room runs next, and those with more than the run had go on waiting for it. So whoever waits
//!   sees one such failure at most before a run with at least as much room as its own.
//! * F5: nobody waits for a run that waits for it; see [`waits`](super::waits).

use std::collections::BTreeSet;
use std::sync::PoisonError;

use crate::nn::Error;
use crate::nn::schedule::waits::{Awaited, Holding, Waiting};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Brings those together who ask for the same value at the same time. The value itself is kept elsewhere.
pub(crate) struct SingleFlight<T> {
    /// What is under way.
    attempt: Mutex<Option<Arc<Attempt<T>>>>,
    /// Held by whoever runs `make`.
    awaited: Awaited,
}

/// Runs of `make` until one succeeds, or fails for everyone who waits.
struct Attempt<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    result: Option<Result<T, Error>>,
    /// The most room with which a run has failed for want of it.
    short: Option<usize>,
    /// Those who wait, by their room.
    waiting: BTreeSet<(usize, u64)>,
    /// Who of them is to run `make` next.
    next: Option<u64>,
    last: u64,
}

/// Why a run of `make` has failed.
#[derive(Debug)]
pub(crate) enum Failed {
    /// For want of room, of which its caller has as much as it said; another with more may succeed.
    Short(Error),
    /// For a reason that is everyone's.
    ForAll(Error),
}

/// What a call of [`SingleFlight::join`] came to.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome<T> {
    /// It was there, or this call has run `make`.
    Led(Result<T, Error>),
    /// Another call's run made it, or failed.
    Joined(Result<T, Error>),
    /// Another call's run, which had at least as much room as this one has, failed for want of it.
    Short,
}

impl<T> Outcome<T> {
    /// With `short` for a call that another's run has shown to have too little room.
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

    /// What `find` finds, or what `make` makes, in this call or in another that it waits for.
    ///
    /// `make` puts what it has made where `find` looks, before it returns, and has `room` for it. `find` is quick: it
    /// is asked once without and once with a lock held, which every caller takes that does not find the value at once.
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
        // F2: the value of a run that has succeeded is found before the run leaves `attempt`.
        if let Some(value) = find() {
            return Role::Found(value);
        }
        if let Some(attempt) = &*current {
            // F5: before it is listed as waiting, which it would have to undo.
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

/// What a call of [`SingleFlight::join`] finds.
enum Role<'a, T: Clone> {
    /// The value.
    Found(T),
    /// Nothing: the run is this call's.
    Leader(LeaderGuard<'a, T>),
    /// Another call's run.
    Follower(Waiter<'a, T>),
    /// A run that waits for this call.
    Refused(Error),
}

/// One who waits.
struct Waiter<'a, T: Clone> {
    flight: &'a SingleFlight<T>,
    attempt: Arc<Attempt<T>>,
    room: usize,
    number: u64,
    waiting: Waiting,
}

/// What a wait came to.
enum Waited<'a, T: Clone> {
    Ended(Result<T, Error>),
    Short,
    /// The next run is this call's.
    Next(LeaderGuard<'a, T>),
}

impl<'a, T: Clone> Waiter<'a, T> {
    /// Only under the lock of the flight's attempt, which is `attempt`.
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

/// One run of `make`. Ends it when it is dropped, so that nobody waits for ever for one that unwinds.
struct LeaderGuard<'a, T: Clone> {
    flight: &'a SingleFlight<T>,
    attempt: Arc<Attempt<T>>,
    room: usize,
    outcome: Option<RunEnd<T>>,
    /// `None` only while it is dropped.
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
        // Before another can hold it.
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
