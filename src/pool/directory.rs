//! The directory: a pool's table from a chunk's number to its address.
//!
//! ```text
//!  chunk number   0       1       2              262,143
//! │ address     │ chunk │ chunk │ null  │  …  │ null    │   null: no chunk has this number (yet, or any more)
//! ```

use std::ptr::{self, NonNull};

use super::chunk::Chunk;
use super::layout::{KeyLayout, Layout};
use super::pages::null_pointers;
use super::slab;
use super::slot::Slot;
use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// The table starts as zero pages, which take address space only until they are written.
pub(super) struct Directory<L> {
    chunks: Box<[AtomicPtr<Chunk>]>,
    _layout: std::marker::PhantomData<fn(L)>,
}

impl<L: Layout> Directory<L> {
    pub(super) fn new() -> Self {
        const { KeyLayout::<L>::FITS };
        Self { chunks: null_pointers(KeyLayout::<L>::DIRECTORY), _layout: std::marker::PhantomData }
    }

    /// The slot at a key's place, if its chunk exists. Total: `key` may be any number. Wait-free: one load.
    #[inline]
    pub(super) fn slot(&self, key: u64) -> Option<&Slot> {
        let (chunk, slot) = KeyLayout::<L>::chunk_and_slot(key);
        self.chunk(chunk).map(|chunk| chunk.slot(slot))
    }

    /// The chunk with a number below [`KeyLayout::DIRECTORY`], if it exists.
    #[inline]
    pub(super) fn chunk(&self, number: usize) -> Option<&Chunk> {
        debug_assert!(number < KeyLayout::<L>::DIRECTORY);
        // SAFETY: the table has `DIRECTORY` entries, and every chunk number of a key is below that.
        let cell = unsafe { self.chunks.get_unchecked(number) };
        // Acquire: pairs with the Release in `insert`. A thread that sees the chunk sees its slots.
        // SAFETY: a chunk that was in the table is freed with the directory (I6).
        unsafe { cell.load(Ordering::Acquire).as_ref() }
    }

    /// The chunk with this number. The caller owns one of its slots, so that the chunk keeps its number.
    #[inline]
    pub(super) fn chunk_in_use(&self, number: usize) -> &Chunk {
        self.chunk(number).expect("a chunk keeps its number until all of its slots are exhausted")
    }

    /// Makes `chunk` the one with this number, which no other chunk has.
    pub(super) fn insert(&self, number: usize, chunk: NonNull<Chunk>) {
        // Release: pairs with the Acquire in `chunk`.
        self.chunks[number].store(chunk.as_ptr(), Ordering::Release);
    }

    /// Takes the number from its chunk, which gets another one.
    pub(super) fn remove(&self, number: usize) {
        // Release: pairs with the Acquire in `chunk`. A thread that found the number on a stack and finds no chunk
        // here sees the stack without it.
        self.chunks[number].store(ptr::null_mut(), Ordering::Release);
    }

    /// The chunks that exist among the first `numbers`.
    pub(super) fn chunks(&self, numbers: usize) -> impl Iterator<Item = &Chunk> {
        (0..numbers.min(self.chunks.len())).filter_map(|number| self.chunk(number))
    }

    /// Frees every chunk.
    ///
    /// # Safety
    ///
    /// 1. No thread uses a chunk any more.
    /// 2. The directory is not used after this call.
    pub(super) unsafe fn free(&mut self, used_numbers: &AtomicUsize) {
        for number in 0..used_numbers.load(Ordering::Relaxed).min(self.chunks.len()) {
            if let Some(chunk) = NonNull::new(self.chunks[number].load(Ordering::Relaxed)) {
                // SAFETY: it came from `slab::make`, has one number, and so is freed once (2); no thread uses it (1).
                unsafe { slab::free(chunk) };
            }
        }
    }
}
