//! arc-swap's contract, for loom and shuttle: a cell with an [`Arc`](super::Arc) in it that is read and replaced in one
//! step each.
//!
//! A step is opaque, as arc-swap's own words are std's: it comes after a read-modify-write, which is where loom may
//! switch, and which orders what arc-swap promises to order and no more: what came before a store comes before whatever
//! loads what was stored. A load comes before no later store. What was replaced is let go of by the store, or by a load
//! that is still at it.

use std::mem;
use std::sync::{Arc as Slot, Mutex, MutexGuard, PoisonError};

use super::Arc;
use super::atomic::{AtomicUsize, Ordering};

pub type ArcSwap<T> = Swap<Arc<T>>;
pub type ArcSwapOption<T> = Swap<Option<Arc<T>>>;

pub struct Swap<V> {
    /// std's `Slot`, which is cloned without a switch.
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

    /// As arc-swap's: `f` is called again for each store that comes between.
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
