//! The calls of a pool, for any [`Layout`].
#![expect(missing_docs, clippy::missing_errors_doc, reason = "`Pool` documents its calls")]

use std::fmt;
use std::mem::ManuallyDrop;

use super::destructors::{collect, defer};
use super::error::InsertError;
use super::inner::Inner;
use super::iter::Iter;
use super::layout::{KeyLayout, Layout};
use super::reclamation::{REMOVALS_BETWEEN_COLLECTIONS, begin_grace_period, collect_after_removals, flush};
use super::reserve::reserve;
use super::slot::Slot;
use super::stats::PoolStats;
use super::tag::PoolTag;
use super::value::{IntoSlot, clone_arc};
use crate::epoch::{Guard, deferrals_run, lanes, pending_deferrals, pin};
use crate::handle::Handle;
use crate::sync::Arc;

/// A [`Pool`](super::Pool) with another division of its keys. Its calls are those of `Pool`, where they are documented.
pub struct LayoutPool<T: Send + Sync + 'static, L: Layout> {
    inner: ManuallyDrop<Arc<Inner<T, L>>>,
}

impl<T: Send + Sync, L: Layout> Default for LayoutPool<T, L> {
    fn default() -> Self {
        Self { inner: ManuallyDrop::new(Arc::new(Inner::new())) }
    }
}

impl<T: Send + Sync, L: Layout> LayoutPool<T, L> {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    #[inline]
    pub fn insert(&self, value: T) -> Result<Handle<T>, InsertError<T>> {
        self.store(value)
    }

    #[inline]
    pub fn insert_arc(&self, value: Arc<T>) -> Result<Handle<T>, InsertError<Arc<T>>> {
        self.store(value)
    }

    #[inline]
    fn store<V: IntoSlot<T>>(&self, value: V) -> Result<Handle<T>, InsertError<V>> {
        match reserve(&self.inner) {
            Some(reserved) => Ok(reserved.fill(value)),
            None => Err(InsertError::Full(value)),
        }
    }

    #[inline]
    pub fn insert_with<F: FnOnce(Handle<T>) -> T>(&self, make: F) -> Result<Handle<T>, InsertError<F>> {
        match reserve(&self.inner) {
            Some(reserved) => {
                let value = make(reserved.handle());
                Ok(reserved.fill(value))
            }
            None => Err(InsertError::Full(make)),
        }
    }

    #[inline]
    #[must_use]
    pub fn get<'g>(&self, handle: Handle<T>, guard: &'g Guard) -> Option<&'g T> {
        let _ = guard;
        let value = self.slot(handle)?.read(handle.to_bits())?.cast();
        // SAFETY: the value was live when the word was loaded (I1), and the guard keeps it alive (I3, I6).
        Some(unsafe { &*value })
    }

    #[inline]
    #[must_use]
    pub fn acquire(&self, handle: Handle<T>) -> Option<Arc<T>> {
        let _guard = pin();
        let value = self.slot(handle)?.read(handle.to_bits())?.cast();
        // SAFETY: from `into_slot` (1), and the guard keeps the slot's reference alive (2; I1, I3).
        Some(unsafe { clone_arc(value) })
    }

    #[inline]
    #[expect(clippy::must_use_candidate, reason = "called for its effect as often as for its result")]
    pub fn remove(&self, handle: Handle<T>) -> Option<Arc<T>> {
        let inner = &*self.inner;
        let key = handle.key();
        let value = self.slot(handle)?.retire(handle.to_bits(), KeyLayout::<L>::next_key(key))?;
        // SAFETY: from `into_slot` (1); the slot's reference is released after `mark_removed` at the earliest (2; I3,
        // I5).
        let value = unsafe { clone_arc(value.cast()) };
        let lane = lanes::hold();
        let shard = inner.shard(&lane);
        shard.removed.add(1);
        let (chunk, slot) = KeyLayout::<L>::chunk_and_slot(key);
        if inner.mark_removed(chunk, 1 << slot) {
            begin_grace_period(&self.inner);
        }
        // Otherwise the removal of another slot of the chunk has begun one, or the end of the one in progress will.
        if shard.removed.get().is_multiple_of(REMOVALS_BETWEEN_COLLECTIONS) {
            collect_after_removals(&self.inner, shard);
        }
        Some(value)
    }

    #[inline]
    #[must_use]
    pub fn contains(&self, handle: Handle<T>) -> bool {
        self.slot(handle).is_some_and(|slot| slot.is_live(handle.to_bits()))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.stats().live as usize
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter<'a>(&'a self, guard: &'a Guard) -> Iter<'a, T> {
        let _ = guard;
        Iter::new(self.inner.slots(), self.inner.tag().bits().get())
    }

    pub fn retain(&self, mut keep: impl FnMut(Handle<T>, &T) -> bool) -> usize {
        let guard = pin();
        self.iter(&guard).filter(|(handle, value)| !keep(*handle, value) && self.remove(*handle).is_some()).count()
    }

    #[expect(clippy::must_use_candidate, reason = "called for its effect")]
    pub fn clear(&self) -> usize {
        self.retain(|_, _| false)
    }

    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.inner.stats()
    }

    pub fn flush(&self) {
        flush(&self.inner);
    }

    /// The slot at the handle's place, whatever is in it.
    #[inline]
    fn slot(&self, handle: Handle<T>) -> Option<&Slot> {
        self.inner.directory().slot(handle.key())
    }

    /// The tag of this pool's handles, which stays in use while the caller keeps it.
    pub(crate) fn tag(&self) -> &std::sync::Arc<PoolTag> {
        self.inner.tag()
    }
}

impl<T: Send + Sync, L: Layout> Drop for LayoutPool<T, L> {
    /// Releases every value, once, after a grace period: before `drop` returns if no thread is pinned, otherwise at a
    /// later collection.
    fn drop(&mut self) {
        // SAFETY: taken once, here.
        let inner = unsafe { ManuallyDrop::take(&mut self.inner) };
        // SAFETY: the values are Send (1), and `inner` owns what its drop uses (2; I6).
        unsafe { defer(move || drop(inner)) };
        collect_all();
    }
}

/// Collects until nothing is pending, or collections run nothing any more.
fn collect_all() {
    collect();
    // A model defers no more than one collection runs; and here it would count the deferrals of other models.
    if cfg!(not(any(loom, shuttle))) {
        let mut idle = 0;
        while pending_deferrals() > 0 && idle < 3 {
            let before = deferrals_run();
            collect();
            idle = if deferrals_run() == before { idle + 1 } else { 0 };
        }
    }
}

impl<T: Send + Sync, L: Layout> fmt::Debug for LayoutPool<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
