//! loom's and shuttle's threads are one thread to std and to the slab: here they have numbers of their own, in each execution.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sync::{lazy_static, thread_local};

lazy_static! {
    /// std's, as what the slab counts with is: handing out numbers is no part of what is modelled.
    static ref NEXT: AtomicUsize = AtomicUsize::new(0);
}

thread_local! {
    static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
}

pub fn number() -> Option<usize> {
    number_if_any().or_else(|| {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        NUMBER.try_with(|number| number.set(Some(next))).ok()?;
        Some(next)
    })
}

pub fn number_if_any() -> Option<usize> {
    NUMBER.try_with(Cell::get).ok().flatten()
}
