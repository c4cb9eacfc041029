//! The end of a guest while other threads make its calls.
//!
//! * D1: every handle that the guest was given was bound before its close, whose walk over the table finds it; after
//!   the close nothing is bound.
//! * D2: a context that was closed while a call was inside is cancelled by the close of the guest, whichever of the two
//!   comes first.
//!
//! Both follow from one lock. Only calls that add or remove a handle take it; a call that resolves one does not.

use std::mem;
use std::sync::{Arc as StdArc, PoisonError};

use crate::nn::Error;
use crate::nn::guest::context::Context;
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

    /// Records a context that was closed while a call was inside.
    pub(crate) fn leave(&self, context: StdArc<Context>) {
        let mut state = self.lock();
        if state.closed {
            // Without the lock, because the compute may end in this call.
            drop(state);
            context.cancel();
            return;
        }
        // Only if the list is full, so that each entry is visited a few times in all.
        if state.leaving.len() == state.leaving.capacity() {
            state.leaving.retain(|context| !context.is_gone());
        }
        state.leaving.push(context);
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
