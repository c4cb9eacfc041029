//! Normalizations: BatchNormalization, InstanceNormalization, LayerNormalization, GroupNormalization, LRN,
//! MeanVarianceNormalization, LpNormalization.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::gemm::Factor as _;
use crate::math::loops;
use crate::math::program::{Batch, Constants, batch_scales};
use crate::ops::broadcast::shape;
use crate::ops::cast::convert;
use crate::ops::elementwise::Number as _;
use crate::ops::fusion::Follower;
use crate::ops::layout::{inverse, permute};
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::ops::real::{Real, promote, promote_to, with_reals};
use crate::tensor::dim_list::DimVec;
use crate::tensor::dims::{Dims, axis, count, product};
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(7, "BatchNormalization", (5, 5), batch).follower(fused_batch).device(form!(norm::batch)),
    since(6, "InstanceNormalization", (3, 3), instance).device(form!(norm::instance)),
    since(17, "LayerNormalization", (2, 3), layer).device(form!(norm::layer)),
    since(18, "GroupNormalization", (3, 3), group).device(form!(norm::group)),
    since(1, "LRN", (1, 1), local_response).heavy().device(form!(norm::local_response)),
    since(9, "MeanVarianceNormalization", (1, 1), mean_variance).device(form!(norm::mean_variance)),
    since(1, "LpNormalization", (1, 1), lp).device(form!(norm::lp)),
];

/// The elements of a parameter, one for each of `channels`.
fn parameter<T: Real>(value: &Value, channels: usize) -> Result<&[T], Error> {
    let elements = value.elements::<T>()?;
    if elements.len() != channels {
        return Err(Error::invalid_argument(format!(
            "the parameter has {} elements, and there are {channels} channels",
            elements.len()
        )));
    }
    Ok(elements)
}

fn batch(node: &Node<'_>) -> Result<OpFn, Error> {
    let epsilon = node.float("epsilon", 1e-5)?;
    node.ignore(&["momentum"]);
    if node.opset >= 14 && node.flag("training_mode", false)? {
        return Err(Error::unsupported("training mode is not supported"));
    }
    node.limit_outputs(1)?;
    if node.opset < 9 && !node.flag("spatial", true)? {
        return Err(Error::unsupported("attribute spatial = 0 is not supported"));
    }
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = promote(args.take(0)?, cx)?;
        let parameters = (1..5).map(|index| promote_to(args.take(index)?, value.ty(), cx));
        let parameters = parameters.collect::<Result<Vec<_>, Error>>()?;
        let result =
            with_reals!(value, T => scale_and_shift::<T>(value, &parameters, T::from_f64(f64::from(epsilon)), cx))?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

/// Multiplies each channel by its scale and adds its shift.
fn scale_and_shift<T: Real>(
    mut value: Value,
    parameters: &[Value],
    epsilon: T,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let channels = value.dims().get(1).copied().unwrap_or(1);
    let [scale, bias, mean, variance] = parameters else {
        return Err(Error::invalid_argument("parameters are missing"));
    };
    let elements_of = |value| parameter::<T>(value, channels);
    let _charge = cx.charge::<T>(&[channels, 2])?;
    let parameters = [elements_of(scale)?, elements_of(bias)?, elements_of(mean)?, elements_of(variance)?];
    let scales = batch_scales(parameters, epsilon, T::sqrt);
    let plane = product(value.dims().get(2..).unwrap_or_default());
    if plane == 0 || channels == 0 {
        return Ok(value);
    }
    let mut checkpoint = Checkpoint::default();
    if let Some(elements) = value.elements_mut::<T>() {
        for (plane, &(scale, shift)) in elements.chunks_exact_mut(plane).zip(scales.iter().cycle()) {
            for piece in plane.chunks_mut(PIECE) {
                checkpoint.step(piece.len(), cx)?;
                T::map(piece, move |x| x * scale + shift);
            }
        }
        return Ok(value);
    }
    let elements = value.elements::<T>()?;
    cx.output::<T>(value.dims())?.append(|out| {
        for (plane, &(scale, shift)) in elements.chunks_exact(plane).zip(scales.iter().cycle()) {
            for piece in plane.chunks(PIECE) {
                checkpoint.step(piece.len(), cx)?;
                loops::extend(out, piece.iter().map(move |&x| x * scale + shift));
            }
        }
        Ok(())
    })
}

/// Mean and one over the standard deviation of a row.
fn statistics<T: Real>(
    row: &[T],
    epsilon: T,
    checkpoint: &mut Checkpoint,
    cx: &ExecContext<'_>,
) -> Result<(T, T), Error> {
    let len = T::from_f64(row.len() as f64);
    let mean = sum(row, |x| x, checkpoint, cx)? / len;
    let variance = sum(row, |x| (x - mean) * (x - mean), checkpoint, cx)? / len;
    Ok((mean, T::ONE / (variance + epsilon).sqrt()))
}

/// A sum in independent parts, which the processor adds in parallel.
fn sum<T: Real>(row: &[T], f: impl Fn(T) -> T, checkpoint: &mut Checkpoint, cx: &ExecContext<'_>) -> Result<T, Error> {
    if row.len() < loops::SHORT {
        checkpoint.step(row.len(), cx)?;
        return Ok(loops::fold_short(T::default(), row, |part: T, x: T| part + f(x), |a, b| a + b));
    }
    let mut parts = [T::default(); loops::PARTS];
    for piece in row.chunks(PIECE) {
        checkpoint.step(piece.len(), cx)?;
        loops::fold(&mut parts, piece, |part: T, x| part + f(x));
    }
    Ok(loops::joined(parts, |a, b| a + b))
}

/// Appends `f` of each element of a row.
fn extend<T: Real>(
    row: &[T],
    f: impl Fn(T) -> T + Copy,
    out: &mut Vec<T>,
    checkpoint: &mut Checkpoint,
    cx: &ExecContext<'_>,
) -> Result<(), Error> {
    for piece in row.chunks(PIECE) {
        checkpoint.step(piece.len(), cx)?;
        loops::extend(out, piece.iter().map(move |&x| f(x)));
    }
    Ok(())
}

fn instance(node: &Node<'_>) -> Result<OpFn, Error> {
    let epsilon = node.float("epsilon", 1e-5)?;
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = promote(args.take(0)?, cx)?;
        let (scale, bias) = (promote_to(args.take(1)?, value.ty(), cx)?, promote_to(args.take(2)?, value.ty(), cx)?);
        let result = with_reals!(value, T => {
            let channels = value.dims().get(1).copied().unwrap_or(1);
            let (scale, bias) = (parameter::<T>(&scale, channels)?, parameter::<T>(&bias, channels)?);
            let plane = product(value.dims().get(2..).unwrap_or_default());
            let (elements, epsilon) = (value.elements::<T>()?, T::from_f64(f64::from(epsilon)));
            let mut checkpoint = Checkpoint::default();
            cx.output::<T>(value.dims())?.append(|out| {
                for (row, (&scale, &bias)) in elements.chunks_exact(plane).zip(scale.iter().zip(bias).cycle()) {
                    let (mean, inverse) = statistics(row, epsilon, &mut checkpoint, cx)?;
                    extend(row, move |x| (x - mean) * inverse * scale + bias, out, &mut checkpoint, cx)?;
                }
                Ok(())
            })
        })?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

fn layer(node: &Node<'_>) -> Result<OpFn, Error> {
    let epsilon = node.float("epsilon", 1e-5)?;
    let signed_axis = node.int("axis")?.unwrap_or(-1);
    // Only the default is supported. Statistics of f64 are computed in f64 and returned as f32.
    if node.int("stash_type")?.unwrap_or(1) != 1 {
        return Err(Error::unsupported("a stash_type other than 1 (f32) is not supported"));
    }
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = promote(args.take(0)?, cx)?;
        let (means, inverses, result) =
            with_reals!(value, T => layers::<T>(&value, &mut args, signed_axis, T::from_f64(f64::from(epsilon)), cx))?;
        // The statistics are returned in the type of `stash_type`: f32.
        let single = |value| convert(value, ElementType::F32, cx);
        Ok(values![convert(result, ty, cx)?, single(means)?, single(inverses)?])
    }))
}

/// Means, one over the standard deviations, and the normalized rows.
fn layers<T: Real>(
    value: &Value,
    args: &mut Args,
    signed_axis: i64,
    epsilon: T,
    cx: &ExecContext<'_>,
) -> Result<(Value, Value, Value), Error> {
    let axis = axis(signed_axis, value.rank())?;
    let (outer, inner) = value.dims().split_at(axis);
    let (rows, width) = (product(outer), product(inner));
    let mut parameter = |index| -> Result<Option<Value>, Error> {
        let Ok(value) = args.take(index) else { return Ok(None) };
        let value = promote_to(value, T::TYPE, cx)?;
        if *shape(value.dims(), inner)? != *inner {
            return Err(Error::invalid_argument(format!(
                "the parameter {} does not broadcast to the normalized dimensions {}",
                Dims(value.dims()),
                Dims(inner)
            )));
        }
        crate::ops::broadcast::expand::<T>(&value, inner, cx).map(Some)
    };
    let (scale, bias) = (parameter(1)?, parameter(2)?);
    let scale = scale.ok_or_else(|| Error::invalid_argument("the scale is missing"))?;
    let scale = scale.elements::<T>()?;
    let bias = bias.as_ref().map(Value::elements::<T>).transpose()?;
    let mut kept = DimVec::from(outer);
    kept.resize(value.rank(), 1);
    let (mut means, means_charge) = cx.scratch::<T>(count(&kept)?)?;
    let (mut inverses, inverses_charge) = cx.scratch::<T>(count(&kept)?)?;
    let elements = value.elements::<T>()?;
    let mut checkpoint = Checkpoint::default();
    let result = cx.output::<T>(value.dims())?.append(|out| {
        for row in elements.chunks_exact(width) {
            let (mean, inverse) = statistics(row, epsilon, &mut checkpoint, cx)?;
            means.push(mean);
            inverses.push(inverse);
            for (index, row) in row.chunks(PIECE).enumerate() {
                checkpoint.step(row.len(), cx)?;
                let columns = index * PIECE..index * PIECE + row.len();
                let scaled = row.iter().zip(&scale[columns.clone()]);
                let scaled = scaled.map(|(&x, &scale)| (x - mean) * inverse * scale);
                match bias {
                    Some(bias) => out.extend(scaled.zip(&bias[columns]).map(|(x, &bias)| x + bias)),
                    None => out.extend(scaled),
                }
            }
        }
        Ok(())
    })?;
    // The statistics of an empty row are NaN.
    checkpoint.fill(T::NAN, rows, &mut means, cx)?;
    checkpoint.fill(T::NAN, rows, &mut inverses, cx)?;
    let means = Value::charged(kept.clone(), means, means_charge)?;
    Ok((means, Value::charged(kept, inverses, inverses_charge)?, result))
}

fn group(node: &Node<'_>) -> Result<OpFn, Error> {
    let epsilon = node.float("epsilon", 1e-5)?;
    let groups = node.int("num_groups")?.and_then(|groups| usize::try_from(groups).ok()).filter(|&groups| groups > 0);
    let groups = groups.ok_or_else(|| Error::invalid_encoding("attribute num_groups is missing or not positive"))?;
    // Before opset 21, scale and bias have one element for each group.
    let by_group = node.opset < 21;
    if node.opset >= 21 && node.int("stash_type")?.unwrap_or(1) != 1 {
        return Err(Error::unsupported("a stash_type other than 1 (f32) is not supported"));
    }
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = promote(args.take(0)?, cx)?;
        let channels = value.dims().get(1).copied().unwrap_or(1);
        let parameter_len = if by_group { groups } else { channels };
        let (scale, bias) = (promote_to(args.take(1)?, value.ty(), cx)?, promote_to(args.take(2)?, value.ty(), cx)?);
        if channels % groups != 0 {
            return Err(Error::invalid_argument(format!("{channels} channels do not divide into {groups} groups")));
        }
        let (plane, each) = (product(value.dims().get(2..).unwrap_or_default()), channels / groups);
        let result = with_reals!(value, T => {
            let (scale, bias) = (parameter::<T>(&scale, parameter_len)?, parameter::<T>(&bias, parameter_len)?);
            let (elements, epsilon) = (value.elements::<T>()?, T::from_f64(f64::from(epsilon)));
            let mut checkpoint = Checkpoint::default();
            cx.output::<T>(value.dims())?.append(|out| {
                for (index, row) in elements.chunks_exact(plane * each).enumerate() {
                    let (mean, inverse) = statistics(row, epsilon, &mut checkpoint, cx)?;
                    for (position, row) in row.chunks_exact(plane).enumerate() {
                        let group = index % groups;
                        let channel = if by_group { group } else { group * each + position };
                        let (scale, bias) = (scale[channel], bias[channel]);
                        extend(row, move |x| (x - mean) * inverse * scale + bias, out, &mut checkpoint, cx)?;
                    }
                }
                Ok(())
            })
        })?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

/// Divides by a power of the sum of the squares of neighboring channels.
fn local_response(node: &Node<'_>) -> Result<OpFn, Error> {
    let (alpha, beta) = (node.float("alpha", 1e-4)?, node.float("beta", 0.75)?);
    let bias = node.float("bias", 1.0)?;
    let size =
        node.int("size")?.and_then(|size| usize::try_from(size).ok()).filter(|size| (1..=1 << 24).contains(size));
    let size = size.ok_or_else(|| Error::invalid_encoding("attribute size is missing or out of range"))?;
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = promote(args.take(0)?, cx)?;
        let channels = value.dims().get(1).copied().unwrap_or(1);
        let plane = product(value.dims().get(2..).unwrap_or_default());
        let result = with_reals!(value, T => {
            let elements = value.elements::<T>()?;
            let constant = |number: f32| T::from_f64(f64::from(number));
            let (each, beta, bias) = (constant(alpha) / T::from_f64(size as f64), constant(beta), constant(bias));
            let mut checkpoint = Checkpoint::default();
            cx.output::<T>(value.dims())?.append(|out| {
            for (index, row) in elements.chunks_exact(plane).enumerate() {
                let (image, channel) = (index / channels, index % channels);
                let first = channel.saturating_sub((size - 1) / 2);
                let end = (channel + size / 2 + 1).min(channels);
                for (position, &x) in row.iter().enumerate() {
                    checkpoint.step(end - first, cx)?;
                    let squares = (first..end).map(|channel| elements[(image * channels + channel) * plane + position]);
                    let sum: T = squares.map(|x| x * x).sum();
                    out.push(x / (bias + each * sum).powf(beta));
                }
            }
            Ok(())
            })
        })?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

/// Moves the axes `last` to the end, normalizes each row, and moves the axes back.
fn normalize_axes<T: Real>(
    value: Value,
    last: &[usize],
    cx: &ExecContext<'_>,
    normalize: impl Fn(&[T], &mut Vec<T>, &mut Checkpoint) -> Result<(), Error>,
) -> Result<Value, Error> {
    let order: Vec<usize> =
        (0..value.rank()).filter(|position| !last.contains(position)).chain(last.iter().copied()).collect();
    let width: usize = last.iter().map(|&position| value.dims()[position]).product();
    let value = permute(value, &order, cx)?;
    let elements = value.elements::<T>()?;
    let mut checkpoint = Checkpoint::default();
    let result = cx
        .output::<T>(value.dims())?
        .append(|out| elements.chunks_exact(width).try_for_each(|row| normalize(row, out, &mut checkpoint)))?;
    permute(result, &inverse(&order), cx)
}

fn mean_variance(node: &Node<'_>) -> Result<OpFn, Error> {
    let list = node.ints("axes")?.map_or_else(|| vec![0, 2, 3], <[i64]>::to_vec);
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = promote(args.take(0)?, cx)?;
        let folded = crate::tensor::dims::axes(&list, value.rank())?;
        let result = with_reals!(value, T => normalize_axes::<T>(value, &folded, cx, |row, out, checkpoint| {
            let (mean, inverse) = statistics(row, T::ZERO, checkpoint, cx)?;
            // ONNX adds 1e-9 to the standard deviation.
            let scale = T::ONE / (T::ONE / inverse + T::from_f64(1e-9));
            extend(row, |x| (x - mean) * scale, out, checkpoint, cx)
        }))?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

fn lp(node: &Node<'_>) -> Result<OpFn, Error> {
    let (signed_axis, p) = (node.int("axis")?.unwrap_or(-1), node.int("p")?.unwrap_or(2));
    if ![1, 2].contains(&p) {
        return Err(Error::invalid_encoding("attribute p is neither 1 nor 2"));
    }
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = promote(args.take(0)?, cx)?;
        let axis = axis(signed_axis, value.rank())?;
        let result = with_reals!(value, T => normalize_axes::<T>(value, &[axis], cx, |row, out, checkpoint| {
            let norm = match p {
                1 => sum(row, T::abs, checkpoint, cx)?,
                _ => sum(row, |x| x * x, checkpoint, cx)?.sqrt(),
            };
            // A row of zeros is kept.
            let scale = if norm > T::ZERO { T::ONE / norm } else { T::ONE };
            extend(row, |x| x * scale, out, checkpoint, cx)
        }))?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

fn fused_batch(node: &Node<'_>) -> Option<Follower> {
    let list = |index: usize| Constants::of(node.constant(index)?);
    let parameters = [list(1)?, list(2)?, list(3)?, list(4)?];
    Some(Follower::Affine(Batch { parameters, epsilon: node.float("epsilon", 1e-5).ok()? }))
}
