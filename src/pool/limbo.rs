//! Removed entries that wait to be deferred together: a stack of slots, linked through their own words.
//!
//! A removal costs one compare-exchange here, and a grace period is asked for once for a whole batch. The word of a
//! retired slot has no tag; it keeps the generation of the key that was live there, for the slab, and below it
//! the place of the next slot down the stack. The head is the place of the top slot, and above it how many there
//! are: that count, not the bottom slot's link, says where a chain ends.

use super::layout::{Layout, Shape};
use super::slot::Slot;
use crate::sync::atomic::{AtomicU64, Ordering};

#[derive(Default)]
pub(super) struct Limbo {
    head: AtomicU64,
    /// Removals that have left the stack for a grace period.
    sealed: AtomicU64,
    /// Removals whose entries have gone back to the slab.
    reclaimed: AtomicU64,
}

/// Retired slots, each in this chain alone (I5): `count` above the first one's place. 0 is an empty chain.
#[derive(Clone, Copy)]
pub(super) struct Chain(u64);

impl Chain {
    const EMPTY: Self = Self(0);

    fn new<L: Layout>(count: u64, first: u64) -> Self {
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

    /// The word of a slot that held `key` and comes on top of this chain.
    #[inline]
    pub(super) fn link<L: Layout>(self, key: u64) -> u64 {
        Shape::<L>::generation_bits(key) | self.first::<L>()
    }
}

impl Limbo {
    /// What is on the stack now, to link the first slot to.
    #[inline]
    pub(super) fn top(&self) -> Chain {
        // Relaxed: only a guess, which `push` checks.
        Chain(self.head.load(Ordering::Relaxed))
    }

    /// Puts the slots from `first` down to `last`, `count` of them, on the stack, and says how many are there now.
    ///
    /// `last` is linked to `top` by its word already, and is the sole access to it the caller's.
    #[inline]
    pub(super) fn push<T, L: Layout>(&self, first: u64, last: &Slot<T>, count: u64, mut top: Chain) -> u64 {
        loop {
            let total = top.count::<L>() + count;
            // Release: pairs with the Acquire in `seal`; whoever takes the chain sees its words, and that this
            // thread is done with the values' cells.
            let new = Chain::new::<L>(total, first);
            match self.head.compare_exchange_weak(top.0, new.0, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return total,
                Err(now) => {
                    top = Chain(now);
                    last.set_retired_word(top.link::<L>(last.retired_word()));
                }
            }
        }
    }

    /// Takes the whole stack.
    pub(super) fn seal<L: Layout>(&self) -> Option<Chain> {
        // Acquire: pairs with every Release in `push` that built the stack, through the head's release sequence.
        let chain = Chain(self.head.swap(Chain::EMPTY.0, Ordering::Acquire));
        let count = chain.count::<L>();
        self.sealed.fetch_add(count, Ordering::Relaxed);
        (count > 0).then_some(chain)
    }

    /// A sealed chain has come back unreleased, and is pushed again.
    pub(super) fn unseal(&self, count: u64) {
        self.sealed.fetch_sub(count, Ordering::Relaxed);
    }

    pub(super) fn add_reclaimed(&self, count: u64) {
        self.reclaimed.fetch_add(count, Ordering::Relaxed);
    }

    /// Removals so far, and how many of their entries have gone back to the slab. The second is read first, so that
    /// it is never the larger of the two.
    pub(super) fn counts<L: Layout>(&self) -> (u64, u64) {
        let reclaimed = self.reclaimed.load(Ordering::Relaxed);
        (self.sealed.load(Ordering::Relaxed) + self.top().count::<L>(), reclaimed)
    }
}
