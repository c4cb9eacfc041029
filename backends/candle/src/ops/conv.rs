//! Conv over one to three spatial dimensions.
//!
//! A convolution is a product of the filters and of the patches under the kernel. The patches are laid out as the
//! product takes them, a few hundred outputs at a time, so that there is never a matrix of all of them. What comes
//! after the convolution in the graph, elementwise, is done to those outputs before the next ones (see `tail`). One
//! filter a channel (depthwise) is a sum of shifted rows instead.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use super::super::fuse::{Anchor, Channels, Packs, Way};
use super::super::meter::{Charge, Cx, Pace};
use super::super::node::Node;
use super::super::pack::{self, Target};
use super::super::tail::{At, Program, Tail, scaled, shifted};
use super::super::value::{Dims, ElementType, Value, count};
use super::cast::convert;
use super::layout::permute;
use super::real::Real;
use super::window::{Slide, Window};
use super::{Kernel, Operator, conv_double, depthwise, no_type, product, since};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[since(1, "Conv", (2, 3), conv)];

/// Panels of outputs that are computed together.
const PANELS: usize = 8;

/// Multiplications between two looks at the compute's token.
const PART: usize = 1 << 24;

pub(super) fn group(node: &Node<'_>) -> Result<usize, Error> {
    let group = node.int("group")?.unwrap_or(1);
    let group = usize::try_from(group).ok().filter(|&group| (1..=1 << 24).contains(&group));
    group.ok_or_else(|| Error::invalid_encoding("attribute group is out of range"))
}

/// A spatial tensor as batch, channels and one to three spatial dimensions.
pub(super) fn planes(dims: &[usize]) -> Result<(usize, usize, &[usize]), Error> {
    match dims {
        [n, c, spatial @ ..] if (1..=3).contains(&spatial.len()) => Ok((*n, *c, spatial)),
        _ => Err(Error::unsupported(format!("{}: one to three spatial dimensions are supported", Dims(dims)))),
    }
}

pub(super) fn refuse_rank(node: &Node<'_>) -> Result<(), Error> {
    node.constant(1).map_or(Ok(()), |weights| planes(weights.dims()).map(drop))
}

pub(super) fn biases<T: Real>(bias: Option<&Value>, filters: usize) -> Result<Option<&[T]>, Error> {
    let Some(bias) = bias else { return Ok(None) };
    let elements = bias.elements::<T>()?;
    if elements.len() != filters {
        return Err(Error::invalid_argument(format!("a bias of {} for {filters} filters", elements.len())));
    }
    Ok(Some(elements))
}

/// The filters of a convolution.
struct Filters<'a> {
    dims: &'a [usize],
    groups: usize,
    /// Laid out as left-hand sides, a group after the other; as they are where they are [`depthwise`].
    elements: &'a [f32],
    bias: Option<&'a [f32]>,
    tail: &'a Tail,
}

/// Whether the filters take the way of [`depthwise`].
fn is_depthwise(dims: &[usize], groups: usize) -> bool {
    groups > 1 && dims.len() < 5 && dims.get(1) == Some(&1) && product(&dims[2..]) <= depthwise::LARGEST
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
        let bias = args.take(2).ok();
        if let Some(other) = std::iter::once(&weights).chain(&bias).find(|other| other.ty() != ty) {
            return Err(Error::invalid_argument(format!("{ty:?} by {:?}", other.ty())));
        }
        if ty == ElementType::F64 {
            return Ok(vec![conv_double::convolve(&value, &weights, bias.as_ref(), &window, groups, cx)?]);
        }
        let single = |value: Value| convert(value, ElementType::F32, cx);
        let bias = bias.map(single).transpose()?;
        let (value, weights) = (single(value)?, single(weights)?);
        let (filters, ..) = planes(weights.dims())?;
        let mut elements = weights.elements::<f32>()?;
        let (mut packed, _charge);
        if !is_depthwise(weights.dims(), groups) && filters % groups == 0 {
            (packed, _charge) = cx.scratch::<f32>(elements.len())?;
            let mut pace = Pace::default();
            pack::filters(weights.dims(), groups, elements, &mut packed, |work| pace.step(work, cx))?;
            elements = &packed;
        }
        let bias = biases(bias.as_ref(), filters)?;
        let filters = Filters { dims: weights.dims(), groups, elements, bias, tail: &Tail::default() };
        Ok(vec![convert(convolve(&value, &filters, &window, cx)?, ty, cx)?])
    }))
}

/// A convolution by constant filters, with what follows it.
pub(crate) fn anchor(node: &Node<'_>) -> Option<Anchor> {
    let (window, groups) = (Window::new(node).ok()?, group(node).ok()?);
    let weights = node.constant(1).filter(|weights| weights.ty() == ElementType::F32 && !weights.is_empty())?.clone();
    let (filters, ..) = planes(weights.dims()).ok()?;
    let bias = node.constant(2).cloned();
    if filters % groups != 0 || (node.has_input(2) && biases::<f32>(bias.as_ref(), filters).ok()?.is_none()) {
        return None;
    }
    let layout = Channels::Second { rank: weights.rank() };
    let build =
        move |program: Program, packs: &mut Packs| fused(program, packs, &weights, bias.as_ref(), &window, groups);
    Some(Anchor { layout, channels: filters, build: Box::new(build) })
}

fn fused(
    mut program: Program,
    packs: &mut Packs,
    weights: &Value,
    bias: Option<&Value>,
    window: &Window,
    groups: usize,
) -> Option<Kernel> {
    let (dims, elements) = (weights.dims().to_vec(), weights.elements::<f32>().ok()?);
    let filters = *dims.first()?;
    let constants = program.bytes(filters);
    packs.take(constants)?;
    let mut bias = biases::<f32>(bias, filters).ok()?.map(<[f32]>::to_vec);
    let depthwise = is_depthwise(&dims, groups);
    // Scales and shifts become part of the weights and the bias, where a float holds what comes of that.
    let each = (elements.len() / filters).max(1);
    let (mut rest, mut scales) = (program.clone(), None);
    if let Some((found, shifts)) = rest.take_affine(filters) {
        let mut filters_by = elements.chunks_exact(each).zip(&found);
        let sound = filters_by.all(|(filter, &scale)| filter.iter().all(|&x| scaled(x, scale).is_some()));
        let before = bias.clone().unwrap_or_else(|| vec![0.0; filters]);
        if sound && let Some(together) = shifted(&before, Some(&found), &shifts) {
            (program, bias) = (rest, Some(together));
            scales = Some(found).filter(|scales| scales.iter().any(|&scale| scale != 1.0));
        }
    }
    let at_load = |elements: &[f32], out: &mut Vec<f32>| {
        let Ok(()) = pack::filters::<Infallible>(&dims, groups, elements, out, |_| Ok(()));
    };
    let packed = if let Some(scales) = scales {
        let mut own = packs.room(elements.len())?;
        own.extend(elements.iter().enumerate().map(|(index, x)| x * scales[index / each]));
        if depthwise {
            Arc::new(own)
        } else {
            let mut packed = packs.room(own.len())?;
            at_load(&own, &mut packed);
            packs.free(own.len());
            Arc::new(packed)
        }
    } else if depthwise {
        packs.of(weights, Way::Plain, elements.len(), |elements, out| out.extend_from_slice(elements))?
    } else {
        packs.of(weights, Way::Groups(groups), elements.len(), at_load)?
    };
    let (tail, window) = (Tail::new(program), window.clone());
    let kernel: Kernel = Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        if value.ty() != ElementType::F32 {
            return Err(Error::invalid_argument(format!("{:?} by {:?}", value.ty(), ElementType::F32)));
        }
        let filters = Filters { dims: &dims, groups, elements: &packed, bias: bias.as_deref(), tail: &tail };
        Ok(vec![convolve(&value, &filters, &window, cx)?])
    });
    Some(kernel)
}

fn convolve(value: &Value, convolution: &Filters<'_>, window: &Window, cx: &Cx<'_>) -> Result<Value, Error> {
    let &Filters { dims: weights, groups, elements: packed, bias, tail } = convolution;
    let (n, channels, spatial) = planes(value.dims())?;
    let (filters, depth, kernel) = planes(weights)?;
    if depth.checked_mul(groups) != Some(channels) || filters % groups != 0 || kernel.len() != spatial.len() {
        let why = format!("{} by {} in {groups} groups", Dims(value.dims()), Dims(weights));
        return Err(Error::invalid_argument(why));
    }
    let slides = window.over(spatial, kernel)?;
    let slides = Slide::three(&slides)?;
    let [slabs, rows, columns] = slides;
    let mut dims = vec![n, filters];
    dims.extend(slides.iter().skip(3 - spatial.len()).map(|slide| slide.output));
    let places = count(&[slabs.output, rows.output, columns.output])?;
    let elements = value.elements::<f32>()?;
    if count(&dims)? == 0 {
        return cx.output::<f32>(&dims)?.write(0.0, |_| Ok(()));
    }
    if value.is_empty() {
        return Err(Error::invalid_argument("a convolution of nothing"));
    }

    let volume = product(spatial);
    if is_depthwise(weights, groups) && depthwise::suits(rows, columns) {
        let (mut out, charge) = biased(n, places, filters, bias, cx)?;
        let size = product(kernel);
        let room = || {
            let padded = Padded::new(slides, 1, cx)?;
            let lines = depthwise::Planes::new([rows, columns], [padded.sizes[1], padded.sizes[2]], cx)?;
            Ok((padded, lines, tail.room()))
        };
        let mut rooms = rooms(cx.parts(n * filters, out.len().saturating_mul(size)), room)?;
        cx.spread(&mut rooms, &mut out, places, |cx, (padded, lines, room), start, out| {
            for (index, out) in out.chunks_exact_mut(places).enumerate() {
                let index = start / places + index;
                let (batch, filter) = (index / filters, index % filters);
                let channel = batch * channels + filter / (filters / groups);
                let plane = &elements[channel * volume..(channel + 1) * volume];
                let taps = &packed[filter * size..(filter + 1) * size];
                lines.add(padded.fill(plane, cx)?, taps, out, cx)?;
                tail.run(out, At::Channel(filter), room, cx)?;
            }
            Ok(())
        })?;
        return Value::charged(dims, out, charge);
    }
    if n > 1 && slabs.input + slabs.before + slabs.after == 1 && 2 * places <= pack::width() {
        // Images of few outputs each fill a panel together, as the slabs of one image.
        let across = Slide { input: n, output: n, ..Slide::UNIT };
        let turned = permute(value.clone().reshaped(vec![n, channels, volume])?, &[1, 0, 2], cx)?;
        let (out, charge) = products(turned.elements()?, 1, [across, rows, columns], convolution, cx)?;
        let turned = Value::charged(vec![filters, n, places], out, charge)?;
        return permute(turned, &[1, 0, 2], cx)?.reshaped(dims);
    }
    let (out, charge) = products(elements, n, slides, convolution, cx)?;
    Value::charged(dims, out, charge)
}

/// `n` times `filters` planes of `places` outputs that are the bias alone.
fn biased(
    n: usize,
    places: usize,
    filters: usize,
    bias: Option<&[f32]>,
    cx: &Cx<'_>,
) -> Result<(Vec<f32>, Charge), Error> {
    let (mut out, charge) = cx.scratch::<f32>(count(&[n, filters, places])?)?;
    let mut pace = Pace::default();
    for plane in 0..n * filters {
        pace.fill(bias.map_or(0.0, |bias| bias[plane % filters]), (plane + 1) * places, &mut out, cx)?;
    }
    Ok((out, charge))
}

/// The convolution of `n` images as products of the filters and of what lies under the kernel.
fn products(
    elements: &[f32],
    n: usize,
    slides: [Slide; 3],
    convolution: &Filters<'_>,
    cx: &Cx<'_>,
) -> Result<(Vec<f32>, Charge), Error> {
    let &Filters { dims: weights, groups, elements: packed, bias, tail } = convolution;
    let (filters, depth, kernel) = planes(weights)?;
    let mut pace = Pace::default();
    let (patch, each) = (depth * product(kernel), filters / groups);
    let (volume, places) = (product(&slides.map(|slide| slide.input)), product(&slides.map(|slide| slide.output)));
    // A depthwise kernel that is too large for its own way is laid out here.
    let (laid, _charge);
    let packed = if is_depthwise(weights, groups) {
        let mut own = cx.scratch::<f32>(packed.len())?;
        pack::filters(weights, groups, packed, &mut own.0, |work| pace.step(work, cx))?;
        (laid, _charge) = own;
        &laid
    } else {
        packed
    };
    let (mut out, charge) = biased(n, places, filters, bias, cx)?;
    let mut padded = Padded::new(slides, depth, cx)?;
    let block = pack::height() * places;
    let multiplications = places.saturating_mul(patch).saturating_mul(each);
    let room = || Ok((Patches::new(&padded, patch, cx)?, tail.room()));
    let mut rooms = rooms(cx.parts(each.div_ceil(pack::height()), multiplications), room)?;
    for batch in 0..n {
        for group in 0..groups {
            let first = (batch * groups + group) * depth * volume;
            let image = padded.fill(&elements[first..first + depth * volume], cx)?;
            let left = &packed[group * each * patch..(group + 1) * each * patch];
            let first = (batch * filters + group * each) * places;
            let out = &mut out[first..first + each * places];
            cx.spread(&mut rooms, out, block, |cx, (patches, room), start, out| {
                let from = start / places;
                for first in (0..places).step_by(pack::width() * PANELS) {
                    let end = places.min(first + pack::width() * PANELS);
                    patches.multiply(image, Left { elements: left, m: each, from }, first..end, out, cx)?;
                    for (filter, out) in out.chunks_exact_mut(places).enumerate() {
                        tail.run(&mut out[first..end], At::Channel(group * each + from + filter), room, cx)?;
                    }
                }
                Ok(())
            })?;
        }
    }
    Ok((out, charge))
}

/// A room for each of so many parts.
fn rooms<R>(parts: usize, room: impl Fn() -> Result<R, Error>) -> Result<Vec<R>, Error> {
    (0..parts).map(|_| room()).collect()
}

/// Volumes with their pads.
struct Padded {
    slides: [Slide; 3],
    /// Sizes with the pads.
    sizes: [usize; 3],
    /// Room for the padded volumes; empty where nothing is padded.
    room: Vec<f32>,
    _charge: Option<Charge>,
}

impl Padded {
    /// Room for `volumes` of them at a time.
    fn new(slides: [Slide; 3], volumes: usize, cx: &Cx<'_>) -> Result<Self, Error> {
        let sizes = slides.map(|slide| slide.input + slide.before + slide.after);
        let [slabs, rows, columns] = sizes;
        let size = count(&[volumes, slabs, rows, columns])?;
        if slides.iter().all(|slide| slide.before == 0 && slide.after == 0) {
            return Ok(Self { slides, sizes, room: Vec::new(), _charge: None });
        }
        let (room, charge) = cx.filled(0.0, size)?;
        Ok(Self { slides, sizes, room, _charge: Some(charge) })
    }

    /// The volumes, one after the other, with their pads.
    fn fill<'a>(&'a mut self, volumes: &'a [f32], cx: &Cx<'_>) -> Result<&'a [f32], Error> {
        if self.room.is_empty() {
            return Ok(volumes);
        }
        let mut pace = Pace::default();
        let ([slabs, rows, columns], [deep, high, wide]) = (self.slides, self.sizes);
        for (index, line) in volumes.chunks_exact(columns.input).enumerate() {
            pace.step(line.len(), cx)?;
            let (y, z) = (index % rows.input, index / rows.input);
            let z = z / slabs.input * deep + z % slabs.input + slabs.before;
            let start = (z * high + y + rows.before) * wide + columns.before;
            self.room[start..start + columns.input].copy_from_slice(line);
        }
        Ok(&self.room)
    }
}

/// A run of outputs that one panel holds: where in the panel, where in a volume, and how many.
type Segment = (usize, usize, usize);

/// A left-hand side of `m` rows, and the one, the first of a block, with which ours begin.
#[derive(Clone, Copy)]
struct Left<'a> {
    elements: &'a [f32],
    m: usize,
    from: usize,
}

/// Lays out patches, panel by panel, and multiplies them.
struct Patches {
    slides: [Slide; 3],
    sizes: [usize; 3],
    /// Where in a volume each place of the kernel is.
    taps: Vec<usize>,
    /// Elements of a patch.
    patch: usize,
    segments: Vec<Segment>,
    panel: Vec<f32>,
    /// Multiplications since the last look at the compute's token.
    work: usize,
    _charge: Charge,
}

impl Patches {
    fn new(padded: &Padded, patch: usize, cx: &Cx<'_>) -> Result<Self, Error> {
        let (slides, sizes) = (padded.slides, padded.sizes);
        let [slabs, rows, columns] = slides;
        let (size, room) = (slabs.kernel * rows.kernel * columns.kernel, pack::DEPTH * pack::width());
        let charge = cx.charge::<i64>(&[size])?;
        let mut taps = Vec::with_capacity(size);
        for z in 0..slabs.kernel {
            for y in 0..rows.kernel {
                let line = (z * slabs.dilation * sizes[1] + y * rows.dilation) * sizes[2];
                taps.extend((0..columns.kernel).map(|x| line + x * columns.dilation));
            }
        }
        let (segments, panel) = (Vec::new(), vec![0.0; room]);
        Ok(Self { slides, sizes, taps, patch, segments, panel, work: PART, _charge: charge })
    }

    /// The runs of `outputs`.
    fn cut(&mut self, outputs: Range<usize>) {
        let ([slabs, rows, columns], [_, high, wide]) = (self.slides, self.sizes);
        self.segments.clear();
        let mut output = outputs.start;
        while output < outputs.end {
            let (line, x) = (output / columns.output, output % columns.output);
            let (z, y) = (line / rows.output * slabs.stride, line % rows.output * rows.stride);
            let source = (z * high + y) * wide + x * columns.stride;
            let len = (columns.output - x).min(outputs.end - output);
            match self.segments.last_mut() {
                // Lines without a gap between them are one.
                Some((_, before, longer)) if columns.stride == 1 && *before + *longer == source => *longer += len,
                _ => self.segments.push((output - outputs.start, source, len)),
            }
            output += len;
        }
    }

    /// Counts so many multiplications, which are about to be done.
    fn step(&mut self, multiplications: usize, cx: &Cx<'_>) -> Result<(), Error> {
        self.work += multiplications;
        if self.work >= PART {
            self.work = 0;
            cx.control.check()?;
        }
        Ok(())
    }

    /// Adds the product of the left-hand rows and of the image's patches at `outputs` to those columns of `out`.
    fn multiply(
        &mut self,
        image: &[f32],
        left: Left<'_>,
        outputs: Range<usize>,
        out: &mut [f32],
        cx: &Cx<'_>,
    ) -> Result<(), Error> {
        let (width, pitch) = (pack::width(), product(&self.slides.map(|slide| slide.output)));
        let m = out.len() / pitch.max(1);
        let volume = product(&self.sizes);
        for first in outputs.clone().step_by(width) {
            let end = outputs.end.min(first + width);
            self.cut(first..end);
            for (from, depth) in pack::parts(self.patch) {
                // What is laid out is work too.
                self.step(depth * width, cx)?;
                let (mut channel, mut tap) = (from / self.taps.len(), from % self.taps.len());
                for row in self.panel.chunks_exact_mut(pack::pitch(end - first)).take(depth) {
                    lay_row(&image[channel * volume + self.taps[tap]..], &self.segments, self.slides[2].stride, row);
                    tap += 1;
                    if tap == self.taps.len() {
                        (channel, tap) = (channel + 1, 0);
                    }
                }
                let most = (PART / (depth * width)).next_multiple_of(pack::height());
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

/// One row of a panel: what lies under one place of the kernel.
fn lay_row(source: &[f32], segments: &[Segment], stride: usize, row: &mut [f32]) {
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
    use super::super::super::meter::Meter;
    use super::*;
    use graphpool::backend::ComputeControl;

    #[test]
    fn a_long_product_of_patches_is_cancelled() {
        let (control, meter) = (ComputeControl::default(), Meter::new(usize::MAX));
        let cx = Cx::new(&control, &meter);
        // A panel of outputs by 1024 taps, for so many filters that a few panels are one part.
        let (taps, filters) = (1024, PART / 1024 / pack::width() / 4);
        let columns = Slide { input: taps + 2, output: 3, kernel: taps, ..Slide::UNIT };
        let padded = Padded::new([Slide::UNIT, Slide::UNIT, columns], 1, &cx).unwrap();
        let mut patches = Patches::new(&padded, taps, &cx).unwrap();
        let (image, left) = (vec![1.0; taps + 2], vec![1.0; filters * taps]);
        let mut out = vec![0.0; filters * 3];
        let left = Left { elements: &left, m: filters, from: 0 };
        let mut run = || patches.multiply(&image, left, 0..3, &mut out, &cx);
        run().unwrap();
        control.cancel.cancel();
        run().unwrap();
        assert!((0..3).any(|_| run().is_err()));
    }
}
