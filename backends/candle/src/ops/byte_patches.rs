//! The patches of a convolution of bytes (im2col), packed as the right operand of a product.
//!
//! An image is padded, and elements that are a stride apart are made adjacent. Then the bytes under one kernel position
//! of a line of outputs are adjacent too. Where lines follow each other closely, all outputs are computed as one line,
//! with the few bytes between the lines.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]

use std::ops::Range;

use crate::compute::context::{Checkpoint, ExecContext};
use crate::math::integer::{Flip, Processor};
use crate::math::simd::{Loop, wide_loop};
use crate::ops::window::Slide;
use crate::tensor::budget::Charge;
use crate::tensor::dims::count;
use graphpool::backend::Error;

/// The most bytes of a block of patches, unless one panel has more.
const BLOCK: usize = 1 << 18;

/// The most panels of a block.
const PANELS: usize = 8;

/// The padded volumes of an image.
pub(super) struct Image {
    slides: [Slide; 3],
    /// Bytes from one line to the next, and of each sequence of bytes that were a stride apart.
    pitch: usize,
    phase: usize,
    /// Lines of a slab, and bytes of a volume.
    high: usize,
    pub(super) volume: usize,
    /// Empty if the image needs neither pads nor another order.
    bytes: Vec<u8>,
    /// The byte in the pads.
    pad: Option<u8>,
    _charge: Option<Charge>,
}

impl Image {
    /// Allocates `volumes` volumes.
    pub(super) fn new(slides: [Slide; 3], volumes: usize, cx: &ExecContext<'_>) -> Result<Self, Error> {
        let [deep, high, wide] = slides.map(|slide| slide.input + slide.before + slide.after);
        // A stride longer than the line gives one sequence for each element.
        let stride = slides[2].stride.min(wide).max(1);
        let phase = wide.div_ceil(stride);
        let pitch = count(&[phase, stride])?;
        let volume = count(&[deep, high, pitch])?;
        let len = count(&[volumes, volume])?;
        let same = stride == 1 && slides.iter().all(|slide| slide.before == 0 && slide.after == 0);
        let (bytes, charge) = if same { (Vec::new(), None) } else { cx.filled(0, len).map(|(b, c)| (b, Some(c)))? };
        Ok(Self { slides, pitch, phase, high, volume, bytes, pad: None, _charge: charge })
    }

    /// Pads consecutive volumes with `pad`.
    pub(super) fn fill<'a>(&'a mut self, volumes: &'a [u8], pad: u8, cx: &ExecContext<'_>) -> Result<&'a [u8], Error> {
        if self.bytes.is_empty() {
            return Ok(volumes);
        }
        let mut checkpoint = Checkpoint::default();
        if self.pad != Some(pad) {
            checkpoint.set(pad, &mut self.bytes, cx)?;
            self.pad = Some(pad);
        }
        let ([slabs, rows, columns], stride) = (self.slides, self.pitch / self.phase);
        for (index, line) in volumes.chunks_exact(columns.input).enumerate() {
            checkpoint.step(line.len(), cx)?;
            let (y, z) = (index % rows.input, index / rows.input);
            let (volume, z) = (z / slabs.input, z % slabs.input + slabs.before);
            let start = volume * self.volume + (z * self.high + y + rows.before) * self.pitch;
            let out = &mut self.bytes[start..start + self.pitch];
            if stride == 1 {
                out[columns.before..columns.before + columns.input].copy_from_slice(line);
                continue;
            }
            if stride == 2 {
                split_pairs(line, columns.before, out.split_at_mut(self.phase));
                continue;
            }
            for (place, out) in out.chunks_exact_mut(self.phase).enumerate() {
                // The first element of this sequence.
                let first = (place + stride - columns.before % stride) % stride;
                let elements = line.get(first..).unwrap_or_default().iter().step_by(stride);
                out.iter_mut().skip((first + columns.before) / stride).zip(elements).for_each(|(to, x)| *to = *x);
            }
        }
        Ok(&self.bytes)
    }
}

/// Packs blocks of patches.
pub(super) struct BytePatches {
    /// The offset of each kernel position in a volume.
    pub(super) taps: Vec<usize>,
    volume: usize,
    /// Bytes of a patch.
    patch: usize,
    /// Outputs of a line, and bytes from one line of outputs to the next in the image.
    pub(super) line: usize,
    pub(super) step: usize,
    /// Bytes from one slab of outputs to the next.
    slab: usize,
    /// Outputs of a slab, with those between lines if all are computed as one line.
    pub(super) len: usize,
    pub(super) direct: bool,
    /// Outputs of a block.
    pub(super) block: usize,
    /// Rows of bytes that were gathered for one line of a panel.
    rows: Vec<u8>,
    _charges: [Charge; 2],
}

impl BytePatches {
    /// For patches of `patch` bytes.
    pub(super) fn new(image: &Image, patch: usize, cx: &ExecContext<'_>) -> Result<Self, Error> {
        let [slabs, rows, columns] = image.slides;
        let stride = image.pitch / image.phase;
        let size = count(&[slabs.kernel, rows.kernel, columns.kernel])?;
        let (mut taps, of_taps) = cx.list::<usize>(size)?;
        let mut checkpoint = Checkpoint::default();
        for position in 0..size {
            checkpoint.step(1, cx)?;
            let (line, x) = (position / columns.kernel, position % columns.kernel * columns.dilation);
            let (z, y) = (line / rows.kernel * slabs.dilation, line % rows.kernel * rows.dilation);
            taps.push((z * image.high + y) * image.pitch + x % stride * image.phase + x / stride);
        }
        let step = rows.stride.saturating_mul(image.pitch);
        let (line, lines) = (columns.output, rows.output);
        // A quarter more outputs cost less than gathering those of short lines.
        let direct = lines <= 1 || step <= line + line / 4;
        let len = if direct && lines > 0 { (lines - 1) * step + line } else { count(&[lines, line])? };
        let processor = Processor::best();
        let panel =
            processor.right_len(patch, processor.columns()).ok_or_else(|| Error::too_large("a patch is too large"))?;
        let block = (BLOCK / panel.max(1)).clamp(1, PANELS) * processor.columns();
        let (rows, of_rows) = cx.filled(0, if direct { 0 } else { block * processor.group() })?;
        let slab = slabs.stride.saturating_mul(image.high * image.pitch);
        let charges = [of_taps, of_rows];
        Ok(Self { taps, volume: image.volume, patch, line, step, slab, len, direct, block, rows, _charges: charges })
    }

    /// The bytes of a packed block.
    pub(super) fn block_len(&self) -> Result<usize, Error> {
        let len = Processor::best().right_len(self.patch, self.block.min(self.len));
        len.ok_or_else(|| Error::too_large("a block of patches is too large"))
    }

    /// Packs the patches of the outputs in a range of a slab.
    pub(super) fn pack(
        &mut self,
        image: &[u8],
        (slab, outputs): (usize, Range<usize>),
        flip: Flip,
        out: &mut [u8],
        mut step: impl FnMut(usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let processor = Processor::best();
        let (group, columns) = (processor.group(), outputs.len());
        let words = self.patch.div_ceil(group);
        let mut starts = [0; 4];
        for word in 0..words {
            step(4 * group * columns)?;
            let rows = group.min(self.patch - word * group);
            for (start, place) in starts.iter_mut().zip(word * group..word * group + rows) {
                let (volume, tap) = (place / self.taps.len(), place % self.taps.len());
                *start = volume * self.volume + slab * self.slab + self.taps[tap];
            }
            if self.direct {
                starts.iter_mut().for_each(|start| *start += outputs.start);
                processor.pack_group(image, (&starts[..rows], columns), flip, (word, words), out);
                continue;
            }
            for (row, start) in self.rows.chunks_exact_mut(columns).zip(&mut starts).take(rows) {
                gather(&image[*start..], outputs.clone(), (self.line, self.step), row);
            }
            let starts = [0, columns, 2 * columns, 3 * columns];
            processor.pack_group(&self.rows, (&starts[..rows], columns), flip, (word, words), out);
        }
        Ok(())
    }

    /// Whether the outputs of a slab have nothing between them.
    pub(super) fn whole(&self) -> bool {
        !self.direct || self.step == self.line || self.len == self.line
    }

    /// Calls `visit` with each run of outputs in a range: where it begins in the range, and which outputs it has.
    pub(super) fn runs(&self, outputs: Range<usize>, mut visit: impl FnMut(usize, Range<usize>)) {
        let mut at = outputs.start;
        while at < outputs.end {
            let (y, x) = (at / self.step, at % self.step);
            let next = (y + 1).saturating_mul(self.step);
            if x < self.line {
                let len = (self.line - x).min(outputs.end - at);
                visit(at - outputs.start, y * self.line + x..y * self.line + x + len);
            }
            at = next;
        }
    }
}

/// Gathers the bytes of outputs, whose lines of `line` are `step` apart.
fn gather(source: &[u8], outputs: Range<usize>, (line, step): (usize, usize), row: &mut [u8]) {
    let (mut at, mut rest) = (outputs.start, row);
    while !rest.is_empty() {
        let (y, x) = (at / line, at % line);
        let len = (line - x).min(rest.len());
        let (run, others) = rest.split_at_mut(len);
        run.copy_from_slice(&source[y * step + x..][..len]);
        (at, rest) = (at + len, others);
    }
}

/// Writes the elements of a line at even places, counted with the pads before it, and those at odd ones.
fn split_pairs(line: &[u8], before: usize, (even, odd): (&mut [u8], &mut [u8])) {
    struct Split<'a>(&'a [[u8; 2]], &'a mut [u8], &'a mut [u8]);
    impl Loop for Split<'_> {
        #[inline(always)]
        fn run(self) {
            for ((pair, even), odd) in self.0.iter().zip(self.1).zip(self.2) {
                (*even, *odd) = (pair[0], pair[1]);
            }
        }
    }
    let (first, rest) = line.split_at(before % 2);
    let start = before.div_ceil(2);
    let (pairs, last) = rest.as_chunks::<2>();
    first.iter().zip(odd.iter_mut().skip(before / 2)).for_each(|(x, odd)| *odd = *x);
    let (even, odd) = (even.get_mut(start..).unwrap_or_default(), odd.get_mut(start..).unwrap_or_default());
    last.iter().zip(even.iter_mut().skip(pairs.len())).for_each(|(x, even)| *even = *x);
    wide_loop(Split(pairs, even, odd));
}
