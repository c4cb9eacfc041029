//! Depthwise convolutions of values whose channels are the last dimension.
//!
//! Of an image with pads, only the lines under one line of outputs are copied at a time. The copies are in the cache when
//! they are read, and the image need not be written to memory a second time.

use crate::compute::context::{ExecContext, VECTOR_CHECK_INTERVAL};
use crate::math::depthwise::Depthwise;
use crate::ops::window::Slide;
use crate::tensor::budget::Block;
use graphpool::backend::Error;

/// The images of a call and the window over them. Columns are pixels, of so many channels each.
#[derive(Clone, Copy)]
pub(super) struct Images<'a> {
    pub(super) elements: &'a [f32],
    pub(super) rows: Slide,
    pub(super) columns: Slide,
    pub(super) channels: usize,
}

/// The filters, packed: the weights of each tap for all channels.
#[derive(Clone, Copy)]
pub(super) struct Taps<'a> {
    pub(super) weights: &'a [f32],
    pub(super) bias: Option<&'a [f32]>,
}

impl Images<'_> {
    fn has_pads(&self) -> bool {
        [self.rows, self.columns].iter().any(|slide| slide.before > 0 || slide.after > 0)
    }

    /// Elements of a line with its pads.
    fn wide(&self) -> usize {
        (self.columns.before + self.columns.input + self.columns.after).saturating_mul(self.channels)
    }

    /// The lines from the first that an output reads to the last.
    fn height(&self) -> usize {
        (self.rows.kernel - 1) * self.rows.dilation + 1
    }
}

/// The lines under a line of outputs, with their pads, and where the taps are in them.
pub(super) struct Lines {
    /// As many lines as a window is high: line `i` of a padded image is at `i` modulo that number. Empty without pads.
    copies: Block<f32>,
    /// The image of the lines, and one past the last line that is there.
    image: usize,
    end: usize,
    taps: Block<usize>,
    /// Multiplications since the last check of deadline and cancel token.
    work: usize,
}

impl Lines {
    pub(super) fn new(images: &Images<'_>, cx: &ExecContext<'_>) -> Result<Self, Error> {
        let len = if images.has_pads() { images.height().saturating_mul(images.wide()) } else { 0 };
        let taps = cx.full_block(0, images.rows.kernel * images.columns.kernel)?;
        Ok(Self { copies: cx.full_block(0.0, len)?, image: 0, end: 0, taps, work: VECTOR_CHECK_INTERVAL })
    }

    /// Computes line `index` of the outputs of all images.
    pub(super) fn convolve(
        &mut self,
        images: &Images<'_>,
        taps: Taps<'_>,
        index: usize,
        out: &mut [f32],
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let &Images { elements, rows, columns, channels } = images;
        let (image, top) = (index / rows.output, index % rows.output * rows.stride);
        if image != self.image {
            (self.image, self.end) = (image, 0);
        }
        if !self.copies.is_empty() {
            self.fill(images, top, cx)?;
        }
        let (wide, height) = (images.wide(), images.height());
        for (y, taps) in self.taps.chunks_exact_mut(columns.kernel).enumerate() {
            let line = top + y * rows.dilation;
            let line = if self.copies.is_empty() { image * rows.input + line } else { line % height };
            taps.iter_mut().enumerate().for_each(|(x, tap)| *tap = line * wide + x * columns.dilation * channels);
        }
        let depthwise = Depthwise {
            image: if self.copies.is_empty() { elements } else { &self.copies },
            taps: &self.taps,
            adjacent: if columns.dilation == 1 { columns.kernel } else { 1 },
            weights: taps.weights,
            bias: taps.bias,
            stride: columns.stride,
            channels,
        };
        let each = (VECTOR_CHECK_INTERVAL / (depthwise.taps.len() * channels)).clamp(1, columns.output);
        for (piece, out) in out.chunks_mut(each * channels).enumerate() {
            self.work += out.len() * depthwise.taps.len();
            if self.work >= VECTOR_CHECK_INTERVAL {
                self.work = 0;
                cx.control.check()?;
            }
            let from = piece * each * columns.stride * channels;
            Depthwise { image: depthwise.image.get(from..).unwrap_or_default(), ..depthwise }.run(out);
        }
        Ok(())
    }

    /// Copies the lines under the outputs whose window begins at line `top` of the padded image, if they are not there.
    fn fill(&mut self, images: &Images<'_>, top: usize, cx: &ExecContext<'_>) -> Result<(), Error> {
        let &Images { elements, rows, columns, channels } = images;
        let (wide, height, len) = (images.wide(), images.height(), columns.input * channels);
        for line in self.end.max(top)..top + height {
            self.work += wide;
            if self.work >= VECTOR_CHECK_INTERVAL {
                self.work = 0;
                cx.control.check()?;
            }
            let copy = &mut self.copies[line % height * wide..][columns.before * channels..][..len];
            match line.checked_sub(rows.before).filter(|&line| line < rows.input) {
                Some(line) => copy.copy_from_slice(&elements[(self.image * rows.input + line) * len..][..len]),
                None => copy.fill(0.0),
            }
        }
        self.end = top + height;
        Ok(())
    }
}
