//! Slots that are made together: 64 of them, and what is marked of each.

#[cfg(all(test, loom))]
mod models;

use crossbeam_utils::CachePadded;

use super::layout::{KeyLayout, Layout, SLOTS};
use super::slot::Slot;
use super::stack::Marks;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub(super) struct Chunk {
    slots: [Slot; SLOTS],
    /// Written by insertions, removals and reclamation: on a line of its own, apart from what look-ups read.
    pub(super) marked: CachePadded<Marked>,
}

/// Bits of slots, by what they are.
#[derive(Default)]
pub(super) struct Marked {
    pub(super) vacant: Marks,
    pub(super) removed: Marks,
    pub(super) ready: Marks,
    used_up: AtomicU64,
    /// The key under which the slab owns the chunk, and one; 0 where the pool owns it itself.
    pub(super) slab_key: AtomicUsize,
}

impl Default for Chunk {
    fn default() -> Self {
        Self { slots: std::array::from_fn(|_| Slot::default()), marked: CachePadded::default() }
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

    /// Makes every slot vacant, of generation 0, as the chunk with this number.
    ///
    /// The slots are the caller's alone (I5).
    pub(super) fn number<L: Layout>(&self, number: usize) {
        // Relaxed: ordered by how the slots go on from here.
        self.marked.used_up.store(0, Ordering::Relaxed);
        for (slot, at) in self.slots.iter().zip(0..1 << L::SLOT_BITS) {
            slot.set_vacant_word(KeyLayout::<L>::first_key(number, at));
        }
    }

    /// Marks slots that have served their last generation, and says whether that was the last of the chunk.
    #[cold]
    pub(super) fn use_up<L: Layout>(&self, slots: u64) -> bool {
        // Release and Acquire: whoever marks the last slot owns what the others have marked.
        let before = self.marked.used_up.fetch_or(slots, Ordering::AcqRel);
        (before | slots) == KeyLayout::<L>::ALL_SLOTS
    }
}

/// The numbers of the bits that are set.
pub(super) fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit)
    })
}
