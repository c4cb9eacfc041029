//! Chunks that have slots of one kind: vacant, removed, or ready to be released.
//!
//! Each chunk has a word of marks for each kind, one bit a slot, and is on the kind's list exactly while the word is
//! not 0 (or about to be, in the steps between). Whoever marks the first slot of a chunk lists it; whoever takes a
//! chunk off the list takes all of its marks. (A lock-free stack: Treiber, *Systems programming: coping with
//! parallelism*, 1986.)
//!
//! * **M1.** A mark is taken once, by the swap of one [`List::take`].
//! * **M2.** A chunk is on a list at most once: it is pushed by the one mark that found the word 0, and the word
//!   becomes 0 only by the one take that popped the chunk.

#[cfg(all(test, loom))]
mod models;

use crossbeam_utils::CachePadded;

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const INDEX_BITS: u32 = 24;

/// Chunks that a list can tell apart.
pub(super) const MOST_INDEXES: u64 = (1 << INDEX_BITS) - 1;

/// A chunk's marks of one kind.
pub(super) struct Marks {
    word: AtomicU64,
    /// While the chunk is listed: the next chunk of the list and one, or 0.
    next: AtomicU32,
}

impl Default for Marks {
    fn default() -> Self {
        Self { word: AtomicU64::new(0), next: AtomicU32::new(0) }
    }
}

impl Marks {
    /// The marks, for whoever owns the pool alone.
    pub(super) fn peek(&self) -> u64 {
        self.word.load(Ordering::Relaxed)
    }
}

/// The chunks that have marks of one kind, the last listed first.
pub(super) struct List {
    /// The first chunk and one, or 0, in the lower 24 bits. Above them a count of pushes, which tells one visit of a
    /// chunk at the top from the next: it comes back after 2^40 pushes, of which a million a second take twelve days.
    head: CachePadded<AtomicU64>,
}

impl Default for List {
    fn default() -> Self {
        Self { head: CachePadded::new(AtomicU64::new(0)) }
    }
}

impl List {
    /// Marks slots of the chunk `index`, and says whether they are its first, so that the chunk was listed. The slots
    /// pass to whoever takes the marks, with all that this thread did to them.
    #[inline]
    pub(super) fn mark<'a>(&self, index: usize, slots: u64, marks: impl Fn(usize) -> &'a Marks) -> bool {
        let own = marks(index);
        // Release: pairs with the Acquire of the swap in `take`.
        if own.word.fetch_or(slots, Ordering::Release) != 0 {
            return false;
        }
        self.push(index, own);
        true
    }

    #[cold]
    fn push(&self, index: usize, marks: &Marks) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            marks.next.store((head & MOST_INDEXES) as u32, Ordering::Relaxed);
            let pushes = (head >> INDEX_BITS) + 1;
            let new = pushes << INDEX_BITS | (index as u64 + 1);
            // Release: pairs with the Acquire in `take`, for `next`.
            match self.head.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Takes the chunk at the top off the list, and its marks. `marks` has none for a chunk that is gone.
    pub(super) fn take<'a>(&self, marks: impl Fn(usize) -> Option<&'a Marks>) -> Option<(usize, u64)> {
        // Acquire: pairs with the Release in `push`, for `next`.
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let index = (head & MOST_INDEXES).checked_sub(1)? as usize;
            let Some(own) = marks(index) else {
                // Taken since the look, and gone after that: what says so comes after a later head.
                head = self.head.load(Ordering::Acquire);
                continue;
            };
            // The chunk may have been taken and listed again meanwhile, so that this is another list's end: then the
            // count of pushes is another too, and the exchange fails.
            let next = own.next.load(Ordering::Relaxed);
            let new = head & !MOST_INDEXES | u64::from(next);
            // Release: keeps the pushes of others visible to whoever finds this head. Acquire: as above.
            match self.head.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Acquire) {
                // Acquire: pairs with the Release in `mark`.
                Ok(_) => return Some((index, own.word.swap(0, Ordering::Acquire))),
                Err(now) => head = now,
            }
        }
    }

    /// Whether no chunk was listed, at the moment of the look.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Acquire) & MOST_INDEXES == 0
    }
}
