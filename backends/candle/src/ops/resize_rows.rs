//! Resamples one dimension of a tensor: each element of the result is the sum of up to four weighted elements.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::loops;
use crate::ops::real::Real;
use crate::tensor::dims::product;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// Up to four elements of a dimension, and their weights. Those of weight 0 are not read.
pub(super) type Taps<T> = [(usize, T); 4];

/// Resamples dimension `at`, which gets as many elements as there are `taps`.
pub(super) fn resample<T: Real>(
    value: &Value,
    at: usize,
    taps: &[Taps<T>],
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let input = value.dims()[at];
    let mut dims = value.dims().to_vec();
    dims[at] = taps.len();
    let inner = product(&dims[at + 1..]);
    let (elements, mut checkpoint) = (value.elements::<T>()?, Checkpoint::default());
    let pairs = taps.iter().all(|taps| taps[2].1 == T::default() && taps[3].1 == T::default());
    cx.output::<T>(&dims)?.append(|out| {
        for block in elements.chunks_exact(input * inner) {
            if inner > 1 {
                for taps in taps {
                    blend(block, inner, taps, out, &mut checkpoint, cx)?;
                }
            } else if pairs {
                for taps in taps.chunks(PIECE) {
                    checkpoint.step(2 * taps.len(), cx)?;
                    out.extend(taps.iter().map(|&[(first, a), (second, b), ..]| {
                        // What has no weight may be infinite.
                        let sum = if a == T::default() { a } else { a * block[first] };
                        if b == T::default() { sum } else { sum + b * block[second] }
                    }));
                }
            } else {
                for taps in taps.chunks(PIECE) {
                    checkpoint.step(4 * taps.len(), cx)?;
                    out.extend(taps.iter().map(|taps| {
                        let weighted = taps.iter().filter(|tap| tap.1 != T::default());
                        weighted.fold(T::default(), |sum, &(at, weight)| sum + weight * block[at])
                    }));
                }
            }
        }
        Ok(())
    })
}

/// Appends the weighted sum of up to four rows of `inner` elements.
fn blend<T: Real>(
    block: &[T],
    inner: usize,
    taps: &Taps<T>,
    out: &mut Vec<T>,
    checkpoint: &mut Checkpoint,
    cx: &ExecContext<'_>,
) -> Result<(), Error> {
    let mut weighted = taps.iter().filter(|tap| tap.1 != T::default());
    let first = weighted.next().copied().unwrap_or((0, T::default()));
    let row = |at: usize, from: usize, len: usize| &block[at * inner + from..at * inner + from + len];
    let start = out.len();
    let second = weighted.next();
    for from in (0..inner).step_by(PIECE) {
        let len = PIECE.min(inner - from);
        checkpoint.step(len, cx)?;
        let ((a, x), other) = ((first.1, row(first.0, from, len)), second.map(|&(at, b)| (b, row(at, from, len))));
        match other {
            None if x.is_empty() || a == T::default() => out.resize(out.len() + len, T::default()),
            None => loops::extend(out, x.iter().map(move |&x| a * x)),
            Some((b, y)) => loops::extend(out, x.iter().zip(y).map(move |(&x, &y)| a * x + b * y)),
        }
    }
    for &(at, weight) in weighted {
        for from in (0..inner).step_by(PIECE) {
            let len = PIECE.min(inner - from);
            checkpoint.step(len, cx)?;
            let pairs = out[start + from..start + from + len].iter_mut().zip(row(at, from, len));
            loops::for_each(pairs, move |(out, &x)| *out += weight * x);
        }
    }
    Ok(())
}
