//! Pools of values whose channels are the last dimension.
//!
//! A line of such an image is one sequence of adjacent elements. So a pool first combines the lines under its window,
//! and then the columns of the result.

use smallvec::SmallVec;

use crate::compute::context::{Checkpoint, ExecContext};
use crate::math::{loops, simd};
use crate::ops::node::{Node, OpFn};
use crate::ops::window::{Slide, Window};
use crate::tensor::budget::Block;
use crate::tensor::dim_list::DimVec;
use crate::tensor::dims::{Dims, count, product};
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// Positions whose sums are added before they are added to the sum of all, so that rounding errors don't add up.
const PARTIAL: usize = 64;

/// Elements of a line that are combined at once, so that they stay in the first-level cache.
const PART: usize = 1 << 10;

/// MaxPool without indices.
pub(super) fn max_pool(node: &Node<'_>) -> Option<OpFn> {
    if node.outputs() > 1 {
        return None;
    }
    let window = Window::new(node).ok()?.ceil(node.opset >= 10 && node.flag("ceil_mode", false).ok()?);
    Some(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        let pool = Pool { value: &value, window: &window, start: f32::NEG_INFINITY, combine: larger };
        Ok(values![pool.run(|_, _, _| Ok(()), cx)?])
    }))
}

/// AveragePool.
pub(super) fn average_pool(node: &Node<'_>) -> Option<OpFn> {
    let window = Window::new(node).ok()?.ceil(node.opset >= 10 && node.flag("ceil_mode", false).ok()?);
    let count_pads = node.opset >= 7 && node.flag("count_include_pad", false).ok()?;
    Some(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        let pool = Pool { value: &value, window: &window, start: 0.0, combine: |sum, x| sum + x };
        let divide = |out: &mut [f32], slides: [Slide; 2], [y, x]: [usize; 2]| {
            let count = |slide: Slide, at: usize| {
                let (first, end) = slide.kernel_range(at);
                if count_pads { slide.padded_kernel_len(at) } else { end - first }
            };
            let count = (count(slides[0], y) * count(slides[1], x)).max(1) as f32;
            simd::map(out, |sum| sum / count);
            Ok(())
        };
        Ok(values![pool.run(divide, cx)?])
    }))
}

/// The larger number; NaN if one is NaN.
fn larger(best: f32, element: f32) -> f32 {
    if element > best || element.is_nan() { element } else { best }
}

/// A pool over one or two dimensions.
struct Pool<'a, F> {
    value: &'a Value,
    window: &'a Window,
    /// What the combination of no elements is.
    start: f32,
    combine: F,
}

impl<F: Fn(f32, f32) -> f32 + Copy + Sync> Pool<'_, F> {
    /// Combines the elements under each window, and calls `finish` with the channels of each output.
    fn run(
        &self,
        finish: impl Fn(&mut [f32], [Slide; 2], [usize; 2]) -> Result<(), Error> + Sync,
        cx: &ExecContext<'_>,
    ) -> Result<Value, Error> {
        let [n, spatial @ .., channels] = self.value.dims() else {
            return Err(Error::invalid_argument(format!("{} has no spatial dimensions", Dims(self.value.dims()))));
        };
        let kernel =
            self.window.kernel().ok_or_else(|| Error::invalid_encoding("attribute kernel_shape is missing"))?;
        let over = self.window.slides_over(spatial, kernel)?;
        let [_, rows, columns] = Slide::as_three(&over)?;
        let (elements, channels) = (self.value.elements::<f32>()?, *channels);
        let mut dims = DimVec::from_slice(&[*n]);
        dims.extend(over.iter().map(|slide| slide.output));
        dims.push(channels);
        let width = columns.input * channels;
        let (total, len) = (count(&dims)?, columns.output * channels);
        if total == 0 {
            return cx.output::<f32>(&dims)?.write(0.0, |_| Ok(()));
        }
        // Memory, not arithmetic, decides how long it takes: as long as a few multiplications for each element.
        let work = total.saturating_mul(rows.kernel * columns.kernel).saturating_mul(4);
        let parts =
            (0..cx.parts(total / len, work)).map(|_| Ok((cx.full_block(self.start, width)?, Checkpoint::default())));
        let mut parts = parts.collect::<Result<SmallVec<[(Block<f32>, Checkpoint); 1]>, Error>>()?;
        let (out, charge) = cx.produce(&mut parts, total, len, len, |cx, (line, checkpoint), start, out| {
            for (index, out) in out.chunks_exact_mut(len).enumerate() {
                let index = start / len + index;
                let (image, y) = (index / rows.output, index % rows.output);
                let (first, end) = rows.kernel_range(y);
                for (index, line) in line.chunks_mut(PART).enumerate() {
                    let len = line.len();
                    checkpoint.step((end - first) * len, cx)?;
                    let mut lines = (first..end).map(|row| {
                        let from = (image * rows.input + rows.source(y, row)) * width + index * PART;
                        &elements[from..from + len]
                    });
                    match lines.next() {
                        Some(first) => line.copy_from_slice(first),
                        None => line.fill(self.start),
                    }
                    lines.for_each(|elements| simd::zip(line, elements, self.combine));
                }
                checkpoint.set(self.start, out, cx)?;
                for column in 0..columns.kernel {
                    checkpoint.step(out.len(), cx)?;
                    self.combine_columns(out, line, columns, column, channels);
                }
                for (x, out) in out.chunks_exact_mut(channels).enumerate() {
                    finish(out, [rows, columns], [y, x])?;
                }
            }
            Ok(())
        })?;
        Value::charged(dims, out, charge)
    }

    /// Combines each output of a line with the element under one column of its window, if that is inside.
    fn combine_columns(&self, out: &mut [f32], line: &[f32], columns: Slide, column: usize, channels: usize) {
        let (combine, shift) = (self.combine, column * columns.dilation);
        let inside = |end: usize| (end + columns.before).saturating_sub(shift).div_ceil(columns.stride);
        let (first, end) = (inside(0), inside(columns.input).min(columns.output));
        if first >= end {
            return;
        }
        let elements =
            line[(first * columns.stride + shift - columns.before) * channels..].chunks(columns.stride * channels);
        loops::for_each(
            out[first * channels..end * channels].chunks_exact_mut(channels).zip(elements),
            move |(out, elements)| {
                for (out, &x) in out.iter_mut().zip(elements) {
                    *out = combine(*out, x);
                }
            },
        );
    }
}

/// GlobalMaxPool and GlobalAveragePool.
pub(super) fn global(largest: bool) -> OpFn {
    Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        let [n, spatial @ .., channels] = value.dims() else {
            return Err(Error::invalid_argument(format!("{} has no spatial dimensions", Dims(value.dims()))));
        };
        let (positions, channels) = (product(spatial), *channels);
        if positions == 0 {
            return Err(Error::invalid_argument("the spatial dimensions of a pool are empty"));
        }
        let mut dims = DimVec::from_elem(1, value.rank());
        dims[0] = *n;
        dims[value.rank() - 1] = channels;
        count(&dims)?;
        let (elements, mut checkpoint) = (value.elements::<f32>()?, Checkpoint::default());
        let mut partial = cx.full_block(0.0, if largest { 0 } else { channels })?;
        let start = if largest { f32::NEG_INFINITY } else { 0.0 };
        let result = cx.output::<f32>(&dims)?.write(start, |out| {
            for (image, out) in elements.chunks_exact(positions * channels).zip(out.chunks_exact_mut(channels)) {
                for piece in image.chunks(PARTIAL * channels) {
                    let sums = if largest { &mut *out } else { &mut partial[..] };
                    for position in piece.chunks_exact(channels) {
                        checkpoint.step(channels, cx)?;
                        if largest {
                            simd::zip(sums, position, larger);
                        } else {
                            simd::zip(sums, position, |sum, x| sum + x);
                        }
                    }
                    if !largest {
                        simd::zip(out, &partial, |sum, x| sum + x);
                        partial.fill(0.0);
                    }
                }
                if !largest {
                    let count = positions as f32;
                    simd::map(out, |sum| sum / count);
                }
            }
            Ok(())
        })?;
        Ok(values![result])
    })
}
