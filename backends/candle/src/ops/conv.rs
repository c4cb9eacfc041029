//! Conv over one to three spatial dimensions.
//!
//! Convolutions by constant weights of f32 over one or two dimensions, with enough filters, are those of `conv_last`.
//! What follows is about the others.
//!
//! A convolution is the product of the filters and the patch matrix (im2col). The patches are packed for the
//! micro-kernel, a few hundred outputs at a time, so that the whole patch matrix never exists. Elementwise operators
//! that follow in the graph are applied to each block of outputs (see `epilogue`). A depthwise convolution is a sum of
//! shifted rows instead.

use std::convert::Infallible;
use std::sync::Arc;

use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};
use smallvec::SmallVec;

use crate::compute::context::{Checkpoint, ExecContext};
use crate::math::epilogue::{Epilogue, Placement};
use crate::math::pack;
use crate::math::program::{Program, scaled, shifted};
use crate::ops::cast::convert;
use crate::ops::fusion::{Anchor, Channels, Fused, PackLayout, PackedWeights};
use crate::ops::layout::permute;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::ops::patches::{PackedRows, Padded, Patches};
use crate::ops::window::{ConvShape, Slide, Window, biases, check_weights_rank, groups, planes};
use crate::ops::winograd::Transformed;
use crate::ops::{conv_double, conv_last, depthwise, quantized_conv, winograd};
use crate::tensor::budget::Charge;
use crate::tensor::dims::{count, product};
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] =
    &[since(1, "Conv", (2, 3), conv).heavy().anchor(anchor).device(form!(product::conv))];

/// Panels of outputs in one block.
const PANELS: usize = 8;

/// The filters of a convolution.
struct Filters<'a> {
    dims: &'a [usize],
    groups: usize,
    /// Packed as A, one group after the other; not packed for [`depthwise`] filters.
    elements: &'a [f32],
    bias: Option<&'a [f32]>,
    epilogue: &'a Epilogue,
}

/// Whether the filters are those of a convolution that [`depthwise`] computes.
fn is_depthwise(dims: &[usize], groups: usize) -> bool {
    groups > 1 && dims.len() < 5 && dims.get(1) == Some(&1) && product(&dims[2..]) <= depthwise::LARGEST
}

fn conv(node: &Node<'_>) -> Result<OpFn, Error> {
    let (window, groups) = (Window::new(node)?, groups(node, "group")?);
    check_weights_rank(node)?;
    let known = half_filters(node, groups);
    Ok(Box::new(move |mut args, cx| {
        let (value, weights) = (args.take(0)?, args.take(1)?);
        let ty = value.ty();
        if !matches!(ty, ElementType::F32 | ElementType::F16 | ElementType::Bf16 | ElementType::F64) {
            return Err(no_type(&value));
        }
        let bias = args.take(2).ok();
        if let Some(other) = std::iter::once(&weights).chain(&bias).find(|other| other.ty() != ty) {
            return Err(Error::invalid_argument(format!(
                "the input is {ty:?}, and the weights or the bias are {:?}",
                other.ty()
            )));
        }
        if ty == ElementType::F64 {
            return Ok(values![conv_double::convolve(&value, &weights, bias.as_ref(), &window, groups, cx)?]);
        }
        let to_f32 = |value: Value| convert(value, ElementType::F32, cx);
        let bias = bias.map(to_f32).transpose()?;
        let value = to_f32(value)?;
        let (filters, ..) = planes(weights.dims())?;
        if let Some(elements) = &known {
            let (bias, epilogue) = (biases(bias.as_ref(), filters)?, &Epilogue::default());
            let filters = Filters { dims: weights.dims(), groups, elements, bias, epilogue };
            return Ok(values![convert(convolve(&value, &filters, &window, cx)?, ty, cx)?]);
        }
        let weights = to_f32(weights)?;
        let mut elements = weights.elements::<f32>()?;
        let mut packed;
        if !is_depthwise(weights.dims(), groups) && filters % groups == 0 {
            packed = cx.block::<f32>(elements.len())?;
            let mut checkpoint = Checkpoint::default();
            pack::pack_filters(weights.dims(), groups, elements, &mut packed, |work| checkpoint.step(work, cx))?;
            elements = &packed;
        }
        let bias = biases(bias.as_ref(), filters)?;
        let filters = Filters { dims: weights.dims(), groups, elements, bias, epilogue: &Epilogue::default() };
        Ok(values![convert(convolve(&value, &filters, &window, cx)?, ty, cx)?])
    }))
}

/// Constant filters of f16 or bf16 in f32, and packed unless they are [`depthwise`] ones; `None` for others, and if the
/// budget of the load does not hold them.
fn half_filters(node: &Node<'_>, groups: usize) -> Option<Vec<f32>> {
    let weights = node.constant(1)?;
    let (filters, ..) = planes(weights.dims()).ok()?;
    if !matches!(weights.ty(), ElementType::F16 | ElementType::Bf16) || filters % groups != 0 {
        return None;
    }
    // Twice, as packing keeps both for a moment.
    node.charge(weights.len().checked_mul(2 * size_of::<f32>())?).ok()?;
    let mut elements = vec![0.0; weights.len()];
    match weights.ty() {
        ElementType::F16 => weights.elements::<f16>().ok()?.convert_to_f32_slice(&mut elements),
        _ => weights.elements::<bf16>().ok()?.convert_to_f32_slice(&mut elements),
    }
    if is_depthwise(weights.dims(), groups) {
        return Some(elements);
    }
    let mut packed = Vec::with_capacity(elements.len());
    let Ok(()) = pack::pack_filters::<Infallible>(weights.dims(), groups, &elements, &mut packed, |_| Ok(()));
    Some(packed)
}

/// A convolution by constant filters, as the first operator of a fused step.
pub(crate) fn anchor(node: &Node<'_>) -> Option<Anchor> {
    let (window, groups) = (Window::new(node).ok()?, groups(node, "group").ok()?);
    let weights = node.constant(1).filter(|weights| weights.ty() == ElementType::F32 && !weights.is_empty())?.clone();
    let (filters, ..) = planes(weights.dims()).ok()?;
    let bias = node.constant(2).cloned();
    if filters % groups != 0 || (node.has_input(2) && biases::<f32>(bias.as_ref(), filters).ok()?.is_none()) {
        return None;
    }
    let layout = Channels::Second { rank: weights.rank() };
    let build = move |program: Program, packs: &mut PackedWeights| {
        fused(program, packs, &weights, bias.as_ref(), &window, groups)
    };
    let integers = quantized_conv::integers(node);
    Some(Anchor { layout, channels: filters, build: Box::new(build), integers })
}

fn fused(
    mut program: Program,
    packs: &mut PackedWeights,
    weights: &Value,
    bias: Option<&Value>,
    window: &Window,
    groups: usize,
) -> Option<Fused> {
    let (dims, elements) = (weights.dims().to_vec(), weights.elements::<f32>().ok()?);
    let filters = *dims.first()?;
    let constants = program.bytes(filters);
    packs.spend(constants)?;
    let mut bias = biases::<f32>(bias, filters).ok()?.map(<[f32]>::to_vec);
    let depthwise = is_depthwise(&dims, groups);
    // Scales and shifts are folded into the weights and the bias, if all results are finite.
    let each = (elements.len() / filters).max(1);
    let (mut rest, mut scales) = (program.clone(), None);
    if let Some((factors, shifts)) = rest.take_affine(filters) {
        let mut filter_scales = elements.chunks_exact(each).zip(&factors);
        let in_range = filter_scales.all(|(filter, &scale)| filter.iter().all(|&x| scaled(x, scale).is_some()));
        let before = bias.clone().unwrap_or_else(|| vec![0.0; filters]);
        if in_range && let Some(folded_bias) = shifted(&before, Some(&factors), &shifts) {
            (program, bias) = (rest, Some(folded_bias));
            scales = Some(factors).filter(|scales| scales.iter().any(|&scale| scale != 1.0));
        }
    }
    if conv_last::suits(&dims, groups) {
        let (window, epilogue) = (window.clone(), Epilogue::new(program));
        let packed = packed_last(weights, &dims, groups, scales.as_deref(), packs)?;
        let bias = bias.map(|bias| conv_last::padded_bias(bias, &dims, groups));
        let transformed = transformed(weights, &dims, groups, scales.as_deref(), packs);
        let filters = conv_last::Filters { dims, groups, packed, bias, transformed, epilogue, window };
        let kernel: OpFn = Box::new(move |mut args, cx| Ok(values![filters.convolve(&args.take(0)?, cx)?]));
        return Some(Fused { kernel, channels_last: true });
    }
    let pack_at_load = |elements: &[f32], out: &mut Vec<f32>| {
        let Ok(()) = pack::pack_filters::<Infallible>(&dims, groups, elements, out, |_| Ok(()));
    };
    let packed = if let Some(scales) = scales {
        let mut weights = packs.allocate(elements.len())?;
        weights.extend(elements.iter().enumerate().map(|(index, x)| x * scales[index / each]));
        if depthwise {
            Arc::new(weights)
        } else {
            let mut packed = packs.allocate(weights.len())?;
            pack_at_load(&weights, &mut packed);
            packs.release(weights.len());
            Arc::new(packed)
        }
    } else if depthwise {
        packs.packed(weights, PackLayout::Plain, elements.len(), |elements, out| out.extend_from_slice(elements))?
    } else {
        packs.packed(weights, PackLayout::Groups(groups), elements.len(), pack_at_load)?
    };
    let (epilogue, window) = (Epilogue::new(program), window.clone());
    let kernel: OpFn = Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        if value.ty() != ElementType::F32 {
            return Err(Error::invalid_argument(format!("the input is {:?}, and the weights are F32", value.ty())));
        }
        let filters = Filters { dims: &dims, groups, elements: &packed, bias: bias.as_deref(), epilogue: &epilogue };
        Ok(values![convolve(&value, &filters, &window, cx)?])
    });
    Some(Fused { kernel, channels_last: false })
}

/// Weights with their scales, transformed for Winograd's algorithm. `None` if it does not suit them, or for want of
/// memory.
fn transformed(
    weights: &Value,
    dims: &[usize],
    groups: usize,
    scales: Option<&[f32]>,
    packs: &mut PackedWeights,
) -> Option<Transformed> {
    let len = winograd::packed_len(dims).filter(|&len| winograd::suits(dims, groups) && packs.spares(len))?;
    let packed = match scales {
        None => packs.packed(weights, PackLayout::Winograd, len, |elements, out| {
            winograd::pack(dims, elements, |_| 1.0, out);
        })?,
        Some(scales) => {
            let mut packed = packs.allocate(len)?;
            winograd::pack(dims, weights.elements().ok()?, |filter| scales[filter], &mut packed);
            Arc::new(packed)
        }
    };
    Transformed::new(dims, packed)
}

/// Weights with their scales, packed for values with channels last. Weights without scales are packed once for all
/// convolutions by them.
fn packed_last(
    weights: &Value,
    dims: &[usize],
    groups: usize,
    scales: Option<&[f32]>,
    packs: &mut PackedWeights,
) -> Option<Arc<Vec<f32>>> {
    let len = conv_last::packed_len(dims, groups)?;
    let Some(scales) = scales else {
        let pack = |elements: &[f32], out: &mut Vec<f32>| conv_last::pack(dims, groups, elements, |_| 1.0, out);
        return packs.packed(weights, PackLayout::Last(groups), len, pack);
    };
    let mut packed = packs.allocate(len)?;
    conv_last::pack(dims, groups, weights.elements().ok()?, |filter| scales[filter], &mut packed);
    Some(Arc::new(packed))
}

fn convolve(value: &Value, convolution: &Filters<'_>, window: &Window, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let &Filters { dims: weights, groups, elements: packed, bias, epilogue } = convolution;
    let shape = ConvShape::new(value.dims(), weights, window, groups)?;
    let ConvShape { batch: n, channels, filters, spatial, kernel, slides, output: dims, .. } = shape;
    let [slabs, rows, columns] = slides;
    let positions = count(&[slabs.output, rows.output, columns.output])?;
    let elements = value.elements::<f32>()?;
    if count(&dims)? == 0 {
        return cx.output::<f32>(&dims)?.write(0.0, |_| Ok(()));
    }
    if value.is_empty() {
        return Err(Error::invalid_argument("the input of a convolution is empty"));
    }

    let volume = product(spatial);
    if is_depthwise(weights, groups) && depthwise::suits(rows, columns) {
        let (mut out, charge) = filled_with_bias(n, positions, filters, bias, cx)?;
        let size = product(kernel);
        let scratch = || {
            let padded = Padded::new(slides, 1, cx)?;
            let lines = depthwise::Planes::new([rows, columns], [padded.sizes[1], padded.sizes[2]], cx)?;
            Ok((padded, lines, epilogue.scratch(cx)?))
        };
        let mut scratches = scratches(cx.parts(n * filters, out.len().saturating_mul(size)), scratch)?;
        cx.parallel_for(&mut scratches, &mut out, positions, |cx, (padded, lines, scratch), start, out| {
            for (index, out) in out.chunks_exact_mut(positions).enumerate() {
                let index = start / positions + index;
                let (batch, filter) = (index / filters, index % filters);
                let channel = batch * channels + filter / (filters / groups);
                let plane = &elements[channel * volume..(channel + 1) * volume];
                let taps = &packed[filter * size..(filter + 1) * size];
                lines.add(padded.fill(plane, cx)?, taps, out, cx)?;
                epilogue.run(out, Placement::Channel(filter), scratch, cx)?;
            }
            Ok(())
        })?;
        return Value::charged(dims, out, charge);
    }
    if n > 1 && slabs.input + slabs.before + slabs.after == 1 && 2 * positions <= pack::nr() {
        // Images with few outputs are computed as the slabs of one image, so that they share panels.
        let across = Slide { input: n, output: n, ..Slide::UNIT };
        let transposed = permute(value.clone().reshaped([n, channels, volume])?, &[1, 0, 2], cx)?;
        let (out, charge) = products(transposed.elements()?, 1, [across, rows, columns], convolution, cx)?;
        let transposed = Value::charged([filters, n, positions], out, charge)?;
        return permute(transposed, &[1, 0, 2], cx)?.reshaped(dims);
    }
    let (out, charge) = products(elements, n, slides, convolution, cx)?;
    Value::charged(dims, out, charge)
}

/// `n` × `filters` planes of `positions` outputs, filled with the bias.
fn filled_with_bias(
    n: usize,
    positions: usize,
    filters: usize,
    bias: Option<&[f32]>,
    cx: &ExecContext<'_>,
) -> Result<(Vec<f32>, Charge), Error> {
    let (mut out, charge) = cx.scratch::<f32>(count(&[n, filters, positions])?)?;
    let mut checkpoint = Checkpoint::default();
    for plane in 0..n * filters {
        checkpoint.fill(bias.map_or(0.0, |bias| bias[plane % filters]), (plane + 1) * positions, &mut out, cx)?;
    }
    Ok((out, charge))
}

/// The convolution of `n` images as products of the filters and the patch matrix.
fn products(
    elements: &[f32],
    n: usize,
    slides: [Slide; 3],
    convolution: &Filters<'_>,
    cx: &ExecContext<'_>,
) -> Result<(Vec<f32>, Charge), Error> {
    let &Filters { dims: weights, groups, elements: packed, bias, epilogue } = convolution;
    let (filters, depth, kernel) = planes(weights)?;
    let mut checkpoint = Checkpoint::default();
    let (patch, each) = (depth * product(kernel), filters / groups);
    let (volume, positions) = (product(&slides.map(|slide| slide.input)), product(&slides.map(|slide| slide.output)));
    // Depthwise filters that `depthwise` does not suit are packed here.
    let mut repacked;
    let packed = if is_depthwise(weights, groups) {
        repacked = cx.block::<f32>(packed.len())?;
        pack::pack_filters(weights, groups, packed, &mut repacked, |work| checkpoint.step(work, cx))?;
        &*repacked
    } else {
        packed
    };
    let (mut out, charge) = filled_with_bias(n, positions, filters, bias, cx)?;
    let mut padded = Padded::new(slides, depth, cx)?;
    let block = pack::mr() * positions;
    let multiplications = positions.saturating_mul(patch).saturating_mul(each);
    let scratch = || Ok((Patches::new(&padded, patch, cx)?, epilogue.scratch(cx)?));
    let mut scratches = scratches(cx.parts(each.div_ceil(pack::mr()), multiplications), scratch)?;
    for batch in 0..n {
        for group in 0..groups {
            let first = (batch * groups + group) * depth * volume;
            let image = padded.fill(&elements[first..first + depth * volume], cx)?;
            let left = &packed[group * each * patch..(group + 1) * each * patch];
            let first = (batch * filters + group * each) * positions;
            let out = &mut out[first..first + each * positions];
            cx.parallel_for(&mut scratches, out, block, |cx, (patches, scratch), start, out| {
                let from = start / positions;
                for first in (0..positions).step_by(pack::nr() * PANELS) {
                    let end = positions.min(first + pack::nr() * PANELS);
                    patches.multiply(image, PackedRows { elements: left, m: each, from }, first..end, out, cx)?;
                    for (filter, out) in out.chunks_exact_mut(positions).enumerate() {
                        epilogue.run(
                            &mut out[first..end],
                            Placement::Channel(group * each + from + filter),
                            scratch,
                            cx,
                        )?;
                    }
                }
                Ok(())
            })?;
        }
    }
    Ok((out, charge))
}

/// One scratch for each of `parts`.
fn scratches<R>(parts: usize, scratch: impl Fn() -> Result<R, Error>) -> Result<SmallVec<[R; 1]>, Error> {
    (0..parts).map(|_| scratch()).collect()
}
