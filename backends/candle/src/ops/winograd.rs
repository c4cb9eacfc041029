//! Conv by constant 3×3 weights with a stride of 1, by Winograd's transformations, of values whose channels are the last
//! dimension.
//!
//! Tiles are transformed some at a time, then multiplied by the transformed weights: one product for each point of a
//! tile, of all these tiles and the filters of one panel. So what is written in between stays in the cache.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::compute::context::{ExecContext, VECTOR_CHECK_INTERVAL};
use crate::math::gathered::{DEPTH, Gathered, Run, Start};
use crate::math::pack;
use crate::math::winograd::{INPUTS, Input, OUTPUTS, Output, POINTS, filter, transform_input, transform_output};
use crate::ops::window::Slide;
use crate::tensor::budget::{Block, Charge};
use crate::tensor::dims::product;
use graphpool::backend::Error;

/// Tiles that are transformed and multiplied together.
const TILES: usize = 32;

/// The fewest tiles for which this is faster: the transformed weights are four times as many as the weights, and are read
/// once for each block of tiles.
const FEWEST: usize = 24;

/// The elements from one point of transformed tiles to the next, for so many channels or filters. A power of two would
/// put the points of a tile in few lines of the cache.
fn pitch_of(channels: usize) -> usize {
    TILES * channels + pack::pitch(1)
}

/// Transformed weights.
pub(super) struct Transformed {
    packed: Arc<Vec<f32>>,
    channels: usize,
    filters: usize,
}

/// The most weights of one tap: transformed ones take four times the memory of all taps.
const MOST: usize = 1 << 15;

/// Whether weights of these dimensions can be transformed, and filters and channels are enough for it to be faster.
pub(super) fn suits(dims: &[usize], groups: usize) -> bool {
    let least = pack::pitch(1);
    let &[filters, channels, 3, 3] = dims else { return false };
    // Tiles are transformed in whole vectors.
    let whole = filters.is_multiple_of(least) && channels.is_multiple_of(least);
    let enough = filters >= least && (least..=DEPTH).contains(&channels);
    groups == 1 && enough && whole && filters.saturating_mul(channels) <= MOST
}

/// The elements of transformed weights; `None` on overflow.
pub(super) fn packed_len(dims: &[usize]) -> Option<usize> {
    let &[filters, channels, ..] = dims else { return None };
    pack::packed_b_len(channels, filters)?.checked_mul(POINTS)
}

/// Transforms and packs weights, of which filter `i` is scaled by `scale(i)`, and appends them to `out`.
pub(super) fn pack(dims: &[usize], elements: &[f32], scale: impl Fn(usize) -> f32, out: &mut Vec<f32>) {
    let &[filters, channels, ..] = dims else { return };
    let tap = |channel: usize, number: usize, y: usize, x: usize| {
        elements[(number * channels + channel) * 9 + y * 3 + x] * scale(number)
    };
    let (from, of_point) = (out.len(), pack::packed_b_len(channels, filters).unwrap_or(0));
    out.resize(from + POINTS * of_point, 0.0);
    let out = &mut out[from..];
    for number in 0..filters {
        let (panel, column) = (number / pack::nr() * pack::nr(), number % pack::nr());
        let pitch = pack::pitch(pack::nr().min(filters - panel));
        for channel in 0..channels {
            let transformed = filter(|y, x| tap(channel, number, y, x));
            for (point, &weight) in transformed.as_flattened().iter().enumerate() {
                out[point * of_point + panel * channels + channel * pitch + column] = weight;
            }
        }
    }
}

/// Where the tiles of one image are.
struct Tiles {
    columns: usize,
    /// Elements of the padded image from one line to the next.
    line: usize,
    output: [usize; 2],
}

/// Images that are padded as [`Transformed::padded`] says.
pub(super) struct Convolution<'a> {
    /// The sizes with the pads; channels count as columns.
    pub(super) sizes: [usize; 3],
    pub(super) images: &'a [f32],
    /// The rows and columns of an output.
    pub(super) output: [usize; 2],
}

/// The memory of one thread.
struct Memory {
    inputs: Block<f32>,
    products: Block<f32>,
}

impl Transformed {
    pub(super) fn new(dims: &[usize], packed: Arc<Vec<f32>>) -> Option<Self> {
        let &[filters, channels, ..] = dims else { return None };
        Some(Self { packed, channels, filters })
    }

    /// Whether this is faster for such a convolution than the products of patches.
    pub(super) fn is_faster(rows: Slide, columns: Slide) -> bool {
        let plain = [rows, columns].iter().all(|slide| slide.stride == 1 && slide.dilation == 1);
        let tiles = rows.output.div_ceil(OUTPUTS).saturating_mul(columns.output.div_ceil(OUTPUTS));
        // Of the outputs of tiles at the edges, some are outside.
        plain && tiles >= FEWEST && rows.output.saturating_mul(columns.output) >= 7 * tiles
    }

    /// The slides with pads after the last row and column, so that the image is a whole number of tiles.
    pub(super) fn padded(slides: [Slide; 2]) -> [Slide; 2] {
        slides.map(|slide| {
            let whole = slide.output.next_multiple_of(OUTPUTS) + INPUTS - OUTPUTS;
            Slide { after: whole.saturating_sub(slide.input + slide.before), ..slide }
        })
    }

    pub(super) fn filters(&self) -> usize {
        self.filters
    }

    /// Convolves images. `finish` is called with rows of outputs and a scratch of the thread.
    pub(super) fn convolve<S: Send>(
        &self,
        convolution: &Convolution<'_>,
        bias: Option<&[f32]>,
        scratch: impl Fn() -> Result<S, Error>,
        finish: impl Fn(&mut [f32], &mut S, &ExecContext<'_>) -> Result<(), Error> + Sync,
        cx: &ExecContext<'_>,
    ) -> Result<(Vec<f32>, Charge), Error> {
        let &Convolution { sizes, images, output } = convolution;
        let [rows, columns] = output.map(|size| size.div_ceil(OUTPUTS));
        let (volume, tiles) = (product(&sizes), Tiles { columns, line: sizes[2], output });
        let multiplications = rows.saturating_mul(columns).saturating_mul(POINTS * self.channels * self.filters);
        let memory = |_| {
            let inputs = cx.full_block(0.0, POINTS * pitch_of(self.channels))?;
            Ok((Memory { inputs, products: cx.full_block(0.0, POINTS * pitch_of(pack::nr()))? }, scratch()?))
        };
        let mut memories =
            (0..cx.parts(rows, multiplications)).map(memory).collect::<Result<SmallVec<[_; 1]>, Error>>()?;
        let (unit, of_image) = (OUTPUTS * output[1] * self.filters, output[0] * output[1] * self.filters);
        let part =
            |image: &[f32], (memory, scratch): &mut (Memory, S), start, out: &mut [f32], cx: &ExecContext<'_>| {
                let first = start / unit * columns;
                let last = first + out.len().div_ceil(unit) * columns;
                for from in (first..last).step_by(TILES) {
                    let (count, of_part) = (TILES.min(last - from), from - first);
                    self.tiles(image, &tiles, from, of_part, count, bias, memory, out, cx)?;
                }
                finish(out, scratch, cx)
            };
        if let &[_] = &*memories
            && images.len() == volume
        {
            // Some lines of tiles at a time, as many tiles as are multiplied together.
            let chunk = unit * TILES.div_ceil(columns);
            return cx.produce(&mut memories, of_image, unit, chunk, |cx, memory, start, out| {
                part(images, memory, start, out, cx)
            });
        }
        let (mut out, charge) = cx.filled(0.0, images.len() / volume * of_image)?;
        for (image, out) in images.chunks_exact(volume).zip(out.chunks_exact_mut(of_image)) {
            cx.parallel_for(&mut memories, out, unit, |cx, memory, start, out| part(image, memory, start, out, cx))?;
        }
        Ok((out, charge))
    }

    /// Computes `count` tiles from number `from` on, which are those from `of_part` on of the part `out`.
    #[expect(clippy::too_many_arguments, reason = "a loop's body, with what its loop knows")]
    fn tiles(
        &self,
        image: &[f32],
        tiles: &Tiles,
        from: usize,
        of_part: usize,
        count: usize,
        bias: Option<&[f32]>,
        memory: &mut Memory,
        out: &mut [f32],
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let (channels, filters, width) = (self.channels, self.filters, pack::nr());
        let (inputs, products) = (memory.inputs.as_mut_slice(), memory.products.as_mut_slice());
        let mut patches = [0; TILES];
        for (index, patch) in patches.iter_mut().enumerate().take(count) {
            *patch = index * channels;
            let (row, column) = ((from + index) / tiles.columns, (from + index) % tiles.columns);
            let image = &image[row * OUTPUTS * tiles.line + column * OUTPUTS * channels..];
            let out = &mut inputs[index * channels..];
            transform_input(Input { image, line: tiles.line, channels, out, pitch: pitch_of(channels) });
        }
        let mut work = VECTOR_CHECK_INTERVAL;
        let (runs, len) = ([Run { offset: 0, len: channels }], pack::packed_b_len(channels, filters).unwrap_or(0));
        for first in (0..filters).step_by(width) {
            let columns = width.min(filters - first);
            let pitch = pack::pitch(columns);
            for point in 0..POINTS {
                work += count * channels * pitch;
                if work >= VECTOR_CHECK_INTERVAL {
                    work = 0;
                    cx.control.check()?;
                }
                Gathered {
                    image: &inputs[point * pitch_of(channels)..][..TILES * channels],
                    patches: &patches[..count],
                    runs: &runs,
                    panel: &self.packed[point * len + first * channels..][..channels * pitch],
                    columns,
                    start: Start::Zero,
                    out: &mut products[point * pitch_of(width)..][..TILES * width],
                    pitch: width,
                }
                .run();
            }
            for index in 0..count {
                let (row, column) = ((of_part + index) / tiles.columns, (of_part + index) % tiles.columns);
                let row_of_image = (from + index) / tiles.columns;
                let [high, wide] = tiles.output;
                transform_output(Output {
                    products: &products[index * width..],
                    pitch: pitch_of(width),
                    filters: columns,
                    bias: bias.map(|bias| &bias[first..]),
                    out: &mut out[(row * OUTPUTS * wide + column * OUTPUTS) * filters + first..],
                    strides: [wide * filters, filters],
                    inside: [high - row_of_image * OUTPUTS, wide - column * OUTPUTS],
                });
            }
        }
        Ok(())
    }
}
