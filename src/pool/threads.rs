//! The numbers of threads, by which each has a shard of its own in every pool.
//!
//! They are the slab's: it numbers every thread of the process that inserts into any slab, and a number is free again
//! when its thread has ended. It has room for 4,096, and panics past that; so a thread asks here first.

#[cfg_attr(not(any(loom, shuttle)), path = "threads/slab.rs")]
#[cfg_attr(any(loom, shuttle), path = "threads/modelled.rs")]
mod numbers;

/// Threads that may insert at the same time, in the whole process and over all pools.
///
/// 64 fewer than the slab has shards: it keeps a number back, and a thread that ends gives up its place here a
/// moment before its number there.
pub const MAX_INSERTING_THREADS: usize = 4096 - 64;

/// This thread's number, which no other thread has while this one lives: what makes its shard its own (I7). `None`
/// for one too many, and for one that is being torn down. One read of a thread-local once the thread has one.
#[inline]
pub(super) fn number() -> Option<usize> {
    numbers::number()
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
