//! Loops that quantize floats to integers of 8 bits and dequantize them, for one scale or one for each index of an axis.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::simd::{Loop, wide_loop};
use crate::ops::bytes::{Byte, ROUNDER, extend};
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// An integer type of 8 bits, whose numbers f32 has exactly.
pub(super) trait Quantized: Byte {
    fn number(self) -> i32;
}

impl Quantized for u8 {
    #[inline(always)]
    fn number(self) -> i32 {
        i32::from(self)
    }
}

impl Quantized for i8 {
    #[inline(always)]
    fn number(self) -> i32 {
        i32::from(self)
    }
}

/// Runs of elements that have the same scale and zero point: their number, their length, and how many parameters there
/// are. Run `r` has parameter `r` modulo that number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Runs {
    pub(super) len: usize,
    pub(super) parameters: usize,
}

impl Runs {
    /// Calls `visit` with each piece of elements of one run, with the number of its parameter.
    fn visit<T>(self, elements: &[T], cx: &ExecContext<'_>, mut visit: impl FnMut(&[T], usize)) -> Result<(), Error> {
        let mut checkpoint = Checkpoint::default();
        for (run, elements) in elements.chunks(self.len.max(1)).enumerate() {
            for piece in elements.chunks(PIECE) {
                checkpoint.step(piece.len(), cx)?;
                visit(piece, run % self.parameters.max(1));
            }
        }
        Ok(())
    }
}

/// The nearest integer of a quotient plus the zero point, within the range of the type. NaN becomes 0.
#[inline(always)]
pub(super) fn quantized<B: Byte>(quotient: f32, zero: f32) -> B {
    let (low, high) = B::RANGE;
    let rounded = quotient.round_ties_even() + zero;
    let number = rounded.max(low).min(high);
    let bits = (number + ROUNDER).to_bits();
    B::from_bits(if quotient.is_nan() { 0 } else { bits })
}

/// Divides by the scales and rounds to the nearest integers.
pub(super) fn quantize<B: Byte>(
    value: &Value,
    (scales, zeros): (&[f32], Option<&[i32]>),
    runs: Runs,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let elements = value.elements::<f32>()?;
    cx.output::<B>(value.dims())?.append(|out| {
        runs.visit(elements, cx, |piece, parameter| {
            let (scale, zero) = (scales[parameter], zeros.map_or(0, |zeros| zeros[parameter]) as f32);
            extend(piece, out, |x: f32| quantized::<B>(x / scale, zero));
        })
    })
}

/// Subtracts the zero points and multiplies by the scales.
pub(super) fn dequantize<B: Quantized>(
    value: &Value,
    (scales, zeros): (&[f32], Option<&[i32]>),
    runs: Runs,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let elements = value.elements::<B>()?;
    cx.output::<f32>(value.dims())?.append(|out| {
        runs.visit(elements, cx, |piece, parameter| {
            let (scale, zero) = (scales[parameter], zeros.map_or(0, |zeros| zeros[parameter]));
            extend(piece, out, |x: B| (x.number() - zero) as f32 * scale);
        })
    })
}

/// Subtracts the zero points and multiplies by the scales: one of each for each index of the last dimension.
pub(super) fn dequantize_columns<B: Quantized>(
    value: &Value,
    (scales, zeros): (&[f32], Option<&[i32]>),
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let elements = value.elements::<B>()?;
    let mut checkpoint = Checkpoint::default();
    cx.output::<f32>(value.dims())?.append(|out| {
        for row in elements.chunks(scales.len().max(1)) {
            for (at, piece) in (0..).step_by(PIECE).zip(row.chunks(PIECE)) {
                checkpoint.step(piece.len(), cx)?;
                let start = out.len();
                out.resize(start + piece.len(), 0.0);
                let (scales, zeros) = (&scales[at..], zeros.map(|zeros| &zeros[at..]));
                wide_loop(Columns { elements: piece, scales, zeros, out: &mut out[start..] });
            }
        }
        Ok(())
    })
}

/// A piece of a row, whose elements have a scale and perhaps a zero point each.
struct Columns<'a, B> {
    elements: &'a [B],
    scales: &'a [f32],
    zeros: Option<&'a [i32]>,
    out: &'a mut [f32],
}

impl<B: Quantized> Loop for Columns<'_, B> {
    #[inline(always)]
    fn run(self) {
        let results = self.out.iter_mut().zip(self.elements).zip(self.scales);
        match self.zeros {
            None => results.for_each(|((out, &x), scale)| *out = x.number() as f32 * scale),
            Some(zeros) => {
                results.zip(zeros).for_each(|(((out, &x), scale), zero)| *out = (x.number() - zero) as f32 * scale);
            }
        }
    }
}

/// Quantizes with one scale and a zero point, as DynamicQuantizeLinear does.
pub(super) fn quantize_dynamically(
    value: &Value,
    (scale, zero): (f32, f32),
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let elements = value.elements::<f32>()?;
    cx.output::<u8>(value.dims())?.append(|out| {
        Runs { len: elements.len(), parameters: 1 }
            .visit(elements, cx, |piece, _| extend(piece, out, |x: f32| quantized::<u8>(x / scale, zero)))
    })
}

/// A scale and a zero point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scaling {
    pub(super) scale: f32,
    pub(super) zero: i32,
}

/// The quantized sums of two quantized tensors of the same dimensions, or their products, in one pass.
///
/// Each is what the dequantized numbers give, quantized: in the same operations, so with the same bits.
pub(super) fn combine<B: Quantized, const PRODUCTS: bool>(
    [a, b]: [&Value; 2],
    [of_a, of_b, of_result]: [Scaling; 3],
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let (left, right) = (a.elements::<B>()?, b.elements::<B>()?);
    let (mut checkpoint, zero) = (Checkpoint::default(), of_result.zero as f32);
    let f = move |x: B, y: B| {
        let x = (x.number() - of_a.zero) as f32 * of_a.scale;
        let y = (y.number() - of_b.zero) as f32 * of_b.scale;
        let combined = if PRODUCTS { x * y } else { x + y };
        quantized::<B>(combined / of_result.scale, zero)
    };
    cx.output::<B>(a.dims())?.append(|out| {
        for (a, b) in left.chunks(PIECE).zip(right.chunks(PIECE)) {
            let start = out.len();
            checkpoint.fill(B::default(), start + a.len(), out, cx)?;
            wide_loop(Pairs { a, b, out: &mut out[start..], f });
        }
        Ok(())
    })
}

struct Pairs<'a, B, F> {
    a: &'a [B],
    b: &'a [B],
    out: &'a mut [B],
    f: F,
}

impl<B: Quantized, F: Fn(B, B) -> B> Loop for Pairs<'_, B, F> {
    #[inline(always)]
    fn run(self) {
        for ((out, &a), &b) in self.out.iter_mut().zip(self.a).zip(self.b) {
            *out = (self.f)(a, b);
        }
    }
}

/// The smallest and the largest of some numbers and of two others; a NaN is passed over.
pub(super) fn range(numbers: &[f32], low: f32, high: f32) -> (f32, f32) {
    struct Range<'a>(&'a [f32], &'a mut [f32; LANES], &'a mut [f32; LANES]);
    impl Loop for Range<'_> {
        #[inline(always)]
        fn run(self) {
            let (chunks, rest) = self.0.as_chunks::<LANES>();
            for chunk in chunks {
                for ((low, high), &x) in self.1.iter_mut().zip(self.2.iter_mut()).zip(chunk) {
                    *low = if x < *low { x } else { *low };
                    *high = if x > *high { x } else { *high };
                }
            }
            for ((low, high), &x) in self.1.iter_mut().zip(self.2.iter_mut()).zip(rest) {
                *low = low.min(x);
                *high = high.max(x);
            }
        }
    }
    const LANES: usize = 64;
    let (mut lows, mut highs) = ([low; LANES], [high; LANES]);
    wide_loop(Range(numbers, &mut lows, &mut highs));
    (lows.into_iter().fold(low, f32::min), highs.into_iter().fold(high, f32::max))
}
