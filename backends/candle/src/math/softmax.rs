//! Softmax and `LogSoftmax` of f32, along rows and along columns.
//!
//! NaN is left out of the maximum that is subtracted. It makes its row NaN all the same, as part of the sum.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]

use pulp::{Arch, Simd, WithSimd};

use crate::math::functions::{Fused, MulAdd, Separate, exp_by};
use crate::math::rows::folded;

/// The function, and what a sum of powers is turned into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Softmax,
    LogSoftmax,
}

/// The function along each row of `width` elements. `out` is as long as `source`.
pub(crate) fn rows(kind: Kind, source: &[f32], out: &mut [f32], width: usize) {
    Arch::new().dispatch(Rows { kind, source, out, width: width.max(1) });
}

/// The function along each of a few columns. Rows are `pitch` elements apart, in `source` and in `out`. `tops` and
/// `sums` have an element for each column.
pub(crate) fn columns(kind: Kind, source: &[f32], out: &mut [f32], pitch: usize, tops: &mut [f32], sums: &mut [f32]) {
    Arch::new().dispatch(Columns { kind, source, out, pitch: pitch.max(1), tops, sums });
}

struct Rows<'a> {
    kind: Kind,
    source: &'a [f32],
    out: &'a mut [f32],
    width: usize,
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        if fuses::<S>() { self.run::<Fused>() } else { self.run::<Separate>() }
    }
}

/// Whether the vectors have a multiplication with an addition.
#[inline(always)]
fn fuses<S: Simd>() -> bool {
    cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) && S::F32_LANES > 1
}

#[inline(always)]
fn larger(top: f32, x: f32) -> f32 {
    if x > top { x } else { top }
}

impl Rows<'_> {
    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let rows = self.source.chunks_exact(self.width).zip(self.out.chunks_exact_mut(self.width));
        for (source, out) in rows {
            let top = folded(source, f32::NEG_INFINITY, larger, larger);
            for (out, &x) in out.iter_mut().zip(source) {
                *out = exp_by::<M>(x - top);
            }
            let sum = folded(out, 0.0, |sum, x| sum + x, |a, b| a + b);
            match self.kind {
                Kind::Softmax => {
                    let scale = 1.0 / sum;
                    for out in out.iter_mut() {
                        *out *= scale;
                    }
                }
                Kind::LogSoftmax => {
                    let log = sum.ln();
                    out.iter_mut().zip(source).for_each(|(out, &x)| *out = x - top - log);
                }
            }
        }
    }
}

struct Columns<'a> {
    kind: Kind,
    source: &'a [f32],
    out: &'a mut [f32],
    pitch: usize,
    tops: &'a mut [f32],
    sums: &'a mut [f32],
}

impl WithSimd for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        if fuses::<S>() { self.run::<Fused>() } else { self.run::<Separate>() }
    }
}

impl Columns<'_> {
    #[inline(always)]
    fn run<M: MulAdd>(self) {
        let Self { kind, source, out, pitch, tops, sums } = self;
        tops.fill(f32::NEG_INFINITY);
        sums.fill(0.0);
        for row in source.chunks(pitch) {
            for (top, &x) in tops.iter_mut().zip(row) {
                *top = larger(*top, x);
            }
        }
        for (row, out) in source.chunks(pitch).zip(out.chunks_mut(pitch)) {
            for ((out, &x), &top) in out.iter_mut().zip(row).zip(&*tops) {
                *out = exp_by::<M>(x - top);
            }
            for (sum, &x) in sums.iter_mut().zip(&*out) {
                *sum += x;
            }
        }
        match kind {
            Kind::Softmax => {
                for sum in sums.iter_mut() {
                    *sum = 1.0 / *sum;
                }
                for out in out.chunks_mut(pitch) {
                    out.iter_mut().zip(&*sums).for_each(|(out, &scale)| *out *= scale);
                }
            }
            Kind::LogSoftmax => {
                for sum in sums.iter_mut() {
                    *sum = sum.ln();
                }
                for (row, out) in source.chunks(pitch).zip(out.chunks_mut(pitch)) {
                    for (((out, &x), &top), &log) in out.iter_mut().zip(row).zip(&*tops).zip(&*sums) {
                        *out = x - top - log;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition, in f64.
    fn wanted(kind: Kind, row: &[f32]) -> Vec<f32> {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f64> = row.iter().map(|&x| (f64::from(x) - f64::from(top)).exp()).collect();
        let sum: f64 = powers.iter().sum();
        let log = |&x: &f32| f64::from(x) - f64::from(top) - sum.ln();
        match kind {
            Kind::Softmax => powers.iter().map(|power| (power / sum) as f32).collect(),
            Kind::LogSoftmax => row.iter().map(|x| log(x) as f32).collect(),
        }
    }

    fn near(found: f32, wanted: f32) -> bool {
        let same = found.to_bits() == wanted.to_bits() || (found.is_nan() && wanted.is_nan());
        same || (found - wanted).abs() < 1e-6 * (1.0 + wanted.abs())
    }

    fn numbers(count: usize, special: bool) -> Vec<f32> {
        let mut numbers: Vec<f32> = (0..count).map(|index| ((index * 7919) % 4001) as f32 / 100.0 - 20.0).collect();
        if special && count > 5 {
            (numbers[1], numbers[3], numbers[count - 1]) = (f32::NEG_INFINITY, f32::NAN, -1e30);
        }
        numbers
    }

    #[test]
    fn rows_and_columns_of_every_size_are_those_of_the_definition() {
        for kind in [Kind::Softmax, Kind::LogSoftmax] {
            for width in [1, 2, 15, 16, 17, 31, 32, 33, 64, 100] {
                for count in [1, 2, 5] {
                    for special in [false, true] {
                        let source = numbers(width * count, special);
                        let mut found = vec![7.0; source.len()];
                        rows(kind, &source, &mut found, width);
                        for (row, found) in source.chunks_exact(width).zip(found.chunks_exact(width)) {
                            for (wanted, &found) in wanted(kind, row).into_iter().zip(found) {
                                assert!(near(found, wanted), "{kind:?} {width} {count} {found} {wanted}");
                            }
                        }
                        // All columns but the last, which stays as it is.
                        let few = width.max(2) - 1;
                        let (mut tops, mut sums) = (vec![0.0; few], vec![0.0; few]);
                        let end = source.len() - (width - few.min(width));
                        let mut found = vec![7.0; source.len()];
                        for column in 0..few.min(width) {
                            let list: Vec<f32> = source[column..].iter().step_by(width).copied().collect();
                            let mut narrow = source.clone();
                            narrow.truncate(end);
                            found.fill(7.0);
                            columns(kind, &narrow, &mut found[..end], width, &mut tops, &mut sums);
                            for (row, wanted) in wanted(kind, &list).into_iter().enumerate() {
                                let found = found[row * width + column];
                                assert!(near(found, wanted), "{kind:?} {width} {count} {row} {column}");
                            }
                        }
                        if width > 1 {
                            assert!(found[few..].iter().step_by(width).all(|&x| near(x, 7.0)), "{width}");
                        }
                    }
                }
            }
        }
    }
}
