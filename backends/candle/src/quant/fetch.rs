//! Memory that is brought into a processor's first cache before it is read.

/// The bytes that a cache takes in at once.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

/// Begins to bring elements into the first cache. Nothing waits for them, and nothing else happens. Without an effect on
/// processors other than x86-64.
#[inline(always)]
pub(crate) fn fetch<T>(elements: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in elements.chunks(const { CACHE_LINE / size_of::<T>() }) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: all x86-64 have the instruction, which has no effect but that on the cache, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = elements;
}
