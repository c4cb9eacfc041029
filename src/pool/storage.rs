//! The slab that owns the entries and hands out the keys.
//!
//! To loom the slab is one opaque step, whose contract is stated here by one atomic: what came before a `take`
//! happens before what follows the `vacant` that hands the slot out again.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::layout::Layout;
use crate::sync::Arc;
#[cfg(loom)]
use crate::sync::atomic::{AtomicU64, Ordering};

pub(super) struct Storage<T, L: Layout> {
    slab: sharded_slab::Slab<Entry<T>, L>,
    #[cfg(loom)]
    takes: AtomicU64,
}

/// The pool's own reference to a value, or nothing, in a slot that is used up.
pub(super) struct Entry<T>(Option<*const T>);

// SAFETY: it is an `Arc<T>` in all but name.
unsafe impl<T: Send + Sync> Send for Entry<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Entry<T> {}

impl<T> Entry<T> {
    /// Owns `value` from here on.
    pub(super) fn new(value: Arc<T>) -> Self {
        Self(Some(Arc::into_raw(value)))
    }

    pub(super) const fn nothing() -> Self {
        Self(None)
    }

    /// Where the value is; null for nothing.
    pub(super) fn address(&self) -> *const T {
        self.0.unwrap_or(std::ptr::null())
    }
}

impl<T> Drop for Entry<T> {
    /// Runs the value's destructor where this was the last reference. A panic of it ends here: whoever collects is
    /// rarely the one that it concerns, and has more to collect.
    fn drop(&mut self) {
        if let Some(value) = self.0 {
            // SAFETY: the address came from `Arc::into_raw` and is given back once.
            let value = unsafe { Arc::from_raw(value) };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
                // Its destructor might panic too.
                std::mem::forget(payload);
            }
        }
    }
}

/// A slot of the slab that is this thread's to fill. Dropped unfilled it goes back.
pub(super) struct Vacant<'a, T, L: Layout> {
    entry: Option<sharded_slab::VacantEntry<'a, Entry<T>, L>>,
    key: u64,
    storage: &'a Storage<T, L>,
}

impl<T, L: Layout> Storage<T, L> {
    pub(super) fn new() -> Self {
        Self {
            slab: sharded_slab::Slab::new_with_config(),
            #[cfg(loom)]
            takes: AtomicU64::new(0),
        }
    }

    /// A vacant slot of this thread's shard. The thread was [admitted](super::threads::admitted).
    #[inline]
    pub(super) fn vacant(&self) -> Option<Vacant<'_, T, L>> {
        #[cfg(loom)]
        self.takes.fetch_add(0, Ordering::Acquire);
        let entry = self.slab.vacant_entry()?;
        let key = entry.key() as u64;
        Some(Vacant { entry: Some(entry), key, storage: self })
    }

    /// Gives the slot of `key` back to the slab, and what was in it to the caller. The thread was
    /// [admitted](super::threads::admitted).
    #[inline]
    pub(super) fn take(&self, key: u64) -> Option<Entry<T>> {
        #[cfg(loom)]
        self.takes.fetch_add(1, Ordering::Release);
        self.slab.take(key as usize)
    }
}

impl<T, L: Layout> Vacant<'_, T, L> {
    /// The key under which the slot will be.
    #[inline]
    pub(super) fn key(&self) -> u64 {
        self.key
    }

    #[inline]
    pub(super) fn fill(mut self, content: Entry<T>) {
        if let Some(entry) = self.entry.take() {
            entry.insert(content);
        }
    }
}

impl<T, L: Layout> Drop for Vacant<'_, T, L> {
    fn drop(&mut self) {
        // The slab leaks a vacant entry that is dropped: it must be filled and taken again.
        if let Some(entry) = self.entry.take() {
            entry.insert(Entry::nothing());
            drop(self.storage.take(self.key));
        }
    }
}
