//! What becomes of the sums of a product of bytes between steps that dequantize and quantize.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]

use crate::math::simd::{Loop, wide_loop};
use crate::ops::bytes::{Byte, ROUNDER};
use crate::ops::requantize::Finish;

/// Sums times a factor, plus an addend and a zero point, as integers of 8 bits.
pub(super) struct Rescale<B> {
    /// One factor, or one for each row or column; an addend for each of those, or none.
    factors: Vec<f32>,
    addends: Vec<f32>,
    by_row: bool,
    zero: f32,
    /// Whether results below the zero point are the zero point.
    relu: bool,
    ty: std::marker::PhantomData<B>,
}

impl<B: Byte> Rescale<B> {
    pub(super) fn new((factors, addends): (Vec<f32>, Vec<f32>), by_row: bool, zero: i32, relu: bool) -> Self {
        Self { factors, addends, by_row, zero: zero as f32, relu, ty: std::marker::PhantomData }
    }
}

impl<B: Byte> Finish for Rescale<B> {
    type Out = B;

    fn finish(&self, row: usize, column: usize, sums: &[i32], out: &mut [B]) {
        let (zero, relu) = (self.zero, self.relu);
        let part = |list: &'_ [f32]| -> std::ops::Range<usize> {
            match list.len() {
                0 | 1 => 0..list.len(),
                _ if self.by_row => row..row + 1,
                _ => column..column + sums.len(),
            }
        };
        // With one column, its only factor and addend are those of the row.
        let factors = &self.factors[part(&self.factors)];
        let addends = &self.addends[part(&self.addends)];
        wide_loop(ScaleAndAdd { sums, factors, addends, zero, relu, out });
    }
}

struct ScaleAndAdd<'a, B> {
    sums: &'a [i32],
    factors: &'a [f32],
    addends: &'a [f32],
    zero: f32,
    relu: bool,
    out: &'a mut [B],
}

impl<B: Byte> Loop for ScaleAndAdd<'_, B> {
    #[inline(always)]
    fn run(self) {
        let Self { sums, factors, addends, zero, relu, out } = self;
        let (low, high) = (if relu { zero } else { B::RANGE.0 }, B::RANGE.1);
        let one = |list: &[f32], without: f32| match list {
            [] => Some(without),
            [one] => Some(*one),
            _ => None,
        };
        match (one(factors, 1.0), one(addends, 0.0)) {
            (Some(factor), Some(addend)) => {
                for (out, &sum) in out.iter_mut().zip(sums) {
                    *out = nearest(sum as f32 * factor + addend, zero, (low, high));
                }
            }
            (Some(factor), None) => {
                for ((out, &sum), addend) in out.iter_mut().zip(sums).zip(addends) {
                    *out = nearest(sum as f32 * factor + addend, zero, (low, high));
                }
            }
            (None, Some(addend)) => {
                for ((out, &sum), factor) in out.iter_mut().zip(sums).zip(factors) {
                    *out = nearest(sum as f32 * factor + addend, zero, (low, high));
                }
            }
            (None, None) => {
                for (((out, &sum), factor), addend) in out.iter_mut().zip(sums).zip(factors).zip(addends) {
                    *out = nearest(sum as f32 * factor + addend, zero, (low, high));
                }
            }
        }
    }
}

/// The nearest integer plus the zero point, within a range.
#[inline(always)]
fn nearest<B: Byte>(number: f32, zero: f32, (low, high): (f32, f32)) -> B {
    B::from_bits(((number.round_ties_even() + zero).max(low).min(high) + ROUNDER).to_bits())
}
