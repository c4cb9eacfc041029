//! What the engine's pools hold: a cell that a removal empties.
//!
//! A pool keeps a removed entry until no epoch guard protects it any more, and any thread of the process may hold a
//! guard for as long as it likes. So the entry is a cell of one word, and a removal takes the value out of it: the
//! value goes with its last user, and only the empty cell waits for the guards.
//!
//! * G1: of several calls of [`take`](Entry::take) one gets the value, and no [`get`](Entry::get) after it does.
//! * G2: the value is dropped with the last reference that `get` and `take` have given out, and the cell has none.

use crate::sync::{Arc, ArcSwapOption};

/// A cell of a pool, with a graph's handle or a context in it until that is removed.
pub(super) struct Entry<T> {
    value: ArcSwapOption<T>,
}

impl<T> Entry<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value: ArcSwapOption::from(Some(Arc::new(value))) }
    }

    /// A reference of the caller's own, where the value is still there. No lock.
    pub(super) fn get(&self) -> Option<Arc<T>> {
        self.value.load_full()
    }

    /// The cell's own reference, for the one who removes the entry.
    pub(super) fn take(&self) -> Option<Arc<T>> {
        self.value.swap(None)
    }
}
