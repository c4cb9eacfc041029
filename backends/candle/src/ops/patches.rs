//! The patch matrix of a convolution (im2col), packed as B: one column for each output.

use crate::compute::context::{Checkpoint, ExecContext, VECTOR_CHECK_INTERVAL};
use crate::math::pack;
use crate::math::pack::Target;
use crate::ops::window::Slide;
use crate::tensor::budget::Block;
use crate::tensor::dims::{count, product};
use graphpool::backend::Error;
use std::ops::Range;

/// Padded input volumes.
pub(super) struct Padded {
    slides: [Slide; 3],
    /// Sizes with the pads.
    pub(super) sizes: [usize; 3],
    /// The padded volumes; empty if no dimension has pads.
    volumes: Block<f32>,
}

impl Padded {
    /// Allocates `volumes` padded volumes.
    pub(super) fn new(slides: [Slide; 3], volumes: usize, cx: &ExecContext<'_>) -> Result<Self, Error> {
        let sizes = slides.map(|slide| slide.input + slide.before + slide.after);
        let [slabs, rows, columns] = sizes;
        let size = count(&[volumes, slabs, rows, columns])?;
        if slides.iter().all(|slide| slide.before == 0 && slide.after == 0) {
            return Ok(Self { slides, sizes, volumes: Block::none() });
        }
        Ok(Self { slides, sizes, volumes: cx.full_block(0.0, size)? })
    }

    /// Pads consecutive volumes.
    pub(super) fn fill<'a>(&'a mut self, volumes: &'a [f32], cx: &ExecContext<'_>) -> Result<&'a [f32], Error> {
        if self.volumes.is_empty() {
            return Ok(volumes);
        }
        let mut checkpoint = Checkpoint::default();
        let ([slabs, rows, columns], [deep, high, wide]) = (self.slides, self.sizes);
        for (index, line) in volumes.chunks_exact(columns.input).enumerate() {
            checkpoint.step(line.len(), cx)?;
            let (y, z) = (index % rows.input, index / rows.input);
            let z = z / slabs.input * deep + z % slabs.input + slabs.before;
            let start = (z * high + y + rows.before) * wide + columns.before;
            self.volumes[start..start + columns.input].copy_from_slice(line);
        }
        Ok(&self.volumes)
    }
}

/// A run of outputs in one panel: its column in the panel, its source in a volume, and its length.
pub(super) type Segment = (usize, usize, usize);

/// Packed A of `m` rows, used from row `from` on, which is the first of a block.
#[derive(Clone, Copy)]
pub(super) struct PackedRows<'a> {
    pub(super) elements: &'a [f32],
    pub(super) m: usize,
    pub(super) from: usize,
}

/// Packs patches panel by panel and multiplies them.
pub(super) struct Patches {
    slides: [Slide; 3],
    pub(super) sizes: [usize; 3],
    /// The offset in a volume of each kernel position.
    taps: Block<usize>,
    /// Elements of a patch.
    patch: usize,
    segments: Block<Segment>,
    panel: Block<f32>,
    /// Multiplications since the last check for cancellation.
    work: usize,
}

impl Patches {
    pub(super) fn new(padded: &Padded, patch: usize, cx: &ExecContext<'_>) -> Result<Self, Error> {
        let (slides, sizes) = (padded.slides, padded.sizes);
        let [slabs, rows, columns] = slides;
        let (size, panel_len) = (slabs.kernel * rows.kernel * columns.kernel, pack::KC * pack::nr());
        let mut taps = cx.block(size)?;
        for z in 0..slabs.kernel {
            for y in 0..rows.kernel {
                let line = (z * slabs.dilation * sizes[1] + y * rows.dilation) * sizes[2];
                taps.extend((0..columns.kernel).map(|x| line + x * columns.dilation));
            }
        }
        // A panel has at most as many runs as columns.
        let (segments, panel) = (cx.block(pack::nr())?, cx.full_block(0.0, panel_len)?);
        Ok(Self { slides, sizes, taps, patch, segments, panel, work: VECTOR_CHECK_INTERVAL })
    }

    /// Splits `outputs` into runs.
    fn split_runs(&mut self, outputs: Range<usize>) {
        let ([slabs, rows, columns], [_, high, wide]) = (self.slides, self.sizes);
        self.segments.clear();
        let mut output = outputs.start;
        while output < outputs.end {
            let (line, x) = (output / columns.output, output % columns.output);
            let (z, y) = (line / rows.output * slabs.stride, line % rows.output * rows.stride);
            let source = (z * high + y) * wide + x * columns.stride;
            let len = (columns.output - x).min(outputs.end - output);
            match self.segments.last_mut() {
                // Lines without a gap between them are merged.
                Some((_, before, longer)) if columns.stride == 1 && *before + *longer == source => *longer += len,
                _ => self.segments.push((output - outputs.start, source, len)),
            }
            output += len;
        }
    }

    /// Counts multiplications that are about to be done.
    fn step(&mut self, multiplications: usize, cx: &ExecContext<'_>) -> Result<(), Error> {
        self.work += multiplications;
        if self.work >= VECTOR_CHECK_INTERVAL {
            self.work = 0;
            cx.control.check()?;
        }
        Ok(())
    }

    /// Adds the product of the rows of A and the image's patches at `outputs` to those columns of `out`.
    pub(super) fn multiply(
        &mut self,
        image: &[f32],
        left: PackedRows<'_>,
        outputs: Range<usize>,
        out: &mut [f32],
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let (width, pitch) = (pack::nr(), product(&self.slides.map(|slide| slide.output)));
        let m = out.len() / pitch.max(1);
        let volume = product(&self.sizes);
        for first in outputs.clone().step_by(width) {
            let end = outputs.end.min(first + width);
            self.split_runs(first..end);
            for (from, depth) in pack::depth_blocks(self.patch) {
                // Packing counts as work.
                self.step(depth * width, cx)?;
                let (mut channel, mut tap) = (from / self.taps.len(), from % self.taps.len());
                for row in self.panel.chunks_exact_mut(pack::pitch(end - first)).take(depth) {
                    pack_row(&image[channel * volume + self.taps[tap]..], &self.segments, self.slides[2].stride, row);
                    tap += 1;
                    if tap == self.taps.len() {
                        (channel, tap) = (channel + 1, 0);
                    }
                }
                let most = (VECTOR_CHECK_INTERVAL / (depth * width)).next_multiple_of(pack::mr());
                for top in (0..m).step_by(most) {
                    let rows = most.min(m - top);
                    self.step(rows * depth * width, cx)?;
                    let target = Target { out: &mut out[top * pitch..], pitch, first, columns: end - first };
                    let left = &left.elements[from * left.m + (left.from + top) * depth..][..rows * depth];
                    pack::add_product(left, &self.panel, rows, depth, target);
                }
            }
        }
        Ok(())
    }
}

/// Packs one row of a panel: the elements under one kernel position.
pub(super) fn pack_row(source: &[f32], segments: &[Segment], stride: usize, row: &mut [f32]) {
    for &(at, start, len) in segments {
        if stride == 1 {
            row[at..at + len].copy_from_slice(&source[start..start + len]);
        } else {
            for (element, x) in row[at..at + len].iter_mut().zip(source[start..].iter().step_by(stride)) {
                *element = *x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::budget::ComputeBudget;
    use graphpool::backend::ComputeControl;

    #[test]
    fn a_long_product_of_patches_is_cancelled() {
        let (control, budget) = (ComputeControl::default(), ComputeBudget::new(usize::MAX));
        let cx = ExecContext::new(&control, &budget);
        // A panel of outputs by 1024 taps, with as many filters as make a few panels one check interval.
        let (taps, filters) = (1024, VECTOR_CHECK_INTERVAL / 1024 / pack::nr() / 4);
        let columns = Slide { input: taps + 2, output: 3, kernel: taps, ..Slide::UNIT };
        let padded = Padded::new([Slide::UNIT, Slide::UNIT, columns], 1, &cx).unwrap();
        let mut patches = Patches::new(&padded, taps, &cx).unwrap();
        let (image, left) = (vec![1.0; taps + 2], vec![1.0; filters * taps]);
        let mut out = vec![0.0; filters * 3];
        let left = PackedRows { elements: &left, m: filters, from: 0 };
        let mut run = || patches.multiply(&image, left, 0..3, &mut out, &cx);
        run().unwrap();
        control.cancel.cancel();
        run().unwrap();
        assert!((0..3).any(|_| run().is_err()));
    }
}
