//! A loop whose parts run on several threads, where the host has given the backend some.

use std::sync::{Mutex, PoisonError};

use crate::compute::context::ExecContext;
use graphpool::backend::Error;

/// Multiplications that are worth a thread.
const SHARE: usize = 1 << 20;

impl ExecContext<'_> {
    /// How many parts `units` are to be cut into that take so many multiplications together; at least one.
    pub(crate) fn parts(&self, units: usize, multiplications: usize) -> usize {
        let threads = self.threads.map_or(1, |threads| threads.count() + 1);
        threads.min(units).min(multiplications / SHARE).max(1)
    }

    /// Calls `part` for each part of `out`, of whole units of so many elements, with a room of its own and the index of
    /// the part's first element. There are as many parts as rooms at the most.
    pub(crate) fn parallel_for<S: Send, T: Send>(
        &self,
        rooms: &mut [S],
        out: &mut [T],
        unit: usize,
        part: impl Fn(&ExecContext<'_>, &mut S, usize, &mut [T]) -> Result<(), Error> + Sync,
    ) -> Result<(), Error> {
        let unit = unit.max(1);
        let len = out.len().div_ceil(unit).div_ceil(rooms.len().max(1)).max(1) * unit;
        let parts = rooms.iter_mut().zip(out.chunks_mut(len)).enumerate();
        let others = parts.len().saturating_sub(1);
        let parts = Mutex::new(parts);
        let work = |cx: &ExecContext<'_>| -> Result<(), Error> {
            loop {
                let next = parts.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((index, (room, out))) = next else { return Ok(()) };
                part(cx, room, index * len, out)?;
            }
        };
        let lent = self.threads.map(|threads| threads.lend(others)).filter(|lent| lent.count() > 0);
        let Some(lent) = lent else { return work(self) };
        // A part is not cut again.
        let alone = ExecContext { threads: None, ..*self };
        let mut results: Vec<Result<(), Error>> = (0..lent.count()).map(|_| Ok(())).collect();
        let own = lent.pool().in_place_scope(|scope| {
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
    use super::*;
    use crate::compute::threads::Threads;
    use crate::tensor::budget::ComputeBudget;
    use graphpool::backend::ComputeControl;
    use rayon::ThreadPoolBuilder;
    use std::num::NonZeroUsize;
    use std::sync::Arc;
    use std::thread;

    fn threads(count: usize) -> Option<Arc<Threads>> {
        Threads::new(NonZeroUsize::new(count).unwrap()).unwrap()
    }

    #[test]
    fn every_element_is_in_one_part() {
        let (control, budget) = (ComputeControl::default(), ComputeBudget::new(usize::MAX));
        for count in [1, 2, 5] {
            let threads = threads(count);
            let cx = ExecContext { threads: threads.as_ref(), ..ExecContext::new(&control, &budget) };
            for (len, unit) in [(1, 1), (2, 1), (30, 7), (31, 5), (0, 3), (40, 8)] {
                let units = usize::div_ceil(len, unit);
                let mut rooms = vec![0; cx.parts(units, usize::MAX)];
                assert_eq!(rooms.len(), units.clamp(1, count));
                let mut out = vec![0; len];
                let part = |_: &ExecContext<'_>, room: &mut usize, start: usize, out: &mut [usize]| {
                    *room += out.len();
                    assert_eq!(start % unit, 0);
                    (start..).zip(out).for_each(|(index, out)| *out += index + 1);
                    Ok(())
                };
                cx.parallel_for(&mut rooms, &mut out, unit, part).unwrap();
                assert_eq!((out, rooms.iter().sum()), ((1..=len).collect(), len));
            }
        }
    }

    #[test]
    fn parts_run_at_the_same_time() {
        let (control, budget) = (ComputeControl::default(), ComputeBudget::new(usize::MAX));
        let threads = threads(3);
        let cx = ExecContext { threads: threads.as_ref(), ..ExecContext::new(&control, &budget) };
        // Nobody gets past it before all three are there.
        let barrier = std::sync::Barrier::new(3);
        let wait = |cx: &ExecContext<'_>, (): &mut (), _: usize, _: &mut [u8]| {
            barrier.wait();
            assert_eq!(cx.parts(9, usize::MAX), 1);
            Ok(())
        };
        cx.parallel_for(&mut [(); 3], &mut [0; 3], 1, wait).unwrap();
    }

    #[test]
    fn a_compute_that_finds_no_thread_free_does_every_part() {
        let (control, budget) = (ComputeControl::default(), ComputeBudget::new(usize::MAX));
        let threads = threads(3).unwrap();
        let cx = ExecContext { threads: Some(&threads), ..ExecContext::new(&control, &budget) };
        let computing = thread::current().id();
        let spread = || {
            let mut ids = [None; 3];
            let part = |_: &ExecContext<'_>, (): &mut (), _: usize, ids: &mut [Option<thread::ThreadId>]| {
                ids.fill(Some(thread::current().id()));
                Ok(())
            };
            cx.parallel_for(&mut [(); 3], &mut ids, 1, part).unwrap();
            ids
        };
        let all = threads.lend(5);
        assert_eq!(all.count(), 2);
        assert_eq!(spread(), [Some(computing); 3]);
        drop(all);
        assert!(spread().iter().all(Option::is_some));
        // The last of them was given back.
        assert_eq!(threads.lend(5).count(), 2);
    }

    #[test]
    fn a_thread_of_another_pool_does_every_part() {
        let (control, budget) = (ComputeControl::default(), ComputeBudget::new(usize::MAX));
        let threads = threads(2).unwrap();
        let cx = ExecContext { threads: Some(&threads), ..ExecContext::new(&control, &budget) };
        let other = ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        other.install(|| {
            let part = |_: &ExecContext<'_>, (): &mut (), _: usize, _: &mut [u8]| {
                assert_eq!(rayon::current_thread_index(), Some(0));
                assert_eq!(threads.free(), 1);
                Ok(())
            };
            cx.parallel_for(&mut [(); 2], &mut [0; 2], 1, part).unwrap();
        });
    }
}
