//! Conv of f64 by im2col: products of the filters and the patch matrix, a block of outputs at a time.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::math::gemm;
use crate::math::gemm::Matrix;
use crate::ops::window::{ConvShape, Slide, Window, biases};
use crate::tensor::dims::{count, product};
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// Elements of the patch matrix of one block.
const PATCHES: usize = 1 << 16;

/// The convolution of a tensor of f64.
pub(super) fn convolve(
    value: &Value,
    weights: &Value,
    bias: Option<&Value>,
    window: &Window,
    groups: usize,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let shape = ConvShape::new(value.dims(), weights.dims(), window, groups)?;
    let ConvShape { channels, filters, depth, spatial, kernel, slides, output: dims, .. } = shape;
    let bias = biases::<f64>(bias, filters)?;
    let positions = count(&slides.map(|slide| slide.output))?;
    if count(&dims)? > 0 && value.is_empty() {
        return Err(Error::invalid_argument("the input of a convolution is empty"));
    }
    let (patch, group_filters, volume) = (depth * product(kernel), filters / groups, product(spatial));
    let block = (PATCHES / patch.max(1)).clamp(1, positions.max(1));
    let (mut patches, _patches) = cx.filled(0.0, count(&[patch, block])?)?;
    let (mut sums, _sums) = cx.filled(0.0, count(&[group_filters, block])?)?;
    let (elements, rows) = (value.elements::<f64>()?, weights.elements::<f64>()?);
    let mut checkpoint = Checkpoint::default();
    cx.output::<f64>(&dims)?.write(0.0, |out| {
        for (index, out) in out.chunks_exact_mut(group_filters * positions).enumerate() {
            let (batch, group) = (index / groups, index % groups);
            let image = &elements[(batch * channels + group * depth) * volume..][..depth * volume];
            let left = Matrix { elements: rows, start: group * group_filters * patch, row: patch, column: 1 };
            for first in (0..positions).step_by(block) {
                let len = block.min(positions - first);
                let (patches, sums) = (&mut patches[..patch * len], &mut sums[..group_filters * len]);
                for (row, patches) in patches.chunks_exact_mut(len).enumerate() {
                    checkpoint.step(4 * len, cx)?;
                    fill_patch_row(image, row, first, slides, patches);
                }
                let right = Matrix { elements: &*patches, start: 0, row: len, column: 1 };
                gemm::product(left, right, sums, (group_filters, len, patch), cx)?;
                for (filter, sums) in sums.chunks_exact(len).enumerate() {
                    checkpoint.step(len, cx)?;
                    let bias = bias.map_or(0.0, |bias| bias[group * group_filters + filter]);
                    let out = &mut out[filter * positions + first..][..len];
                    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum + bias);
                }
            }
        }
        Ok(())
    })
}

/// Fills row `row` of the patch matrix, which is one channel and kernel position, for the outputs from `first` on.
fn fill_patch_row(image: &[f64], row: usize, first: usize, [slabs, rows, columns]: [Slide; 3], patches: &mut [f64]) {
    let taps = slabs.kernel * rows.kernel * columns.kernel;
    let (channel, tap) = (row / taps, row % taps);
    let (x, tap) = (tap % columns.kernel, tap / columns.kernel);
    let (y, z) = (tap % rows.kernel, tap / rows.kernel);
    for (position, patch) in (first..).zip(patches) {
        let (line, column) = (position / columns.output, position % columns.output);
        let (slab, line) = (line / rows.output, line % rows.output);
        let at = || {
            let (slab, line) = (slabs.source_inside(slab, z)?, rows.source_inside(line, y)?);
            let column = columns.source_inside(column, x)?;
            Some((((channel * slabs.input) + slab) * rows.input + line) * columns.input + column)
        };
        *patch = at().map_or(0.0, |at| image[at]);
    }
}
