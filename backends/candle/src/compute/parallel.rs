//! A parallel loop over parts of an output, on the threads that the host gave the backend.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::compute::context::ExecContext;
use crate::tensor::budget::Charge;
use crate::tensor::element::Element;
use graphpool::backend::Error;

/// The fewest multiplications of a part. A smaller part costs less than handing it to a thread.
const PART_MULTIPLICATIONS: usize = 1 << 20;

impl ExecContext<'_> {
    /// The number of parts for a loop over `units` with `multiplications` in total; at least one, at most one a thread.
    pub(crate) fn parts(&self, units: usize, multiplications: usize) -> usize {
        let threads = self.threads.map_or(1, |threads| threads.count() + 1);
        threads.min(units).min(multiplications / PART_MULTIPLICATIONS).max(1)
    }

    /// Splits `out` into parts and calls `part` for each, with scratch memory of its own and the index of the part's
    /// first element.
    ///
    /// A part is a multiple of `unit` elements, but for the last. There are at most as many parts as `scratch` has
    /// items. The calling thread works on parts too, and does all of them if no other thread is free.
    pub(crate) fn parallel_for<S: Send, T: Send>(
        &self,
        scratch: &mut [S],
        out: &mut [T],
        unit: usize,
        part: impl Fn(&ExecContext<'_>, &mut S, usize, &mut [T]) -> Result<(), Error> + Sync,
    ) -> Result<(), Error> {
        let unit = unit.max(1);
        let len = out.len().div_ceil(unit).div_ceil(scratch.len().max(1)).max(1) * unit;
        let parts = scratch.iter_mut().zip(out.chunks_mut(len)).enumerate();
        let others = parts.len().saturating_sub(1);
        let parts = Mutex::new(parts);
        let work = |cx: &ExecContext<'_>| -> Result<(), Error> {
            loop {
                let next = parts.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((index, (scratch, out))) = next else { return Ok(()) };
                part(cx, scratch, index * len, out)?;
            }
        };
        let lent = self.threads.map(|threads| threads.lend(others)).filter(|lent| lent.count() > 0);
        let Some(lent) = lent else { return work(self) };
        // A part is not split again.
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

impl ExecContext<'_> {
    /// Allocates `total` elements and lets `part` write all of them, as [`parallel_for`](Self::parallel_for) does.
    ///
    /// They are written `chunk` elements at a time, a multiple of `unit`. Each chunk is set to zero right before, by the
    /// same thread. So its zeros are in the cache when they are overwritten.
    pub(crate) fn produce<S: Send, T: Element + Send>(
        &self,
        scratch: &mut [S],
        total: usize,
        unit: usize,
        chunk: usize,
        part: impl Fn(&ExecContext<'_>, &mut S, usize, &mut [T]) -> Result<(), Error> + Sync,
    ) -> Result<(Vec<T>, Charge), Error> {
        if let [scratch] = scratch {
            let (mut out, charge) = self.scratch::<T>(total)?;
            while out.len() < total {
                let start = out.len();
                out.resize(start + chunk.clamp(1, total - start), T::default());
                part(self, scratch, start, &mut out[start..])?;
            }
            return Ok((out, charge));
        }
        let (mut out, charge) = self.scratch::<T>(total)?;
        let spare = out.spare_capacity_mut().get_mut(..total).unwrap_or_default();
        let written = AtomicUsize::new(0);
        self.parallel_for(scratch, spare, unit, |cx, scratch, start, spare| {
            let chunk = chunk.max(1);
            for (index, spare) in spare.chunks_mut(chunk).enumerate() {
                let out = zeroed(spare);
                written.fetch_add(out.len(), Ordering::Relaxed);
                part(cx, scratch, start + index * chunk, out)?;
            }
            Ok(())
        })?;
        if written.into_inner() != total {
            return Err(Error::runtime_error("a parallel loop has no scratch memory"));
        }
        // SAFETY: the parts are different elements of the first `total` ones. They set that many to zero, so all.
        unsafe { out.set_len(total) };
        Ok((out, charge))
    }
}

/// Sets elements to zero.
fn zeroed<T: Element>(spare: &mut [MaybeUninit<T>]) -> &mut [T] {
    spare.fill(MaybeUninit::new(T::default()));
    // SAFETY: all elements have just been written.
    unsafe { spare.assume_init_mut() }
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
                let mut sums = vec![0; cx.parts(units, usize::MAX)];
                assert_eq!(sums.len(), units.clamp(1, count));
                let mut out = vec![0; len];
                let part = |_: &ExecContext<'_>, sum: &mut usize, start: usize, out: &mut [usize]| {
                    *sum += out.len();
                    assert_eq!(start % unit, 0);
                    (start..).zip(out).for_each(|(index, out)| *out += index + 1);
                    Ok(())
                };
                cx.parallel_for(&mut sums, &mut out, unit, part).unwrap();
                assert_eq!((out, sums.iter().sum()), ((1..=len).collect(), len));
            }
        }
    }

    #[test]
    fn elements_are_produced_by_all_threads() {
        let (control, budget) = (ComputeControl::default(), ComputeBudget::new(usize::MAX));
        for count in [1, 2, 5] {
            let threads = threads(count);
            let cx = ExecContext { threads: threads.as_ref(), ..ExecContext::new(&control, &budget) };
            for (total, unit, chunk) in [(1, 1, 1), (30, 7, 14), (31, 5, 5), (40, 8, 80)] {
                let mut parts = vec![(); cx.parts(usize::div_ceil(total, unit), usize::MAX)];
                let part = |_: &ExecContext<'_>, (): &mut (), start: usize, out: &mut [i32]| {
                    assert!(start.is_multiple_of(unit) && out.len() <= chunk);
                    assert!(out.iter().all(|&element| element == 0));
                    (start..).zip(out).for_each(|(index, out)| *out = index as i32);
                    Ok(())
                };
                let (out, _charge) = cx.produce(&mut parts, total, unit, chunk, part).unwrap();
                assert_eq!(out, (0..total as i32).collect::<Vec<_>>());
                let fails = |_: &ExecContext<'_>, (): &mut (), _: usize, _: &mut [i32]| Err(Error::runtime_error("no"));
                assert!(cx.produce(&mut parts, total, unit, chunk, fails).is_err());
                // Without scratch memory there is no part, and nothing is written.
                assert!(cx.produce(&mut [], total, unit, chunk, part).is_err());
            }
        }
    }

    #[test]
    fn parts_run_at_the_same_time() {
        let (control, budget) = (ComputeControl::default(), ComputeBudget::new(usize::MAX));
        let threads = threads(3);
        let cx = ExecContext { threads: threads.as_ref(), ..ExecContext::new(&control, &budget) };
        // The barrier opens only when three threads wait at it.
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
        // All threads were returned.
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
