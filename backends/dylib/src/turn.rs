//! Turns: one call at a time in a library, or in a context of it.
//!
//! * T1: at most one [`Held`] of a turn exists.
//! * T2: work that is put off while the turn is held is done by the holder before the turn is free, so that nothing has
//!   to wait for the turn without a bound.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use graphpool::backend::{ComputeControl, Error};

/// A lock that is waited for with a bound.
pub(crate) struct Turn {
    state: Mutex<State>,
    free: Condvar,
}

#[derive(Default)]
struct State {
    held: bool,
    put_off: Vec<Box<dyn FnOnce() + Send>>,
}

/// The turn of one call; the drop ends it.
pub(crate) struct Held<'a>(&'a Turn);

/// How often a waiting compute looks whether it was cancelled.
const CANCEL_INTERVAL: Duration = Duration::from_millis(20);

impl Turn {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), free: Condvar::new() }
    }

    /// Waits for the turn: at most `longest`, and for a compute until its control ends it.
    pub(crate) fn wait(&self, longest: Duration, control: Option<&ComputeControl>) -> Result<Held<'_>, Error> {
        let end = Instant::now().checked_add(longest);
        let mut state = self.lock();
        while state.held {
            control.map_or(Ok(()), ComputeControl::check)?;
            let left = end.map_or(CANCEL_INTERVAL, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                let why = format!("another call uses the library, which takes one at a time, for over {longest:?}");
                return Err(Error::busy(why));
            }
            let left = if control.is_some() { left.min(CANCEL_INTERVAL) } else { left };
            state = self.free.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.held = true;
        drop(state);
        Ok(Held(self))
    }

    /// Does `work` in a turn: now if the turn is free, or else on the thread that holds it, at the end of its turn.
    pub(crate) fn run_soon(&self, work: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        if state.held {
            state.put_off.push(Box::new(work));
            return;
        }
        state.held = true;
        drop(state);
        let _held = Held(self);
        work();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        loop {
            let put_off = {
                let mut state = self.0.lock();
                // T2: under the lock, so that work is either found here or finds the turn free.
                state.held = !state.put_off.is_empty();
                mem::take(&mut state.put_off)
            };
            if put_off.is_empty() {
                break;
            }
            for work in put_off {
                work();
            }
        }
        self.0.free.notify_one();
    }
}
