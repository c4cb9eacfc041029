//! Which numbers threads have: one bit for each.

use super::MAX_INSERTING_THREADS;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Of 64 numbers each. loom's atomics take time to make.
const ROWS: usize = if cfg!(loom) { 1 } else { MAX_INSERTING_THREADS / 64 };

pub struct Bitmap([AtomicU64; ROWS]);

impl Bitmap {
    #[cfg(not(any(loom, shuttle)))]
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; ROWS])
    }

    #[cfg(any(loom, shuttle))]
    pub fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Takes the lowest number that is free.
    #[cold]
    pub fn take(&self) -> Option<usize> {
        for (row, taken) in self.0.iter().enumerate() {
            let mut free = !taken.load(Ordering::Relaxed);
            while free != 0 {
                let bit = free & free.wrapping_neg();
                // Acquire: pairs with the Release in `give_back`; what the last thread with the number did is done.
                free = !taken.fetch_or(bit, Ordering::Acquire);
                if free & bit != 0 {
                    return Some(row * 64 + bit.ilog2() as usize);
                }
            }
        }
        None
    }

    pub fn give_back(&self, number: usize) {
        self.0[number / 64].fetch_and(!(1 << (number % 64)), Ordering::Release);
    }

    /// Whether no thread has a number.
    #[cfg(loom)]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|taken| taken.load(Ordering::Relaxed) == 0)
    }
}
