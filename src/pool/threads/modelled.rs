//! loom's and shuttle's threads are one thread to std and to the slab: here they have numbers of their own, in each execution.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sync::{lazy_static, thread_local};

lazy_static! {
    /// std's, as what the slab counts with is: handing out numbers is no part of what is modelled.
    static ref NEXT: AtomicUsize = AtomicUsize::new(0);
}

thread_local! {
    static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
}

#[expect(clippy::unnecessary_wraps, reason = "as of the process's threads, which may have none")]
pub fn number() -> Option<usize> {
    // Where the execution is over and its thread-locals are gone, one thread is left.
    Some(NUMBER.try_with(|number| *number).unwrap_or(0))
}

pub fn number_if_any() -> Option<usize> {
    number()
}
