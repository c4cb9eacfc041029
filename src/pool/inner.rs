//! What a pool's handle-facing calls and its deferred functions share: the chunks, a stack of them for each state of
//! slots, the shards, and the tag of the handles.

use std::ptr::NonNull;

use crossbeam_utils::CachePadded;

use super::chunk::{Chunk, bits};
use super::destructors::ReclaimScope;
use super::directory::Directory;
use super::layout::{KeyLayout, Layout};
use super::pages::Pages;
use super::shard::Shard;
use super::slot::Slot;
use super::stack::ChunkStack;
use super::tag::PoolTag;
use super::{slab, stats};
use crate::epoch::lanes::{LaneGuard, MAX_LANES};
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

const FIRST_SHARDS: u64 = if cfg!(any(loom, shuttle)) { 4 } else { 16 };

pub(super) struct Inner<T: Send + Sync + 'static, L: Layout> {
    /// What look-ups read, on cache lines of its own that are written only when the pool is made.
    read: CachePadded<ReadMostly<L>>,
    pub(super) vacant: ChunkStack,
    pub(super) removed: ChunkStack,
    pub(super) ready: ChunkStack,
    pub(super) grace: CachePadded<GracePeriods>,
    /// One for each lane, by its number.
    shards: Pages<CachePadded<Shard>, FIRST_SHARDS, { MAX_LANES.ilog2() }>,
    /// Chunk numbers below this have been used, once each.
    used_numbers: AtomicUsize,
    _values: std::marker::PhantomData<T>,
}

struct ReadMostly<L> {
    directory: Directory<L>,
    /// std's `Arc` under loom too: it only keeps the tag, which the pool's guest tables share.
    tag: std::sync::Arc<PoolTag>,
}

#[derive(Default)]
pub(super) struct GracePeriods {
    /// Whether the pool waits for the end of one.
    pub(super) in_progress: AtomicBool,
    pub(super) completed: AtomicU64,
}

// SAFETY: the raw addresses inside are those of `Arc<T>`s, given out as `&T` and `Arc<T>`, and `T` is Send and Sync.
unsafe impl<T: Send + Sync, L: Layout> Send for Inner<T, L> {}
// SAFETY: as above; and a cell is written by one thread while no other thread reads it (I3, I5, I7).
unsafe impl<T: Send + Sync, L: Layout> Sync for Inner<T, L> {}

impl<T: Send + Sync, L: Layout> Inner<T, L> {
    pub(super) fn new() -> Self {
        Self {
            read: CachePadded::new(ReadMostly {
                directory: Directory::new(),
                tag: std::sync::Arc::new(PoolTag::new()),
            }),
            vacant: ChunkStack::default(),
            removed: ChunkStack::default(),
            ready: ChunkStack::default(),
            grace: CachePadded::default(),
            shards: Pages::new(),
            used_numbers: AtomicUsize::new(0),
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

    /// This pool's shard of the lane that the guard holds.
    #[inline]
    pub(super) fn shard(&self, lane: &LaneGuard) -> &Shard {
        self.shards.get_or_grow(lane.number() as u64)
    }

    pub(super) fn stats(&self) -> stats::PoolStats {
        stats::PoolStats::sum(self.shards.iter().map(|shard| &**shard))
    }

    /// Entries that were removed, and those of them that were released.
    pub(super) fn removed_and_reclaimed(&self) -> (u64, u64) {
        let stats = self.stats();
        (stats.removed, stats.removed - stats.awaiting_reclamation)
    }

    /// All slots of all chunks.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        // Acquire: pairs with the Release in `next_number`. A walk sees every chunk that was made before it.
        self.directory().chunks(self.used_numbers.load(Ordering::Acquire)).flat_map(Chunk::slots)
    }

    /// Takes the vacant slots of the top chunk of the stack. The caller owns them (I5).
    pub(super) fn take_vacant(&self) -> Option<(&Chunk, u64)> {
        let (number, slots) = self.vacant.take(|number| Some(&self.directory().chunk(number)?.marks.vacant))?;
        Some((self.directory().chunk_in_use(number), slots))
    }

    /// Makes a chunk of vacant slots, which the caller owns (I5). `None` if no number is left.
    pub(super) fn make_chunk(&self) -> Option<(&Chunk, u64)> {
        let number = self.next_number()?;
        let chunk = slab::make();
        // SAFETY: the chunk lives as long as `self` (I6).
        Some(self.install(number, unsafe { chunk.as_ref() }))
    }

    fn next_number(&self) -> Option<usize> {
        // Release: pairs with the Acquire in `slots`. Relaxed on failure: a full pool stays full.
        self.used_numbers
            .try_update(Ordering::Release, Ordering::Relaxed, |number| (number < L::CHUNKS).then_some(number + 1))
            .ok()
    }

    fn install<'a>(&'a self, number: usize, chunk: &'a Chunk) -> (&'a Chunk, u64) {
        chunk.assign_number::<L>(number);
        self.directory().insert(number, NonNull::from(chunk));
        (chunk, KeyLayout::<L>::ALL_SLOTS)
    }

    /// Makes slots vacant, for any thread to take, except for those that are exhausted (I4). The caller owns the
    /// slots (I5), and has released their values.
    pub(super) fn make_vacant(&self, number: usize, slots: u64, shard: &Shard) {
        let chunk = self.directory().chunk_in_use(number);
        let exhausted = bits(slots)
            .filter(|slot| KeyLayout::<L>::is_exhausted(chunk.slot(*slot).vacant_word()))
            .fold(0, |exhausted, slot| exhausted | 1 << slot);
        if exhausted != 0 {
            self.exhaust(number, chunk, exhausted, shard);
        }
        if slots != exhausted {
            self.vacant.mark(number, slots & !exhausted, |number| &self.directory().chunk_in_use(number).marks.vacant);
        }
    }

    /// Takes slots out of use. A chunk whose slots are all exhausted gets the next number, under which its slots begin
    /// at generation 0 again (I4).
    #[cold]
    fn exhaust(&self, number: usize, chunk: &Chunk, slots: u64, shard: &Shard) {
        shard.exhausted_slots.add(slots.count_ones().into());
        if chunk.mark_exhausted::<L>(slots) {
            let Some(next) = self.next_number() else { return };
            self.directory().remove(number);
            let (_, slots) = self.install(next, chunk);
            self.vacant.mark(next, slots, |number| &self.directory().chunk_in_use(number).marks.vacant);
        }
    }
}

impl<T: Send + Sync + 'static, L: Layout> Drop for Inner<T, L> {
    /// Releases the values of live slots, and of removed and ready ones. No slot is deferred: a deferred function holds
    /// a reference to `self`.
    fn drop(&mut self) {
        let _scope = ReclaimScope::enter();
        let tag = self.tag().bits().get();
        // `&mut self`: no other thread uses anything of this pool (I6), so all slots are ours (I5).
        for chunk in self.directory().chunks(self.used_numbers.load(Ordering::Relaxed)) {
            let removed = chunk.marks.removed.peek() | chunk.marks.ready.peek();
            for (number, slot) in chunk.slots().iter().enumerate() {
                if slot.read_live(tag).is_some() || removed >> number & 1 == 1 {
                    // SAFETY: the slot is ours (I5), its value of type `T` and not yet released.
                    unsafe { slot.release::<T>() };
                }
                // SAFETY: the slot is ours (I5) and has no value: it was vacant, or was released above.
                unsafe { slot.free_recycled::<T>() };
            }
        }
        let Self { read, used_numbers, .. } = self;
        // SAFETY: no other thread uses a chunk (I6), and the directory is dropped next.
        unsafe { read.directory.free(used_numbers) };
    }
}
