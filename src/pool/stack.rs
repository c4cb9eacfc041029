//! Lock-free stacks of chunks, one for each state of slots: vacant, removed, and ready to be released.
//!
//! Each chunk has a mark word for each state, one bit for each slot, and is on the state's stack while the word is not
//! 0. [`ChunkStack::mark`] sets bits, and pushes the chunk if the word was 0. [`ChunkStack::take`] pops a chunk, and
//! takes all of its marks. (Treiber, *Systems programming: coping with parallelism*, 1986.)
//!
//! ```text
//!  63                                 24 23          0
//! │ pushes so far, the ABA counter      │ top + 1     │   ChunkStack::head; `top + 1` is 0 if the stack is empty
//!   40                                    24 = INDEX_BITS
//!  31        24 23                     0
//! │ 0          │ index below + 1        │                 SlotMarks::next, while the chunk is on the stack
//! ```
//!
//! * **M1.** A mark is taken once, by the swap of one [`ChunkStack::take`].
//! * **M2.** A chunk is on a stack at most once: the `mark` that finds the word 0 pushes it, and only the `take` that
//!   popped the chunk makes the word 0 again.

#[cfg(all(test, loom))]
mod models;

use crossbeam_utils::CachePadded;

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const INDEX_BITS: u32 = 24;

/// The bits of `head` with the top's index plus one; and how many chunks a stack can tell apart.
pub(super) const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

/// A chunk's marks for one state.
pub(super) struct SlotMarks {
    word: AtomicU64,
    next: AtomicU32,
}

impl Default for SlotMarks {
    fn default() -> Self {
        Self { word: AtomicU64::new(0), next: AtomicU32::new(0) }
    }
}

impl SlotMarks {
    /// The marks, for the pool's drop, which no other thread's use is concurrent with.
    pub(super) fn peek(&self) -> u64 {
        self.word.load(Ordering::Relaxed)
    }
}

/// The chunks that have slots in one state.
pub(super) struct ChunkStack {
    /// The ABA counter repeats after 2^40 pushes: 12 days at a million pushes a second.
    head: CachePadded<AtomicU64>,
}

impl Default for ChunkStack {
    fn default() -> Self {
        Self { head: CachePadded::new(AtomicU64::new(0)) }
    }
}

impl ChunkStack {
    /// Marks slots of the chunk `index`, and pushes the chunk if it had no marks. `true` if it did. The caller owned
    /// the slots; from here on the thread that takes the marks does (I5).
    #[inline]
    pub(super) fn mark<'a>(&self, index: usize, slots: u64, marks: impl Fn(usize) -> &'a SlotMarks) -> bool {
        let own = marks(index);
        // Release: pairs with the Acquire of the swap in `take`.
        if own.word.fetch_or(slots, Ordering::Release) != 0 {
            return false;
        }
        self.push(index, own);
        true
    }

    #[cold]
    fn push(&self, index: usize, marks: &SlotMarks) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            marks.next.store((head & INDEX_MASK) as u32, Ordering::Relaxed);
            let pushes = (head >> INDEX_BITS) + 1;
            let new = pushes << INDEX_BITS | (index as u64 + 1);
            // Release: pairs with the Acquire in `take`, for `next`.
            match self.head.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Pops the top chunk, and takes all of its marks: their slots belong to the caller (I5). `marks` gives `None` for
    /// a number that has no chunk any more.
    pub(super) fn take<'a>(&self, marks: impl Fn(usize) -> Option<&'a SlotMarks>) -> Option<(usize, u64)> {
        // Acquire: pairs with the Release in `push`, for `next`.
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let index = (head & INDEX_MASK).checked_sub(1)? as usize;
            let Some(own) = marks(index) else {
                // The chunk was popped since the load, and then lost its number. `head` has changed before that.
                head = self.head.load(Ordering::Acquire);
                continue;
            };
            // The chunk may have been popped and pushed again since the load, with another `next`. Then the ABA
            // counter has changed too, and the compare-exchange fails.
            let next = own.next.load(Ordering::Relaxed);
            let new = head & !INDEX_MASK | u64::from(next);
            // Release: a thread that finds this head sees the pushes below it. Acquire: as above.
            match self.head.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Acquire) {
                // Acquire: pairs with the Release in `mark`.
                Ok(_) => return Some((index, own.word.swap(0, Ordering::Acquire))),
                Err(now) => head = now,
            }
        }
    }

    /// Whether the stack was empty at the moment of the load.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Acquire) & INDEX_MASK == 0
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_where_the_drawing_has_them() {
        let marks: [SlotMarks; 8] = Default::default();
        let stack = ChunkStack::default();
        assert!(stack.mark(7, 0b10, |index| &marks[index]));
        assert!(stack.mark(4, 0b01, |index| &marks[index]));
        assert_eq!(stack.head.load(Ordering::Relaxed), 2 << 24 | 5);
        assert_eq!(marks[4].next.load(Ordering::Relaxed), 8);
        assert_eq!(stack.take(|index| Some(&marks[index])), Some((4, 0b01)));
        assert_eq!(stack.head.load(Ordering::Relaxed), 2 << 24 | 8, "a pop leaves the counter");
    }
}
