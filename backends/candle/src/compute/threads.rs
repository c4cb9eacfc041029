//! The threads that computes share if the host asked for computes on several threads.
//!
//! Large convolutions and matrix products are split along the rows of their results. The thread that computes works on
//! parts like the others. An element of a result is the same sum in the same order for every number of threads, with
//! one exception: the `gemm` crate may choose the order by the number of rows of a part.
//!
//! * S1: a thread is lent to at most one compute at a time. A compute takes the threads that are free and never waits
//!   for one; if none is free, it does every part itself. So no compute waits for another.
//! * S2: a thread spins for a millisecond after its last part before it sleeps, because waking a thread can take longer
//!   than a part. On two cores of a virtual machine, this made 32 rows through an MLP 1.6 instead of 1.3 times as fast
//!   as one thread.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder, Yield};

use graphpool::backend::Error;

/// How long a thread spins without work (S2).
const IDLE: Duration = Duration::from_millis(1);

/// Threads that computes can use in addition to their own.
#[derive(Debug)]
pub(crate) struct Threads {
    pool: ThreadPool,
    count: usize,
    /// Threads that are not lent.
    free: AtomicUsize,
    /// Threads that spin.
    awake: AtomicUsize,
}

impl Threads {
    /// Starts the threads for computes on `count` threads each: one fewer, as the computing thread is one of them.
    /// `None` for a `count` of 1.
    pub(crate) fn new(count: NonZeroUsize) -> Result<Option<Arc<Self>>, Error> {
        let count = count.get() - 1;
        if count == 0 {
            return Ok(None);
        }
        let named = ThreadPoolBuilder::new().thread_name(|index| format!("graphpool-candle-{index}"));
        let pool = named.num_threads(count).build();
        let pool = pool.map_err(|error| Error::runtime_error(format!("{count} threads can't be started: {error}")))?;
        Ok(Some(Arc::new(Self { pool, count, free: AtomicUsize::new(count), awake: AtomicUsize::new(0) })))
    }

    /// The number of threads, without the one that computes.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The number of threads that are not lent.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }

    /// Makes the threads spin while parts may arrive (S2).
    fn keep_awake(self: &Arc<Self>) {
        // Relaxed, as all orderings in this file: only the counts matter; no other data is published through them.
        // `awake` is 0 only when no thread spins, so a spinning thread never executes a second spin loop as its work.
        if self.awake.compare_exchange(0, self.count, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let threads = Arc::clone(self);
            self.pool.spawn_broadcast(move |_| {
                let mut last = Instant::now();
                while last.elapsed() < IDLE {
                    if rayon::yield_now() == Some(Yield::Executed) {
                        last = Instant::now();
                    } else {
                        thread::yield_now();
                    }
                }
                threads.awake.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }

    /// Lends up to `most` of the free threads (S1).
    pub(crate) fn lend(self: &Arc<Self>, most: usize) -> Lent<'_> {
        let mut count = 0;
        // A thread of another rayon pool would execute that pool's work while it waits for ours.
        if most > 0 && rayon::current_thread_index().is_none() {
            self.keep_awake();
            let take = |free: usize| {
                count = free.min(most);
                Some(free - count)
            };
            let _ = self.free.try_update(Ordering::Relaxed, Ordering::Relaxed, take);
        }
        Lent { threads: self, count }
    }
}

/// Threads that are lent to one compute until this is dropped (S1).
pub(crate) struct Lent<'a> {
    threads: &'a Threads,
    count: usize,
}

impl Lent<'_> {
    /// The number of threads, which may be 0.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The pool of the threads. It has more threads than are lent; a caller must spawn at most [`count`](Self::count)
    /// jobs.
    pub(crate) fn pool(&self) -> &ThreadPool {
        &self.threads.pool
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.threads.free.fetch_add(self.count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_go_to_sleep() {
        let threads = Threads::new(NonZeroUsize::new(4).unwrap()).unwrap().unwrap();
        for _ in 0..20 {
            let lent = [threads.lend(1), threads.lend(1)];
            assert_eq!(lent.map(|lent| lent.count), [1; 2]);
            while threads.awake.load(Ordering::Relaxed) > 0 {
                thread::yield_now();
            }
        }
    }
}
