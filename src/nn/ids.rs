//! Numbers for graphs, guests and threads.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that no other call of this gives.
pub(crate) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
