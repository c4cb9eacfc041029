//! Single flight: concurrent requests for the same value share one run that makes it.
//!
//! * F1: runs of `make` never overlap.
//! * F2: after a successful run, the next run begins only when `find` no longer finds the value.
//! * F3: a failure is returned to every caller that waited for that run. Callers that come later may start a new run.
//! * F4: a run that fails for lack of room ends the wait of callers with at most as much room. Of the waiting callers,
//!   the one with the most room runs next, and those with more room than the failed run keep waiting. So a caller sees
//!   at most one such failure before a run with at least as much room as its own.
//! * F5: a call never waits for a run that waits for it; see [`waits`](crate::nn::schedule::waits).
//! * F6: a caller that waits without a thread gets its [`Resume`] called exactly once, or gets it back from
//!   [`Place::leave`]. One that is to run next and gives up hands the run on as F4 says.

use std::collections::BTreeMap;
use std::mem;
use std::sync::PoisonError;

use crate::nn::Error;
use crate::nn::schedule::inside;
use crate::nn::schedule::waits::{Awaited, Holding, Waiting};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Merges concurrent requests for one value. The value itself is stored outside. Clones share one state.
pub(crate) struct SingleFlight<T: Clone>(Arc<Shared<T>>);

struct Shared<T: Clone> {
    /// The current attempt, if any.
    attempt: Mutex<Option<Arc<Attempt<T>>>>,
    /// The lock of the caller that runs `make`.
    awaited: Awaited,
}

/// A series of runs of `make` that ends with the first success or the first failure for all.
struct Attempt<T: Clone> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T: Clone> {
    result: Option<Result<T, Error>>,
    /// The most room with which a run has failed for lack of it.
    short: Option<usize>,
    /// The waiting callers, by their room and number; `None` for a caller that blocks a thread.
    waiting: BTreeMap<(usize, u64), Option<Resume<T>>>,
    /// The waiting caller with a thread that runs `make` next.
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

/// Continues a call that waits without a thread. It is called without a lock, on the thread whose run has ended, so it
/// must be quick.
pub(crate) type Resume<T> = Box<dyn FnOnce(Resumed<T>) + Send>;

/// The end of a wait without a thread.
pub(crate) enum Resumed<T: Clone> {
    Ended(Outcome<T>),
    /// This call runs `make` next.
    Next(LeaderGuard<T>),
}

/// The result of [`SingleFlight::enter`].
pub(crate) enum Entered<T: Clone> {
    Ended(Outcome<T>),
    /// This call runs `make`.
    Leader(LeaderGuard<T>),
    /// Another call runs `make`.
    Waits(Place<T>),
}

impl<T: Clone> SingleFlight<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared { attempt: Mutex::new(None), awaited: Awaited::new() }))
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
        // F5: checked before this call is listed as waiting, so that a refusal needs no undo.
        let follow = |attempt: &Arc<Attempt<T>>| {
            self.0.awaited.wait().map(|waiting| Waiter::new(&self.0, attempt, room, waiting))
        };
        let waiter = match self.role(room, find, follow) {
            Role::Found(value) => return Outcome::Led(Ok(value)),
            Role::Leader(leader) => return leader.lead(make),
            Role::Follower(Err(error)) => return Outcome::Led(Err(error)),
            Role::Follower(Ok(waiter)) => waiter,
        };
        match waiter.wait() {
            Waited::Ended(result) => Outcome::Joined(result),
            Waited::Short => Outcome::Short,
            Waited::Next(leader) => leader.lead(make),
        }
    }

    /// As [`join`](Self::join) without waiting: if another call runs `make`, `resume` is called at the end of that run.
    /// Otherwise `resume` is dropped, under a lock: it must not be the last owner of anything.
    pub(crate) fn enter(&self, room: usize, find: impl Fn() -> Option<T>, resume: Resume<T>) -> Entered<T> {
        match self.role(room, find, |attempt| Place::new(attempt, room, resume)) {
            Role::Found(value) => Entered::Ended(Outcome::Led(Ok(value))),
            Role::Leader(leader) => Entered::Leader(leader),
            Role::Follower(Some(place)) => Entered::Waits(place),
            Role::Follower(None) => Entered::Ended(Outcome::Short),
        }
    }

    fn role<F>(
        &self,
        room: usize,
        find: impl Fn() -> Option<T>,
        follow: impl FnOnce(&Arc<Attempt<T>>) -> F,
    ) -> Role<T, F> {
        if let Some(value) = find() {
            return Role::Found(value);
        }
        let mut current = lock(&self.0.attempt);
        // F2: `find` finds the value of a successful run before that run leaves `attempt`.
        if let Some(value) = find() {
            return Role::Found(value);
        }
        if let Some(attempt) = &*current {
            return Role::Follower(follow(attempt));
        }
        let attempt = Arc::new(Attempt {
            state: Mutex::new(State { result: None, short: None, waiting: BTreeMap::new(), next: None, last: 0 }),
            changed: Condvar::new(),
        });
        *current = Some(Arc::clone(&attempt));
        Role::Leader(LeaderGuard::new(Arc::clone(&self.0), attempt, room))
    }
}

impl<T: Clone> Clone for SingleFlight<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The role of a call; `F` is how it waits.
enum Role<T: Clone, F> {
    /// The value is there.
    Found(T),
    /// This call runs `make`.
    Leader(LeaderGuard<T>),
    /// Another call runs `make`.
    Follower(F),
}

impl<T: Clone> State<T> {
    /// Lists a waiting caller.
    fn wait(&mut self, room: usize, resume: Option<Resume<T>>) -> (usize, u64) {
        self.last += 1;
        self.waiting.insert((room, self.last), resume);
        (room, self.last)
    }

    fn is_short(&self, room: usize) -> bool {
        self.short.is_some_and(|short| room <= short)
    }
}

/// A caller that waits without a thread.
pub(crate) struct Place<T: Clone> {
    attempt: Arc<Attempt<T>>,
    key: (usize, u64),
}

impl<T: Clone> Place<T> {
    /// The caller must hold the lock of the flight's attempt, which is `attempt`. `None` if a run with at least as much
    /// room has failed for lack of it.
    fn new(attempt: &Arc<Attempt<T>>, room: usize, resume: Resume<T>) -> Option<Self> {
        let mut state = lock(&attempt.state);
        let key = (!state.is_short(room)).then(|| state.wait(room, Some(resume)))?;
        Some(Self { attempt: Arc::clone(attempt), key })
    }

    /// Ends the wait; the continuation, unless it was or will be called.
    pub(crate) fn leave(&self) -> Option<Resume<T>> {
        lock(&self.attempt.state).waiting.remove(&self.key).flatten()
    }
}

/// A waiting caller with a thread.
struct Waiter<T: Clone> {
    flight: Arc<Shared<T>>,
    attempt: Arc<Attempt<T>>,
    room: usize,
    number: u64,
    waiting: Waiting,
}

/// The result of a wait.
enum Waited<T: Clone> {
    Ended(Result<T, Error>),
    Short,
    /// This call runs `make` next.
    Next(LeaderGuard<T>),
}

impl<T: Clone> Waiter<T> {
    /// The caller must hold the lock of the flight's attempt, which is `attempt`.
    fn new(flight: &Arc<Shared<T>>, attempt: &Arc<Attempt<T>>, room: usize, waiting: Waiting) -> Self {
        let (_, number) = lock(&attempt.state).wait(room, None);
        Self { flight: Arc::clone(flight), attempt: Arc::clone(attempt), room, number, waiting }
    }

    fn wait(self) -> Waited<T> {
        let Self { flight, attempt, room, number, waiting } = self;
        // The run that this call waits for may need the permit.
        inside::give_up_permit();
        let mut state = lock(&attempt.state);
        let next = loop {
            if let Some(result) = &state.result {
                return Waited::Ended(result.clone());
            }
            if state.next == Some(number) {
                break state.next.take();
            }
            if state.is_short(room) {
                state.waiting.remove(&(room, number));
                return Waited::Short;
            }
            state = attempt.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        drop((state, next, waiting));
        Waited::Next(LeaderGuard::new(flight, attempt, room))
    }
}

/// The right to run `make`. Its drop ends the run, so that a run that unwinds wakes its waiting callers.
pub(crate) struct LeaderGuard<T: Clone> {
    flight: Arc<Shared<T>>,
    attempt: Arc<Attempt<T>>,
    room: usize,
    end: RunEnd<T>,
    /// From the beginning of the run until the drop.
    holding: Option<Holding>,
}

enum RunEnd<T> {
    ForAll(Result<T, Error>),
    Short,
    /// The run has not begun.
    GivenUp,
}

impl<T: Clone> LeaderGuard<T> {
    fn new(flight: Arc<Shared<T>>, attempt: Arc<Attempt<T>>, room: usize) -> Self {
        Self { flight, attempt, room, end: RunEnd::GivenUp, holding: None }
    }

    /// Runs `make`, and ends the run with its result.
    pub(crate) fn lead(mut self, make: impl FnOnce() -> Result<T, Failed>) -> Outcome<T> {
        self.begin();
        let (end, result) = match make() {
            Ok(value) => (RunEnd::ForAll(Ok(value.clone())), Ok(value)),
            Err(Failed::ForAll(error)) => (RunEnd::ForAll(Err(error.clone())), Err(error)),
            Err(Failed::Short(error)) => (RunEnd::Short, Err(error)),
        };
        self.end = end;
        Outcome::Led(result)
    }

    fn begin(&mut self) {
        self.end = RunEnd::ForAll(Err(Error::runtime_error("the load was cut off by a panic")));
        self.holding = Some(self.flight.awaited.hold());
    }

    /// F4: chooses the caller that runs next, if one has more room than every run before. The result is the caller that
    /// waits without a thread; one with a thread finds itself in the state.
    fn hand_on(&self, state: &mut State<T>) -> Option<(Resume<T>, Resumed<T>)> {
        match state.waiting.last_key_value() {
            Some(((room, _), _)) if Some(*room) > state.short => {}
            _ => return None,
        }
        let ((room, number), resume) = state.waiting.pop_last()?;
        if resume.is_none() {
            state.next = Some(number);
        }
        let next = || Self::new(Arc::clone(&self.flight), Arc::clone(&self.attempt), room);
        resume.map(|resume| (resume, Resumed::Next(next())))
    }
}

impl<T: Clone> Drop for LeaderGuard<T> {
    fn drop(&mut self) {
        // Before another run can hold it.
        self.holding = None;
        let mut resumed = Vec::new();
        {
            let mut current = lock(&self.flight.attempt);
            let mut state = lock(&self.attempt.state);
            let end = mem::replace(&mut self.end, RunEnd::GivenUp);
            let next = if let RunEnd::ForAll(result) = end {
                let waiting = mem::take(&mut state.waiting).into_values().flatten();
                resumed.extend(waiting.map(|resume| (resume, Resumed::Ended(Outcome::Joined(result.clone())))));
                state.result = Some(result);
                None
            } else {
                if let RunEnd::Short = end {
                    state.short = state.short.max(Some(self.room));
                    let short = state.waiting.extract_if(..=(self.room, u64::MAX), |_, resume| resume.is_some());
                    resumed.extend(short.filter_map(|(_, resume)| Some((resume?, Resumed::Ended(Outcome::Short)))));
                }
                self.hand_on(&mut state)
            };
            if state.next.is_none() && next.is_none() {
                *current = None;
            }
            resumed.extend(next);
        }
        self.attempt.changed.notify_all();
        for (resume, end) in resumed {
            resume(end);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;
