//! What the engine's pools hold: a cell that a removal empties.
//!
//! A pool keeps a removed entry until no epoch guard protects it any more, and any thread of the process may hold a
//! guard for as long as it likes. So the entry owns its value only until a removal takes it out: the value is dropped
//! with its last user, and what waits for the guards is the cell and the bare memory of the value's struct.
//!
//! * G1: of several calls of [`take`](Entry::take) one gets the value.
//! * G2: the value is dropped with the last reference that `get` and `take` have given out, and the cell has none.

use std::sync::{Arc, PoisonError, Weak};

use crate::sync::Mutex;

/// A cell of a pool, with a graph's handle or a context in it until that is removed.
pub(crate) struct Entry<T> {
    value: Weak<T>,
    /// G2. Locked by removals alone.
    own: Mutex<Option<Arc<T>>>,
}

impl<T> Entry<T> {
    pub(crate) fn new(value: T) -> Self {
        let value = Arc::new(value);
        Self { value: Arc::downgrade(&value), own: Mutex::new(Some(value)) }
    }

    /// A reference of the caller's own, where the value is still there. No lock.
    pub(crate) fn get(&self) -> Option<Arc<T>> {
        self.value.upgrade()
    }

    /// The cell's own reference, for the one who removes the entry.
    pub(crate) fn take(&self) -> Option<Arc<T>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
