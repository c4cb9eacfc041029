//! [`Pages`]: an array that grows by pages, without a lock and without moving an element.
//!
//! Page 0 has `FIRST` elements, and page `p` has `FIRST << p`; the last page has `FIRST` elements again, so that all
//! pages together have `1 << BITS`.
//!
//! ```text
//! index    0        FIRST    3 FIRST              7 FIRST                       (1 << BITS) - FIRST   1 << BITS
//!          │ page 0  │ page 1 │ page 2             │ page 3           …         │ last page           │
//! ```
//!
//! With `FIRST` added, the indexes of page `p` are those from `FIRST << p` to below `FIRST << (p + 1)`: a logarithm
//! gives the page. For each page `Pages` keeps the address that element 0 would have if the page began there, so that
//! the element's address is that *base* plus the index.

#[cfg(all(test, loom))]
mod models;

use std::ops::Range;
use std::ptr;

use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// An array of `1 << BITS` elements, whose pages are allocated at first use and freed with the whole.
pub(crate) struct Pages<P, const FIRST: u64, const BITS: u32> {
    /// The base of each page; null for a page that does not exist.
    bases: Box<[AtomicPtr<P>]>,
    /// One more than the highest page that exists, for walks.
    used: AtomicUsize,
    /// `FIRST`, as a value that the compiler does not know. See [`log2`].
    first: u64,
}

impl<P, const FIRST: u64, const BITS: u32> Pages<P, FIRST, BITS> {
    const PAGES: usize = (BITS - FIRST.ilog2()) as usize + 1;

    /// The page and the index of the element that the lower `BITS` bits of `number` name. Total, for every `u64`:
    /// (1) the page is below [`PAGES`](Self::PAGES), and (2) its [`range`](Self::range) contains the index.
    #[inline]
    fn locate(&self, number: u64) -> (usize, usize) {
        let index = number & ((1 << BITS) - 1);
        (log2(index + self.first).wrapping_sub(FIRST.ilog2() as usize), index as usize)
    }

    /// The indexes of a page's elements.
    #[inline]
    fn range(page: usize) -> Range<usize> {
        let first = FIRST as usize;
        let start = (first << page) - first;
        start..start + if page + 1 == Self::PAGES { first } else { first << page }
    }
}

impl<P: Default, const FIRST: u64, const BITS: u32> Pages<P, FIRST, BITS> {
    /// No pages.
    pub(crate) fn new() -> Self {
        Self { bases: null_pointers(Self::PAGES), used: AtomicUsize::new(0), first: FIRST }
    }

    /// The element with this number, if its page exists. Wait-free: two loads.
    #[inline]
    pub(crate) fn get(&self, number: u64) -> Option<&P> {
        self.find(number, Some)
    }

    /// What `read` finds in the element with this number: [`get`](Self::get) and `and_then` in one, with one branch
    /// where the compiler would make two of them.
    #[inline]
    pub(crate) fn find<'a, R>(&'a self, number: u64, read: impl FnOnce(&'a P) -> Option<R>) -> Option<R> {
        let (page, index) = self.locate(number);
        // SAFETY: there are `PAGES` bases, and the page is below that (`locate`, 1).
        let cell = unsafe { self.bases.get_unchecked(page) };
        // Acquire: pairs with the Release in `grow`. A thread that sees the page sees its elements.
        let base = cell.load(Ordering::Acquire);
        if base.is_null() {
            return None;
        }
        // SAFETY: the page's range contains the index (1; `locate`, 2), and pages live as long as `self` (2).
        read(unsafe { element(base, index) })
    }

    /// The element with this number. Allocates its page if need be.
    #[inline]
    pub(crate) fn get_or_grow(&self, number: u64) -> &P {
        match self.get(number) {
            None => self.grow(number),
            Some(element) => element,
        }
    }

    #[cold]
    fn grow(&self, number: u64) -> &P {
        let (page, index) = self.locate(number);
        let cell = &self.bases[page];
        let new = allocate(Self::range(page));
        // Release: pairs with the Acquire in `find`. Acquire on failure: the other thread's page is used then.
        let base = match cell.compare_exchange(ptr::null_mut(), new, Ordering::Release, Ordering::Acquire) {
            Ok(_) => new,
            Err(other) => {
                // SAFETY: `new` was allocated above with this range (1), and no other thread has seen it (2).
                unsafe { free::<P>(new, Self::range(page)) };
                other
            }
        };
        // Release: pairs with the Acquire in `iter`. A walk sees every page that was made before it.
        self.used.fetch_max(page + 1, Ordering::Release);
        // SAFETY: the page's range contains the index (1; `locate`, 2), and pages live as long as `self` (2).
        unsafe { element(base, index) }
    }

    /// All elements of the pages that exist.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &P> + Clone {
        let used = self.used.load(Ordering::Acquire);
        self.bases[..used].iter().enumerate().flat_map(|(page, cell)| {
            let base = cell.load(Ordering::Acquire);
            let range = if base.is_null() { 0..0 } else { Self::range(page) };
            // SAFETY: the index is in the page's range (1), and pages live as long as `self` (2).
            range.map(move |index| unsafe { element(base, index) })
        })
    }
}

impl<P, const FIRST: u64, const BITS: u32> Drop for Pages<P, FIRST, BITS> {
    fn drop(&mut self) {
        let used = self.used.load(Ordering::Acquire);
        for (page, cell) in self.bases[..used].iter().enumerate() {
            let base = cell.load(Ordering::Acquire);
            if !base.is_null() {
                // SAFETY: allocated in `grow` with this range (1), and `&mut self` excludes other users (2).
                unsafe { free::<P>(base, Self::range(page)) };
            }
        }
    }
}

/// The element with this index of a page.
///
/// # Safety
///
/// 1. `base` is the base of a page that has the index.
/// 2. The page lives for `'a`.
#[inline]
unsafe fn element<'a, P>(base: *mut P, index: usize) -> &'a P {
    // SAFETY: the address is inside the page's allocation (1), which lives for `'a` (2).
    unsafe { &*base.wrapping_add(index) }
}

/// Allocates a page with these indexes, and gives its base, which is not null.
fn allocate<P: Default>(range: Range<usize>) -> *mut P {
    let mut pages = Vec::new();
    loop {
        let mut page: Box<[P]> = range.clone().map(|_| P::default()).collect();
        let base = page.as_mut_ptr().wrapping_sub(range.start);
        if !base.is_null() {
            return Box::into_raw(page).cast::<P>().wrapping_sub(range.start);
        }
        // The page's address equals the offset of its first element. Kept until the next page has another address.
        pages.push(page);
    }
}

/// Frees a page.
///
/// # Safety
///
/// 1. `base` came from [`allocate`] with this range.
/// 2. No thread uses the page any more.
unsafe fn free<P>(base: *mut P, range: Range<usize>) {
    let page = ptr::slice_from_raw_parts_mut(base.wrapping_add(range.start), range.len());
    // SAFETY: from `Box::into_raw` (1), and freed once (2).
    drop(unsafe { Box::from_raw(page) });
}

/// The logarithm of a number that is not 0. The compiler must not be able to prove that it is not 0.
///
/// x86-64's `bsr` leaves its destination register unchanged if the number is 0, and so has a false dependency on that
/// register: in a loop of look-ups each one would wait for the one before. For a number that may be 0 the compiler
/// sets the register first, and look-ups overlap.
#[inline]
pub(super) const fn log2(number: u64) -> usize {
    ((u64::BITS - 1) ^ number.leading_zeros()) as usize
}

/// A table of null pointers: zero pages, which take address space only until they are written.
#[cfg(not(any(loom, shuttle)))]
pub(super) fn null_pointers<P>(len: usize) -> Box<[AtomicPtr<P>]> {
    // SAFETY: an `AtomicPtr` of zero bytes is a null pointer.
    unsafe { Box::new_zeroed_slice(len).assume_init() }
}

#[cfg(any(loom, shuttle))]
pub(super) fn null_pointers<P>(len: usize) -> Box<[AtomicPtr<P>]> {
    (0..len).map(|_| AtomicPtr::new(ptr::null_mut())).collect()
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn every_index_is_in_the_page_that_the_drawing_has_it_in() {
        type Few = Pages<u8, 4, 10>;
        let pages = Few::new();
        let places: Vec<_> = (0..1 << 10).map(|number| pages.locate(number)).collect();
        assert_eq!([places[0], places[4], places[12], places[1020]], [(0, 0), (1, 4), (2, 12), (8, 1020)]);
        assert!(places.is_sorted(), "and they are in order");
        assert!(places.iter().enumerate().all(|(number, (_, index))| number == *index));
        assert!(places.iter().all(|(page, index)| *page < Few::PAGES && Few::range(*page).contains(index)));
        assert!((1..Few::PAGES).all(|page| Few::range(page - 1).end == Few::range(page).start));
        assert_eq!(Few::range(Few::PAGES - 1), 1020..1024);
        assert_eq!(pages.locate(u64::MAX), (8, 1023), "every number is an index");
    }
}
