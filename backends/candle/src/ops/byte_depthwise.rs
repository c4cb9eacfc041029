//! Depthwise convolutions of bytes, as sums of shifted rows in f32, which has such sums exactly.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::ops::byte_patches::{BytePatches, Image};
use crate::ops::byte_product::ZeroPoints;
use crate::ops::bytes::WIDE_ROUNDER;
use crate::ops::depthwise::add_shifted;
use crate::ops::requantize::Finish;
use crate::ops::window::ConvShape;
use crate::tensor::dims::product;
use graphpool::backend::Error;

/// The largest kernel whose sums of products of two 8-bit numbers, each minus a zero point, f32 has exactly.
pub(super) const EXACT: usize = 256;

/// A depthwise convolution, in f32, which is exact for so small kernels.
pub(super) fn depthwise<F: Finish>(
    shape: &ConvShape<'_>,
    (elements, x_signed): (&[u8], bool),
    (taps, w_signed): (&[u8], bool),
    [x_zeros, w_zeros]: &[ZeroPoints; 2],
    (bias, finish): (Option<&[i32]>, &F),
    out: &mut [F::Out],
    cx: &ExecContext<'_>,
) -> Result<(), Error> {
    let &ConvShape { batch, channels, filters, spatial, kernel, slides, .. } = shape;
    let (volume, size) = (product(spatial), product(kernel));
    let positions = product(&slides.map(|slide| slide.output));
    let parts = cx.parts(batch * filters, out.len().saturating_mul(size));
    let scratch = |_| {
        let image = Image::new(slides, 1, cx)?;
        let patches = BytePatches::new(&image, size, cx)?;
        let lines = Lines::new(&patches);
        // Vectors of the last outputs reach past the image.
        let plane = cx.filled(0.0_f32, image.volume + VECTORS)?;
        let sums = (cx.filled(0.0_f32, lines.len)?, cx.filled(0_i32, lines.len)?);
        Ok((image, patches, plane, sums, (cx.filled(0.0_f32, size)?, cx.filled(F::Out::default(), lines.len)?)))
    };
    let mut scratches = (0..parts).map(scratch).collect::<Result<Vec<_>, Error>>()?;
    cx.parallel_for(&mut scratches, out, positions, |cx, scratch, start, out| {
        let (image, patches, (plane, _), ((floats, _), (sums, _)), ((numbers, _), (results, _))) = scratch;
        let (mut checkpoint, lines) = (Checkpoint::default(), Lines::new(patches));
        for (index, out) in out.chunks_exact_mut(positions).enumerate() {
            let index = start / positions + index;
            let (item, filter) = (index / filters, index % filters);
            let channel = item * channels + filter / (filters / channels);
            let zero = x_zeros.at(item);
            let bytes = image.fill(&elements[channel * volume..][..volume], zero as u8, cx)?;
            for (bytes, plane) in bytes.chunks(PIECE).zip(plane.chunks_mut(PIECE)) {
                checkpoint.step(bytes.len(), cx)?;
                widen(bytes, x_signed, zero, plane);
            }
            widen(&taps[filter * size..][..size], w_signed, w_zeros.at(filter), numbers);
            checkpoint.set(0.0, floats, cx)?;
            for (place, floats) in floats.chunks_mut(lines.pitch).enumerate() {
                for (part, floats) in floats.chunks_mut(PIECE).enumerate() {
                    checkpoint.step(floats.len() * size / 8, cx)?;
                    let source = &plane[place * patches.step + part * PIECE..];
                    add_shifted(source, &patches.taps, numbers, floats);
                }
            }
            let own = bias.map_or(0, |bias| bias[filter]);
            let pieces = sums.chunks_mut(PIECE).zip(floats.chunks(PIECE)).zip(results.chunks_mut(PIECE));
            for ((sums, floats), results) in pieces {
                checkpoint.step(4 * floats.len(), cx)?;
                narrow(floats, own, sums);
                finish.finish(filter, 0, sums, results);
            }
            let pitch = if patches.direct { patches.step } else { lines.pitch };
            for (out, results) in out.chunks_exact_mut(patches.line).zip(results.chunks(pitch.max(1))) {
                checkpoint.step(out.len(), cx)?;
                out.copy_from_slice(&results[..patches.line]);
            }
        }
        Ok(())
    })
}

/// Outputs of a few vectors, which are computed at a time.
const VECTORS: usize = 64;

/// How the outputs of a depthwise convolution are computed: as one line, or line by line, with some more outputs at the
/// end of a line, so that it is a whole number of vectors.
struct Lines {
    pitch: usize,
    len: usize,
}

impl Lines {
    fn new(patches: &BytePatches) -> Self {
        if patches.direct {
            let len = patches.len.next_multiple_of(VECTORS);
            return Self { pitch: len, len };
        }
        let pitch = patches.line.next_multiple_of(VECTORS / 4);
        Self { pitch, len: patches.len / patches.line * pitch }
    }
}

/// Bytes minus their zero point, as floats.
fn widen(bytes: &[u8], signed: bool, zero: i32, out: &mut [f32]) {
    crate::math::simd::wide_loop(Widen { bytes, signed, zero, out });
}

struct Widen<'a> {
    bytes: &'a [u8],
    signed: bool,
    zero: i32,
    out: &'a mut [f32],
}

impl crate::math::simd::Loop for Widen<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { bytes, signed, zero, out } = self;
        if signed {
            for (out, byte) in out.iter_mut().zip(bytes) {
                *out = (i32::from(byte.cast_signed()) - zero) as f32;
            }
        } else {
            for (out, byte) in out.iter_mut().zip(bytes) {
                *out = (i32::from(*byte) - zero) as f32;
            }
        }
    }
}

/// Exact sums plus a bias, as integers.
fn narrow(floats: &[f32], bias: i32, out: &mut [i32]) {
    crate::math::simd::wide_loop(Narrow { floats, bias, out });
}

struct Narrow<'a> {
    floats: &'a [f32],
    bias: i32,
    out: &'a mut [i32],
}

impl crate::math::simd::Loop for Narrow<'_> {
    #[inline(always)]
    fn run(self) {
        let bias = self.bias;
        for (out, &x) in self.out.iter_mut().zip(self.floats) {
            // The compiler vectorizes this, and not a conversion that saturates.
            *out = ((f64::from(x) + WIDE_ROUNDER).to_bits() as i32).wrapping_add(bias);
        }
    }
}
