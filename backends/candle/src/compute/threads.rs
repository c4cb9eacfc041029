//! Threads that one compute is spread over, where its host asked for that.
//!
//! What is spread is what takes long: the products of convolutions and matrices, cut along rows of their results. The
//! thread that computes takes parts as the others do. Every element of a result is the same sum, added up in the same
//! order, however many threads there are, but where the `gemm` crate multiplies: it may go by the number of rows.
//!
//! * S1: a thread is lent to one compute at a time, and nothing waits for a thread that isn't free: where none is, the
//!   computing one does every part. So no compute waits for another's.
//! * S2: threads stay awake for a millisecond after a part, for to wake one may take longer than many a part: on two
//!   cores of a virtual machine, 32 rows through an MLP went from 1.3 to 1.6 times as fast.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder, Yield};

use graphpool::backend::Error;

/// How long a thread stays awake without a part to do.
const IDLE: Duration = Duration::from_millis(1);

/// Threads beside those that compute.
#[derive(Debug)]
pub(crate) struct Threads {
    pool: ThreadPool,
    count: usize,
    /// Threads that are lent to nobody.
    free: AtomicUsize,
    /// Threads that are kept awake.
    awake: AtomicUsize,
}

impl Threads {
    /// Threads for computes on `count` of them, `None` where that is the computing one alone.
    pub(crate) fn new(count: NonZeroUsize) -> Result<Option<Arc<Self>>, Error> {
        let count = count.get() - 1;
        if count == 0 {
            return Ok(None);
        }
        let named = ThreadPoolBuilder::new().thread_name(|index| format!("graphpool-candle-{index}"));
        let pool = named.num_threads(count).build();
        let pool = pool.map_err(|error| Error::runtime_error(format!("no {count} threads: {error}")))?;
        Ok(Some(Arc::new(Self { pool, count, free: AtomicUsize::new(count), awake: AtomicUsize::new(0) })))
    }

    /// How many threads there are beside the one that computes.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// How many of them are lent to nobody.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }

    /// Keeps the threads awake (S2).
    fn wake(self: &Arc<Self>) {
        // Relaxed, as everywhere here: nothing but these numbers is told by them. A thread is kept awake by one call at
        // the most, so that what it does meanwhile is never to stay awake once more.
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

    /// Up to so many of the threads that are free.
    pub(crate) fn lend(self: &Arc<Self>, most: usize) -> Lent<'_> {
        let mut count = 0;
        // A thread of some other pool of rayon's would do that pool's work while it waits for ours.
        if most > 0 && rayon::current_thread_index().is_none() {
            self.wake();
            let take = |free: usize| {
                count = free.min(most);
                Some(free - count)
            };
            let _ = self.free.try_update(Ordering::Relaxed, Ordering::Relaxed, take);
        }
        Lent { threads: self, count }
    }
}

/// Threads that nobody else has meanwhile (S1).
pub(crate) struct Lent<'a> {
    threads: &'a Threads,
    count: usize,
}

impl Lent<'_> {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The pool that they run in, with others that may not be used.
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
