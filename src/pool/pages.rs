//! Arrays in pages, each made at first use and never moved or freed before the whole: what the pool's directory and
//! the guest tables grow by.

#[cfg(all(test, loom))]
mod models;

use std::marker::PhantomData;
use std::ops::Range;
use std::ptr;

use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Where the element with a number is.
///
/// Pages stand in rows, and each has the elements of a range of indexes.
///
/// # Safety
///
/// For every number at all, its index is in the range of its row, unless that is empty or the row is past the last;
/// and that is never where `TOTAL` says so.
pub(crate) unsafe trait Geometry {
    /// Pages.
    const ROWS: usize;
    /// Whether every number at all is in one of the rows.
    const TOTAL: bool;

    /// Elements of the first page.
    const FIRST: u64;

    /// The row and the index. `first` is `FIRST`.
    fn locate(number: u64, first: u64) -> (usize, usize);

    /// The indexes of a page; none for one that is never made.
    fn range(row: usize) -> Range<usize>;
}

/// The indexes below `1 << BITS`. Page `p` has `FIRST << p` of them, the last page as many as the first.
pub(crate) struct Doubling<const FIRST: u64, const BITS: u32>;

// SAFETY: with `FIRST` added, the numbers of page `p` are those from `FIRST << p` to twice that, cut off where
// `1 << BITS` ends: `FIRST` numbers into the last page. The last page is the one that holds it.
unsafe impl<const FIRST: u64, const BITS: u32> Geometry for Doubling<FIRST, BITS> {
    const ROWS: usize = (BITS - FIRST.ilog2()) as usize + 1;
    const TOTAL: bool = true;

    const FIRST: u64 = FIRST;

    #[inline]
    fn locate(index: u64, first: u64) -> (usize, usize) {
        let index = index & ((1 << BITS) - 1);
        (log2(index + first).wrapping_sub(FIRST.ilog2() as usize), index as usize)
    }

    #[inline]
    fn range(row: usize) -> Range<usize> {
        let first = FIRST as usize;
        let start = (first << row) - first;
        start..start + if row + 1 == Self::ROWS { first } else { first << row }
    }
}

/// Shared by readers and growers without a lock.
pub(crate) struct Pages<P, G: Geometry> {
    /// For each page that is there the address that the element of index 0 would have beside the page's own, so that
    /// a look-up adds the index and is done; null for the others.
    rows: Box<[AtomicPtr<P>]>,
    /// One more than the highest row that has a page: what a walk needs to look at.
    used: AtomicUsize,
    /// `G::FIRST`, where the compiler doesn't see which number it is. See [`log2`].
    first: u64,
    _geometry: PhantomData<fn(G)>,
}

impl<P: Default, G: Geometry> Pages<P, G> {
    /// No pages. The table of them is zeros, which cost no memory until a page is made.
    pub(crate) fn new() -> Self {
        Self { rows: null_pointers(G::ROWS), used: AtomicUsize::new(0), first: G::FIRST, _geometry: PhantomData }
    }

    /// The element with this number, if its page is there. Wait-free: two loads, the element's own not counted.
    #[inline]
    pub(crate) fn get(&self, number: u64) -> Option<&P> {
        self.find(number, Some)
    }

    /// What `look` finds in the element with this number: as [`get`](Self::get), without a second test of whether it
    /// is there, which the compiler doesn't see through.
    #[inline]
    pub(crate) fn find<'a, R>(&'a self, number: u64, look: impl FnOnce(&'a P) -> Option<R>) -> Option<R> {
        let (row, index) = G::locate(number, self.first);
        if !G::TOTAL && row >= G::ROWS {
            return None;
        }
        // SAFETY: there are `ROWS` of them, and `row` is one.
        let cell = unsafe { self.rows.get_unchecked(row) };
        // Acquire: pairs with the Release in `grow`; whoever sees the page sees its elements.
        let base = cell.load(Ordering::Acquire);
        if base.is_null() {
            return None;
        }
        // SAFETY: a page that is there has the elements of its row's range, of which `index` is in it.
        look(unsafe { element(base, index) })
    }

    /// The element with this number, in a page that is made if need be. `None` for a number out of bounds.
    #[inline]
    pub(crate) fn get_or_grow(&self, number: u64) -> Option<&P> {
        match self.get(number) {
            None => self.grow(number),
            found => found,
        }
    }

    #[cold]
    fn grow(&self, number: u64) -> Option<&P> {
        let (row, index) = G::locate(number, self.first);
        let cell = self.rows.get(row)?;
        let range = G::range(row);
        if range.is_empty() {
            return None;
        }
        let new = allocate(range.clone());
        // Release: pairs with the Acquire in `get`. Acquire on failure: to use the other thread's page.
        let base = match cell.compare_exchange(ptr::null_mut(), new, Ordering::Release, Ordering::Acquire) {
            Ok(_) => new,
            Err(other) => {
                // SAFETY: just made, of this range, and seen by nobody.
                unsafe { free::<P>(new, range) };
                other
            }
        };
        // Release: pairs with the Acquire in `iter`, so that a walk misses no page that came before it.
        self.used.fetch_max(row + 1, Ordering::Release);
        // SAFETY: as in `get`.
        Some(unsafe { element(base, index) })
    }

    /// Every element of the pages that are there.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &P> + Clone {
        let used = self.used.load(Ordering::Acquire);
        self.rows[..used].iter().enumerate().flat_map(|(row, cell)| {
            let base = cell.load(Ordering::Acquire);
            let range = if base.is_null() { 0..0 } else { G::range(row) };
            // SAFETY: as in `get`.
            range.map(move |index| unsafe { element(base, index) })
        })
    }
}

impl<P, G: Geometry> Drop for Pages<P, G> {
    fn drop(&mut self) {
        let used = self.used.load(Ordering::Acquire);
        for (row, cell) in self.rows[..used].iter().enumerate() {
            let base = cell.load(Ordering::Acquire);
            if !base.is_null() {
                // SAFETY: made in `grow` with this range, and `&mut self` says that nobody reads it.
                unsafe { free::<P>(base, G::range(row)) };
            }
        }
    }
}

/// # Safety
///
/// `base` is that of a page which has the index and lives for `'a`.
#[inline]
unsafe fn element<'a, P>(base: *mut P, index: usize) -> &'a P {
    // SAFETY: inside of the page's allocation, says the caller.
    unsafe { &*base.wrapping_add(index) }
}

/// A page of these indexes, by where its element 0 would be; never null.
fn allocate<P: Default>(range: Range<usize>) -> *mut P {
    let mut pages = Vec::new();
    loop {
        let mut page: Box<[P]> = range.clone().map(|_| P::default()).collect();
        let base = page.as_mut_ptr().wrapping_sub(range.start);
        if !base.is_null() {
            return Box::into_raw(page).cast::<P>().wrapping_sub(range.start);
        }
        // By chance just so far up in memory: kept meanwhile, so that the next one is elsewhere.
        pages.push(page);
    }
}

/// # Safety
///
/// `base` came from [`allocate`] with this range, and nobody uses the page any more.
unsafe fn free<P>(base: *mut P, range: Range<usize>) {
    let page = ptr::slice_from_raw_parts_mut(base.wrapping_add(range.start), range.len());
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(page) });
}

/// The logarithm of a number that isn't 0, and that the compiler takes for one that may be.
///
/// x86-64's `bsr` leaves its result's register as it was where the number is 0, so it waits for what that register
/// held before: in a loop over handles, for the look-up before. For a number that may be 0 the register is set first,
/// and look-ups run side by side.
#[inline]
pub(super) const fn log2(number: u64) -> usize {
    ((u64::BITS - 1) ^ number.leading_zeros()) as usize
}

/// So many null pointers, which cost address space and no memory until they are written.
#[cfg(not(any(loom, shuttle)))]
pub(super) fn null_pointers<P>(len: usize) -> Box<[AtomicPtr<P>]> {
    // SAFETY: zeros are null pointers.
    unsafe { Box::new_zeroed_slice(len).assume_init() }
}

#[cfg(any(loom, shuttle))]
pub(super) fn null_pointers<P>(len: usize) -> Box<[AtomicPtr<P>]> {
    (0..len).map(|_| AtomicPtr::new(ptr::null_mut())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_has_a_place_of_its_own() {
        type Few = Doubling<4, 10>;
        let places: Vec<_> = (0..1 << 10).map(|number| Few::locate(number, 4)).collect();
        assert_eq!(places[0], (0, 0));
        assert!(places.is_sorted(), "and they are in order");
        assert!(places.iter().enumerate().all(|(number, (_, index))| number == *index));
        assert!(places.iter().all(|(row, index)| *row < Few::ROWS && Few::range(*row).contains(index)));
        assert!((1..Few::ROWS).all(|row| Few::range(row - 1).end == Few::range(row).start));
        assert_eq!(Few::range(Few::ROWS - 1).end, 1 << 10);
    }
}
