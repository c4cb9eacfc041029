//! Conv and ConvTranspose over one to three spatial dimensions.
//!
//! A convolution is one matrix product: the patches under the kernel are laid out as columns (im2col), which a
//! kernel of 1 doesn't even need. One filter a channel (depthwise) is a sum of shifted rows instead.

#![expect(clippy::inline_always, reason = "what is not inlined is not compiled for wide vectors")]

use super::super::kernel;
use super::super::meter::Cx;
use super::super::node::Node;
use super::super::value::{Dims, ElementType, Value, count};
use super::cast::convert;
use super::matmul::{Matrices, Size, multiply};
use super::window::{Slide, Window};
use super::{Kernel, Operator, no_type, product, since};
use crate::nn::Error;

pub(super) const OPERATORS: &[Operator] =
    &[since(1, "Conv", (2, 3), conv), since(1, "ConvTranspose", (2, 3), conv_transpose)];

fn group(node: &Node<'_>) -> Result<usize, Error> {
    let group = node.int("group")?.unwrap_or(1);
    let group = usize::try_from(group).ok().filter(|&group| (1..=1 << 24).contains(&group));
    group.ok_or_else(|| Error::invalid_encoding("attribute group is out of range"))
}

/// A spatial tensor as batch, channels and one to three spatial dimensions.
fn planes(dims: &[usize]) -> Result<(usize, usize, &[usize]), Error> {
    match dims {
        [n, c, spatial @ ..] if (1..=3).contains(&spatial.len()) => Ok((*n, *c, spatial)),
        _ => Err(Error::unsupported(format!("{}: one to three spatial dimensions are supported", Dims(dims)))),
    }
}

fn refuse_rank(node: &Node<'_>) -> Result<(), Error> {
    node.constant(1).map_or(Ok(()), |weights| planes(weights.dims()).map(drop))
}

fn conv(node: &Node<'_>) -> Result<Kernel, Error> {
    let (window, groups) = (Window::new(node)?, group(node)?);
    refuse_rank(node)?;
    Ok(Box::new(move |mut args, cx| {
        let (value, weights) = (args.take(0)?, args.take(1)?);
        let ty = value.ty();
        if !matches!(ty, ElementType::F32 | ElementType::F16 | ElementType::Bf16 | ElementType::F64) {
            return Err(no_type(&value));
        }
        let single = |value: Value| convert(value, ElementType::F32, cx);
        let bias = args.take(2).ok().map(single).transpose()?;
        let result = convolve(&single(value)?, &single(weights)?, bias.as_ref(), &window, groups, cx)?;
        Ok(vec![convert(result, ty, cx)?])
    }))
}

fn convolve(
    value: &Value,
    weights: &Value,
    bias: Option<&Value>,
    window: &Window,
    groups: usize,
    cx: &Cx<'_>,
) -> Result<Value, Error> {
    let (n, channels, spatial) = planes(value.dims())?;
    let (filters, depth, kernel) = planes(weights.dims())?;
    if depth.checked_mul(groups) != Some(channels) || filters % groups != 0 || kernel.len() != spatial.len() {
        let why = format!("{} by {} in {groups} groups", Dims(value.dims()), Dims(weights.dims()));
        return Err(Error::invalid_argument(why));
    }
    let bias = biases(bias, filters)?;
    let slides = window.over(spatial, kernel)?;
    let [slabs, rows, columns] = Slide::three(&slides)?;
    let mut dims = vec![n, filters];
    dims.extend(slides.iter().map(|slide| slide.output));
    let places = count(&[slabs.output, rows.output, columns.output])?;
    let elements = value.elements::<f32>()?;
    if count(&dims)? == 0 {
        return cx.output::<f32>(&dims)?.write(0.0, |_| ());
    }
    if value.is_empty() {
        return Err(Error::invalid_argument("a convolution of nothing"));
    }
    let image = channels * product(spatial);
    if depth == 1 && groups > 1 && spatial.len() < 3 {
        let taps = weights.elements::<f32>()?;
        // What a stride makes the filters rearrange: at most twice a plane.
        let _charge = cx.charge::<f32>(&[2, rows.input, columns.input])?;
        return cx.output::<f32>(&dims)?.try_write(0.0, |out| {
            for (index, out) in out.chunks_exact_mut(places).enumerate() {
                cx.control.check()?;
                let (batch, filter) = (index / filters, index % filters);
                let channel = filter / (filters / groups);
                let start = batch * image + channel * product(spatial);
                let plane = &elements[start..start + product(spatial)];
                let size = product(kernel);
                out.fill(bias.map_or(0.0, |bias| bias[filter]));
                depthwise(plane, &taps[filter * size..(filter + 1) * size], out, rows, columns);
            }
            Ok(())
        });
    }

    let (patch, filters_each) = (depth * product(kernel), filters / groups);
    let left = Matrices::rows(weights.storage()?, filters_each, patch);
    let size = Size { batch: groups, m: filters_each, n: places, k: patch };
    let pointwise = slides.iter().all(|s| s.kernel == 1 && s.stride == 1 && s.before == 0 && s.after == 0);
    let add_bias = |out: &mut [f32]| {
        if let Some(bias) = bias {
            for (index, out) in out.chunks_exact_mut(places).enumerate() {
                let bias = bias[index % filters];
                out.iter_mut().for_each(|x| *x += bias);
            }
        }
    };
    if pointwise && (groups == 1 || n == 1) {
        let right = Matrices::rows(value.storage()?, patch, places);
        let (left, size) =
            if groups == 1 { (Matrices { batch: 0, ..left }, Size { batch: n, ..size }) } else { (left, size) };
        let (mut out, charge) = multiply::<f32>(left, right, size, cx)?;
        add_bias(&mut out);
        return Value::charged(dims, out, charge);
    }

    let mut whole: Option<(Vec<f32>, _)> = None;
    for batch in 0..n {
        cx.control.check()?;
        let image = &elements[batch * image..(batch + 1) * image];
        let patches = cx.output::<f32>(&[channels, product(kernel), places])?;
        let patches = patches.try_append(|out| im2col(image, [slabs, rows, columns], out, cx))?;
        let right = Matrices::rows(patches.storage()?, patch, places);
        let (mut out, charge) = multiply::<f32>(left, right, size, cx)?;
        add_bias(&mut out);
        if n == 1 {
            return Value::charged(dims, out, charge);
        }
        if whole.is_none() {
            whole = Some(cx.scratch::<f32>(count(&dims)?)?);
        }
        if let Some((whole, _)) = &mut whole {
            whole.extend_from_slice(&out);
        }
    }
    let (whole, charge) = whole.ok_or_else(|| Error::runtime_error("an empty batch"))?;
    Value::charged(dims, whole, charge)
}

fn biases(bias: Option<&Value>, filters: usize) -> Result<Option<&[f32]>, Error> {
    let Some(bias) = bias else { return Ok(None) };
    let elements = bias.elements::<f32>()?;
    if elements.len() != filters {
        return Err(Error::invalid_argument(format!("a bias of {} for {filters} filters", elements.len())));
    }
    Ok(Some(elements))
}

/// The outputs of a dimension whose source under kernel place `at` is inside: first, and one past the last.
#[inline]
fn reach(slide: &Slide, at: usize) -> (usize, usize) {
    let offset = at * slide.dilation;
    let first = slide.before.saturating_sub(offset).div_ceil(slide.stride);
    let end = (slide.input + slide.before).saturating_sub(offset).div_ceil(slide.stride).min(slide.output);
    (first.min(end), end)
}

/// Appends, for each channel and place of the kernel, the elements that lie under that place at each output.
fn im2col(image: &[f32], [slabs, rows, columns]: [Slide; 3], out: &mut Vec<f32>, cx: &Cx<'_>) -> Result<(), Error> {
    for volume in image.chunks_exact(slabs.input * rows.input * columns.input) {
        cx.control.check()?;
        for slab in 0..slabs.kernel {
            let (front, back) = reach(&slabs, slab);
            for tap in 0..rows.kernel * columns.kernel {
                let (row, column) = (tap / columns.kernel, tap % columns.kernel);
                for z in 0..slabs.output {
                    if (front..back).contains(&z) {
                        let plane = slabs.source(z, slab) * rows.input * columns.input;
                        shifted(
                            &volume[plane..plane + rows.input * columns.input],
                            (rows, row),
                            (columns, column),
                            out,
                        );
                    } else {
                        out.extend(std::iter::repeat_n(0.0, rows.output * columns.output));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Appends the elements of a plane that lie under one place of the kernel at each output.
fn shifted(plane: &[f32], (rows, row): (Slide, usize), (columns, column): (Slide, usize), out: &mut Vec<f32>) {
    let ((top, bottom), (first, end)) = (reach(&rows, row), reach(&columns, column));
    for y in 0..rows.output {
        if !(top..bottom).contains(&y) || first == end {
            out.extend(std::iter::repeat_n(0.0, columns.output));
            continue;
        }
        let start = rows.source(y, row) * columns.input + columns.source(first, column);
        let len = end - first;
        out.extend(std::iter::repeat_n(0.0, first));
        if columns.stride == 1 {
            out.extend_from_slice(&plane[start..start + len]);
        } else {
            out.extend(plane[start..].iter().step_by(columns.stride).take(len));
        }
        out.extend(std::iter::repeat_n(0.0, columns.output - end));
    }
}

/// Adds to `out` the convolution of one plane by one kernel.
fn depthwise(plane: &[f32], taps: &[f32], out: &mut [f32], rows: Slide, columns: Slide) {
    if columns.stride == 1 {
        kernel::wide_loop(Shifted { plane, pitch: columns.input, phase: 0, taps, out, rows, columns });
        return;
    }
    // Elements that are a stride apart are put side by side, so that every sum is over contiguous rows.
    let phase = columns.input.div_ceil(columns.stride);
    // A stride past the whole line leaves as many sequences as there are elements.
    let pitch = phase * columns.stride.min(columns.input);
    let mut split = vec![0.0; rows.input * pitch];
    for (line, split) in plane.chunks_exact(columns.input).zip(split.chunks_exact_mut(pitch)) {
        for (first, split) in split.chunks_exact_mut(phase).enumerate() {
            split.iter_mut().zip(line[first..].iter().step_by(columns.stride)).for_each(|(split, x)| *split = *x);
        }
    }
    kernel::wide_loop(Shifted { plane: &split, pitch, phase, taps, out, rows, columns });
}

/// A sum of shifted rows: lines of a plane are `pitch` apart, and elements a stride apart are side by side, each
/// such sequence `phase` long.
struct Shifted<'a> {
    plane: &'a [f32],
    pitch: usize,
    phase: usize,
    taps: &'a [f32],
    out: &'a mut [f32],
    rows: Slide,
    columns: Slide,
}

impl kernel::Loop for Shifted<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { plane, pitch, phase, taps, out, rows, columns } = self;
        for (y, out) in out.chunks_exact_mut(columns.output).enumerate() {
            let (top, bottom) = rows.inside(y);
            for row in top..bottom {
                let line = rows.source(y, row) * pitch;
                let line = &plane[line..line + pitch];
                for column in 0..columns.kernel {
                    let (first, end) = reach(&columns, column);
                    if first == end {
                        continue;
                    }
                    let source = columns.source(first, column);
                    let start = source % columns.stride * phase + source / columns.stride;
                    let tap = taps[row * columns.kernel + column];
                    for (out, x) in out[first..end].iter_mut().zip(&line[start..]) {
                        *out += tap * x;
                    }
                }
            }
        }
    }
}

fn conv_transpose(node: &Node<'_>) -> Result<Kernel, Error> {
    let (window, groups) = (Window::new(node)?, group(node)?);
    refuse_rank(node)?;
    let list = |name| -> Result<Option<Vec<usize>>, Error> {
        let Some(list) = node.ints(name)? else { return Ok(None) };
        let size = |&size: &i64| usize::try_from(size).ok().filter(|&size| size <= 1 << 24);
        let list = list.iter().map(size).collect::<Option<_>>();
        list.map(Some).ok_or_else(|| Error::invalid_encoding(format!("attribute {name} is out of range")))
    };
    let (extra, wanted) = (list("output_padding")?.unwrap_or_default(), list("output_shape")?);
    Ok(Box::new(move |mut args, cx| {
        let (value, weights) = (args.take(0)?, args.take(1)?);
        let ty = value.ty();
        if !matches!(ty, ElementType::F32 | ElementType::F16 | ElementType::Bf16 | ElementType::F64) {
            return Err(no_type(&value));
        }
        let single = |value: Value| convert(value, ElementType::F32, cx);
        let bias = args.take(2).ok().map(single).transpose()?;
        let (value, weights) = (single(value)?, single(weights)?);
        let (n, channels, spatial) = planes(value.dims())?;
        let (depth, filters_each, kernel) = planes(weights.dims())?;
        if depth != channels || channels % groups != 0 || kernel.len() != spatial.len() {
            let why = format!("{} by {} in {groups} groups", Dims(value.dims()), Dims(weights.dims()));
            return Err(Error::invalid_argument(why));
        }
        window.check(kernel, spatial.len())?;
        let filters = filters_each.saturating_mul(groups);
        let bias = biases(bias.as_ref(), filters)?;
        let slides = spatial.iter().zip(kernel).enumerate().map(|(place, (&input, &kernel))| {
            let extra = extra.get(place).copied().unwrap_or(0);
            let wanted = wanted.as_ref().and_then(|list| list.get(place)).copied();
            spread(&window, place, input, kernel, extra, wanted)
        });
        let slides = slides.collect::<Result<Vec<_>, _>>()?;
        let [slabs, rows, columns] = Slide::three(&slides)?;
        let mut dims = vec![n, filters];
        dims.extend(slides.iter().map(|slide| slide.input));
        let plane = count(&[slabs.input, rows.input, columns.input])?;
        let (places, each) = (product(spatial), channels / groups);
        let taps = filters_each * product(kernel);
        // The kernel is k×m here: channels by filters.
        let left = Matrices::rows(weights.storage()?, each, taps).transposed();
        let size = Size { batch: groups, m: taps, n: places, k: each };
        let result = cx.output::<f32>(&dims)?.try_write(0.0, |out| {
            for (batch, out) in out.chunks_exact_mut((filters * plane).max(1)).enumerate() {
                let right = Matrices::rows(value.storage()?, each, places);
                let right = Matrices { start: batch * channels * places, ..right };
                let (patches, _charge) = multiply::<f32>(left, right, size, cx)?;
                for (filter, out) in out.chunks_exact_mut(plane.max(1)).enumerate() {
                    cx.control.check()?;
                    out.fill(bias.map_or(0.0, |bias| bias[filter]));
                    let len = product(kernel) * places;
                    col2im(&patches[filter * len..(filter + 1) * len], [slabs, rows, columns], out);
                }
            }
            Ok(())
        })?;
        Ok(vec![convert(result, ty, cx)?])
    }))
}

/// One dimension of a transposed convolution, as the window that goes back from its output to its input.
fn spread(
    window: &Window,
    place: usize,
    input: usize,
    kernel: usize,
    extra: usize,
    wanted: Option<usize>,
) -> Result<Slide, Error> {
    let (stride, dilation) = window.steps(place);
    let whole = input
        .checked_sub(1)
        .and_then(|steps| steps.checked_mul(stride))
        .and_then(|span| span.checked_add((kernel - 1) * dilation + 1 + extra))
        .ok_or_else(|| Error::too_large("an output dimension past what can be addressed, or an empty input"))?;
    let (output, before) = match (wanted, window.pads(place)) {
        (Some(wanted), _) => {
            let pads = whole.saturating_sub(wanted);
            (wanted, if window.odd_at_end() { pads / 2 } else { pads - pads / 2 })
        }
        (None, Some((before, after))) => {
            let output = whole.checked_sub(before + after);
            (output.ok_or_else(|| Error::invalid_argument("pads larger than the output"))?, before)
        }
        (None, None) => {
            let output = input.saturating_mul(stride);
            let pads = whole.saturating_sub(output);
            (output, if window.odd_at_end() { pads / 2 } else { pads - pads / 2 })
        }
    };
    Ok(Slide { input: output, output: input, kernel, stride, dilation, before, after: 0 })
}

/// Adds each patch to the places it came from: im2col backwards.
fn col2im(patches: &[f32], [slabs, rows, columns]: [Slide; 3], out: &mut [f32]) {
    let places = slabs.output * rows.output * columns.output;
    for (tap, patch) in patches.chunks_exact(places.max(1)).enumerate() {
        let (slab, tap) = (tap / (rows.kernel * columns.kernel), tap % (rows.kernel * columns.kernel));
        let (row, column) = (tap / columns.kernel, tap % columns.kernel);
        let ((top, bottom), (first, end)) = (reach(&rows, row), reach(&columns, column));
        let (front, back) = reach(&slabs, slab);
        for z in front..back {
            for y in top..bottom {
                let line = (slabs.source(z, slab) * rows.input + rows.source(y, row)) * columns.input;
                let patch = &patch[(z * rows.output + y) * columns.output..][..columns.output];
                for x in first..end {
                    out[line + columns.source(x, column)] += patch[x];
                }
            }
        }
    }
}
