//! Numbers from a bitmap of the process's, which a thread takes at its first need and gives back at its end.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use super::MAX_INSERTING_THREADS;

/// One bit for each number that a thread has.
static TAKEN: [AtomicU64; MAX_INSERTING_THREADS / 64] = [const { AtomicU64::new(0) }; MAX_INSERTING_THREADS / 64];

thread_local! {
    static NUMBER: Number = const { Number(Cell::new(None)) };
}

/// This thread's number. Once it is given back the thread-local is gone, and with it any way to use the number.
struct Number(Cell<Option<usize>>);

impl Number {
    /// The lowest number that is free.
    #[cold]
    fn take(&self) -> Option<usize> {
        for (row, taken) in TAKEN.iter().enumerate() {
            let mut free = !taken.load(Ordering::Relaxed);
            while free != 0 {
                let bit = free & free.wrapping_neg();
                // Acquire: pairs with the Release in `drop`; what the last thread with the number did is done.
                free = !taken.fetch_or(bit, Ordering::Acquire);
                if free & bit != 0 {
                    self.0.set(Some(row * 64 + bit.ilog2() as usize));
                    return self.0.get();
                }
            }
        }
        None
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        if let Some(number) = self.0.take() {
            TAKEN[number / 64].fetch_and(!(1 << (number % 64)), Ordering::Release);
        }
    }
}

#[inline]
pub fn number() -> Option<usize> {
    NUMBER.try_with(|number| number.0.get().or_else(|| number.take())).ok().flatten()
}

#[inline]
pub fn number_if_any() -> Option<usize> {
    NUMBER.try_with(|number| number.0.get()).ok().flatten()
}
