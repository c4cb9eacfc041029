//! A shard: what one lane has of a pool, which is a cache of vacant slots and counters.

use super::chunk::Chunk;
use super::slot::Slot;
use crate::sync::{SingleWriterCounter, UnsafeCell};

/// Used by the holder of its lane alone (I7), except for the counters, which any thread may read.
pub(super) struct Shard {
    cache: UnsafeCell<SlotCache>,
    pub(super) inserted: SingleWriterCounter,
    pub(super) removed: SingleWriterCounter,
    /// Entries that holders of this lane released. Any lane may have removed them.
    pub(super) reclaimed: SingleWriterCounter,
    pub(super) exhausted_slots: SingleWriterCounter,
    #[cfg(not(any(loom, shuttle)))]
    pub(super) backlog: UnsafeCell<Backlog>,
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            cache: UnsafeCell::new(SlotCache::default()),
            inserted: SingleWriterCounter::default(),
            removed: SingleWriterCounter::default(),
            reclaimed: SingleWriterCounter::default(),
            exhausted_slots: SingleWriterCounter::default(),
            #[cfg(not(any(loom, shuttle)))]
            backlog: UnsafeCell::new(Backlog::default()),
        }
    }
}

/// Vacant slots of one chunk, one bit each, which no stack has.
struct SlotCache {
    chunk: *const Chunk,
    slots: u64,
}

impl Default for SlotCache {
    fn default() -> Self {
        Self { chunk: std::ptr::null(), slots: 0 }
    }
}

/// Whether the pool's grace periods end, as the removals of this lane see it.
#[cfg(not(any(loom, shuttle)))]
#[derive(Default)]
pub(super) struct Backlog {
    /// Grace periods that were completed at the last collection.
    pub(super) completed: u64,
    /// Collections since that number rose.
    pub(super) stalled_collections: u32,
}

impl Shard {
    /// Takes a slot from the cache. The result has the key of its next entry.
    ///
    /// # Safety
    ///
    /// 1. The caller holds the lane (I7).
    /// 2. The chunk of the last [`refill`](Self::refill) lives for `'a`.
    #[inline]
    pub(super) unsafe fn take_slot<'a>(&self) -> Option<(&'a Slot, u64)> {
        self.cache.with_mut(|cache| {
            // SAFETY: the lane's holder alone uses the cache (1), and nothing below calls back into the shard.
            let cache = unsafe { &mut *cache };
            if cache.slots == 0 {
                return None;
            }
            let number = cache.slots.trailing_zeros() as usize;
            cache.slots &= cache.slots - 1;
            // SAFETY: a cache with slots has a chunk, which lives for `'a` (2).
            let slot = unsafe { &*cache.chunk }.slot(number);
            Some((slot, slot.vacant_word()))
        })
    }

    /// Whether the cache has a slot.
    ///
    /// # Safety
    ///
    /// The caller holds the lane (I7).
    pub(super) unsafe fn has_slots(&self) -> bool {
        // SAFETY: the lane's holder alone uses the cache.
        self.cache.with(|cache| unsafe { &*cache }.slots != 0)
    }

    /// Replaces the cache, which must be empty, by vacant slots of a chunk that the caller owns (I5).
    ///
    /// # Safety
    ///
    /// The caller holds the lane (I7).
    pub(super) unsafe fn refill(&self, chunk: &Chunk, slots: u64) {
        // SAFETY: the lane's holder alone uses the cache.
        self.cache.with_mut(|cache| unsafe { *cache = SlotCache { chunk, slots } });
    }
}
