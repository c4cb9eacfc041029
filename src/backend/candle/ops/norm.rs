//! Normalizations: BatchNormalization, InstanceNormalization, LayerNormalization, and by groups, channels and norms.

use super::super::meter::{Cx, PIECE, Pace};
use super::super::node::Node;
use super::super::value::{Dims, ElementType, Value, count};
use super::broadcast::shape;
use super::cast::convert;
use super::layout::permute;
use super::{Kernel, Operator, axis, no_type, product, since};
use crate::nn::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(7, "BatchNormalization", (5, 5), batch),
    since(6, "InstanceNormalization", (3, 3), instance),
    since(17, "LayerNormalization", (2, 3), layer),
    since(18, "GroupNormalization", (3, 3), group),
    since(1, "LRN", (1, 1), local_response),
    since(9, "MeanVarianceNormalization", (1, 1), mean_variance),
    since(1, "LpNormalization", (1, 1), lp),
];

/// Floats, with the type they are to go back to.
fn floats(value: Value, cx: &Cx<'_>) -> Result<(Value, ElementType), Error> {
    let ty = value.ty();
    match ty {
        ElementType::F32 | ElementType::F64 | ElementType::F16 | ElementType::Bf16 => {
            Ok((convert(value, ElementType::F32, cx)?, ty))
        }
        _ => Err(no_type(&value)),
    }
}

/// The elements of a parameter that has one for each of `channels`.
fn parameter(value: &Value, channels: usize) -> Result<&[f32], Error> {
    let elements = value.elements::<f32>()?;
    if elements.len() != channels {
        return Err(Error::invalid_argument(format!("{} parameters for {channels} channels", elements.len())));
    }
    Ok(elements)
}

/// Scale and shift of each channel: what a batch normalization comes down to outside training.
pub(crate) fn batch_scales(parameters: [&[f32]; 4], epsilon: f32) -> Vec<(f32, f32)> {
    let [scale, bias, mean, variance] = parameters;
    let one = |((scale, bias), (mean, variance)): ((&f32, &f32), (&f32, &f32))| {
        let scale = scale / (variance + epsilon).sqrt();
        (scale, bias - mean * scale)
    };
    scale.iter().zip(bias).zip(mean.iter().zip(variance)).map(one).collect()
}

fn batch(node: &Node<'_>) -> Result<Kernel, Error> {
    let epsilon = node.float("epsilon", 1e-5)?;
    node.ignore(&["momentum"]);
    if node.opset >= 14 && node.flag("training_mode", false)? {
        return Err(Error::unsupported("training"));
    }
    node.at_most(1)?;
    if node.opset < 9 && !node.flag("spatial", true)? {
        return Err(Error::unsupported("statistics for each place"));
    }
    Ok(Box::new(move |mut args, cx| {
        let (mut value, ty) = floats(args.take(0)?, cx)?;
        let channels = value.dims().get(1).copied().unwrap_or(1);
        let parameters = (1..5).map(|index| convert(args.take(index)?, ElementType::F32, cx));
        let parameters = parameters.collect::<Result<Vec<_>, Error>>()?;
        let [scale, bias, mean, variance] = parameters.as_slice() else {
            return Err(Error::invalid_argument("parameters are missing"));
        };
        let of = |value| parameter(value, channels);
        let scales = batch_scales([of(scale)?, of(bias)?, of(mean)?, of(variance)?], epsilon);
        let plane = product(value.dims().get(2..).unwrap_or_default());
        if plane == 0 || channels == 0 {
            return Ok(vec![convert(value, ty, cx)?]);
        }
        let mut pace = Pace::default();
        let mut apply = |elements: &mut [f32]| -> Result<(), Error> {
            for (plane, (scale, shift)) in elements.chunks_exact_mut(plane).zip(scales.iter().cycle()) {
                for piece in plane.chunks_mut(PIECE) {
                    pace.step(piece.len(), cx)?;
                    piece.iter_mut().for_each(|x| *x = *x * scale + shift);
                }
            }
            Ok(())
        };
        let result = if let Some(elements) = value.elements_mut::<f32>() {
            apply(elements)?;
            value
        } else {
            let elements = value.elements::<f32>()?;
            cx.output::<f32>(value.dims())?.append(|out| {
                Pace::default().copy(elements, out, cx)?;
                apply(out)
            })?
        };
        Ok(vec![convert(result, ty, cx)?])
    }))
}

/// Mean and one over the standard deviation of a row.
fn statistics(row: &[f32], epsilon: f32, pace: &mut Pace, cx: &Cx<'_>) -> Result<(f32, f32), Error> {
    let len = row.len() as f32;
    let mean = sum(row, |x| x, pace, cx)? / len;
    let variance = sum(row, |x| (x - mean) * (x - mean), pace, cx)? / len;
    Ok((mean, 1.0 / (variance + epsilon).sqrt()))
}

/// A sum in eight parts, so that additions don't wait for each other.
fn sum(row: &[f32], f: impl Fn(f32) -> f32, pace: &mut Pace, cx: &Cx<'_>) -> Result<f32, Error> {
    let (chunks, rest) = row.as_chunks::<8>();
    let mut parts = [0.0_f32; 8];
    for chunks in chunks.chunks(PIECE / 8) {
        pace.step(chunks.len() * 8, cx)?;
        for chunk in chunks {
            parts.iter_mut().zip(chunk).for_each(|(part, &x)| *part += f(x));
        }
    }
    Ok(parts.iter().sum::<f32>() + rest.iter().map(|&x| f(x)).sum::<f32>())
}

/// Appends `f` of each element of a row.
fn extend(row: &[f32], f: impl Fn(f32) -> f32, out: &mut Vec<f32>, pace: &mut Pace, cx: &Cx<'_>) -> Result<(), Error> {
    for piece in row.chunks(PIECE) {
        pace.step(piece.len(), cx)?;
        out.extend(piece.iter().map(|&x| f(x)));
    }
    Ok(())
}

fn instance(node: &Node<'_>) -> Result<Kernel, Error> {
    let epsilon = node.float("epsilon", 1e-5)?;
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = floats(args.take(0)?, cx)?;
        let channels = value.dims().get(1).copied().unwrap_or(1);
        let (scale, bias) = (floats(args.take(1)?, cx)?.0, floats(args.take(2)?, cx)?.0);
        let (scale, bias) = (parameter(&scale, channels)?, parameter(&bias, channels)?);
        let plane = product(value.dims().get(2..).unwrap_or_default());
        let elements = value.elements::<f32>()?;
        let mut pace = Pace::default();
        let result = cx.output::<f32>(value.dims())?.append(|out| {
            for (row, (scale, bias)) in elements.chunks_exact(plane).zip(scale.iter().zip(bias).cycle()) {
                let (mean, inverse) = statistics(row, epsilon, &mut pace, cx)?;
                extend(row, |x| (x - mean) * inverse * scale + bias, out, &mut pace, cx)?;
            }
            Ok(())
        })?;
        Ok(vec![convert(result, ty, cx)?])
    }))
}

fn layer(node: &Node<'_>) -> Result<Kernel, Error> {
    let epsilon = node.float("epsilon", 1e-5)?;
    let at = node.int("axis")?.unwrap_or(-1);
    // The statistics are computed in f32 whatever the type, as the default says.
    if node.int("stash_type")?.unwrap_or(1) != 1 {
        return Err(Error::unsupported("statistics in another type than f32"));
    }
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = floats(args.take(0)?, cx)?;
        let at = axis(at, value.rank())?;
        let (outer, inner) = value.dims().split_at(at);
        let (rows, width) = (product(outer), product(inner));
        let mut parameter = |index| -> Result<Option<Value>, Error> {
            let Ok(value) = args.take(index) else { return Ok(None) };
            let value = floats(value, cx)?.0;
            if shape(value.dims(), inner)? != inner {
                return Err(Error::invalid_argument(format!("{} for {}", Dims(value.dims()), Dims(inner))));
            }
            super::broadcast::expand::<f32>(&value, inner, cx).map(Some)
        };
        let (scale, bias) = (parameter(1)?, parameter(2)?);
        let scale = scale.ok_or_else(|| Error::invalid_argument("the scale is missing"))?;
        let scale = scale.elements::<f32>()?;
        let bias = bias.as_ref().map(Value::elements::<f32>).transpose()?;
        let mut kept: Vec<usize> = outer.to_vec();
        kept.resize(value.rank(), 1);
        let (mut means, means_charge) = cx.scratch::<f32>(count(&kept)?)?;
        let (mut inverses, inverses_charge) = cx.scratch::<f32>(count(&kept)?)?;
        let elements = value.elements::<f32>()?;
        let mut pace = Pace::default();
        let result = cx.output::<f32>(value.dims())?.append(|out| {
            for row in elements.chunks_exact(width) {
                let (mean, inverse) = statistics(row, epsilon, &mut pace, cx)?;
                means.push(mean);
                inverses.push(inverse);
                for (index, row) in row.chunks(PIECE).enumerate() {
                    pace.step(row.len(), cx)?;
                    let columns = index * PIECE..index * PIECE + row.len();
                    let scaled = row.iter().zip(&scale[columns.clone()]).map(|(x, scale)| (x - mean) * inverse * scale);
                    match bias {
                        Some(bias) => out.extend(scaled.zip(&bias[columns]).map(|(x, bias)| x + bias)),
                        None => out.extend(scaled),
                    }
                }
            }
            Ok(())
        })?;
        // Rows of nothing have no mean.
        pace.fill(f32::NAN, rows, &mut means, cx)?;
        pace.fill(f32::NAN, rows, &mut inverses, cx)?;
        let means = Value::charged(kept.clone(), means, means_charge)?;
        let inverses = Value::charged(kept, inverses, inverses_charge)?;
        Ok(vec![convert(result, ty, cx)?, means, inverses])
    }))
}

fn group(node: &Node<'_>) -> Result<Kernel, Error> {
    let epsilon = node.float("epsilon", 1e-5)?;
    let groups = node.int("num_groups")?.and_then(|groups| usize::try_from(groups).ok()).filter(|&groups| groups > 0);
    let groups = groups.ok_or_else(|| Error::invalid_encoding("attribute num_groups is missing"))?;
    // Before opset 21 there is one scale for each group.
    let by_group = node.opset < 21;
    if node.opset >= 21 && node.int("stash_type")?.unwrap_or(1) != 1 {
        return Err(Error::unsupported("statistics in another type than f32"));
    }
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = floats(args.take(0)?, cx)?;
        let channels = value.dims().get(1).copied().unwrap_or(1);
        let wanted = if by_group { groups } else { channels };
        let (scale, bias) = (floats(args.take(1)?, cx)?.0, floats(args.take(2)?, cx)?.0);
        let (scale, bias) = (parameter(&scale, wanted)?, parameter(&bias, wanted)?);
        if channels % groups != 0 {
            return Err(Error::invalid_argument(format!("{channels} channels in {groups} groups")));
        }
        let (plane, each) = (product(value.dims().get(2..).unwrap_or_default()), channels / groups);
        let elements = value.elements::<f32>()?;
        let mut pace = Pace::default();
        let result = cx.output::<f32>(value.dims())?.append(|out| {
            for (index, row) in elements.chunks_exact(plane * each).enumerate() {
                let (mean, inverse) = statistics(row, epsilon, &mut pace, cx)?;
                for (place, row) in row.chunks_exact(plane).enumerate() {
                    let group = index % groups;
                    let channel = if by_group { group } else { group * each + place };
                    let (scale, bias) = (scale[channel], bias[channel]);
                    extend(row, |x| (x - mean) * inverse * scale + bias, out, &mut pace, cx)?;
                }
            }
            Ok(())
        })?;
        Ok(vec![convert(result, ty, cx)?])
    }))
}

/// Divides by the squares of the channels around.
fn local_response(node: &Node<'_>) -> Result<Kernel, Error> {
    let (alpha, beta) = (node.float("alpha", 1e-4)?, node.float("beta", 0.75)?);
    let bias = node.float("bias", 1.0)?;
    let size =
        node.int("size")?.and_then(|size| usize::try_from(size).ok()).filter(|size| (1..=1 << 24).contains(size));
    let size = size.ok_or_else(|| Error::invalid_encoding("attribute size is missing or out of range"))?;
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = floats(args.take(0)?, cx)?;
        let channels = value.dims().get(1).copied().unwrap_or(1);
        let plane = product(value.dims().get(2..).unwrap_or_default());
        let elements = value.elements::<f32>()?;
        let mut pace = Pace::default();
        let result = cx.output::<f32>(value.dims())?.append(|out| {
            for (index, row) in elements.chunks_exact(plane).enumerate() {
                let (image, channel) = (index / channels, index % channels);
                let first = channel.saturating_sub((size - 1) / 2);
                let end = (channel + size / 2 + 1).min(channels);
                for (place, x) in row.iter().enumerate() {
                    pace.step(end - first, cx)?;
                    let squares = (first..end).map(|channel| elements[(image * channels + channel) * plane + place]);
                    let sum: f32 = squares.map(|x| x * x).sum();
                    out.push(x / (bias + alpha / size as f32 * sum).powf(beta));
                }
            }
            Ok(())
        })?;
        Ok(vec![convert(result, ty, cx)?])
    }))
}

/// Moves the value's `last` axes to the end, normalizes each row that they make, and moves them back.
fn rows_of(
    value: Value,
    last: &[usize],
    cx: &Cx<'_>,
    normalize: impl Fn(&[f32], &mut Vec<f32>, &mut Pace) -> Result<(), Error>,
) -> Result<Value, Error> {
    let order: Vec<usize> =
        (0..value.rank()).filter(|place| !last.contains(place)).chain(last.iter().copied()).collect();
    let width: usize = last.iter().map(|&place| value.dims()[place]).product();
    let value = permute(value, &order, cx)?;
    let elements = value.elements::<f32>()?;
    let mut pace = Pace::default();
    let result = cx
        .output::<f32>(value.dims())?
        .append(|out| elements.chunks_exact(width).try_for_each(|row| normalize(row, out, &mut pace)))?;
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(place, &at)| back[at] = place);
    permute(result, &back, cx)
}

fn mean_variance(node: &Node<'_>) -> Result<Kernel, Error> {
    let list = node.ints("axes")?.map_or_else(|| vec![0, 2, 3], <[i64]>::to_vec);
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = floats(args.take(0)?, cx)?;
        let folded = super::axes(&list, value.rank())?;
        let result = rows_of(value, &folded, cx, |row, out, pace| {
            let (mean, inverse) = statistics(row, 0.0, pace, cx)?;
            // As ONNX writes it: the deviation plus a little.
            let scale = 1.0 / (1.0 / inverse + 1e-9);
            extend(row, |x| (x - mean) * scale, out, pace, cx)
        })?;
        Ok(vec![convert(result, ty, cx)?])
    }))
}

fn lp(node: &Node<'_>) -> Result<Kernel, Error> {
    let (at, p) = (node.int("axis")?.unwrap_or(-1), node.int("p")?.unwrap_or(2));
    if ![1, 2].contains(&p) {
        return Err(Error::invalid_encoding("attribute p is neither 1 nor 2"));
    }
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = floats(args.take(0)?, cx)?;
        let at = axis(at, value.rank())?;
        let result = rows_of(value, &[at], cx, |row, out, pace| {
            let norm = if p == 1 { sum(row, f32::abs, pace, cx)? } else { sum(row, |x| x * x, pace, cx)?.sqrt() };
            // A row of zeros stays one.
            let scale = if norm > 0.0 { 1.0 / norm } else { 1.0 };
            extend(row, |x| x * scale, out, pace, cx)
        })?;
        Ok(vec![convert(result, ty, cx)?])
    }))
}
