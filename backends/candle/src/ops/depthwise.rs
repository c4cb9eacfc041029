//! Depthwise convolutions, computed as sums of shifted rows.

#![expect(clippy::inline_always, reason = "what is not inlined is not compiled for wide vectors")]

use pulp::{Arch, Simd, WithSimd};

use crate::compute::context::{Checkpoint, ExecContext, VECTOR_CHECK_INTERVAL};
use crate::ops::window::Slide;
use crate::tensor::budget::Block;
use graphpool::backend::Error;

/// The largest number of kernel positions.
pub(super) const LARGEST: usize = 1024;

/// Lines with fewer outputs are computed as one, including the elements between them, unless those are more than the
/// outputs.
const SHORT: usize = 64;

/// Whether one line is at most the work of one check interval.
pub(super) fn suits(rows: Slide, columns: Slide) -> bool {
    columns.output.saturating_mul(rows.kernel).saturating_mul(columns.kernel) <= VECTOR_CHECK_INTERVAL
}

/// Convolves planes of one size.
pub(super) struct Planes {
    rows: Slide,
    columns: Slide,
    /// Columns of a padded plane.
    wide: usize,
    /// Elements from one line to the next, after elements that are a stride apart were made adjacent.
    pitch: usize,
    /// Length of each sequence of elements that were a stride apart.
    phase: usize,
    /// Offset of each kernel position from the first.
    offsets: Block<usize>,
    split: Block<f32>,
    lines: Block<f32>,
}

impl Planes {
    /// For planes that are `high` by `wide` with their pads.
    pub(super) fn new(
        [rows, columns]: [Slide; 2],
        [high, wide]: [usize; 2],
        cx: &ExecContext<'_>,
    ) -> Result<Self, Error> {
        // A stride longer than the line gives one sequence for each element.
        let stride = columns.stride.min(wide);
        let phase = wide.div_ceil(stride);
        let pitch = if columns.stride == 1 { wide } else { phase * stride };
        let near = columns.output < SHORT && pitch <= 2 * columns.output;
        let together = columns.stride == 1 && rows.stride == 1 && near;
        let split = if columns.stride == 1 { 0 } else { high * pitch };
        let lines = if together { rows.output * pitch } else { 0 };
        let offset = |position: usize| {
            let (y, x) = (position / columns.kernel * rows.dilation, position % columns.kernel * columns.dilation);
            y * pitch + if columns.stride == 1 { x } else { x % columns.stride * phase + x / columns.stride }
        };
        let mut offsets = cx.block(rows.kernel * columns.kernel)?;
        offsets.extend((0..rows.kernel * columns.kernel).map(offset));
        let (split, lines) = (cx.full_block(0.0, split)?, cx.full_block(0.0, lines)?);
        Ok(Self { rows, columns, wide, pitch, phase, offsets, split, lines })
    }

    /// Adds the convolution of a padded plane by one kernel to `out`.
    pub(super) fn add(
        &mut self,
        plane: &[f32],
        taps: &[f32],
        out: &mut [f32],
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let (rows, columns, pitch) = (self.rows, self.columns, self.pitch);
        let plane = if columns.stride == 1 {
            plane
        } else {
            let mut checkpoint = Checkpoint::default();
            for (line, split) in plane.chunks_exact(self.wide).zip(self.split.chunks_exact_mut(pitch)) {
                checkpoint.step(line.len(), cx)?;
                for (first, split) in split.chunks_exact_mut(self.phase).enumerate() {
                    split.iter_mut().zip(line[first..].iter().step_by(columns.stride)).for_each(|(to, x)| *to = *x);
                }
            }
            &self.split
        };
        let line = if self.lines.is_empty() { columns.output } else { pitch };
        let each = (VECTOR_CHECK_INTERVAL / (line * taps.len()).max(1)).max(1);
        for (index, out) in out.chunks_mut(each * columns.output).enumerate() {
            cx.control.check()?;
            let (first, count) = (index * each, out.len() / columns.output);
            if self.lines.is_empty() {
                for (y, out) in out.chunks_exact_mut(columns.output).enumerate() {
                    let source = &plane[(first + y) * rows.stride * pitch..];
                    Arch::new().dispatch(Shifted { source, offsets: &self.offsets, taps, out });
                }
                continue;
            }
            let lines = &mut self.lines[..(count - 1) * pitch + columns.output];
            lines.fill(0.0);
            let source = &plane[first * pitch..];
            Arch::new().dispatch(Shifted { source, offsets: &self.offsets, taps, out: lines });
            for (out, line) in out.chunks_exact_mut(columns.output).zip(lines.chunks(pitch)) {
                out.iter_mut().zip(line).for_each(|(out, x)| *out += x);
            }
        }
        Ok(())
    }
}

/// Adds to each element of `out` the source elements at the offsets from it, each times its tap.
pub(super) fn add_shifted(source: &[f32], offsets: &[usize], taps: &[f32], out: &mut [f32]) {
    Arch::new().dispatch(Shifted { source, offsets, taps, out });
}

/// [`add_shifted`].
struct Shifted<'a> {
    source: &'a [f32],
    offsets: &'a [usize],
    taps: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Shifted<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { source, offsets, taps, out } = self;
        let lanes = S::F32_LANES;
        let mut at = 0;
        while at + 4 * lanes <= out.len() {
            block::<S, 4>(simd, &source[at..], offsets, taps, &mut out[at..at + 4 * lanes]);
            at += 4 * lanes;
        }
        while at + lanes <= out.len() {
            block::<S, 1>(simd, &source[at..], offsets, taps, &mut out[at..at + lanes]);
            at += lanes;
        }
        for (position, out) in out.iter_mut().enumerate().skip(at) {
            *out += offsets.iter().zip(taps).map(|(offset, tap)| source[offset + position] * tap).sum::<f32>();
        }
    }
}

/// `V` vectors of outputs.
#[inline(always)]
fn block<S: Simd, const V: usize>(simd: S, source: &[f32], offsets: &[usize], taps: &[f32], out: &mut [f32]) {
    let (out, _) = S::as_mut_simd_f32s(out);
    let mut sums = [simd.splat_f32s(0.0); V];
    for (&offset, &tap) in offsets.iter().zip(taps) {
        let (source, _) = S::as_simd_f32s(&source[offset..offset + V * S::F32_LANES]);
        let tap = simd.splat_f32s(tap);
        for (sum, &x) in sums.iter_mut().zip(source) {
            *sum = simd.mul_add_e_f32s(tap, x, *sum);
        }
    }
    for (out, &sum) in out.iter_mut().zip(&sums) {
        *out = simd.add_f32s(*out, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::budget::ComputeBudget;
    use graphpool::backend::ComputeControl;

    #[test]
    fn lines_far_apart_are_computed_one_by_one() {
        let (control, budget) = (ComputeControl::default(), ComputeBudget::new(usize::MAX));
        let slide = |input: usize, kernel: usize, dilation: usize| {
            let output = input - (kernel - 1) * dilation;
            Slide { input, output, kernel, dilation, ..Slide::UNIT }
        };
        let together = |wide: usize, kernel: usize, dilation: usize| {
            let slides = [slide(64, 1, 1), slide(wide, kernel, dilation)];
            !Planes::new(slides, [64, wide], &ExecContext::new(&control, &budget)).unwrap().lines.is_empty()
        };
        assert!(together(14, 3, 1) && together(9, 5, 1));
        // 63 outputs of 65535 elements, and 4 of 9.
        assert!(!together(65535, 1024, 64) && !together(9, 6, 1) && !together(100, 3, 1));
    }
}
