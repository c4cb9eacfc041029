//! One slot: the word that says which handle is live in it, and the cell with the address of its value.
//!
//! ```text
//!  63          52 51 50 49                                 0
//! │ pool tag     │ 0  0 │ generation and place             │   live: the handle
//! │ 0            │ 0  0 │ next generation, and place       │   not live: the key of the slot's next entry
//! │ 0            │ 0  1 │ 0                        place   │   exhausted: what follows the last key
//! ```
//!
//! The tag of a pool is never 0, so only a live slot's word can be equal to a handle.

use super::value::{IntoSlot, drop_or_recycle, free_recycled};
use crate::sync::UnsafeCell;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Without the type of its values, which the pool knows.
pub(super) struct Slot {
    word: AtomicU64,
    /// While the slot is live, removed, deferred or ready: the address inside an `Arc`, of which the slot owns one
    /// reference. While it is vacant: null, or a recycled allocation, which the next value is written to.
    value: UnsafeCell<*const ()>,
}

impl Default for Slot {
    fn default() -> Self {
        Self { word: AtomicU64::new(0), value: UnsafeCell::new(std::ptr::null()) }
    }
}

impl Slot {
    /// Stores `value` and makes the slot live under `handle`.
    ///
    /// # Safety
    ///
    /// 1. The slot is vacant and the caller owns it (I5), so that no thread reads its cell (I3).
    /// 2. Its values are of type `T`.
    #[inline]
    pub(super) unsafe fn publish<T>(&self, value: impl IntoSlot<T>, handle: u64) {
        // SAFETY: no other thread reads or writes the cell (1), and an address in it was recycled from a `T` (2).
        self.value.with_mut(|cell| unsafe { *cell = value.into_slot((*cell).cast()).cast() });
        // Release: pairs with the Acquire in `read` and `retire`. A thread that sees the handle sees the value.
        self.word.store(handle, Ordering::Release);
    }

    /// The value's address if `handle` is live in the slot. The value lives (I1) until the caller's guard is dropped
    /// (I3), which the caller pinned before the call.
    #[inline]
    pub(super) fn read(&self, handle: u64) -> Option<*const ()> {
        // Acquire: pairs with the Release in `publish`.
        if self.word.load(Ordering::Acquire) != handle {
            return None;
        }
        // SAFETY: no write is concurrent with this read. The next `publish` comes after the grace period of this
        // handle's removal (I3), and the caller has been pinned since before that removal.
        let value = self.value.with(|cell| unsafe { *cell });
        // SAFETY: a live slot's value is the address inside an `Arc` (I1), which is not null.
        unsafe { std::hint::assert_unchecked(!value.is_null()) };
        Some(value)
    }

    /// Whether `handle` is live in the slot.
    #[inline]
    pub(super) fn is_live(&self, handle: u64) -> bool {
        // Acquire: what this thread does next comes after the insertion that it has seen.
        self.word.load(Ordering::Acquire) == handle
    }

    /// The handle that is live in the slot of a pool with this tag, and its value as [`read`](Self::read) gives it.
    pub(super) fn read_live(&self, tag: u64) -> Option<(u64, *const ())> {
        // Relaxed: `read` loads the word again.
        let word = self.word.load(Ordering::Relaxed);
        if word & tag_mask() != tag {
            return None;
        }
        self.read(word).map(|value| (word, value))
    }

    /// Replaces `handle` in the word by `next`, the key of the slot's next entry. Of several calls with one handle, one
    /// succeeds and gets the value's address (I2).
    #[inline]
    pub(super) fn retire(&self, handle: u64, next: u64) -> Option<*const ()> {
        // Acquire: pairs with the Release in `publish`, for the value. Release: a thread that sees the entry removed
        // sees what this thread did before. Relaxed on failure: the caller reads nothing then.
        self.word.compare_exchange(handle, next, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        // Checked only now: a forged handle may have any generation, and so any `next`.
        debug_assert_eq!(next & tag_mask(), 0);
        // SAFETY: the next write comes after this removal's grace period (I3), which the caller has yet to begin.
        Some(self.value.with(|cell| unsafe { *cell }))
    }

    /// Drops the slot's reference to its value. A panic of the value's destructor is caught here.
    ///
    /// # Safety
    ///
    /// 1. The caller owns the slot (I5): the grace period of its removal is over, or the pool is being dropped.
    /// 2. Its values are of type `T`, and this one was not released before.
    pub(super) unsafe fn release<T>(&self) {
        // SAFETY: the address came from `into_slot` for a `T` (2), and the slot owns its reference (I1).
        let recycled = unsafe { drop_or_recycle(self.value.with(|cell| *cell).cast::<T>()) };
        // SAFETY: the caller owns the slot (1). The destructor, which ran in between, had no access to it.
        self.value.with_mut(|cell| unsafe { *cell = recycled.cast() });
    }

    /// Frees the recycled allocation, if there is one.
    ///
    /// # Safety
    ///
    /// 1. The caller owns the slot (I5), which has no value.
    /// 2. Its values were of type `T`.
    pub(super) unsafe fn free_recycled<T>(&self) {
        // SAFETY: no other thread uses the cell (1), and an address in it was recycled from a `T` (2).
        self.value.with_mut(|cell| unsafe {
            free_recycled(std::mem::replace(&mut *cell, std::ptr::null()).cast::<T>());
        });
    }

    /// The word of a slot that is not live and that the caller owns (I5).
    #[inline]
    pub(super) fn vacant_word(&self) -> u64 {
        // Relaxed: the transfer of the slot to the caller ordered it.
        self.word.load(Ordering::Relaxed)
    }

    /// Writes the word of a slot that is not live and that the caller owns (I5).
    #[inline]
    pub(super) fn set_vacant_word(&self, word: u64) {
        debug_assert_eq!(word & tag_mask(), 0);
        // Relaxed: the transfer of the slot to its next owner orders it.
        self.word.store(word, Ordering::Relaxed);
    }
}

const fn tag_mask() -> u64 {
    !crate::handle::KEY_MASK
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::super::layout::{KeyLayout, Standard};
    use super::*;

    /// The three rows of the drawing.
    #[test]
    fn a_word_without_a_tag_equals_no_handle() {
        let last = (1 << 50) - 1;
        assert_eq!(tag_mask(), 0xFFF << 52);
        assert_eq!(KeyLayout::<Standard>::first_key(3, 5) & tag_mask(), 0);
        assert_eq!(KeyLayout::<Standard>::next_key(last), 1 << 50 | 0xFF_FFFF, "the place stays below bit 50");
    }
}
