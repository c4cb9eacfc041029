//! A value as its slot has it: the address inside an `Arc`; and its memory, which the slot's next value is written to.

use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use crate::sync::Arc;

/// The largest size and alignment of values whose memory is recycled, in bytes. A pool keeps its slots until it is
/// dropped, and with each slot at most this many bytes and the two counts of an `Arc`.
const RECYCLED_BYTES: usize = 64;

/// What an insertion stores: a `T` or an `Arc<T>`.
pub(super) trait IntoSlot<T>: Sized {
    /// The value as one reference of an `Arc`, as [`drop_or_recycle`] takes it.
    ///
    /// # Safety
    ///
    /// `recycled` is null, or
    ///
    /// 1. it came from [`drop_or_recycle`] for a `T`, and
    /// 2. it was not used since.
    unsafe fn into_slot(self, recycled: *const T) -> *const T;
}

impl<T> IntoSlot<T> for T {
    #[inline]
    unsafe fn into_slot(self, recycled: *const T) -> *const T {
        if recycled.is_null() {
            return Arc::into_raw(Arc::new(self));
        }
        // SAFETY: the memory of a dropped `T`, in an `Arc` with one reference (1), which no one else uses (2).
        unsafe { recycled.cast_mut().write(self) };
        recycled
    }
}

impl<T> IntoSlot<T> for Arc<T> {
    #[inline]
    unsafe fn into_slot(self, recycled: *const T) -> *const T {
        // SAFETY: the caller's promise is the one that is required here.
        unsafe { free_recycled(recycled) };
        Self::into_raw(self)
    }
}

/// A new reference to a slot's value.
///
/// # Safety
///
/// 1. `value` came from [`IntoSlot::into_slot`].
/// 2. A reference to it is alive during the call.
#[inline]
pub(super) unsafe fn clone_arc<T>(value: *const T) -> Arc<T> {
    // SAFETY: from `Arc::into_raw` (1), with a count of at least one (2).
    unsafe {
        Arc::increment_strong_count(value);
        Arc::from_raw(value)
    }
}

/// Drops a reference. If it was the last one and the value is small, its memory is kept and returned; otherwise null.
///
/// A panic of the value's destructor is caught here: the thread that collects is seldom the one that removed the
/// value, and has more to release.
///
/// # Safety
///
/// 1. `value` came from [`IntoSlot::into_slot`].
/// 2. The caller owns its reference.
pub(super) unsafe fn drop_or_recycle<T>(value: *const T) -> *const T {
    // SAFETY: from `Arc::into_raw` (1), with a reference that the caller owns (2).
    let mut value = unsafe { Arc::from_raw(value) };
    if size_of::<T>().max(align_of::<T>()) > RECYCLED_BYTES || Arc::get_mut(&mut value).is_none() {
        catch_and_discard(|| drop(value));
        return ptr::null();
    }
    let recycled = Arc::into_raw(value);
    // SAFETY: `get_mut` found no other reference, strong or weak, so the value is ours to drop, once.
    catch_and_discard(|| unsafe { ptr::drop_in_place(recycled.cast_mut()) });
    recycled
}

/// Frees a recycled allocation, if there is one.
///
/// # Safety
///
/// As [`IntoSlot::into_slot`].
pub(super) unsafe fn free_recycled<T>(recycled: *const T) {
    if !recycled.is_null() {
        // SAFETY: from `Arc::into_raw` (1), freed once (2), with the same size and alignment; the value was dropped.
        drop(unsafe { Arc::from_raw(recycled.cast::<MaybeUninit<T>>()) });
    }
}

fn catch_and_discard(destroy: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(destroy))
        // The payload has a destructor too, which may panic. A payload of that second panic is leaked.
        && let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload)))
    {
        std::mem::forget(payload);
    }
}
