//! How a key divides into generation and place, and the bounds that follow.
//!
//! ```text
//!  63        52 51 50 49            24 23         6 5        0
//! │ pool tag   │ 0    │ generation     │ chunk      │ slot     │   a handle of the standard layout
//!   12           2      26               18           6
//! ```
//!
//! The lower bits of a key, chunk and slot, are a *place*: where a slot is, whatever it holds.

use std::marker::PhantomData;

use crate::handle::{KEY_BITS, TAG_BITS};

/// Slots of a chunk: one bit each in a word of marks. loom's atomics take time to make.
pub(super) const SLOTS: usize = if cfg!(any(loom, shuttle)) { 2 } else { 64 };

/// The division of a handle's lower bits.
///
/// [`Standard`] is the one to use; the others exist for models and tests that must reach a bound.
pub trait Layout: Send + Sync + 'static {
    /// Slots used of each chunk, as a power of two: at most 64.
    const SLOT_BITS: u32;
    /// Chunks.
    const CHUNKS: usize;
    /// Bits of the generation: a slot serves as many entries as they can count.
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

/// Three chunks of two slots of 8 generations each, for models and for tests that use a slot up.
#[doc(hidden)]
pub type Tiny = TinyWith<1, 3>;

/// [`Tiny`] with another number of slots and chunks.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct TinyWith<const SLOT_BITS: u32, const CHUNKS: usize>;

impl<const SLOT_BITS: u32, const CHUNKS: usize> TinyWith<SLOT_BITS, CHUNKS> {
    /// What a handle and the next one at its place differ by: what an attacker would add.
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
    /// Where a key ends.
    const END: u32 = Self::PLACE_BITS + L::GENERATION_BITS;
    /// Entries of the directory: every chunk number that the bits of a place can name.
    pub(super) const DIRECTORY: usize = 1 << Self::CHUNK_BITS;
    /// The marks of a chunk's slots.
    pub(super) const ALL_SLOTS: u64 = u64::MAX >> (64 - (1 << L::SLOT_BITS));

    /// That a key leaves the bits free that the tag and the guest table take, and that a slot has its bit.
    pub(super) const FITS: () = {
        assert!(usize::BITS == u64::BITS);
        assert!(Self::END + 2 + TAG_BITS <= u64::BITS && Self::END + 2 <= KEY_BITS);
        assert!(1 << L::SLOT_BITS <= SLOTS && SLOTS <= 64);
        assert!(L::CHUNKS as u64 <= super::stack::MOST_INDEXES);
    };

    /// The number of the chunk, below [`DIRECTORY`](Self::DIRECTORY), and of the slot in it, below [`SLOTS`].
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

    /// The key of the next entry at this place; after the last entry a number that [`is_used_up`](Self::is_used_up).
    #[inline]
    pub(super) const fn next_key(key: u64) -> u64 {
        key + (1 << Self::PLACE_BITS)
    }

    /// Whether this is what follows the last key of a place.
    #[inline]
    pub(super) const fn is_used_up(key: u64) -> bool {
        key >> Self::END != 0
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    type Std = KeyLayout<Standard>;

    #[test]
    fn the_standard_layout_has_two_to_the_fifty_keys() {
        assert_eq!((Std::PLACE_BITS, Std::CHUNK_BITS, Std::END), (24, 18, 50));
        assert_eq!((Std::ALL_SLOTS, Std::DIRECTORY), (u64::MAX, Standard::CHUNKS));
        assert_eq!(KeyLayout::<Tiny>::ALL_SLOTS, 0b11);
        assert_eq!(KeyLayout::<Tiny>::DIRECTORY, 4, "a handle can name chunk 3, which is never there");
    }

    #[test]
    fn a_place_is_a_chunk_and_a_slot() {
        for (chunk, slot) in [(0, 0), (0, 63), (1, 0), ((1 << 18) - 1, 63)] {
            let key = Std::first_key(chunk, slot);
            assert_eq!(Std::chunk_and_slot(key), (chunk, slot));
            assert_eq!(Std::chunk_and_slot(Std::next_key(key)), (chunk, slot));
        }
        assert_eq!(Std::chunk_and_slot(u64::MAX), ((1 << 18) - 1, 63), "every number is a place");
    }

    #[test]
    fn generations_end_where_their_bits_do() {
        assert_eq!(Std::next_key(5), 5 + (1 << 24));
        let last = (1 << 50) - 1;
        assert!(!Std::is_used_up(last));
        assert!(Std::is_used_up(Std::next_key(last)));
        assert_eq!(Std::next_key(last) >> KEY_BITS, 0, "which is no handle");
    }
}
