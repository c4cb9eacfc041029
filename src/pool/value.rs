//! Values as the slots have them: the address inside an `Arc`, and between two of them the memory of the last.

use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use crate::sync::Arc;

/// The largest value whose memory is kept for the next one, in bytes, and the largest alignment. A pool keeps its slots
/// until it is dropped, and so as much beside each of them at most, and the two counts of the `Arc`.
const RECYCLED_BYTES: usize = 64;

/// What [`Pool::insert`](super::Pool::insert) takes: a `T` or an `Arc<T>`.
#[expect(private_bounds, reason = "nobody else's types")]
pub trait Insert<T>: Value<T> {}

impl<T> Insert<T> for T {}

impl<T> Insert<T> for Arc<T> {}

pub(super) trait Value<T>: Sized {
    /// The value as one reference of an `Arc`, for [`drop_or_recycle`].
    ///
    /// # Safety
    ///
    /// `recycled` came from [`drop_or_recycle`] and wasn't used since, or is null.
    unsafe fn into_slot(self, recycled: *const T) -> *const T;
}

impl<T> Value<T> for T {
    #[inline]
    unsafe fn into_slot(self, recycled: *const T) -> *const T {
        if recycled.is_null() {
            return Arc::into_raw(Arc::new(self));
        }
        // SAFETY: the memory of a value that is gone, in an `Arc` with one reference: the caller's.
        unsafe { recycled.cast_mut().write(self) };
        recycled
    }
}

impl<T> Value<T> for Arc<T> {
    #[inline]
    unsafe fn into_slot(self, recycled: *const T) -> *const T {
        // SAFETY: the caller's promise.
        unsafe { free_recycled(recycled) };
        Self::into_raw(self)
    }
}

/// A reference of the caller's own.
///
/// # Safety
///
/// `value` came from [`Value::into_slot`], and a reference to it is alive during the call.
#[inline]
pub(super) unsafe fn clone_of<T>(value: *const T) -> Arc<T> {
    // SAFETY: the caller's promise.
    unsafe {
        Arc::increment_strong_count(value);
        Arc::from_raw(value)
    }
}

/// Drops a reference, and gives the value's memory where that was the last one and the memory is kept; otherwise null.
///
/// A panic of the value's destructor ends here: whoever collects is rarely the one whom it concerns, and has more to
/// collect.
///
/// # Safety
///
/// `value` came from [`Value::into_slot`], and its reference is the caller's to drop.
pub(super) unsafe fn drop_or_recycle<T>(value: *const T) -> *const T {
    // SAFETY: the caller's promise.
    let mut value = unsafe { Arc::from_raw(value) };
    if size_of::<T>().max(align_of::<T>()) > RECYCLED_BYTES || Arc::get_mut(&mut value).is_none() {
        catch_and_discard(|| drop(value));
        return ptr::null();
    }
    let recycled = Arc::into_raw(value);
    // SAFETY: nobody else has a reference, weak ones included, so the value is ours, and used no more.
    catch_and_discard(|| unsafe { ptr::drop_in_place(recycled.cast_mut()) });
    recycled
}

/// Frees a recycled, if there is one.
///
/// # Safety
///
/// As [`Value::into_slot`].
pub(super) unsafe fn free_recycled<T>(recycled: *const T) {
    if !recycled.is_null() {
        // SAFETY: from `Arc::into_raw`, and of the same size and alignment; the value is gone.
        drop(unsafe { Arc::from_raw(recycled.cast::<MaybeUninit<T>>()) });
    }
}

fn catch_and_discard(destroy: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(destroy))
        // What was thrown has a destructor too, which might panic in its turn; there it ends.
        && let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload)))
    {
        std::mem::forget(payload);
    }
}
