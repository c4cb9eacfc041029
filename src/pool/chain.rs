//! Slots that belong together while none of them is live, linked through their own words.
//!
//! The word of such a slot has no tag. It keeps the slot's generation where a key has it, and below that the place
//! of the next slot of the chain. A chain's count, not its last slot's link, says where it ends.

use super::layout::{Layout, Shape};

/// `count` slots from the place of the `first` on, as one word: count above place. 0 is the empty chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain(pub(super) u64);

impl Chain {
    pub(super) const EMPTY: Self = Self(0);

    #[inline]
    pub(super) fn new<L: Layout>(count: u64, first: u64) -> Self {
        Self(count << Shape::<L>::PLACE_BITS | first)
    }

    #[inline]
    pub(super) fn count<L: Layout>(self) -> u64 {
        self.0 >> Shape::<L>::PLACE_BITS
    }

    #[inline]
    pub(super) fn first<L: Layout>(self) -> u64 {
        Shape::<L>::place(self.0)
    }
}

/// The word of a slot whose generation is that of `key`, and which the slot at `next` follows.
#[inline]
pub(super) fn link<L: Layout>(key: u64, next: u64) -> u64 {
    Shape::<L>::generation_bits(key) | next
}
