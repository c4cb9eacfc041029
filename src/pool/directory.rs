//! Where every slot and every thread's shard is.

use std::ops::Range;

use crossbeam_utils::CachePadded;

use super::layout::{Layout, Shape};
use super::limbo::Limbo;
use super::magazine::Magazines;
use super::pages::{Geometry, Pages};
use super::slot::Slot;
use crate::sync::OwnerCounter;

/// What one thread has of a pool, and after it the thread that gets its number.
#[derive(Default)]
pub(super) struct Shard {
    pub(super) owner: CachePadded<Owner>,
    /// Written by the thread too, and claimed from by any.
    pub(super) limbo: CachePadded<Limbo>,
}

/// Used by the thread alone (I7), but for the counters, which any may read.
#[derive(Default)]
pub(super) struct Owner {
    pub(super) vacant: Magazines,
    pub(super) inserted: OwnerCounter,
    pub(super) retired_slots: OwnerCounter,
    /// Entries whose values this thread let go of, whoever removed them.
    pub(super) reclaimed: OwnerCounter,
}

/// The slots by place, and the shards by thread.
pub(super) struct Directory<T, L: Layout> {
    slots: Pages<Slot<T>, Shape<L>>,
    shards: Pages<Shard, OneEach<L>>,
}

// SAFETY: an address is in the range of its page, which is empty for the pages of a thread's rows that the slab
// doesn't have. There are `PAGES_STRIDE` rows for each thread, and the bits of an address name no page past them.
unsafe impl<L: Layout> Geometry for Shape<L> {
    const ROWS: usize = L::MAX_THREADS * Self::PAGES_STRIDE;
    const TOTAL: bool = true;
    const FIRST: u64 = L::INITIAL_PAGE_SIZE as u64;

    #[inline]
    fn locate(place: u64, first: u64) -> (usize, usize) {
        let (page, address) = Self::page_and_address(place, first);
        (Self::thread(place) * Self::PAGES_STRIDE + page, address)
    }

    #[inline]
    fn range(row: usize) -> Range<usize> {
        Self::addresses(row % Self::PAGES_STRIDE)
    }
}

/// A page of one element for each thread.
struct OneEach<L>(std::marker::PhantomData<L>);

// SAFETY: 0 is in its range.
unsafe impl<L: Layout> Geometry for OneEach<L> {
    const ROWS: usize = L::MAX_THREADS;
    const TOTAL: bool = false;
    const FIRST: u64 = 1;

    #[inline]
    fn locate(thread: u64, _: u64) -> (usize, usize) {
        (thread as usize, 0)
    }

    #[inline]
    fn range(_: usize) -> Range<usize> {
        0..1
    }
}

impl<T, L: Layout> Directory<T, L> {
    pub(super) fn new() -> Self {
        const { Shape::<L>::AGREES };
        Self { slots: Pages::new(), shards: Pages::new() }
    }

    /// The slot at `place`, if its page is there. Any number may be asked for.
    #[inline]
    pub(super) fn slot(&self, place: u64) -> Option<&Slot<T>> {
        self.slots.get(place)
    }

    /// What `look` finds in the slot at `place`, if its page is there.
    #[inline]
    pub(super) fn find<'a, R>(&'a self, place: u64, look: impl FnOnce(&'a Slot<T>) -> Option<R>) -> Option<R> {
        self.slots.find(place, look)
    }

    /// The slot at a place that the slab has given, in a page that is made if need be. `None` never.
    #[inline]
    pub(super) fn grow(&self, place: u64) -> Option<&Slot<T>> {
        self.slots.get_or_grow(place)
    }

    /// The shard of the thread with this number, made if need be. `None` past the last.
    #[inline]
    pub(super) fn shard(&self, thread: usize) -> Option<&Shard> {
        self.shards.get_or_grow(thread as u64)
    }

    pub(super) fn shards(&self) -> impl Iterator<Item = &Shard> + Clone {
        self.shards.iter()
    }

    /// Every slot that was ever used, and the rest of their pages.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot<T>> {
        self.slots.iter()
    }
}
