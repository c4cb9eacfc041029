//! Where every chunk is, by its number.

use std::ptr::{self, NonNull};

use super::chunk::Chunk;
use super::layout::{KeyLayout, Layout};
use super::pages::null_pointers;
use super::slab;
use super::slot::Slot;
use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Chunks by number. The table is zeros, which cost address space and no memory until a number is used.
pub(super) struct Directory<L> {
    chunks: Box<[AtomicPtr<Chunk>]>,
    _layout: std::marker::PhantomData<fn(L)>,
}

impl<L: Layout> Directory<L> {
    pub(super) fn new() -> Self {
        const { KeyLayout::<L>::FITS };
        Self { chunks: null_pointers(KeyLayout::<L>::DIRECTORY), _layout: std::marker::PhantomData }
    }

    /// The slot that an entry with this key is in, if its chunk is there. Any number may be asked for. Wait-free: one
    /// load.
    #[inline]
    pub(super) fn slot(&self, key: u64) -> Option<&Slot> {
        let (chunk, slot) = KeyLayout::<L>::chunk_and_slot(key);
        self.chunk(chunk).map(|chunk| chunk.slot(slot))
    }

    /// The chunk with a number below [`KeyLayout::DIRECTORY`], if it is there.
    #[inline]
    pub(super) fn chunk(&self, number: usize) -> Option<&Chunk> {
        debug_assert!(number < KeyLayout::<L>::DIRECTORY);
        // SAFETY: the table has as many entries, and every number that the bits of a place can name is below that.
        let cell = unsafe { self.chunks.get_unchecked(number) };
        // Acquire: pairs with the Release in `put`; whoever sees the chunk sees its slots.
        // SAFETY: a chunk that was there is freed with the directory (I6).
        unsafe { cell.load(Ordering::Acquire).as_ref() }
    }

    /// The chunk with a number, for an owner of one of its slots, which keeps it there.
    #[inline]
    pub(super) fn listed(&self, number: usize) -> &Chunk {
        self.chunk(number).expect("a chunk keeps its number while a slot of it is not used up")
    }

    /// Makes `chunk` the one with this number, which is no other's.
    pub(super) fn put(&self, number: usize, chunk: NonNull<Chunk>) {
        // Release: pairs with the Acquire in `chunk`.
        self.chunks[number].store(chunk.as_ptr(), Ordering::Release);
    }

    /// Takes the chunk's number from it. It goes on under another.
    pub(super) fn forget(&self, number: usize) {
        // Release: pairs with the Acquire in `chunk`; whoever finds no chunk where a list had one sees the list without it.
        self.chunks[number].store(ptr::null_mut(), Ordering::Release);
    }

    /// The chunks that are there among the first `numbers`.
    pub(super) fn chunks(&self, numbers: usize) -> impl Iterator<Item = &Chunk> {
        (0..numbers.min(self.chunks.len())).filter_map(|number| self.chunk(number))
    }

    /// Frees every chunk.
    ///
    /// # Safety
    ///
    /// Nobody uses a chunk any more, nor the directory after this.
    pub(super) unsafe fn free(&mut self, numbers: &AtomicUsize) {
        for number in 0..numbers.load(Ordering::Relaxed).min(self.chunks.len()) {
            if let Some(chunk) = NonNull::new(self.chunks[number].load(Ordering::Relaxed)) {
                // SAFETY: from `slab::make`, under one number, and the caller's promise.
                unsafe { slab::free(chunk) };
            }
        }
    }
}
