//! Where every slot and every shard's bookkeeping is.

use crossbeam_utils::CachePadded;

use super::layout::{Layout, Shape};
use super::limbo::Limbo;
use super::pages::{Geometry, Pages};
use super::slot::Slot;
use crate::sync::OwnerCounter;

/// What belongs to the entries that one thread inserted, or the threads that had its number before it.
#[derive(Default)]
pub(super) struct Shard {
    /// Written by the inserting thread alone; on cache lines of its own, so that removals elsewhere don't slow it.
    pub(super) owner: CachePadded<Owner>,
    pub(super) limbo: CachePadded<Limbo>,
}

#[derive(Default)]
pub(super) struct Owner {
    pub(super) inserted: OwnerCounter,
    pub(super) retired_slots: OwnerCounter,
}

/// The slots by place, and the shards by thread.
pub(super) struct Directory<T, L: Layout> {
    slots: Pages<Slot<T>, Shape<L>>,
    shards: Pages<Shard, OneEach<L>>,
}

/// `PAGES_STRIDE` rows for each thread.
impl<L: Layout> Geometry for Shape<L> {
    const ROWS: usize = L::MAX_THREADS * Self::PAGES_STRIDE;

    #[inline]
    fn locate(place: u64) -> (usize, usize) {
        let (page, offset) = Self::page_and_offset(place);
        (Self::thread(place) * Self::PAGES_STRIDE + page, offset)
    }

    #[inline]
    fn len(row: usize) -> usize {
        Self::page_len(row % Self::PAGES_STRIDE)
    }
}

/// A page of one element for each thread.
struct OneEach<L>(std::marker::PhantomData<L>);

impl<L: Layout> Geometry for OneEach<L> {
    const ROWS: usize = L::MAX_THREADS;

    #[inline]
    fn locate(thread: u64) -> (usize, usize) {
        (thread as usize, 0)
    }

    #[inline]
    fn len(_: usize) -> usize {
        1
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

    /// The shard of the slot at `place`, if it is there.
    #[inline]
    pub(super) fn shard(&self, place: u64) -> Option<&Shard> {
        self.shards.get(Shape::<L>::thread(place) as u64)
    }

    /// The slot at the place of a key that the slab handed out, and its shard. `None` never.
    #[inline]
    pub(super) fn grow(&self, place: u64) -> Option<(&Slot<T>, &Shard)> {
        let shard = self.shards.get_or_grow(Shape::<L>::thread(place) as u64)?;
        Some((self.slots.get_or_grow(place)?, shard))
    }

    pub(super) fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter()
    }

    /// Every slot that was ever used, and the rest of their pages.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot<T>> {
        self.slots.iter()
    }
}
