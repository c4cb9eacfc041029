//! What becomes of the sums of a product of bytes: the sums themselves, integers of 8 bits, or floats.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]

use crate::compute::context::ExecContext;
use crate::math::simd::{Loop, wide_loop};
use crate::ops::bytes::{Byte, ROUNDER, WIDE_ROUNDER};
use crate::ops::cast::convert;
use crate::tensor::element::{Element, ElementType};
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

/// Makes results of sums.
pub(super) trait Finish: Sync {
    /// The results' type.
    type Out: Element;

    /// The results as the sums that they are, if they are.
    fn as_sums(_: &mut [Self::Out]) -> Option<&mut [i32]> {
        None
    }

    /// Makes the results of the sums in row `row` from column `column` on.
    fn finish(&self, row: usize, column: usize, sums: &[i32], out: &mut [Self::Out]);
}

impl<F: Finish> Finish for &F {
    type Out = F::Out;

    fn as_sums(out: &mut [F::Out]) -> Option<&mut [i32]> {
        F::as_sums(out)
    }

    fn finish(&self, row: usize, column: usize, sums: &[i32], out: &mut [F::Out]) {
        (**self).finish(row, column, sums, out);
    }
}

/// The sums themselves.
pub(super) struct AsSums;

impl Finish for AsSums {
    type Out = i32;

    fn as_sums(out: &mut [i32]) -> Option<&mut [i32]> {
        Some(out)
    }

    fn finish(&self, _: usize, _: usize, sums: &[i32], out: &mut [i32]) {
        out.copy_from_slice(sums);
    }
}

/// Sums times a scale, plus a bias, as floats.
pub(super) struct Floats<'a> {
    /// One scale, or one for each column.
    pub(super) scales: &'a [f32],
    /// One for each column, or none.
    pub(super) bias: &'a [f32],
}

impl Finish for Floats<'_> {
    type Out = f32;

    fn finish(&self, _: usize, _: usize, sums: &[i32], out: &mut [f32]) {
        wide_loop(ScaleFloats { sums, scales: self.scales, bias: self.bias, out });
    }
}

struct ScaleFloats<'a> {
    sums: &'a [i32],
    scales: &'a [f32],
    bias: &'a [f32],
    out: &'a mut [f32],
}

impl Loop for ScaleFloats<'_> {
    #[inline(always)]
    fn run(self) {
        if let [scale] = self.scales {
            self.out.iter_mut().zip(self.sums).for_each(|(out, &sum)| *out = sum as f32 * scale);
        } else {
            for ((out, &sum), scale) in self.out.iter_mut().zip(self.sums).zip(self.scales) {
                *out = sum as f32 * scale;
            }
        }
        self.out.iter_mut().zip(self.bias).for_each(|(out, bias)| *out += bias);
    }
}

/// How far a product of floats is from the exact one at most, below [`SATURATED`], with room.
const DOUBT: f32 = 1.0 / 4096.0;

/// A number that saturates with any zero point.
const SATURATED: f32 = 1024.0;

/// Sums times a factor, plus a zero point, as integers of 8 bits.
pub(super) struct Requantize<'a, B> {
    /// One factor, or one for each row or column.
    factors: &'a [f32],
    by_row: bool,
    zero: i32,
    ty: std::marker::PhantomData<B>,
}

impl<'a, B: Byte> Requantize<'a, B> {
    pub(super) fn new(factors: &'a [f32], by_row: bool, zero: i32) -> Self {
        Self { factors, by_row, zero, ty: std::marker::PhantomData }
    }
}

impl<B: Byte> Finish for Requantize<'_, B> {
    type Out = B;

    fn finish(&self, row: usize, column: usize, sums: &[i32], out: &mut [B]) {
        let zero = self.zero;
        match self.factors {
            [factor] => wide_loop(Scale { sums, factor: One(*factor), zero, out }),
            factors if self.by_row => wide_loop(Scale { sums, factor: One(factors[row]), zero, out }),
            factors => wide_loop(Scale { sums, factor: Each(&factors[column..][..sums.len()]), zero, out }),
        }
    }
}

/// The factor of each column.
trait Factors: Copy {
    fn at(self, index: usize) -> f32;
    fn from(self, index: usize) -> Self;
}

#[derive(Clone, Copy)]
struct One(f32);

#[derive(Clone, Copy)]
struct Each<'a>(&'a [f32]);

impl Factors for One {
    #[inline(always)]
    fn at(self, _: usize) -> f32 {
        self.0
    }

    #[inline(always)]
    fn from(self, _: usize) -> Self {
        self
    }
}

impl Factors for Each<'_> {
    #[inline(always)]
    fn at(self, index: usize) -> f32 {
        self.0[index]
    }

    #[inline(always)]
    fn from(self, index: usize) -> Self {
        Self(&self.0[index..])
    }
}

struct Scale<'a, F, B> {
    sums: &'a [i32],
    factor: F,
    zero: i32,
    out: &'a mut [B],
}

/// Sums that are scaled together.
const CHUNK: usize = 64;

impl<F: Factors, B: Byte> Loop for Scale<'_, F, B> {
    #[inline(always)]
    fn run(self) {
        let Self { sums, factor, zero, out } = self;
        let (chunks, rest) = sums.as_chunks::<CHUNK>();
        let (out_chunks, out_rest) = out.as_chunks_mut::<CHUNK>();
        for (index, (sums, out)) in chunks.iter().zip(out_chunks).enumerate() {
            chunk(sums, factor.from(index * CHUNK), zero, out);
        }
        let factor = factor.from(chunks.len() * CHUNK);
        exact(rest, factor, zero, out_rest);
    }
}

/// Scales in f32, or in f64 if a result might be another one there.
#[inline(always)]
fn chunk<F: Factors, B: Byte>(sums: &[i32; CHUNK], factor: F, zero: i32, out: &mut [B; CHUNK]) {
    let (low, high) = B::RANGE;
    let zero_point = zero as f32;
    let mut doubts = 0_u32;
    for (index, (&sum, out)) in sums.iter().zip(out.iter_mut()).enumerate() {
        let number = sum as f32 * factor.at(index);
        let rounded = number.round_ties_even();
        // Half of all numbers near a tie are rounded wrongly, perhaps. That of NaN is always one of those.
        let sure = (number - rounded).abs() < 0.5 - DOUBT || number.abs() > SATURATED;
        doubts |= u32::from(!sure);
        let rounded = (rounded + zero_point).max(low).min(high);
        *out = B::from_bits((rounded + ROUNDER).to_bits());
    }
    if doubts != 0 {
        exact(sums, factor, zero, out);
    }
}

/// Scales in f64.
#[inline(always)]
fn exact<F: Factors, B: Byte>(sums: &[i32], factor: F, zero: i32, out: &mut [B]) {
    let (low, high) = B::RANGE;
    for (index, (&sum, out)) in sums.iter().zip(out).enumerate() {
        let number = f64::from(sum) * f64::from(factor.at(index));
        let rounded = (number + f64::from(zero)).round_ties_even().clamp(f64::from(low), f64::from(high));
        let bits = (rounded + WIDE_ROUNDER).to_bits() as u32;
        *out = B::from_bits(if rounded.is_nan() { 0 } else { bits });
    }
}

/// The factors by which sums are scaled, and the zero point of the results.
pub(super) struct Scales {
    pub(super) factors: Value,
    pub(super) zero: i32,
    /// The type of the results: U8 or I8.
    pub(super) ty: ElementType,
}

impl Scales {
    /// The scales of the operands and of the result, whose zero point is `zero`.
    pub(super) fn new(a: &[f32], b: &[f32], y: &[f32], zero: &Value, cx: &ExecContext<'_>) -> Result<Self, Error> {
        let &[y] = y else { return Err(Error::unsupported("more than one output scale is not supported")) };
        let ([a], true) = (a, y != 0.0) else {
            return Err(Error::unsupported(
                "a scale for each row of the left operand and an output scale of 0 are not supported",
            ));
        };
        let ty = zero.ty();
        if !matches!(ty, ElementType::U8 | ElementType::I8) || zero.len() != 1 {
            return Err(no_type(zero));
        }
        let zero = convert(zero.clone(), ElementType::I32, cx)?.elements::<i32>()?[0];
        let factors = cx.output::<f32>(&[b.len()])?.collect(b.iter().map(|b| a * b / y))?;
        Ok(Self { factors, zero, ty })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_in_f32_gives_what_scaling_in_f64_gives() {
        let sums: Vec<i32> =
            (0..4096).map(|index: i32| (index - 2048).wrapping_mul(1_048_573) >> (index % 31)).collect();
        for factor in [0.5, 0.25, 1.0 / 3.0, 0.003_91, 1e-7, 3e-6, -0.5, 0.0, 1e30, f32::INFINITY, f32::NAN] {
            for zero in [0, 3, 128, 255] {
                let (mut found, mut wanted) = (vec![0_u8; 4096], vec![0_u8; 4096]);
                wide_loop(Scale { sums: &sums, factor: One(factor), zero, out: &mut found });
                exact(&sums, One(factor), zero, &mut wanted);
                assert_eq!(found, wanted, "{factor} {zero}");
                let (mut found, mut wanted) = (vec![0_i8; 4096], vec![0_i8; 4096]);
                let factors = vec![factor; 4096];
                wide_loop(Scale { sums: &sums, factor: Each(&factors), zero: zero - 128, out: &mut found });
                exact(&sums, One(factor), zero - 128, &mut wanted);
                assert_eq!(found, wanted, "{factor} {zero}");
            }
        }
    }
}
