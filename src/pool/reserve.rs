//! The first half of an insertion: it reserves a vacant slot. The second half fills it.

use std::mem::ManuallyDrop;

use super::destructors::collect;
use super::inner::Inner;
use super::layout::{KeyLayout, Layout};
use super::reclamation::{begin_grace_period, reclaim_ready};
use super::shard::Shard;
use super::slot::Slot;
use super::value::IntoSlot;
use crate::epoch::lanes::{self, LaneGuard};
use crate::handle::Handle;
use crate::sync::Arc;

/// Collections that an insertion tries before it says that the pool is full.
const COLLECTION_ATTEMPTS: usize = 3;
/// Slots that an insertion releases if its lane's cache is empty.
const RELEASES_PER_INSERTION: u32 = 64;

/// A vacant slot that the caller owns (I5). If it is dropped before it is filled, the slot becomes vacant again with
/// its next generation, so that the handle is not given out again (I4).
pub(super) struct ReservedSlot<'a, T: Send + Sync + 'static, L: Layout> {
    inner: &'a Inner<T, L>,
    lane: LaneGuard,
    slot: &'a Slot,
    key: u64,
}

impl<T: Send + Sync, L: Layout> ReservedSlot<'_, T, L> {
    #[inline]
    pub(super) fn handle(&self) -> Handle<T> {
        Handle::new(self.inner.tag().bits(), self.key)
    }

    #[inline]
    pub(super) fn fill(self, value: impl IntoSlot<T>) -> Handle<T> {
        let reserved = ManuallyDrop::new(self);
        let handle = reserved.handle();
        // SAFETY: the slot is vacant and ours (I5), and the pool's values are of type `T`.
        unsafe { reserved.slot.publish::<T>(value, handle.to_bits()) };
        reserved.inner.shard(&reserved.lane).inserted.add(1);
        // SAFETY: `reserved` is never dropped, and its guard is read once, here.
        drop(unsafe { std::ptr::read(&raw const reserved.lane) });
        handle
    }
}

impl<T: Send + Sync, L: Layout> Drop for ReservedSlot<'_, T, L> {
    fn drop(&mut self) {
        self.slot.set_vacant_word(KeyLayout::<L>::next_key(self.key));
        let (chunk, slot) = KeyLayout::<L>::chunk_and_slot(self.key);
        self.inner.make_vacant(chunk, 1 << slot, self.inner.shard(&self.lane));
    }
}

/// Takes a vacant slot: from the lane's cache, else from a chunk on the stack of vacant slots, else from a new chunk.
/// `None` if the pool is full.
#[inline]
pub(super) fn reserve<T: Send + Sync, L: Layout>(inner: &Arc<Inner<T, L>>) -> Option<ReservedSlot<'_, T, L>> {
    let lane = lanes::hold();
    let shard = inner.shard(&lane);
    loop {
        // SAFETY: `lane` holds the lane (I7), and chunks live as long as `inner` (I6).
        if let Some((slot, key)) = unsafe { shard.take_slot() } {
            return Some(ReservedSlot { inner, lane, slot, key });
        }
        if !refill_cache(inner, shard) {
            return None;
        }
    }
}

/// Fills a lane's empty cache of vacant slots. `false` if the pool is full.
#[cold]
fn refill_cache<T: Send + Sync, L: Layout>(inner: &Arc<Inner<T, L>>, shard: &Shard) -> bool {
    for attempt in 0..=COLLECTION_ATTEMPTS {
        reclaim_ready(inner, RELEASES_PER_INSERTION);
        // SAFETY: the caller holds the lane (I7).
        if unsafe { shard.has_slots() } {
            // A destructor, run by the line above, has inserted, and so filled the cache.
            return true;
        }
        if let Some((chunk, slots)) = inner.take_vacant().or_else(|| inner.make_chunk()) {
            // SAFETY: the caller holds the lane (I7).
            unsafe { shard.refill(chunk, slots) };
            return true;
        }
        if attempt < COLLECTION_ATTEMPTS {
            begin_grace_period(inner);
            collect();
        }
    }
    false
}
