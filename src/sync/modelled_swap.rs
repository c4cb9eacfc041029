//! A model of arc-swap's contract for loom and shuttle: a cell with an [`Arc`](super::Arc) that is loaded in one step
//! and replaced in one step.
//!
//! A step is opaque to the checkers, since it uses std types. A read-modify-write precedes it: there the checkers may
//! switch threads, and it makes the edge that arc-swap promises, and no other: what came before a store happens before
//! a load of the value that was stored. A load happens before no later store. The replaced `Arc` is dropped by the
//! store, or by a load that is in progress.

use std::mem;
use std::sync::{Arc as Slot, Mutex, MutexGuard, PoisonError};

use super::Arc;
use super::atomic::{AtomicUsize, Ordering};

pub type ArcSwap<T> = Swap<Arc<T>>;
pub type ArcSwapOption<T> = Swap<Option<Arc<T>>>;

pub struct Swap<V> {
    /// std's `Arc`, whose clone is no switch point.
    slot: Mutex<Slot<V>>,
    stores: AtomicUsize,
}

impl<V: Clone> Swap<V> {
    fn new(value: V) -> Self {
        Self { slot: Mutex::new(Slot::new(value)), stores: AtomicUsize::new(0) }
    }

    pub fn load_full(&self) -> V {
        V::clone(&self.load_slot())
    }

    pub fn store(&self, value: V) {
        let slot = Slot::new(value);
        self.stores.fetch_add(1, Ordering::Release);
        let replaced = mem::replace(&mut *self.slot(), slot);
        drop(replaced);
    }

    fn load_slot(&self) -> Slot<V> {
        self.stores.fetch_add(0, Ordering::Acquire);
        Slot::clone(&self.slot())
    }

    fn slot(&self) -> MutexGuard<'_, Slot<V>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Swap<Option<Arc<T>>> {
    pub fn empty() -> Self {
        Self::new(None)
    }
}

impl<T> Swap<Arc<T>> {
    pub fn load(&self) -> Arc<T> {
        self.load_full()
    }

    /// As arc-swap's: `f` is called again if another store came between.
    pub fn rcu(&self, mut f: impl FnMut(&Arc<T>) -> Arc<T>) {
        loop {
            let before = self.load_slot();
            let slot = Slot::new(f(&before));
            self.stores.fetch_add(1, Ordering::AcqRel);
            let mut now = self.slot();
            if Slot::ptr_eq(&now, &before) {
                let replaced = mem::replace(&mut *now, slot);
                drop(now);
                drop(replaced);
                return;
            }
        }
    }
}

impl<T: Default> Default for Swap<Arc<T>> {
    fn default() -> Self {
        Self::new(Arc::new(T::default()))
    }
}
