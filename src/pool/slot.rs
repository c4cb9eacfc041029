//! One slot: which handle is live in it, and where its value is.

use super::value::{Value, drop_or_recycle, free_recycled};
use crate::sync::UnsafeCell;
use crate::sync::atomic::{AtomicU64, Ordering};

/// The pool knows what type its values are of; a slot doesn't.
pub(super) struct Slot {
    /// The live handle. Otherwise a word without a tag, which no handle equals: the key of the slot's next entry, or,
    /// after the last, a number above any key.
    word: AtomicU64,
    /// The live value's address, of an `Arc` that the slot owns. Once it is released, null or a recycled allocation:
    /// the address where the next value may be written.
    value: UnsafeCell<*const ()>,
}

impl Default for Slot {
    fn default() -> Self {
        Self { word: AtomicU64::new(0), value: UnsafeCell::new(std::ptr::null()) }
    }
}

impl Slot {
    /// Makes `value` what `handle` resolves to.
    ///
    /// # Safety
    ///
    /// 1. The slot is vacant and the caller's alone, so that nobody reads `value` (I3, I5).
    /// 2. Its values are of type `T`.
    #[inline]
    pub(super) unsafe fn publish<T>(&self, value: impl Value<T>, handle: u64) {
        // SAFETY: nobody else reads or writes the cell (1), and what is in it was recycled from a `T` (2).
        self.value.with_mut(|cell| unsafe { *cell = value.into_slot((*cell).cast()).cast() });
        // Release: pairs with the Acquire in `read`, `live` and `retire`; whoever sees the handle sees the value.
        self.word.store(handle, Ordering::Release);
    }

    /// The value of `handle`, if it is live.
    ///
    /// The address is that of a live value (I1) and stays so while a guard is held that was pinned before the
    /// call (I3).
    #[inline]
    pub(super) fn read(&self, handle: u64) -> Option<*const ()> {
        // Acquire: pairs with the Release in `publish`.
        if self.word.load(Ordering::Acquire) != handle {
            return None;
        }
        // SAFETY: no write can meet this read. The next `publish` comes after the grace period of this handle's
        // removal (I3), and the caller is pinned since before it.
        let value = self.value.with(|cell| unsafe { *cell });
        // SAFETY: of an `Arc` (I1).
        unsafe { std::hint::assert_unchecked(!value.is_null()) };
        Some(value)
    }

    /// Whether `handle` is live.
    #[inline]
    pub(super) fn holds(&self, handle: u64) -> bool {
        // Acquire: so that what this thread does next comes after the insertion that it was told of.
        self.word.load(Ordering::Acquire) == handle
    }

    /// The handle that is live here and its value, as [`read`](Self::read) gives it.
    pub(super) fn live(&self, tag: u64) -> Option<(u64, *const ())> {
        // Relaxed: `read` loads it again.
        let word = self.word.load(Ordering::Relaxed);
        if word & tag_mask() != tag {
            return None;
        }
        self.read(word).map(|value| (word, value))
    }

    /// Takes `handle` out and leaves `next` in its place, which has no tag where the handle is live: the value's address
    /// to the one caller that does (I2).
    #[inline]
    pub(super) fn retire(&self, handle: u64, next: u64) -> Option<*const ()> {
        // Acquire: pairs with the Release in `publish`, for the value. Release: what this thread did before comes
        // before what a thread does that sees the entry gone. A failure reads nothing.
        self.word.compare_exchange(handle, next, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        // Not before: a handle that is made up may have any number above the place.
        debug_assert_eq!(next & tag_mask(), 0);
        // SAFETY: the next write waits for this removal's release (I3), which its winner has yet to ask for.
        Some(self.value.with(|cell| unsafe { *cell }))
    }

    /// Drops the slot's reference to the value of a removed entry whose grace period is over, or of a pool that is
    /// being dropped. A panic of the value's destructor is caught.
    ///
    /// # Safety
    ///
    /// 1. The slot is the caller's alone (I5).
    /// 2. Its value is of type `T`, and was not released since it was published.
    pub(super) unsafe fn release<T>(&self) {
        // SAFETY: the reference is the slot's own (I1) and of a `T` (2).
        let recycled = unsafe { drop_or_recycle(self.value.with(|cell| *cell).cast::<T>()) };
        // SAFETY: ours (1), as before: the destructor that ran meanwhile can't have come by the slot.
        self.value.with_mut(|cell| unsafe { *cell = recycled.cast() });
    }

    /// Frees what is kept for the next value.
    ///
    /// # Safety
    ///
    /// 1. The slot is the caller's alone (I5), and has no value.
    /// 2. Its values were of type `T`.
    pub(super) unsafe fn free_recycled<T>(&self) {
        // SAFETY: the caller's promise.
        self.value.with_mut(|cell| unsafe {
            free_recycled(std::mem::replace(&mut *cell, std::ptr::null()).cast::<T>());
        });
    }

    /// The word of a slot that isn't live and is the caller's alone (I5).
    #[inline]
    pub(super) fn vacant_word(&self) -> u64 {
        // Relaxed: ordered by how the slot came to the caller.
        self.word.load(Ordering::Relaxed)
    }

    /// As [`vacant_word`](Self::vacant_word), to write.
    #[inline]
    pub(super) fn set_vacant_word(&self, word: u64) {
        debug_assert_eq!(word & tag_mask(), 0);
        // Relaxed: ordered by how the slot goes on from here.
        self.word.store(word, Ordering::Relaxed);
    }
}

const fn tag_mask() -> u64 {
    !crate::handle::KEY_MASK
}
