//! The state that an asynchronous load's future, its guest and its task share, and the list of a guest's loads.

use std::mem;
use std::sync::{Arc as StdArc, PoisonError, Weak};
use std::task::Waker;

use crate::backend::CancelToken;
use crate::nn::Error;
use crate::nn::graphs::loaded::Named;
use crate::nn::guest::closing::closed;
use crate::nn::limits::usage::Reservation;
use crate::nn::schedule::future::Outcome;
use crate::sync::{Mutex, MutexGuard};

/// The result of a load: a handle's value, and the number of the graph in events.
pub(crate) struct Loaded {
    pub(crate) named: Named,
    pub(crate) graph: u64,
    pub(crate) slot: Reservation,
    pub(crate) bytes: Reservation,
}

/// What the future, its guest and its task share.
pub(crate) struct LoadState {
    pub(crate) call: &'static str,
    pub(crate) outcome: Outcome<Loaded>,
    pub(crate) cancel: CancelToken,
}

impl LoadState {
    pub(crate) fn new(call: &'static str) -> StdArc<Self> {
        StdArc::new(Self { call, outcome: Outcome::new(), cancel: CancelToken::default() })
    }

    /// Cancels the load, unless it has ended; `false` in that case.
    fn cancel(&self) -> bool {
        let is_cancelled = self.outcome.put_unless_ended(Err(cancelled()));
        if is_cancelled {
            self.cancel.cancel();
        }
        is_cancelled
    }

    /// Ends the load with an error, even if it has a result that was not taken yet.
    fn fail(&self, error: Error) {
        self.outcome.fail(error);
        self.cancel.cancel();
    }

    /// Completes the load, unless it has ended. What waits for its cancellation holds the graph no longer.
    pub(crate) fn complete(&self, result: Result<Loaded, Error>) {
        self.outcome.complete(result);
        self.cancel.forget_wakers();
    }

    /// Wakes the waker if the load is cancelled before it ends.
    pub(crate) fn wake_on_cancel(&self, waker: Waker) {
        self.cancel.wake_on_cancel(waker);
        // The load may have ended meanwhile, on the thread of another load.
        if self.outcome.has_ended() {
            self.cancel.forget_wakers();
        }
    }
}

pub(crate) fn cancelled() -> Error {
    Error::runtime_error("cancelled before it ended")
}

/// The loads of a guest whose futures exist, so that the guest's end cancels them.
#[derive(Default)]
pub(crate) struct Loads(Mutex<Listed>);

#[derive(Default)]
struct Listed {
    closed: bool,
    loads: Vec<Weak<LoadState>>,
}

impl Loads {
    /// Adds a load, unless the guest is closed.
    pub(crate) fn add(&self, load: &StdArc<LoadState>) -> Result<(), Error> {
        let mut listed = self.lock();
        if listed.closed {
            return Err(closed(load.call));
        }
        let loads = &mut listed.loads;
        // Only if the list is full, so that each entry is visited a few times in all.
        if loads.len() == loads.capacity() {
            loads.retain(|load| load.strong_count() > 0);
        }
        loads.push(StdArc::downgrade(load));
        Ok(())
    }

    /// Cancels every load; the number of those that had not ended.
    pub(crate) fn cancel(&self) -> usize {
        // A separate statement, so that the loads end without the lock.
        let loads = mem::take(&mut self.lock().loads);
        loads.iter().filter_map(Weak::upgrade).filter(|load| load.cancel()).count()
    }

    /// Cancels every load, and refuses further ones.
    pub(crate) fn close(&self) {
        let loads = {
            let mut listed = self.lock();
            listed.closed = true;
            mem::take(&mut listed.loads)
        };
        for load in loads.iter().filter_map(Weak::upgrade) {
            load.fail(closed(load.call));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Listed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
