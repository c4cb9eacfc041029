//! ConvTranspose over one to three spatial dimensions: a product of the weights and the input, whose elements col2im
//! adds to the output.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::math::product::{Matrices, Size, multiply};
use crate::ops::cast::convert;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::ops::real::{Real, promote, promote_to, with_reals};
use crate::ops::window::{Slide, Window, biases, check_weights_rank, groups, planes};
use crate::tensor::dims::{Dims, count, product};
use crate::tensor::value::Value;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] =
    &[since(1, "ConvTranspose", (2, 3), conv_transpose).heavy().device(form!(on_device))];

/// The attributes of a transposed convolution.
struct Attributes {
    window: Window,
    groups: usize,
    output_padding: Vec<usize>,
    output_size: Option<Vec<usize>>,
}

impl Attributes {
    fn new(node: &Node<'_>) -> Result<Self, Error> {
        let list = |name| -> Result<Option<Vec<usize>>, Error> {
            let Some(list) = node.ints(name)? else { return Ok(None) };
            let size = |&size: &i64| usize::try_from(size).ok().filter(|&size| size <= 1 << 24);
            let list = list.iter().map(size).collect::<Option<_>>();
            list.map(Some).ok_or_else(|| Error::invalid_encoding(format!("attribute {name} is out of range")))
        };
        Ok(Self {
            window: Window::new(node)?,
            groups: groups(node, "group")?,
            output_padding: list("output_padding")?.unwrap_or_default(),
            output_size: list("output_shape")?,
        })
    }

    /// The slide of each spatial dimension for an input and weights of these dimensions, which are checked.
    fn slides(&self, input: &[usize], weights: &[usize]) -> Result<Vec<Slide>, Error> {
        let ((_, channels, spatial), (depth, _, kernel)) = (planes(input)?, planes(weights)?);
        if depth != channels || channels % self.groups != 0 || kernel.len() != spatial.len() {
            let (input, weights) = (Dims(input), Dims(weights));
            let why = format!("the weights {weights} do not fit the input {input} in {} groups", self.groups);
            return Err(Error::invalid_argument(why));
        }
        self.window.check(kernel, spatial.len())?;
        let slides = spatial.iter().zip(kernel).enumerate().map(|(position, (&input, &kernel))| {
            let output_padding = self.output_padding.get(position).copied().unwrap_or(0);
            let output_size = self.output_size.as_ref().and_then(|list| list.get(position)).copied();
            inverse_slide(&self.window, position, input, kernel, output_padding, output_size)
        });
        slides.collect()
    }
}

fn conv_transpose(node: &Node<'_>) -> Result<OpFn, Error> {
    let attributes = Attributes::new(node)?;
    check_weights_rank(node)?;
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = promote(args.take(0)?, cx)?;
        let weights = promote_to(args.take(1)?, value.ty(), cx)?;
        let bias = args.take(2).ok().map(|bias| promote_to(bias, value.ty(), cx)).transpose()?;
        let slides = attributes.slides(value.dims(), weights.dims())?;
        let groups = attributes.groups;
        let (n, ..) = planes(value.dims())?;
        let (_, filters_each, kernel) = planes(weights.dims())?;
        let filters = filters_each.saturating_mul(groups);
        let [slabs, rows, columns] = Slide::as_three(&slides)?;
        let mut dims = vec![n, filters];
        dims.extend(slides.iter().map(|slide| slide.input));
        let plane = count(&[slabs.input, rows.input, columns.input])?;
        let shape = Shape { slides: [slabs, rows, columns], plane, groups, filters_each, kernel: product(kernel) };
        let result = with_reals!(value, T => transposed::<T>(&value, &weights, bias.as_ref(), &dims, shape, cx))?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

#[cfg(feature = "candle")]
fn on_device(node: &Node<'_>) -> Result<crate::device::args::DeviceForm, crate::device::args::Stop> {
    let attributes = Attributes::new(node)?;
    let groups = attributes.groups;
    crate::ops::device::product::conv_transpose(groups, Box::new(move |x, weights| attributes.slides(x, weights)))
}

/// The sizes of a transposed convolution.
#[derive(Clone, Copy)]
struct Shape {
    slides: [Slide; 3],
    /// Outputs of one filter.
    plane: usize,
    groups: usize,
    filters_each: usize,
    kernel: usize,
}

fn transposed<T: Real>(
    value: &Value,
    weights: &Value,
    bias: Option<&Value>,
    dims: &[usize],
    shape: Shape,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let Shape { slides, plane, groups, filters_each, kernel } = shape;
    let (_, channels, spatial) = planes(value.dims())?;
    let filters = filters_each.saturating_mul(groups);
    let bias = biases::<T>(bias, filters)?;
    let (positions, group_channels) = (product(spatial), channels / groups);
    let taps = filters_each * kernel;
    // The weights are k×m: channels × filters.
    let left = Matrices::row_major(weights.elements::<T>()?, group_channels, taps).transposed();
    let size = Size { batch: groups, m: taps, n: positions, k: group_channels };
    let mut checkpoint = Checkpoint::default();
    cx.output::<T>(dims)?.write(T::default(), |out| {
        for (batch, out) in out.chunks_exact_mut((filters * plane).max(1)).enumerate() {
            let right = Matrices::row_major(value.elements::<T>()?, group_channels, positions);
            let right = Matrices { start: batch * channels * positions, ..right };
            let (patches, _charge) = multiply::<T>(left, right, size, cx)?;
            for (filter, out) in out.chunks_exact_mut(plane.max(1)).enumerate() {
                if let Some(bias) = bias {
                    checkpoint.set(bias[filter], out, cx)?;
                }
                let len = kernel * positions;
                col2im(&patches[filter * len..(filter + 1) * len], slides, out, cx)?;
            }
        }
        Ok(())
    })
}

/// One dimension of a transposed convolution, as the window of the convolution from its output to its input.
fn inverse_slide(
    window: &Window,
    position: usize,
    input: usize,
    kernel: usize,
    output_padding: usize,
    output_size: Option<usize>,
) -> Result<Slide, Error> {
    let (stride, dilation) = window.steps(position);
    let full = input
        .checked_sub(1)
        .and_then(|steps| steps.checked_mul(stride))
        .and_then(|span| span.checked_add((kernel - 1) * dilation + 1 + output_padding))
        .ok_or_else(|| Error::too_large("an output dimension cannot be addressed, or an input dimension is empty"))?;
    let (output, before) = match (output_size, window.pads(position)) {
        (Some(output_size), _) => {
            let pads = full.saturating_sub(output_size);
            (output_size, if window.odd_at_end() { pads / 2 } else { pads - pads / 2 })
        }
        (None, Some((before, after))) => {
            let output = full.checked_sub(before + after);
            (output.ok_or_else(|| Error::invalid_argument("the pads are larger than the output"))?, before)
        }
        (None, None) => {
            let output = input.saturating_mul(stride);
            let pads = full.saturating_sub(output);
            (output, if window.odd_at_end() { pads / 2 } else { pads - pads / 2 })
        }
    };
    Ok(Slide { input: output, output: input, kernel, stride, dilation, before, after: 0 })
}

/// Adds each element of the patch matrix to the output element that it belongs to.
fn col2im<T: Real>(
    patches: &[T],
    [slabs, rows, columns]: [Slide; 3],
    out: &mut [T],
    cx: &ExecContext<'_>,
) -> Result<(), Error> {
    let mut checkpoint = Checkpoint::default();
    let positions = slabs.output * rows.output * columns.output;
    for (tap, patch) in patches.chunks_exact(positions.max(1)).enumerate() {
        let (slab, tap) = (tap / (rows.kernel * columns.kernel), tap % (rows.kernel * columns.kernel));
        let (row, column) = (tap / columns.kernel, tap % columns.kernel);
        let ((top, bottom), (first, end)) = (outputs_inside(&rows, row), outputs_inside(&columns, column));
        let (front, back) = outputs_inside(&slabs, slab);
        for z in front..back {
            for y in top..bottom {
                checkpoint.step(end - first, cx)?;
                let line = (slabs.source(z, slab) * rows.input + rows.source(y, row)) * columns.input;
                let patch = &patch[(z * rows.output + y) * columns.output..][..columns.output];
                for x in first..end {
                    out[line + columns.source(x, column)] += patch[x];
                }
            }
        }
        checkpoint.step(1, cx)?;
    }
    Ok(())
}

/// The range of outputs of a dimension whose source under kernel position `at` is inside: first, and one past the last.
#[inline]
fn outputs_inside(slide: &Slide, at: usize) -> (usize, usize) {
    let offset = at * slide.dilation;
    let first = slide.before.saturating_sub(offset).div_ceil(slide.stride);
    let end = (slide.input + slide.before).saturating_sub(offset).div_ceil(slide.stride).min(slide.output);
    (first.min(end), end)
}
