//! Where every slot and every shard's bookkeeping is: arrays that grow and never move or shrink.

use std::marker::PhantomData;
use std::ptr;

use crossbeam_utils::CachePadded;

use super::layout::{Layout, Shape};
use super::limbo::Limbo;
use super::slot::Slot;
use crate::sync::OwnerCounter;
use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// What belongs to the entries that one thread inserted, or the threads that had its number before it.
pub(super) struct Shard {
    /// Written by the inserting thread alone; on cache lines of its own, so that removals elsewhere don't slow it.
    pub(super) owner: CachePadded<Owner>,
    pub(super) limbo: CachePadded<Limbo>,
}

pub(super) struct Owner {
    pub(super) inserted: OwnerCounter,
    pub(super) retired_slots: OwnerCounter,
}

/// The tables of pages and of shards. Both are allocated as zeros, which costs no memory until it is written.
pub(super) struct Directory<T, L: Layout> {
    /// `PAGES_STRIDE` of them for each thread.
    pages: Box<[AtomicPtr<Slot<T>>]>,
    shards: Box<[AtomicPtr<Shard>]>,
    /// One more than the highest thread that has a shard.
    threads: AtomicUsize,
    _layout: PhantomData<fn(L)>,
}

impl<T, L: Layout> Directory<T, L> {
    pub(super) fn new() -> Self {
        const { Shape::<L>::AGREES };
        Self {
            pages: null_pointers(L::MAX_THREADS * Shape::<L>::PAGES_STRIDE),
            shards: null_pointers(L::MAX_THREADS),
            threads: AtomicUsize::new(0),
            _layout: PhantomData,
        }
    }

    /// The slot at `place`, if its page is there. Any number may be asked for.
    #[inline]
    pub(super) fn slot(&self, place: u64) -> Option<&Slot<T>> {
        let (page, offset) = Shape::<L>::page_and_offset(place);
        // Acquire: pairs with the Release in `install`; whoever sees the page sees its slots.
        let slots = self.pages.get(Self::row(place, page))?.load(Ordering::Acquire);
        if slots.is_null() {
            return None;
        }
        debug_assert!(page < L::MAX_PAGES && offset < Shape::<L>::page_len(page));
        // SAFETY: a page is never freed before the directory, and `page_and_offset` stays within its length.
        Some(unsafe { &*slots.add(offset) })
    }

    /// The slot at the place of a key that the slab handed out, in a page that is made if need be.
    #[inline]
    pub(super) fn slot_or_grow(&self, place: u64) -> &Slot<T> {
        if let Some(slot) = self.slot(place) {
            return slot;
        }
        let (page, offset) = Shape::<L>::page_and_offset(place);
        let slots = install(
            &self.pages[Self::row(place, page)],
            || new_page::<T>(Shape::<L>::page_len(page)),
            |new| {
                // SAFETY: `new` is the page just made, which nobody else has seen.
                unsafe { free_page::<T>(new, Shape::<L>::page_len(page)) };
            },
        );
        // SAFETY: as in `slot`; `offset` is less than the page's length.
        unsafe { &*slots.add(offset) }
    }

    /// The shard of a place that was once published, or of a forged one.
    #[inline]
    pub(super) fn shard(&self, thread: usize) -> Option<&Shard> {
        let shard = self.shards.get(thread)?.load(Ordering::Acquire);
        // SAFETY: null or a shard that lives as long as the directory.
        unsafe { shard.as_ref() }
    }

    /// The shard of a thread that the slab has numbered, made if need be.
    #[inline]
    pub(super) fn shard_or_grow(&self, thread: usize) -> &Shard {
        if let Some(shard) = self.shard(thread) {
            return shard;
        }
        let make = || {
            Box::into_raw(Box::new(Shard {
                owner: CachePadded::new(Owner { inserted: OwnerCounter::new(), retired_slots: OwnerCounter::new() }),
                limbo: CachePadded::new(Limbo::new()),
            }))
        };
        // SAFETY: the shard just made, which nobody else has seen.
        let shard = install(&self.shards[thread], make, |new| drop(unsafe { Box::from_raw(new) }));
        // Relaxed: a reader that misses the newest shard is one that came before it.
        self.threads.fetch_max(thread + 1, Ordering::Relaxed);
        // SAFETY: a shard is never freed before the directory.
        unsafe { &*shard }
    }

    pub(super) fn shards(&self) -> impl Iterator<Item = &Shard> {
        (0..self.threads.load(Ordering::Relaxed)).filter_map(|thread| self.shard(thread))
    }

    /// Every page that is there, as slots.
    pub(super) fn pages(&self) -> impl Iterator<Item = &[Slot<T>]> {
        let threads = self.threads.load(Ordering::Relaxed);
        (0..threads).flat_map(|thread| (0..L::MAX_PAGES).map(move |page| (thread, page))).filter_map(
            |(thread, page)| {
                let slots = self.pages[thread * Shape::<L>::PAGES_STRIDE + page].load(Ordering::Acquire);
                // SAFETY: a page has `page_len` slots and is never freed before the directory.
                (!slots.is_null()).then(|| unsafe { std::slice::from_raw_parts(slots, Shape::<L>::page_len(page)) })
            },
        )
    }

    #[inline]
    const fn row(place: u64, page: usize) -> usize {
        Shape::<L>::thread(place) * Shape::<L>::PAGES_STRIDE + page
    }
}

impl<T, L: Layout> Drop for Directory<T, L> {
    fn drop(&mut self) {
        for thread in 0..self.threads.load(Ordering::Relaxed) {
            for page in 0..L::MAX_PAGES {
                let slots = self.pages[thread * Shape::<L>::PAGES_STRIDE + page].load(Ordering::Acquire);
                if !slots.is_null() {
                    // SAFETY: made by `new_page` with this length, and `&mut self` says that nobody reads it.
                    unsafe { free_page(slots, Shape::<L>::page_len(page)) };
                }
            }
            let shard = self.shards[thread].load(Ordering::Acquire);
            if !shard.is_null() {
                // SAFETY: made by `Box::into_raw`, and nobody reads it.
                drop(unsafe { Box::from_raw(shard) });
            }
        }
    }
}

/// Puts what `make` gives where null was; where another thread was first, `unmake` takes it back and the other's is
/// the one.
#[cold]
fn install<P>(cell: &AtomicPtr<P>, make: impl FnOnce() -> *mut P, unmake: impl FnOnce(*mut P)) -> *mut P {
    let new = make();
    // Release: what was made is seen by whoever loads the pointer (Acquire). Acquire on failure: to use the other's.
    match cell.compare_exchange(ptr::null_mut(), new, Ordering::Release, Ordering::Acquire) {
        Ok(_) => new,
        Err(other) => {
            unmake(new);
            other
        }
    }
}

#[cfg(not(loom))]
fn null_pointers<P>(len: usize) -> Box<[AtomicPtr<P>]> {
    // SAFETY: zeros are null pointers.
    unsafe { Box::new_zeroed_slice(len).assume_init() }
}

#[cfg(not(loom))]
fn new_page<T>(len: usize) -> *mut Slot<T> {
    // SAFETY: zeros are slots in which nothing was published.
    let page: Box<[Slot<T>]> = unsafe { Box::new_zeroed_slice(len).assume_init() };
    Box::into_raw(page).cast()
}

#[cfg(loom)]
fn null_pointers<P>(len: usize) -> Box<[AtomicPtr<P>]> {
    (0..len).map(|_| AtomicPtr::new(ptr::null_mut())).collect()
}

#[cfg(loom)]
fn new_page<T>(len: usize) -> *mut Slot<T> {
    let page: Box<[Slot<T>]> = (0..len).map(|_| Slot::new()).collect();
    Box::into_raw(page).cast()
}

/// # Safety
///
/// `slots` came from [`new_page`] with this `len`, and nobody uses it any more.
unsafe fn free_page<T>(slots: *mut Slot<T>, len: usize) {
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(slots, len)) });
}
