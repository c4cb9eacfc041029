//! What the holder of a lane has of a pool: the vacant slots that it fills next, and its counts.

use crossbeam_utils::CachePadded;

use super::chunk::Chunk;
use super::slot::Slot;
use crate::sync::{OwnerCounter, UnsafeCell};

/// Used by the holder of its lane alone (I7), but for the counters, which any thread may read.
#[derive(Default)]
pub(super) struct Shard {
    pub(super) owner: CachePadded<Owner>,
}

pub(super) struct Owner {
    vacant: UnsafeCell<Vacancies>,
    pub(super) inserted: OwnerCounter,
    pub(super) removed: OwnerCounter,
    /// Entries whose values this lane's holders released, whoever removed them.
    pub(super) reclaimed: OwnerCounter,
    pub(super) retired_slots: OwnerCounter,
    #[cfg(not(any(loom, shuttle)))]
    pub(super) backlog: UnsafeCell<Backlog>,
}

impl Default for Owner {
    fn default() -> Self {
        Self {
            vacant: UnsafeCell::new(Vacancies::default()),
            inserted: OwnerCounter::default(),
            removed: OwnerCounter::default(),
            reclaimed: OwnerCounter::default(),
            retired_slots: OwnerCounter::default(),
            #[cfg(not(any(loom, shuttle)))]
            backlog: UnsafeCell::new(Backlog::default()),
        }
    }
}

/// Vacant slots of one chunk, which are on no list.
struct Vacancies {
    chunk: *const Chunk,
    slots: u64,
}

impl Default for Vacancies {
    fn default() -> Self {
        Self { chunk: std::ptr::null(), slots: 0 }
    }
}

/// How long the pool's grace periods take, as one thread that removes sees it.
#[cfg(not(any(loom, shuttle)))]
#[derive(Default)]
pub(super) struct Backlog {
    /// Grace periods of the pool that were over at the last look.
    pub(super) over: u64,
    /// Looks since that number rose.
    pub(super) looks: u32,
}

impl Owner {
    /// Takes a vacant slot, and gives the key of its next entry.
    ///
    /// # Safety
    ///
    /// 1. The caller holds the lane (I7).
    /// 2. The chunk that was last put in lives for `'a`.
    #[inline]
    pub(super) unsafe fn take<'a>(&self) -> Option<(&'a Slot, u64)> {
        self.vacant.with_mut(|vacant| {
            // SAFETY: the holder's own (1), and nothing here comes back to it.
            let vacant = unsafe { &mut *vacant };
            if vacant.slots == 0 {
                return None;
            }
            let number = vacant.slots.trailing_zeros() as usize;
            vacant.slots &= vacant.slots - 1;
            // SAFETY: there are slots, so there is a chunk (2).
            let slot = unsafe { &*vacant.chunk }.slot(number);
            Some((slot, slot.vacant_word()))
        })
    }

    /// Whether there is a vacant slot to take.
    ///
    /// # Safety
    ///
    /// The caller holds the lane (I7).
    pub(super) unsafe fn has_slots(&self) -> bool {
        // SAFETY: the holder's own.
        self.vacant.with(|vacant| unsafe { &*vacant }.slots != 0)
    }

    /// Puts vacant slots of a chunk in, which are the caller's alone.
    ///
    /// # Safety
    ///
    /// 1. The caller holds the lane (I7).
    /// 2. There is none to take.
    pub(super) unsafe fn put(&self, chunk: &Chunk, slots: u64) {
        // SAFETY: the holder's own (1).
        self.vacant.with_mut(|vacant| unsafe { *vacant = Vacancies { chunk, slots } });
    }
}
