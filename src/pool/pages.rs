//! Arrays in pages, each made at first use and never moved or freed before the whole: what the pool's directory and
//! the guest tables grow by.

use std::marker::PhantomData;
use std::ptr;

use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Where the element with a number is.
///
/// # Safety
///
/// For every number at all, the offset that `locate` gives is less than `len` of the row that it gives, unless that
/// is 0 or the row is past the last.
pub(crate) unsafe trait Geometry {
    /// Pages.
    const ROWS: usize;

    /// The page and the offset in it.
    fn locate(number: u64) -> (usize, usize);

    /// Elements of a page; 0 for one that is never made.
    fn len(row: usize) -> usize;
}

/// The indexes below `1 << BITS`. Page `p` has `FIRST << p` of them, the last page as many as the first.
pub(crate) struct Doubling<const FIRST: u64, const BITS: u32>;

// SAFETY: with `FIRST` added, the numbers of page `p` are those from `FIRST << p` to twice that, cut off where
// `1 << BITS` ends: `FIRST` numbers into the last page. The last page is the one that holds it.
unsafe impl<const FIRST: u64, const BITS: u32> Geometry for Doubling<FIRST, BITS> {
    const ROWS: usize = (BITS - FIRST.ilog2()) as usize + 1;

    #[inline]
    fn locate(index: u64) -> (usize, usize) {
        let shifted = (index & ((1 << BITS) - 1)) + FIRST;
        let row = shifted.ilog2() - FIRST.ilog2();
        (row as usize, (shifted - (FIRST << row)) as usize)
    }

    #[inline]
    fn len(row: usize) -> usize {
        if row + 1 == Self::ROWS { FIRST as usize } else { (FIRST as usize) << row }
    }
}

/// Shared by readers and growers without a lock.
pub(crate) struct Pages<P, G: Geometry> {
    rows: Box<[AtomicPtr<P>]>,
    /// One more than the highest row that has a page: what a walk needs to look at.
    used: AtomicUsize,
    _geometry: PhantomData<fn(G)>,
}

impl<P: Default, G: Geometry> Pages<P, G> {
    /// No pages. The table of them is zeros, which cost no memory until a page is made.
    pub(crate) fn new() -> Self {
        Self { rows: null_pointers(G::ROWS), used: AtomicUsize::new(0), _geometry: PhantomData }
    }

    /// The element with this number, if its page is there. Wait-free: two loads, the element's own not counted.
    #[inline]
    pub(crate) fn get(&self, number: u64) -> Option<&P> {
        let (row, offset) = G::locate(number);
        // Acquire: pairs with the Release in `grow`; whoever sees the page sees its elements.
        if row >= G::ROWS {
            return None;
        }
        // SAFETY: there are `ROWS` of them.
        let page = unsafe { self.rows.get_unchecked(row) }.load(Ordering::Acquire);
        if page.is_null() {
            return None;
        }
        // SAFETY: a page that is there has `G::len(row)` elements, of which `offset` is one, and lives as long as
        // `self`.
        Some(unsafe { &*page.add(offset) })
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
        let (row, offset) = G::locate(number);
        let cell = self.rows.get(row)?;
        if G::len(row) == 0 {
            return None;
        }
        let new: Box<[P]> = (0..G::len(row)).map(|_| P::default()).collect();
        let new = Box::into_raw(new).cast();
        // Release: pairs with the Acquire in `get`. Acquire on failure: to use the other thread's page.
        let page = match cell.compare_exchange(ptr::null_mut(), new, Ordering::Release, Ordering::Acquire) {
            Ok(_) => new,
            Err(other) => {
                // SAFETY: just made, of this length, and seen by nobody.
                unsafe { free::<P>(new, G::len(row)) };
                other
            }
        };
        // Release: pairs with the Acquire in `iter`, so that a walk misses no page that came before it.
        self.used.fetch_max(row + 1, Ordering::Release);
        // SAFETY: as in `get`.
        Some(unsafe { &*page.add(offset) })
    }

    /// Every element of the pages that are there.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &P> + Clone {
        let used = self.used.load(Ordering::Acquire);
        self.rows[..used].iter().enumerate().flat_map(|(row, cell)| {
            let page = cell.load(Ordering::Acquire);
            let len = if page.is_null() { 0 } else { G::len(row) };
            // SAFETY: as in `get`.
            (0..len).map(move |offset| unsafe { &*page.add(offset) })
        })
    }
}

impl<P, G: Geometry> Drop for Pages<P, G> {
    fn drop(&mut self) {
        let used = self.used.load(Ordering::Acquire);
        for (row, cell) in self.rows[..used].iter().enumerate() {
            let page = cell.load(Ordering::Acquire);
            if !page.is_null() {
                // SAFETY: made in `grow` with this length, and `&mut self` says that nobody reads it.
                unsafe { free::<P>(page, G::len(row)) };
            }
        }
    }
}

/// # Safety
///
/// `page` came from a `Box<[P]>` of this length, and nobody uses it any more.
unsafe fn free<P>(page: *mut P, len: usize) {
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(page, len)) });
}

#[cfg(not(any(loom, shuttle)))]
fn null_pointers<P>(len: usize) -> Box<[AtomicPtr<P>]> {
    // SAFETY: zeros are null pointers.
    unsafe { Box::new_zeroed_slice(len).assume_init() }
}

#[cfg(any(loom, shuttle))]
fn null_pointers<P>(len: usize) -> Box<[AtomicPtr<P>]> {
    (0..len).map(|_| AtomicPtr::new(ptr::null_mut())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_has_a_place_of_its_own() {
        type Few = Doubling<4, 10>;
        let places: Vec<_> = (0..1 << 10).map(Few::locate).collect();
        assert_eq!(places[0], (0, 0));
        assert!(places.is_sorted(), "and they are in order");
        assert_eq!(places.iter().collect::<std::collections::BTreeSet<_>>().len(), 1 << 10);
        assert!(places.iter().all(|(row, offset)| *offset < Few::len(*row)));
        assert_eq!((0..Few::ROWS).map(Few::len).sum::<usize>(), 1 << 10);
    }
}
