//! Process-wide unique numbers for graphs, guests and threads.

use std::sync::atomic::{AtomicU64, Ordering};

/// Returns a number that no other call returns.
pub(crate) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
