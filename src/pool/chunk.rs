//! A chunk: 64 slots that are allocated together, and for each state one word of marks, a bit for each slot.
//!
//! ```text
//!  63                    1 0
//! │ slot 63 │ …  │ slot 1 │ slot 0 │   marks.vacant, marks.removed, marks.ready, marks.exhausted
//! ```

#[cfg(all(test, loom))]
mod models;

use crossbeam_utils::CachePadded;

use super::layout::{KeyLayout, Layout, SLOTS};
use super::slot::Slot;
use super::stack::SlotMarks;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub(super) struct Chunk {
    slots: [Slot; SLOTS],
    /// On a cache line of its own: insertions, removals and reclamation write it, and look-ups read `slots`.
    pub(super) marks: CachePadded<ChunkMarks>,
}

#[derive(Default)]
pub(super) struct ChunkMarks {
    pub(super) vacant: SlotMarks,
    pub(super) removed: SlotMarks,
    pub(super) ready: SlotMarks,
    exhausted: AtomicU64,
    /// One more than the key under which the slab owns the chunk; 0 for a chunk that the pool owns itself.
    pub(super) slab_key: AtomicUsize,
}

impl Default for Chunk {
    fn default() -> Self {
        Self { slots: std::array::from_fn(|_| Slot::default()), marks: CachePadded::default() }
    }
}

impl Chunk {
    #[inline]
    pub(super) fn slot(&self, number: usize) -> &Slot {
        &self.slots[number % SLOTS]
    }

    pub(super) fn slots(&self) -> &[Slot; SLOTS] {
        &self.slots
    }

    /// Makes the chunk the one with this number: every slot becomes vacant, with generation 0. The caller owns the
    /// slots (I5).
    pub(super) fn assign_number<L: Layout>(&self, number: usize) {
        // Relaxed: the transfer of the slots to their next owner orders it.
        self.marks.exhausted.store(0, Ordering::Relaxed);
        for (slot, at) in self.slots.iter().zip(0..1 << L::SLOT_BITS) {
            slot.set_vacant_word(KeyLayout::<L>::first_key(number, at));
        }
    }

    /// Marks slots as exhausted. `true` if with them all slots of the chunk are.
    #[cold]
    pub(super) fn mark_exhausted<L: Layout>(&self, slots: u64) -> bool {
        // AcqRel: the thread that marks the last slot owns all of them (I5), after what the others did to theirs.
        let before = self.marks.exhausted.fetch_or(slots, Ordering::AcqRel);
        (before | slots) == KeyLayout::<L>::ALL_SLOTS
    }
}

/// The numbers of the bits that are 1, the lowest first.
pub(super) fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit)
    })
}
