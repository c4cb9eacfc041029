//! How a key divides into generation and place, and the bounds that follow.
//!
//! ```text
//!  63          52 51 50 49             24 23          6 5        0
//! │ pool tag     │ 0  0 │ generation     │ chunk       │ slot     │   a handle in the standard layout
//!   12             2      26               18            6
//!                       └─ END           └─ PLACE_BITS └─ SLOT_BITS
//! ```
//!
//! The *place* is chunk and slot: where a slot is, independent of the entry in it.

use std::marker::PhantomData;

use crate::handle::{KEY_BITS, TAG_BITS};

/// Slots of a chunk: one bit each in a mark word. A model has few, since loom's atomics take long to make.
pub(super) const SLOTS: usize = if cfg!(any(loom, shuttle)) { 2 } else { 64 };

/// The division of a key. A [`Pool`](super::Pool) has the [`Standard`] one; models and tests use small ones to reach
/// every bound.
pub trait Layout: Send + Sync + 'static {
    /// Slots used of each chunk, as a power of two: at most 64.
    const SLOT_BITS: u32;
    /// Chunks at a time.
    const CHUNKS: usize;
    /// Bits of the generation: a slot serves `1 << GENERATION_BITS` entries.
    const GENERATION_BITS: u32;
}

/// 262,144 chunks of 64 slots, 67,108,864 generations of each slot. Under loom 4 chunks of 2 slots.
#[derive(Debug, Clone, Copy)]
pub struct Standard;

impl Layout for Standard {
    const SLOT_BITS: u32 = SLOTS.trailing_zeros();
    const CHUNKS: usize = if cfg!(any(loom, shuttle)) { 4 } else { 1 << 18 };
    const GENERATION_BITS: u32 = 26;
}

/// Three chunks of two slots of 8 generations each.
pub type Tiny = TinyWith<1, 3>;

/// [`Tiny`] with another number of slots and chunks.
#[derive(Debug, Clone, Copy)]
pub struct TinyWith<const SLOT_BITS: u32, const CHUNKS: usize>;

impl<const SLOT_BITS: u32, const CHUNKS: usize> TinyWith<SLOT_BITS, CHUNKS> {
    /// The difference between a handle and the next one at its place: what an attacker would add.
    pub const GENERATION: u64 = 1 << KeyLayout::<Self>::PLACE_BITS;
}

impl<const SLOT_BITS: u32, const CHUNKS: usize> Layout for TinyWith<SLOT_BITS, CHUNKS> {
    const SLOT_BITS: u32 = SLOT_BITS;
    const CHUNKS: usize = CHUNKS;
    const GENERATION_BITS: u32 = 3;
}

/// Bit offsets derived from a [`Layout`].
pub(super) struct KeyLayout<L>(PhantomData<L>);

impl<L: Layout> KeyLayout<L> {
    const CHUNK_BITS: u32 = L::CHUNKS.next_power_of_two().trailing_zeros();
    /// Where the generation begins.
    pub(super) const PLACE_BITS: u32 = L::SLOT_BITS + Self::CHUNK_BITS;
    const PLACE_MASK: u64 = (1 << Self::PLACE_BITS) - 1;
    /// Where the generation ends, and so every key.
    const END: u32 = Self::PLACE_BITS + L::GENERATION_BITS;
    /// Entries of the directory: every chunk number that the bits of a place can name.
    pub(super) const DIRECTORY: usize = 1 << Self::CHUNK_BITS;
    /// The marks of all slots of a chunk.
    pub(super) const ALL_SLOTS: u64 = u64::MAX >> (64 - (1 << L::SLOT_BITS));

    /// Checks that (1) a key leaves bits 50 and 51 free, which a guest table uses, (2) each slot of a chunk has a bit
    /// in a mark word, and (3) a stack can tell all chunks apart.
    pub(super) const FITS: () = {
        assert!(usize::BITS == u64::BITS);
        assert!(Self::END + 2 + TAG_BITS <= u64::BITS && Self::END + 2 <= KEY_BITS);
        assert!(1 << L::SLOT_BITS <= SLOTS && SLOTS <= 64);
        assert!(L::CHUNKS as u64 <= super::stack::INDEX_MASK);
    };

    /// The number of the chunk, below [`DIRECTORY`](Self::DIRECTORY), and of the slot in it, below [`SLOTS`]. Total:
    /// every `u64` has a place.
    #[inline]
    pub(super) const fn chunk_and_slot(key: u64) -> (usize, usize) {
        let place = key & Self::PLACE_MASK;
        ((place >> L::SLOT_BITS) as usize, (place & ((1 << L::SLOT_BITS) - 1)) as usize)
    }

    /// The key of the first entry at this place.
    #[inline]
    pub(super) const fn first_key(chunk: usize, slot: usize) -> u64 {
        (chunk as u64) << L::SLOT_BITS | slot as u64
    }

    /// The key of the next entry at this place. After the last generation it is a number above every key, for which
    /// [`is_exhausted`](Self::is_exhausted) is true.
    #[inline]
    pub(super) const fn next_key(key: u64) -> u64 {
        key + (1 << Self::PLACE_BITS)
    }

    /// Whether the number follows the last key of a place.
    #[inline]
    pub(super) const fn is_exhausted(key: u64) -> bool {
        key >> Self::END != 0
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    type Std = KeyLayout<Standard>;

    #[test]
    fn the_bits_are_where_the_drawing_has_them() {
        assert_eq!((Standard::SLOT_BITS, Std::CHUNK_BITS, Standard::GENERATION_BITS), (6, 18, 26));
        assert_eq!((Std::PLACE_BITS, Std::END, KEY_BITS), (24, 50, 52));
    }

    #[test]
    fn a_directory_has_an_entry_for_every_chunk_that_a_key_can_name() {
        assert_eq!((Std::ALL_SLOTS, Std::DIRECTORY), (u64::MAX, Standard::CHUNKS));
        assert_eq!(KeyLayout::<Tiny>::ALL_SLOTS, 0b11);
        assert_eq!(KeyLayout::<Tiny>::DIRECTORY, 4, "a key can name chunk 3, which is never made");
    }

    #[test]
    fn a_place_is_a_chunk_and_a_slot() {
        for (chunk, slot) in [(0, 0), (0, 63), (1, 0), ((1 << 18) - 1, 63)] {
            let key = Std::first_key(chunk, slot);
            assert_eq!(Std::chunk_and_slot(key), (chunk, slot));
            assert_eq!(Std::chunk_and_slot(Std::next_key(key)), (chunk, slot));
        }
        assert_eq!(Std::chunk_and_slot(u64::MAX), ((1 << 18) - 1, 63), "every number has a place");
    }

    #[test]
    fn generations_end_where_their_bits_do() {
        assert_eq!(Std::next_key(5), 5 + (1 << 24));
        let last = (1 << 50) - 1;
        assert!(!Std::is_exhausted(last));
        assert!(Std::is_exhausted(Std::next_key(last)));
        assert_eq!(Std::next_key(last) >> KEY_BITS, 0, "it has no tag, so it is no handle");
    }
}
