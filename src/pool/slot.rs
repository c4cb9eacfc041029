//! One entry of the directory: which handle is live at a place, and where its value is.

use super::value::{Value, drop_spare, let_go};
use crate::sync::UnsafeCell;
use crate::sync::atomic::{AtomicU64, Ordering};

pub(super) struct Slot<T> {
    /// The live handle. Otherwise a word without a tag, which no handle equals: 0 at first, after a removal the
    /// generation, and where the slot is in a [chain](super::chain) the next one's place.
    word: AtomicU64,
    /// The live value's address, of an `Arc` that the slot owns. Once it is let go of, null or a spare: the address where
    /// the next value may be written.
    value: UnsafeCell<*const T>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { word: AtomicU64::new(0), value: UnsafeCell::new(std::ptr::null()) }
    }
}

impl<T> Slot<T> {
    /// Makes `value` what `handle` resolves to.
    ///
    /// # Safety
    ///
    /// The slot is vacant and the caller's alone, so that nobody reads `value` (I3, I5).
    #[inline]
    pub(super) unsafe fn publish(&self, value: impl Value<T>, handle: u64) {
        // SAFETY: nobody else reads or writes the cell, says the caller, and what is in it is the slot's spare.
        self.value.with_mut(|cell| unsafe { *cell = value.take_in(*cell) });
        // Release: pairs with the Acquire in `read`, `live` and `retire`; whoever sees the handle sees the value.
        self.word.store(handle, Ordering::Release);
    }

    /// The value of `handle`, if it is live.
    ///
    /// The address is that of a live value (I1) and stays so while a guard is held that was pinned before the
    /// call (I3).
    #[inline]
    pub(super) fn read(&self, handle: u64) -> Option<*const T> {
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
    pub(super) fn live(&self, tag: u64) -> Option<(u64, *const T)> {
        // Relaxed: `read` loads it again.
        let word = self.word.load(Ordering::Relaxed);
        if word & tag_mask() != tag {
            return None;
        }
        self.read(word).map(|value| (word, value))
    }

    /// Takes `handle` out and leaves `word`, which has no tag, in its place: the value's address to the one
    /// caller that does (I2).
    #[inline]
    pub(super) fn retire(&self, handle: u64, word: u64) -> Option<*const T> {
        debug_assert_eq!(word & tag_mask(), 0);
        // Acquire: pairs with the Release in `publish`, for the value. Release: pairs with the Acquire of look-ups, so
        // that who finds this entry gone finds those gone that this thread removed before. A failure reads nothing.
        self.word.compare_exchange(handle, word, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        // SAFETY: the next write waits for this removal's release (I3), which its winner has yet to ask for.
        Some(self.value.with(|cell| unsafe { *cell }))
    }

    /// Lets go of the value of a retired slot whose grace period is over, or of a pool that is being dropped. Its
    /// destructor may do anything, but panic any further than this.
    ///
    /// # Safety
    ///
    /// The slot is the caller's alone (I5), and its value was not let go of since it was published.
    pub(super) unsafe fn release(&self) {
        // SAFETY: the caller's promise; the reference is the slot's own (I1).
        let spare = unsafe { let_go(self.value.with(|cell| *cell)) };
        // SAFETY: as before: the destructor that ran meanwhile can't have come by the slot.
        self.value.with_mut(|cell| unsafe { *cell = spare });
    }

    /// Frees what is kept for the next value.
    ///
    /// # Safety
    ///
    /// The slot is the caller's alone (I5), and has no value.
    pub(super) unsafe fn drop_spare(&self) {
        // SAFETY: the caller's promise.
        self.value.with_mut(|cell| unsafe { drop_spare(std::mem::replace(&mut *cell, std::ptr::null())) });
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
