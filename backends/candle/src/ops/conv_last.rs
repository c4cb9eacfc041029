//! Conv by constant weights over one or two spatial dimensions, of values whose channels are the last dimension.
//!
//! With channels last, the patch under an output is a few runs of adjacent elements, and so is a row of outputs. The
//! products of the patches and the weights are computed by [`gathered`](crate::math::gathered), which reads the patches
//! where they are. Only an image with pads is copied first. `depthwise_last` computes those of one filter for each channel.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::compute::context::{Checkpoint, ExecContext, VECTOR_CHECK_INTERVAL};
use crate::math::epilogue::{Epilogue, Placement, Scratch};
use crate::math::gathered::{DEPTH, Gathered, Run, Start, pack_panels};
use crate::math::pack;
use crate::ops::depthwise_last::{Images, Lines, Taps};
use crate::ops::patches::Padded;
use crate::ops::window::{ConvShape, Slide, Window};
use crate::ops::winograd::{Convolution, Transformed};
use crate::tensor::budget::{Block, Charge};
use crate::tensor::dim_list::DimVec;
use crate::tensor::dims::{count, product};
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// Outputs whose rows are computed by all panels before the next ones, so that their patches stay in the cache.
const ROWS: usize = 96;

/// The filters of a convolution, packed.
pub(super) struct Filters {
    /// The dimensions of the weights, as ONNX orders them.
    pub(super) dims: Vec<usize>,
    pub(super) groups: usize,
    pub(super) packed: Arc<Vec<f32>>,
    /// A bias for each filter; for products padded with zeros to whole vectors. `None` for no bias.
    pub(super) bias: Option<Vec<f32>>,
    /// The same for convolutions by Winograd's transformations, if the weights have a size for them.
    pub(super) transformed: Option<Transformed>,
    pub(super) epilogue: Epilogue,
    pub(super) window: Window,
}

/// Whether each channel has one filter of its own.
fn is_depthwise(dims: &[usize], groups: usize) -> bool {
    groups > 1 && dims.first() == Some(&groups) && dims.get(1) == Some(&1)
}

/// Whether a convolution by weights of these dimensions has this form: with fewer filters than half of the lanes of a
/// vector it would be slow.
pub(super) fn suits(dims: &[usize], groups: usize) -> bool {
    let [filters, depth, kernel @ ..] = dims else { return false };
    let each = if is_depthwise(dims, groups) { *filters } else { filters / groups.max(1) };
    (1..=2).contains(&kernel.len())
        && *depth > 0
        && each >= (pack::pitch(1) / 2).max(1)
        && filters.is_multiple_of(groups)
}

/// The elements of the packed weights; `None` on overflow.
pub(super) fn packed_len(dims: &[usize], groups: usize) -> Option<usize> {
    let (filters, patch) = (*dims.first()?, product(dims.get(1..)?));
    if is_depthwise(dims, groups) {
        return Some(filters * patch);
    }
    pack::packed_b_len(patch, filters / groups)?.checked_mul(groups)
}

/// Packs weights, of which filter `i` is scaled by `scale(i)`, and appends them to `out`.
pub(super) fn pack(dims: &[usize], groups: usize, elements: &[f32], scale: impl Fn(usize) -> f32, out: &mut Vec<f32>) {
    let (Some(&filters), Some(&depth)) = (dims.first(), dims.get(1)) else { return };
    let taps = product(dims.get(2..).unwrap_or_default());
    if is_depthwise(dims, groups) {
        for tap in 0..taps {
            out.extend((0..filters).map(|filter| elements[filter * taps + tap] * scale(filter)));
        }
        return;
    }
    let each = filters / groups;
    for group in 0..groups {
        // A patch has the channels of the first tap, then those of the next.
        let weight = |row: usize, column: usize| {
            let filter = group * each + column;
            elements[(filter * depth + row % depth) * taps + row / depth] * scale(filter)
        };
        pack_panels(depth * taps, each, weight, out);
    }
}

/// A bias for each filter as [`Filters`] has it.
pub(super) fn padded_bias(bias: Vec<f32>, dims: &[usize], groups: usize) -> Vec<f32> {
    if is_depthwise(dims, groups) {
        return bias;
    }
    let each = (bias.len() / groups).max(1);
    let blank = std::iter::repeat_n(0.0, pack::pitch(each) - each);
    bias.chunks(each).flat_map(|group| group.iter().copied().chain(blank.clone())).collect()
}

/// The sizes of one call.
struct Sizes {
    rows: Slide,
    columns: Slide,
    /// Columns of an image with its pads.
    wide: usize,
    /// Elements of an image with its pads.
    volume: usize,
    channels: usize,
    filters: usize,
    /// Channels of a group.
    depth: usize,
}

impl Sizes {
    /// The index of the first element of the patch under output `index` of all images.
    fn patch(&self, index: usize) -> usize {
        let (line, x) = (index / self.columns.output, index % self.columns.output);
        let (image, y) = (line / self.rows.output, line % self.rows.output);
        image * self.volume + (y * self.rows.stride * self.wide + x * self.columns.stride) * self.channels
    }

    /// The offset of a tap in an image.
    fn tap(&self, y: usize, x: usize) -> usize {
        (y * self.rows.dilation * self.wide + x * self.columns.dilation) * self.channels
    }
}

impl Filters {
    /// The convolution of a value with channels last.
    pub(super) fn convolve(&self, value: &Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
        if value.ty() != ElementType::F32 {
            return Err(Error::invalid_argument(format!("the input is {:?}, and the weights are F32", value.ty())));
        }
        let [n, spatial @ .., channels] = value.dims() else {
            return Err(Error::invalid_argument("the input of a convolution has fewer than two dimensions"));
        };
        let mut dims = DimVec::from_slice(&[*n, *channels]);
        dims.extend_from_slice(spatial);
        let shape = ConvShape::new(&dims, &self.dims, &self.window, self.groups)?;
        let ConvShape { filters, depth, slides: [slab, rows, columns], channels, .. } = shape;
        let mut dims = shape.output.clone();
        dims[1..].rotate_left(1);
        let total = count(&dims)?;
        if total == 0 {
            return cx.output::<f32>(&dims)?.write(0.0, |_| Ok(()));
        }
        if value.is_empty() {
            return Err(Error::invalid_argument("the input of a convolution is empty"));
        }
        if let Some(transformed) = self.transformed.as_ref().filter(|_| Transformed::is_faster(rows, columns)) {
            let out = self.by_tiles(transformed, value, [slab, rows, columns], cx)?;
            return Value::charged(dims, out.0, out.1);
        }
        if is_depthwise(&self.dims, self.groups) {
            let images = Images { elements: value.elements::<f32>()?, rows, columns, channels };
            let (out, charge) = self.depthwise(&images, total, cx)?;
            return Value::charged(dims, out, charge);
        }
        let mut padded = Padded::new([slab, rows, by_channels(columns, channels)], *n, cx)?;
        let wide = columns.input + columns.before + columns.after;
        let sizes = Sizes { rows, columns, wide, volume: product(&padded.sizes), channels, filters, depth };
        let image = padded.fill(value.elements::<f32>()?, cx)?;
        let (out, charge) = self.products(image, &sizes, total, cx)?;
        Value::charged(dims, out, charge)
    }

    /// Computes outputs by Winograd's transformations.
    fn by_tiles(
        &self,
        transformed: &Transformed,
        value: &Value,
        [slab, rows, columns]: [Slide; 3],
        cx: &ExecContext<'_>,
    ) -> Result<(Vec<f32>, Charge), Error> {
        let (images, channels) = (value.dims()[0], value.dims()[value.rank() - 1]);
        let [high, wide] = Transformed::padded([rows, columns]);
        let mut padded = Padded::new([slab, high, by_channels(wide, channels)], images, cx)?;
        let sizes = padded.sizes;
        let elements = padded.fill(value.elements::<f32>()?, cx)?;
        let finish = |out: &mut [f32], scratch: &mut Scratch, cx: &ExecContext<'_>| {
            self.finish(out, transformed.filters(), scratch, cx)
        };
        let convolution = Convolution { sizes, images: elements, output: [rows.output, columns.output] };
        transformed.convolve(&convolution, self.bias.as_deref(), || self.epilogue.scratch(cx), finish, cx)
    }

    /// Computes outputs as products of their patches and the packed weights.
    fn products(
        &self,
        image: &[f32],
        sizes: &Sizes,
        total: usize,
        cx: &ExecContext<'_>,
    ) -> Result<(Vec<f32>, Charge), Error> {
        let &Sizes { filters, depth, .. } = sizes;
        let runs = self.runs(sizes, cx)?;
        let taps = sizes.rows.kernel * sizes.columns.kernel;
        let (patch, each, width) = (depth * taps, filters / self.groups, pack::nr());
        let group_len = pack::packed_b_len(patch, each).unwrap_or(usize::MAX);
        let (unit, chunk) = (filters * pack::mr(), filters * ROWS);
        let parts = cx.parts(total.div_ceil(unit), total.saturating_mul(patch));
        let scratches = (0..parts).map(|_| Ok((self.epilogue.scratch(cx)?, 0)));
        let mut scratches = scratches.collect::<Result<SmallVec<[(Scratch, usize); 1]>, Error>>()?;
        cx.produce(&mut scratches, total, unit, chunk, |cx, (scratch, work), start, out| {
            let mut patches = [0; ROWS];
            for (index, out) in out.chunks_mut(ROWS * filters).enumerate() {
                let patches = &mut patches[..out.len() / filters];
                let first = start / filters + index * ROWS;
                patches.iter_mut().enumerate().for_each(|(at, patch)| *patch = sizes.patch(first + at));
                for group in 0..self.groups {
                    let packed = &self.packed[group * group_len..(group + 1) * group_len];
                    let mut from = 0;
                    for runs in segments(&runs) {
                        let len = runs.iter().map(|run| run.len).sum::<usize>();
                        for first in (0..each).step_by(width) {
                            let columns = width.min(each - first);
                            let padded = pack::pitch(columns);
                            *work += patches.len() * len * padded;
                            if *work >= VECTOR_CHECK_INTERVAL {
                                *work = 0;
                                cx.control.check()?;
                            }
                            let column = group * each + first;
                            let start = match &self.bias {
                                _ if from > 0 => Start::Output,
                                Some(bias) => Start::Bias(&bias[group * pack::pitch(each) + first..]),
                                None => Start::Zero,
                            };
                            let panel = &packed[first * patch + from * padded..][..len * padded];
                            let image = &image[group * depth..];
                            let out = &mut out[column..];
                            Gathered { image, patches, runs, panel, columns, start, out, pitch: filters }.run();
                        }
                        from += len;
                    }
                }
                self.finish(out, filters, scratch, cx)?;
            }
            Ok(())
        })
    }

    /// The runs of a patch.
    fn runs(&self, sizes: &Sizes, cx: &ExecContext<'_>) -> Result<Block<Run>, Error> {
        let &Sizes { rows, columns, channels, depth, .. } = sizes;
        // Adjacent taps are one run if no channel is between them.
        let joined = self.groups == 1 && (columns.dilation == 1 || columns.kernel == 1);
        let (each, len) = if joined { (1, columns.kernel * channels) } else { (columns.kernel, depth) };
        let pieces = len.div_ceil(DEPTH);
        let mut runs = cx.block(count(&[rows.kernel, each, pieces])?)?;
        let mut checkpoint = Checkpoint::default();
        for y in 0..rows.kernel {
            for x in 0..each {
                checkpoint.step(pieces, cx)?;
                let tap = sizes.tap(y, x);
                let piece = |from| Run { offset: tap + from, len: DEPTH.min(len - from) };
                runs.extend((0..len).step_by(DEPTH).map(piece));
            }
        }
        Ok(runs)
    }

    /// Computes outputs of which each reads one channel.
    fn depthwise(&self, images: &Images<'_>, total: usize, cx: &ExecContext<'_>) -> Result<(Vec<f32>, Charge), Error> {
        let taps = Taps { weights: &self.packed, bias: self.bias.as_deref() };
        let line = images.columns.output * images.channels;
        let multiplications = total.saturating_mul(images.rows.kernel * images.columns.kernel);
        let scratch = |_| Ok((self.epilogue.scratch(cx)?, Lines::new(images, cx)?));
        let scratches = (0..cx.parts(total / line, multiplications)).map(scratch);
        let mut scratches = scratches.collect::<Result<SmallVec<[(Scratch, Lines); 1]>, Error>>()?;
        cx.produce(&mut scratches, total, line, line, |cx, (scratch, lines), start, out| {
            for (index, out) in out.chunks_exact_mut(line).enumerate() {
                lines.convolve(images, taps, start / line + index, out, cx)?;
                self.finish(out, images.channels, scratch, cx)?;
            }
            Ok(())
        })
    }

    /// Applies the epilogue to rows of outputs.
    fn finish(
        &self,
        out: &mut [f32],
        filters: usize,
        scratch: &mut Scratch,
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        if self.epilogue.is_uniform() {
            return self.epilogue.run(out, Placement::Columns(0), scratch, cx);
        }
        out.chunks_exact_mut(filters).try_for_each(|row| self.epilogue.run(row, Placement::Columns(0), scratch, cx))
    }
}

/// The slide over the elements of a line, of which each column has one for each channel.
fn by_channels(columns: Slide, channels: usize) -> Slide {
    let [input, before, after] =
        [columns.input, columns.before, columns.after].map(|size| size.saturating_mul(channels));
    Slide { input, before, after, ..columns }
}

/// Runs in groups of at most [`DEPTH`] elements, which no run is longer than.
fn segments(mut runs: &[Run]) -> impl Iterator<Item = &[Run]> {
    std::iter::from_fn(move || {
        let sums = runs.iter().scan(0, |sum, run| {
            *sum += run.len;
            Some(*sum)
        });
        let (segment, rest) = runs.split_at(sums.take_while(|&sum| sum <= DEPTH).count());
        runs = rest;
        (!segment.is_empty()).then_some(segment)
    })
}
