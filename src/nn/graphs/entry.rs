//! The entries of the engine's pools: cells that a removal empties.
//!
//! A pool keeps a removed entry until no epoch guard protects it, and any thread of the process may hold a guard for
//! any time. So a removal takes the value out of the entry: the value is dropped with its last user, and only the empty
//! cell and the bare memory of the value's struct wait for the guards.
//!
//! * G1: exactly one of several calls of [`take`](Entry::take) gets the value.
//! * G2: the value is dropped with the last reference that `get` and `take` have returned; the cell then holds none.

use std::sync::{Arc, PoisonError, Weak};

use crate::sync::Mutex;

/// A cell of a pool. It holds a graph's handle or a context until the removal.
pub(crate) struct Entry<T> {
    value: Weak<T>,
    /// G2. Only removals lock it.
    own: Mutex<Option<Arc<T>>>,
}

impl<T> Entry<T> {
    pub(crate) fn new(value: T) -> Self {
        let value = Arc::new(value);
        Self { value: Arc::downgrade(&value), own: Mutex::new(Some(value)) }
    }

    /// A reference for the caller, if the value is still there. Takes no lock.
    pub(crate) fn get(&self) -> Option<Arc<T>> {
        self.value.upgrade()
    }

    /// The cell's own reference, for the removal.
    pub(crate) fn take(&self) -> Option<Arc<T>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
