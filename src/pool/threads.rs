//! The numbers of threads, by which each that inserts or removes has a shard of its own in every pool.

mod bitmap;
#[cfg_attr(not(any(loom, shuttle)), path = "threads/process.rs")]
#[cfg_attr(any(loom, shuttle), path = "threads/modelled.rs")]
mod numbers;

#[cfg(loom)]
pub use numbers::{all_given_back, used_again};

/// Threads that may insert at the same time, in the whole process and over all pools. Those that have removed something
/// count too.
///
/// 64 fewer than sharded-slab has room for, which numbers the threads that ask it for places, and gives a number out
/// again some time after its thread has ended.
pub const MAX_INSERTING_THREADS: usize = 4096 - 64;

/// This thread's number, which no other thread has while this one lives: what makes its shard its own (I7). `None`
/// for one too many, and for one that is being torn down. One read of a thread-local once the thread has one.
#[inline]
pub(super) fn number() -> Option<usize> {
    numbers::number()
}

/// This thread's number, if it has inserted or removed before.
#[inline]
pub(super) fn number_if_any() -> Option<usize> {
    numbers::number_if_any()
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn live_threads_have_numbers_of_their_own() {
        let barrier = std::sync::Arc::new(std::sync::Barrier::new(16));
        let threads: Vec<_> = (0..16)
            .map(|_| {
                let barrier = std::sync::Arc::clone(&barrier);
                std::thread::spawn(move || {
                    let mine = number();
                    barrier.wait();
                    assert_eq!(mine, number());
                    mine.expect("16 are not too many")
                })
            })
            .collect();
        let numbers: std::collections::BTreeSet<_> =
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        assert_eq!(numbers.len(), 16);
        assert!(numbers.iter().all(|number| *number < 4096));
    }
}
