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
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder, Yield};

use super::meter::Cx;
use graphpool::backend::Error;

/// Multiplications that are worth a thread.
const SHARE: usize = 1 << 20;

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
    fn lend(self: &Arc<Self>, most: usize) -> Lent<'_> {
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
struct Lent<'a> {
    threads: &'a Threads,
    count: usize,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.threads.free.fetch_add(self.count, Ordering::Relaxed);
    }
}

impl Cx<'_> {
    /// How many parts `units` are to be cut into that take so many multiplications together; at least one.
    pub(crate) fn parts(&self, units: usize, multiplications: usize) -> usize {
        let threads = self.threads.map_or(1, |threads| threads.count + 1);
        threads.min(units).min(multiplications / SHARE).max(1)
    }

    /// Calls `part` for each part of `out`, of whole units of so many elements, with a room of its own and the index of
    /// the part's first element. There are as many parts as rooms at the most.
    pub(crate) fn spread<S: Send, T: Send>(
        &self,
        rooms: &mut [S],
        out: &mut [T],
        unit: usize,
        part: impl Fn(&Cx<'_>, &mut S, usize, &mut [T]) -> Result<(), Error> + Sync,
    ) -> Result<(), Error> {
        let unit = unit.max(1);
        let len = out.len().div_ceil(unit).div_ceil(rooms.len().max(1)).max(1) * unit;
        let parts = rooms.iter_mut().zip(out.chunks_mut(len)).enumerate();
        let others = parts.len().saturating_sub(1);
        let parts = Mutex::new(parts);
        let work = |cx: &Cx<'_>| -> Result<(), Error> {
            loop {
                let next = parts.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((index, (room, out))) = next else { return Ok(()) };
                part(cx, room, index * len, out)?;
            }
        };
        let lent = self.threads.map(|threads| threads.lend(others)).filter(|lent| lent.count > 0);
        let Some(lent) = lent else { return work(self) };
        // A part is not cut again.
        let alone = Cx { threads: None, ..*self };
        let mut results: Vec<Result<(), Error>> = (0..lent.count).map(|_| Ok(())).collect();
        let own = lent.threads.pool.in_place_scope(|scope| {
            for result in &mut results {
                scope.spawn(|_| *result = work(&alone));
            }
            work(&alone)
        });
        results.into_iter().fold(own, Result::and)
    }
}

#[cfg(test)]
mod tests {
    use super::super::meter::Meter;
    use super::*;
    use graphpool::backend::ComputeControl;

    fn threads(count: usize) -> Option<Arc<Threads>> {
        Threads::new(NonZeroUsize::new(count).unwrap()).unwrap()
    }

    #[test]
    fn every_element_is_in_one_part() {
        let (control, meter) = (ComputeControl::default(), Meter::new(usize::MAX));
        for count in [1, 2, 5] {
            let threads = threads(count);
            let cx = Cx { threads: threads.as_ref(), ..Cx::new(&control, &meter) };
            for (len, unit) in [(1, 1), (2, 1), (30, 7), (31, 5), (0, 3), (40, 8)] {
                let units = usize::div_ceil(len, unit);
                let mut rooms = vec![0; cx.parts(units, usize::MAX)];
                assert_eq!(rooms.len(), units.clamp(1, count));
                let mut out = vec![0; len];
                let part = |_: &Cx<'_>, room: &mut usize, start: usize, out: &mut [usize]| {
                    *room += out.len();
                    assert_eq!(start % unit, 0);
                    (start..).zip(out).for_each(|(index, out)| *out += index + 1);
                    Ok(())
                };
                cx.spread(&mut rooms, &mut out, unit, part).unwrap();
                assert_eq!((out, rooms.iter().sum()), ((1..=len).collect(), len));
            }
        }
    }

    #[test]
    fn parts_run_at_the_same_time() {
        let (control, meter) = (ComputeControl::default(), Meter::new(usize::MAX));
        let threads = threads(3);
        let cx = Cx { threads: threads.as_ref(), ..Cx::new(&control, &meter) };
        // Nobody gets past it before all three are there.
        let barrier = std::sync::Barrier::new(3);
        let wait = |cx: &Cx<'_>, (): &mut (), _: usize, _: &mut [u8]| {
            barrier.wait();
            assert_eq!(cx.parts(9, usize::MAX), 1);
            Ok(())
        };
        cx.spread(&mut [(); 3], &mut [0; 3], 1, wait).unwrap();
    }

    #[test]
    fn a_compute_that_finds_no_thread_free_does_every_part() {
        let (control, meter) = (ComputeControl::default(), Meter::new(usize::MAX));
        let threads = threads(3).unwrap();
        let cx = Cx { threads: Some(&threads), ..Cx::new(&control, &meter) };
        let computing = thread::current().id();
        let spread = || {
            let mut ids = [None; 3];
            let part = |_: &Cx<'_>, (): &mut (), _: usize, ids: &mut [Option<thread::ThreadId>]| {
                ids.fill(Some(thread::current().id()));
                Ok(())
            };
            cx.spread(&mut [(); 3], &mut ids, 1, part).unwrap();
            ids
        };
        let all = threads.lend(5);
        assert_eq!(all.count, 2);
        assert_eq!(spread(), [Some(computing); 3]);
        drop(all);
        assert!(spread().iter().all(Option::is_some));
        // The last of them was given back.
        assert_eq!(threads.lend(5).count, 2);
    }

    #[test]
    fn a_thread_of_another_pool_does_every_part() {
        let (control, meter) = (ComputeControl::default(), Meter::new(usize::MAX));
        let threads = threads(2).unwrap();
        let cx = Cx { threads: Some(&threads), ..Cx::new(&control, &meter) };
        let other = ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        other.install(|| {
            let part = |_: &Cx<'_>, (): &mut (), _: usize, _: &mut [u8]| {
                assert_eq!(rayon::current_thread_index(), Some(0));
                assert_eq!(threads.free.load(Ordering::Relaxed), 1);
                Ok(())
            };
            cx.spread(&mut [(); 2], &mut [0; 2], 1, part).unwrap();
        });
    }

    #[test]
    fn threads_go_to_sleep() {
        let threads = threads(4).unwrap();
        for _ in 0..20 {
            let lent = [threads.lend(1), threads.lend(1)];
            assert_eq!(lent.map(|lent| lent.count), [1; 2]);
            while threads.awake.load(Ordering::Relaxed) > 0 {
                thread::yield_now();
            }
        }
    }
}
