//! Device forms of matrix products and convolutions.

use crate::device::args::{DeviceArgs, DeviceForm, Stop};
use crate::device::context::DeviceContext;
use crate::device::tensor::DeviceTensor;
use crate::ops::device::{host_only, one, require_one_type};
use crate::ops::node::Node;
use crate::ops::window::{ConvShape, Slide, Window, groups};
use crate::tensor::dims::{Dims, product};
use graphpool::backend::Error;

pub(in crate::ops) fn matmul(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    Ok(Box::new(|args, dx| {
        let ty = require_one_type(args, 1..2)?;
        let (a, b) = (args.float(0, dx)?, args.float(1, dx)?);
        if a.rank() == 0 || b.rank() == 0 {
            return Err(Error::invalid_argument("the operands of a product must have a dimension").into());
        }
        // A vector is a row on the left and a column on the right, and its dimension is not in the result.
        let (row, column) = (a.rank() == 1, b.rank() == 1);
        let a = if row { dx.reshape(&a, &[1, a.len()])? } else { a };
        let b = if column { dx.reshape(&b, &[b.len(), 1])? } else { b };
        let result = dx.matmul(&a, &b)?;
        let mut dims = result.dims().to_vec();
        let rank = dims.len();
        if column {
            dims.remove(rank - 1);
        }
        if row {
            dims.remove(rank - 2);
        }
        one(&dx.reshape(&result, &dims)?, ty, dx)
    }))
}

pub(in crate::ops) fn gemm(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let (alpha, beta) = (f64::from(node.float("alpha", 1.0)?), f64::from(node.float("beta", 1.0)?));
    let (trans_a, trans_b) = (node.flag("transA", false)?, node.flag("transB", false)?);
    Ok(Box::new(move |args, dx| {
        let ty = require_one_type(args, 1..2)?;
        let (a, b) = (args.float(0, dx)?, args.float(1, dx)?);
        if (a.rank(), b.rank()) != (2, 2) {
            return Err(Error::invalid_argument("the operands must have two dimensions").into());
        }
        let a = if trans_a { dx.transpose(&a)? } else { a };
        let b = if trans_b { dx.transpose(&b)? } else { b };
        let mut result = dx.matmul(&a, &b)?;
        // As on the host, a NaN scales nothing.
        if (alpha - 1.0).abs() > 0.0 {
            result = dx.affine(&result, alpha, 0.0)?;
        }
        if let Some(bias) = args.optional_float(2, dx)? {
            // Scaled in the type of the result, which may be wider.
            let bias = dx.cast(&bias, result.ty())?;
            let bias = if beta == 1.0 { bias } else { dx.affine(&bias, beta, 0.0)? };
            result = dx.add(&result, &dx.broadcast(&bias, result.dims())?)?;
        }
        one(&result, ty, dx)
    }))
}

/// The elements with zeros before and after a dimension, or with `filler` in their place.
pub(super) fn padded(
    x: &DeviceTensor,
    axis: usize,
    (before, after): (usize, usize),
    filler: f64,
    dx: &DeviceContext<'_>,
) -> Result<DeviceTensor, Error> {
    let mut parts = Vec::with_capacity(3);
    let fill = |len: usize| -> Result<Option<DeviceTensor>, Error> {
        let mut dims = x.dims().to_vec();
        dims[axis] = len;
        if len == 0 { Ok(None) } else { dx.filled(&dims, filler, x.ty()).map(Some) }
    };
    parts.extend(fill(before)?);
    parts.push(x.clone());
    parts.extend(fill(after)?);
    if parts.len() == 1 { Ok(x.clone()) } else { dx.join(&parts, axis) }
}

/// What the last window of a dimension reaches, from the first pad on.
fn reach(slide: &Slide) -> usize {
    (slide.output.max(1) - 1) * slide.stride + (slide.kernel - 1) * slide.dilation + 1
}

/// Stops for windows that are mostly over pads. The device would store the pads, and the host skips them.
pub(super) fn refuse_wide(slides: &[Slide]) -> Result<(), Stop> {
    /// Pads that are stored in any case.
    const FEW: usize = 1 << 10;
    let wide = |slide: &Slide| reach(slide).max(slide.before) > 4 * slide.input + FEW;
    if slides.iter().any(wide) { host_only() } else { Ok(()) }
}

/// The elements under each kernel position of one dimension: the dimension becomes two, outputs and positions.
pub(super) fn windows(
    x: &DeviceTensor,
    axis: usize,
    slide: &Slide,
    filler: f64,
    dx: &DeviceContext<'_>,
) -> Result<DeviceTensor, Error> {
    // What the last window reaches may be less or more than the padded input.
    let after = reach(slide).saturating_sub(slide.before + slide.input);
    let x = padded(x, axis, (slide.before, after), filler, dx)?;
    let count = crate::tensor::dims::count(&[slide.output, slide.kernel])?;
    let position = |at: usize| at / slide.kernel * slide.stride + at % slide.kernel * slide.dilation;
    let taken = dx.take_each(&x, axis, count, position)?;
    let mut dims = taken.dims().to_vec();
    dims[axis] = slide.output;
    dims.insert(axis + 1, slide.kernel);
    dx.reshape(&taken, &dims)
}

pub(in crate::ops) fn conv(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let (window, groups) = (Window::new(node)?, groups(node, "group")?);
    Ok(Box::new(move |args, dx| {
        let ty = require_one_type(args, 1..3)?;
        let (x, filters) = (args.float(0, dx)?, args.float(1, dx)?);
        let shape = ConvShape::new(x.dims(), filters.dims(), &window, groups)?;
        let spatial = shape.spatial.len();
        let slides: Vec<Slide> = shape.slides[3 - spatial..].to_vec();
        let output = shape.output.clone();
        refuse_wide(&slides)?;
        if output.contains(&0) || x.is_empty() {
            return host_only();
        }
        let result = convolved(&x, &filters, &slides, &output, groups, dx)?;
        one(&with_bias(result, args, dx)?, ty, dx)
    }))
}

/// The result of a convolution with the bias, which is input 2, added to its channels.
fn with_bias(result: DeviceTensor, args: &mut DeviceArgs, dx: &DeviceContext<'_>) -> Result<DeviceTensor, Stop> {
    let Some(bias) = args.optional_float(2, dx)? else { return Ok(result) };
    let filters = result.dims()[1];
    if bias.len() != filters {
        let why = format!("the bias has {} elements, and there are {filters} filters", bias.len());
        return Err(Error::invalid_argument(why).into());
    }
    let mut dims = vec![1; result.rank()];
    dims[1] = filters;
    Ok(dx.add(&result, &dx.reshape(&bias, &dims)?)?)
}

/// A convolution without bias. One by candle's own where its dimensions have one stride and one dilation; any other is
/// a product of the filters and the matrix of patches.
pub(super) fn convolved(
    x: &DeviceTensor,
    filters: &DeviceTensor,
    slides: &[Slide],
    output: &[usize],
    groups: usize,
    dx: &DeviceContext<'_>,
) -> Result<DeviceTensor, Error> {
    let alike = |slides: &[Slide]| {
        slides.windows(2).all(|pair| (pair[0].stride, pair[0].dilation) == (pair[1].stride, pair[1].dilation))
    };
    if slides.len() <= 2 && alike(slides) {
        let mut planes = x.clone();
        for (at, slide) in slides.iter().enumerate() {
            planes = padded(&planes, at + 2, (slide.before, slide.after), 0.0, dx)?;
            // What is past the last window would give further outputs.
            let (reach, dim) = (reach(slide), planes.dims()[at + 2]);
            if reach < dim {
                planes = dx.narrow(&planes, at + 2, 0, reach)?;
            } else {
                planes = padded(&planes, at + 2, (0, reach - dim), 0.0, dx)?;
            }
        }
        // One dimension is a plane of height 1.
        let flat = slides.len() == 1;
        let plane = |x: &DeviceTensor| {
            let &[n, c, w] = x.dims() else { return Ok(x.clone()) };
            dx.reshape(x, &[n, c, 1, w])
        };
        let (planes, filters) = (plane(&planes)?, plane(filters)?);
        let dims = if flat { vec![output[0], output[1], 1, output[2]] } else { output.to_vec() };
        let steps = (slides[0].stride, slides[0].dilation, groups);
        let result = dx.convolve(&planes, &filters, &dims, steps)?;
        return dx.reshape(&result, output);
    }
    let mut patches = x.clone();
    for (at, slide) in slides.iter().enumerate() {
        patches = windows(&patches, 2 + 2 * at, slide, 0.0, dx)?;
    }
    // [batch, groups, depth, (outputs, positions)…] to [batch, groups, depth · positions, outputs].
    let (batch, depth) = (output[0], filters.dims()[1]);
    let split = [&[batch, groups, depth], &patches.dims()[2..]].concat();
    let patches = dx.reshape(&patches, &split)?;
    let (outputs, positions): (Vec<usize>, Vec<usize>) =
        ((0..slides.len()).map(|at| 3 + 2 * at).collect(), (0..slides.len()).map(|at| 4 + 2 * at).collect());
    let order = [&[0, 1, 2], positions.as_slice(), outputs.as_slice()].concat();
    let patches = dx.permute(&patches, &order)?;
    let (kernel, places) = (product(&filters.dims()[1..]), product(&output[2..]));
    let patches = dx.reshape(&patches, &[batch, groups, kernel, places])?;
    let each = output[1] / groups;
    let rows = dx.reshape(filters, &[1, groups, each, kernel])?;
    dx.reshape(&dx.matmul(&rows, &patches)?, output)
}

/// The slides of the convolution from the output of a transposed convolution to its input, for the dimensions of the
/// input and of the filters, as the host's kernel computes and checks them.
pub(in crate::ops) type TransposedSlides = Box<dyn Fn(&[usize], &[usize]) -> Result<Vec<Slide>, Error> + Send + Sync>;

/// A transposed convolution: the convolution of the input with zeros between its elements by the reversed filters.
///
/// A filter that is not finite gives NaN where it is over a zero. The host's kernel has no zeros there.
pub(in crate::ops) fn conv_transpose(groups: usize, slides: TransposedSlides) -> Result<DeviceForm, Stop> {
    Ok(Box::new(move |args, dx| {
        let ty = require_one_type(args, 1..3)?;
        let (x, filters) = (args.float(0, dx)?, args.float(1, dx)?);
        let axes = slides(x.dims(), filters.dims())?;
        let mut output = vec![x.dims()[0], filters.dims()[1].saturating_mul(groups)];
        output.extend(axes.iter().map(|axis| axis.input));
        if output.contains(&0) || x.is_empty() {
            return host_only();
        }
        refuse_wide(&axes)?;
        let mut spread = x.clone();
        let mut slides = Vec::with_capacity(axes.len());
        for (at, axis) in axes.iter().enumerate() {
            spread = spaced(&spread, at + 2, axis.stride, dx)?;
            let span = (axis.kernel - 1) * axis.dilation;
            // A pad of the output beyond the kernel crops the input.
            let Some(before) = span.checked_sub(axis.before) else { return host_only() };
            let input = spread.dims()[at + 2];
            let Some(after) = (axis.input + span).checked_sub(before + input) else { return host_only() };
            slides.push(Slide { input, output: axis.input, stride: 1, before, after, ..*axis });
        }
        // [channels, filters / groups, …] to [filters, channels / groups, …], reversed.
        let (channels, each) = (filters.dims()[0], filters.dims()[1]);
        let kernel = &filters.dims()[2..];
        let split = [&[groups, channels / groups, each], kernel].concat();
        let mut order: Vec<usize> = (0..split.len()).collect();
        order.swap(1, 2);
        let swapped = dx.permute(&dx.reshape(&filters, &split)?, &order)?;
        let mut reversed = dx.reshape(&swapped, &[&[groups * each, channels / groups], kernel].concat())?;
        for at in 2..reversed.rank() {
            reversed = dx.reversed(&reversed, at)?;
        }
        let result = convolved(&spread, &reversed, &slides, &output, groups, dx)?;
        one(&with_bias(result, args, dx)?, ty, dx)
    }))
}

/// The elements of an axis with `stride` - 1 zeros after each but the last.
fn spaced(x: &DeviceTensor, axis: usize, stride: usize, dx: &DeviceContext<'_>) -> Result<DeviceTensor, Error> {
    let dim = x.dims()[axis];
    if stride == 1 || dim == 1 {
        return Ok(x.clone());
    }
    let len = (dim - 1).saturating_mul(stride).saturating_add(1);
    if u32::try_from(len).is_err() {
        return Err(Error::too_large(format!("{}: the input with its gaps is too large", Dims(x.dims()))));
    }
    // The first element of the zeros has the number `dim`.
    let with_zero = padded(x, axis, (0, 1), 0.0, dx)?;
    dx.take_each(&with_zero, axis, len, |at| if at.is_multiple_of(stride) { at / stride } else { dim })
}
