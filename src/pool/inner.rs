//! What a pool is inside: its chunks, the lists of what is vacant, removed and ready, and the tag of its handles.

use std::ptr::NonNull;

use crossbeam_utils::CachePadded;

use super::chunk::{Chunk, bits};
use super::directory::Directory;
use super::layout::{KeyLayout, Layout};
use super::pages::{Doubling, Pages};
use super::reclaim::ReclaimScope;
use super::shard::{Owner, Shard};
use super::slot::Slot;
use super::stack::List;
use super::tag::PoolTag;
use super::{slab, stats};
use crate::epoch::lanes::{MOST_LANES, Seat};
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

const FIRST_SHARDS: u64 = if cfg!(any(loom, shuttle)) { 4 } else { 16 };

pub(super) struct Inner<T: Send + Sync + 'static, L: Layout> {
    /// What look-ups read, on lines that are written only where a pool is made.
    read: CachePadded<ReadMostly<L>>,
    pub(super) vacant: List,
    pub(super) removed: List,
    pub(super) ready: List,
    pub(super) grace: CachePadded<Grace>,
    shards: Pages<Shard, Doubling<FIRST_SHARDS, { MOST_LANES.ilog2() }>>,
    /// Chunk numbers from here on were never used.
    numbers: AtomicUsize,
    _values: std::marker::PhantomData<T>,
}

struct ReadMostly<L> {
    directory: Directory<L>,
    /// std's `Arc`: a name, which the tables of the pool's handles hold too.
    tag: std::sync::Arc<PoolTag>,
}

/// The grace period that the pool waits for.
#[derive(Default)]
pub(super) struct Grace {
    /// Whether one is under way.
    pub(super) under_way: AtomicBool,
    /// How many are over.
    pub(super) over: AtomicU64,
}

// SAFETY: the raw addresses inside are those of `Arc<T>`s, given out as `&T` and `Arc<T>`.
unsafe impl<T: Send + Sync, L: Layout> Send for Inner<T, L> {}
// SAFETY: as above; a cell is written by one thread at a time, while no other reads it (I3, I5, I7).
unsafe impl<T: Send + Sync, L: Layout> Sync for Inner<T, L> {}

impl<T: Send + Sync, L: Layout> Inner<T, L> {
    pub(super) fn new() -> Self {
        Self {
            read: CachePadded::new(ReadMostly {
                directory: Directory::new(),
                tag: std::sync::Arc::new(PoolTag::new()),
            }),
            vacant: List::default(),
            removed: List::default(),
            ready: List::default(),
            grace: CachePadded::default(),
            shards: Pages::new(),
            numbers: AtomicUsize::new(0),
            _values: std::marker::PhantomData,
        }
    }

    #[inline]
    pub(super) fn directory(&self) -> &Directory<L> {
        &self.read.directory
    }

    #[inline]
    pub(super) fn tag(&self) -> &std::sync::Arc<PoolTag> {
        &self.read.tag
    }

    /// What the holder of a lane has of this pool.
    #[inline]
    pub(super) fn owner(&self, seat: &Seat) -> &Owner {
        let shard = self.shards.get_or_grow(seat.number() as u64);
        &shard.expect("there are as many shards as lanes").owner
    }

    pub(super) fn stats(&self) -> stats::PoolStats {
        stats::PoolStats::sum(self.shards.iter().map(|shard| &*shard.owner))
    }

    /// Entries that were removed, and those of them whose values were released.
    pub(super) fn removed_and_reclaimed(&self) -> (u64, u64) {
        let stats = self.stats();
        (stats.removed, stats.removed - stats.awaiting_reclamation)
    }

    /// Every slot that was ever used, and the rest of their chunks.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        // Acquire: pairs with the Release in `next_number`, so that a walk misses no chunk that came before it.
        self.directory().chunks(self.numbers.load(Ordering::Acquire)).flat_map(Chunk::slots)
    }

    /// The vacant slots of a chunk that has some. They are the caller's (I5).
    pub(super) fn take_vacant(&self) -> Option<(&Chunk, u64)> {
        let (number, slots) = self.vacant.take(|number| Some(&self.directory().chunk(number)?.marked.vacant))?;
        Some((self.directory().listed(number), slots))
    }

    /// A chunk of vacant slots that are the caller's, where there is a number left.
    pub(super) fn make_chunk(&self) -> Option<(&Chunk, u64)> {
        let number = self.next_number()?;
        let chunk = slab::make();
        // SAFETY: it is there until the pool's inside is dropped (I6), and its slots are ours (I5).
        Some(self.install(number, unsafe { chunk.as_ref() }))
    }

    fn next_number(&self) -> Option<usize> {
        // Release: see `slots`. Relaxed on failure: a full pool is full.
        self.numbers
            .try_update(Ordering::Release, Ordering::Relaxed, |number| (number < L::CHUNKS).then_some(number + 1))
            .ok()
    }

    fn install<'a>(&'a self, number: usize, chunk: &'a Chunk) -> (&'a Chunk, u64) {
        chunk.number::<L>(number);
        self.directory().put(number, NonNull::from(chunk));
        (chunk, KeyLayout::<L>::ALL_SLOTS)
    }

    /// Makes slots vacant for any thread, but for those that have served their last generation (I4). They are the
    /// caller's and have no values.
    pub(super) fn vacate(&self, number: usize, slots: u64, owner: &Owner) {
        let chunk = self.directory().listed(number);
        let used_up = bits(slots)
            .filter(|slot| KeyLayout::<L>::is_used_up(chunk.slot(*slot).vacant_word()))
            .fold(0, |used_up, slot| used_up | 1 << slot);
        if used_up != 0 {
            self.retire(number, chunk, used_up, owner);
        }
        if slots != used_up {
            self.vacant.mark(number, slots & !used_up, |number| &self.directory().listed(number).marked.vacant);
        }
    }

    /// Gives slots up. A chunk of which none is left goes on under another number, as a new one (I4).
    #[cold]
    fn retire(&self, number: usize, chunk: &Chunk, slots: u64, owner: &Owner) {
        owner.retired_slots.add(slots.count_ones().into());
        if chunk.use_up::<L>(slots) {
            let Some(next) = self.next_number() else { return };
            self.directory().forget(number);
            let (_, slots) = self.install(next, chunk);
            self.vacant.mark(next, slots, |number| &self.directory().listed(number).marked.vacant);
        }
    }
}

impl<T: Send + Sync + 'static, L: Layout> Drop for Inner<T, L> {
    /// Releases what is live, and what was removed and not yet released. What waits for a grace period holds the pool's
    /// inside, and so is over.
    fn drop(&mut self) {
        let _scope = ReclaimScope::enter();
        let tag = self.tag().bits().get();
        // Nobody else has anything of this pool (I6), so every slot is ours.
        for chunk in self.directory().chunks(self.numbers.load(Ordering::Relaxed)) {
            let removed = chunk.marked.removed.peek() | chunk.marked.ready.peek();
            for (number, slot) in chunk.slots().iter().enumerate() {
                if slot.live(tag).is_some() || removed >> number & 1 == 1 {
                    // SAFETY: ours, of a pool of `T`, and live or not yet released.
                    unsafe { slot.release::<T>() };
                }
                // SAFETY: ours, and without a value: released now, or vacant.
                unsafe { slot.free_recycled::<T>() };
            }
        }
        let Self { read, numbers, .. } = self;
        // SAFETY: as above.
        unsafe { read.directory.free(numbers) };
    }
}
