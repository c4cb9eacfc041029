//! The end of a guest while other threads make its calls.
//!
//! * D1: every handle that the guest was given was bound before its close, whose walk over the table finds it; after
//!   the close nothing is bound.
//! * D2: the close of the guest finds every context whose compute may run or begin: it is bound still, or among those
//!   that leave.
//!
//! Both follow from one lock. Only calls that add or remove a handle take it; a call that resolves one does not.

use std::mem;
use std::sync::{Arc as StdArc, PoisonError};

use crate::nn::Error;
use crate::nn::guest::context::Context;
use crate::nn::guest::use_lock::Teardown;
use crate::sync::{Mutex, MutexGuard};

/// Whether a guest is closed, and the contexts that it no longer has but whose calls still run.
#[derive(Default)]
pub(crate) struct Closing(Mutex<State>);

#[derive(Default)]
struct State {
    closed: bool,
    /// Contexts that were closed while a call was inside: the guest still owns their computes. Those that have ended
    /// are removed when the list has no room for one more.
    leaving: Vec<StdArc<Context>>,
}

/// The error of a call of a closed guest.
pub(crate) fn closed(call: &str) -> Error {
    Error::runtime_error(format!("{call}: the guest is closed"))
}

impl Closing {
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Runs `bind`, unless the guest is closed.
    pub(crate) fn bind<R>(&self, bind: impl FnOnce() -> R) -> Option<R> {
        // D1: under the lock, so that a close which comes later walks over the new binding.
        let state = self.lock();
        (!state.closed).then(bind)
    }

    /// Runs `unbind`, which shuts the context if it is bound, and records one that a call is inside of. After the close
    /// nothing is unbound but by the close.
    pub(crate) fn leave<T>(
        &self,
        context: &StdArc<Context>,
        unbind: impl FnOnce() -> Option<(T, Teardown)>,
    ) -> Option<(T, Teardown)> {
        // D2: under the lock, so that a close finds the context before or after both.
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let (handle, teardown) = unbind()?;
        if teardown == Teardown::NotByCaller {
            // Only if the list is full, so that each entry is visited a few times in all.
            if state.leaving.len() == state.leaving.capacity() {
                state.leaving.retain(|context| !context.is_gone());
            }
            state.leaving.push(StdArc::clone(context));
        }
        Some((handle, teardown))
    }

    /// The contexts whose calls still run, though the guest has closed them.
    pub(crate) fn leaving(&self) -> Vec<StdArc<Context>> {
        self.lock().leaving.clone()
    }

    /// Refuses further bindings, and returns the contexts whose calls still run, though the guest has closed them. The
    /// caller cancels these, and everything that is bound.
    pub(crate) fn close(&self) -> Vec<StdArc<Context>> {
        let mut state = self.lock();
        state.closed = true;
        mem::take(&mut state.leaving)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, loom))]
mod models;
