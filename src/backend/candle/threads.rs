//! Threads that one compute is spread over, where its host asked for that.
//!
//! What is spread is what takes long: the products of convolutions and matrices, cut along rows of their results. The
//! thread that computes does the first part itself and waits for the others. Every element of a result is the same sum,
//! added up in the same order, however many threads there are.

use std::num::NonZeroUsize;

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::meter::Cx;
use crate::nn::Error;

/// Multiplications that are worth waking a thread for.
const SHARE: usize = 1 << 20;

/// A pool of threads beside the one that computes.
#[derive(Debug)]
pub(crate) struct Threads {
    pool: ThreadPool,
    count: usize,
}

impl Threads {
    /// Threads for computes on `count` of them, `None` where that is the computing one alone.
    pub(crate) fn new(count: NonZeroUsize) -> Result<Option<Self>, Error> {
        let others = count.get() - 1;
        if others == 0 {
            return Ok(None);
        }
        let named = ThreadPoolBuilder::new().thread_name(|index| format!("graphpool-candle-{index}"));
        let pool = named.num_threads(others).build();
        let pool = pool.map_err(|error| Error::runtime_error(format!("no {others} threads: {error}")))?;
        Ok(Some(Self { pool, count: count.get() }))
    }
}

impl Cx<'_> {
    /// How many parts `units` are to be cut into that take so many multiplications together; at least one.
    pub(crate) fn parts(&self, units: usize, multiplications: usize) -> usize {
        let threads = self.threads.map_or(1, |threads| threads.count);
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
        let units = out.len().div_ceil(unit.max(1));
        let len = units.div_ceil(rooms.len().max(1)).max(1) * unit.max(1);
        let mut parts = rooms.iter_mut().zip(out.chunks_mut(len)).enumerate();
        let Some((_, (room, own))) = parts.next() else { return Ok(()) };
        let Some(threads) = self.threads.filter(|_| parts.len() > 0) else { return part(self, room, 0, own) };
        // A part is not cut again.
        let alone = Cx { threads: None, ..*self };
        let mut results: Vec<Result<(), Error>> = (0..parts.len()).map(|_| Ok(())).collect();
        let (alone, part) = (&alone, &part);
        let first = threads.pool.in_place_scope(|scope| {
            for ((index, (room, out)), result) in parts.zip(&mut results) {
                scope.spawn(move |_| *result = part(alone, room, index * len, out));
            }
            part(alone, room, 0, own)
        });
        results.into_iter().fold(first, Result::and)
    }
}

#[cfg(test)]
mod tests {
    use super::super::meter::Meter;
    use super::*;
    use crate::backend::ComputeControl;

    fn threads(count: usize) -> Option<Threads> {
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
    fn the_error_of_any_part_comes_back() {
        let (control, meter) = (ComputeControl::default(), Meter::new(usize::MAX));
        let threads = threads(4);
        let cx = Cx { threads: threads.as_ref(), ..Cx::new(&control, &meter) };
        for wrong in 0..4 {
            let part = |_: &Cx<'_>, (): &mut (), start: usize, _: &mut [u8]| {
                if start == wrong { Err(Error::runtime_error("this one")) } else { Ok(()) }
            };
            assert_eq!(cx.spread(&mut [(); 4], &mut [0; 4], 1, part).unwrap_err().message(), "this one");
        }
    }
}
