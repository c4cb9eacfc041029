//! Copies between the caller's memory and ours, which other threads may write at the same time.
//!
//! A plain copy of memory that another thread writes is undefined behaviour. Here each access is a relaxed atomic one,
//! of a word where the address allows, so a copy that races sees a mix of old and new bytes and nothing worse.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

const WORD: usize = size_of::<u64>();

/// Copies the bytes at `from` to `to`.
///
/// # Safety
///
/// `from` is valid for reads of the length of `to`. The bytes are initialised. Other threads access them atomically, or
/// are not Rust.
pub(crate) unsafe fn copy_in(from: *const u8, to: &mut [MaybeUninit<u8>]) {
    let (from, words) = (from.cast_mut(), words(from, to.len()));
    for at in (0..words.start).chain(words.end..to.len()) {
        // SAFETY: `at` is less than the length. Relaxed: no other value depends on the byte.
        to[at].write(unsafe { AtomicU8::from_ptr(from.add(at)) }.load(Ordering::Relaxed));
    }
    for (nth, to) in to[words.clone()].chunks_exact_mut(WORD).enumerate() {
        // SAFETY: the word is aligned and within the length. Relaxed: no other value depends on it.
        let word = unsafe { AtomicU64::from_ptr(from.add(words.start + nth * WORD).cast()) }.load(Ordering::Relaxed);
        to.write_copy_of_slice(&word.to_ne_bytes());
    }
}

/// Copies `from` to the bytes at `to`.
///
/// # Safety
///
/// `to` is valid for writes of the length of `from`. Other threads access these bytes atomically, or are not Rust.
pub(crate) unsafe fn copy_out(from: &[u8], to: *mut u8) {
    let words = words(to, from.len());
    for at in (0..words.start).chain(words.end..from.len()) {
        // SAFETY: `at` is less than the length. Relaxed: it publishes nothing else.
        unsafe { AtomicU8::from_ptr(to.add(at)) }.store(from[at], Ordering::Relaxed);
    }
    for (nth, word) in from[words.clone()].as_chunks().0.iter().enumerate() {
        let word = u64::from_ne_bytes(*word);
        // SAFETY: the word is aligned and within the length. Relaxed: it publishes nothing else.
        unsafe { AtomicU64::from_ptr(to.add(words.start + nth * WORD).cast()) }.store(word, Ordering::Relaxed);
    }
}

/// The part of `length` bytes at `start` that is made of aligned words.
fn words(start: *const u8, length: usize) -> Range<usize> {
    let first = start.addr().wrapping_neg() % WORD;
    if first >= length {
        return length..length;
    }
    first..first + (length - first) / WORD * WORD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alignment_and_length_is_copied_both_ways() {
        let bytes: Vec<u8> = (0..64).collect();
        for start in 0..9 {
            for length in 0..40 {
                let mut copy = Vec::with_capacity(length);
                // SAFETY: start + length is at most 48 of 64, and all of `length` is written.
                unsafe {
                    copy_in(bytes.as_ptr().add(start), &mut copy.spare_capacity_mut()[..length]);
                    copy.set_len(length);
                }
                assert_eq!(copy, bytes[start..start + length]);
                let mut to = vec![0xEE_u8; 64];
                // SAFETY: as above.
                unsafe { copy_out(&copy, to.as_mut_ptr().add(start)) };
                assert_eq!(to[start..start + length], copy);
                assert!(to[..start].iter().chain(&to[start + length..]).all(|byte| *byte == 0xEE));
            }
        }
    }
}
