//! Device forms of normalizations.

use crate::device::args::{DeviceArgs, DeviceForm, Stop};
use crate::device::context::DeviceContext;
use crate::device::math::{Compare, Unary};
use crate::device::tensor::DeviceTensor;
use crate::ops::device::product::padded;
use crate::ops::device::{host_only, one, own_type};
use crate::ops::node::Node;
use crate::tensor::dims::{Dims, axes as axes_of, axis, broadcast, product};
use crate::tensor::element::ElementType;
use graphpool::backend::Error;

/// The type of the first input, and the input. One without elements is left to the host: its means could be many.
fn input(args: &mut DeviceArgs, dx: &DeviceContext<'_>) -> Result<(ElementType, DeviceTensor), Stop> {
    let (ty, x) = (own_type(args, 0)?, args.float(0, dx)?);
    if x.is_empty() { host_only() } else { Ok((ty, x)) }
}

/// The parameter at `index` with one element for each of `channels`, as [1, channels, 1, …] for a tensor of `rank`.
fn parameter(
    args: &mut DeviceArgs,
    index: usize,
    (channels, rank): (usize, usize),
    ty: ElementType,
    dx: &DeviceContext<'_>,
) -> Result<DeviceTensor, Stop> {
    let value = args.float(index, dx)?;
    if value.len() != channels {
        let why = format!("the parameter has {} elements, and there are {channels} channels", value.len());
        return Err(Error::invalid_argument(why).into());
    }
    let mut dims = vec![1; rank];
    if let Some(dim) = dims.get_mut(usize::from(rank > 1)) {
        *dim = channels;
    }
    Ok(dx.cast(&dx.reshape(&value, &dims)?, ty)?)
}

pub(in crate::ops) fn batch(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let epsilon = f64::from(node.float("epsilon", 1e-5)?);
    Ok(Box::new(move |args, dx| {
        let (ty, x) = (own_type(args, 0)?, args.float(0, dx)?);
        let rank = x.rank();
        let channels = x.dims().get(1).copied().unwrap_or(1);
        let mut of = |index| parameter(args, index, (channels, rank), x.ty(), dx);
        let (scale, bias, mean, variance) = (of(1)?, of(2)?, of(3)?, of(4)?);
        let scale = dx.div(&scale, &dx.unary(Unary::Sqrt, &dx.affine(&variance, 1.0, epsilon)?)?)?;
        let shift = dx.sub(&bias, &dx.mul(&mean, &scale)?)?;
        one(&dx.add(&dx.mul(&x, &scale)?, &shift)?, ty, dx)
    }))
}

/// The elements less their mean over `axes`, the mean, and one over the standard deviation.
fn centered(
    x: &DeviceTensor,
    axes: &[usize],
    epsilon: f64,
    dx: &DeviceContext<'_>,
) -> Result<(DeviceTensor, DeviceTensor, DeviceTensor), Error> {
    let mean = dx.mean(x, axes)?;
    let rest = dx.sub(x, &mean)?;
    let variance = dx.mean(&dx.unary(Unary::Square, &rest)?, axes)?;
    let inverse = dx.unary(Unary::Reciprocal, &dx.unary(Unary::Sqrt, &dx.affine(&variance, 1.0, epsilon)?)?)?;
    Ok((rest, mean, inverse))
}

pub(in crate::ops) fn instance(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let epsilon = f64::from(node.float("epsilon", 1e-5)?);
    Ok(Box::new(move |args, dx| {
        let (ty, x) = input(args, dx)?;
        let (rank, channels) = (x.rank(), x.dims().get(1).copied().unwrap_or(1));
        let scale = parameter(args, 1, (channels, rank), x.ty(), dx)?;
        let bias = parameter(args, 2, (channels, rank), x.ty(), dx)?;
        let (rest, _, inverse) = centered(&x, &(2..rank).collect::<Vec<_>>(), epsilon, dx)?;
        one(&dx.add(&dx.mul(&dx.mul(&rest, &inverse)?, &scale)?, &bias)?, ty, dx)
    }))
}

/// The parameter at `index`, which must broadcast to the normalized dimensions.
fn inner_parameter(
    args: &mut DeviceArgs,
    index: usize,
    inner: &[usize],
    ty: ElementType,
    dx: &DeviceContext<'_>,
) -> Result<Option<DeviceTensor>, Stop> {
    let Some(value) = args.optional_float(index, dx)? else { return Ok(None) };
    if *broadcast(value.dims(), inner)? != *inner {
        let (own, inner) = (Dims(value.dims()), Dims(inner));
        let why = format!("the parameter {own} does not broadcast to the normalized dimensions {inner}");
        return Err(Error::invalid_argument(why).into());
    }
    Ok(Some(dx.cast(&value, ty)?))
}

pub(in crate::ops) fn layer(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let epsilon = f64::from(node.float("epsilon", 1e-5)?);
    let signed_axis = node.int("axis")?.unwrap_or(-1);
    node.ignore(&["stash_type"]);
    Ok(Box::new(move |args, dx| {
        let (ty, x) = input(args, dx)?;
        let axis = axis(signed_axis, x.rank())?;
        let inner = x.dims()[axis..].to_vec();
        let scale = inner_parameter(args, 1, &inner, x.ty(), dx)?;
        let scale = scale.ok_or_else(|| Error::invalid_argument("the scale is missing"))?;
        let bias = inner_parameter(args, 2, &inner, x.ty(), dx)?;
        let (rest, mean, inverse) = centered(&x, &(axis..x.rank()).collect::<Vec<_>>(), epsilon, dx)?;
        let mut result = dx.mul(&dx.mul(&rest, &inverse)?, &scale)?;
        if let Some(bias) = bias {
            result = dx.add(&result, &bias)?;
        }
        let single = |x: &DeviceTensor| dx.cast(x, ElementType::F32);
        Ok(vec![dx.cast(&result, ty)?.into(), single(&mean)?.into(), single(&inverse)?.into()])
    }))
}

pub(in crate::ops) fn group(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let epsilon = f64::from(node.float("epsilon", 1e-5)?);
    let groups = node.int("num_groups")?.and_then(|groups| usize::try_from(groups).ok()).unwrap_or(1).max(1);
    let by_group = node.opset < 21;
    node.ignore(&["stash_type"]);
    Ok(Box::new(move |args, dx| {
        let (ty, x) = input(args, dx)?;
        let dims = x.dims().to_vec();
        let channels = dims.get(1).copied().unwrap_or(1);
        if dims.len() < 2 {
            return host_only();
        }
        if channels % groups != 0 {
            let why = format!("{channels} channels do not divide into {groups} groups");
            return Err(Error::invalid_argument(why).into());
        }
        let (batch, plane, each) = (dims[0], product(&dims[2..]), channels / groups);
        let rows = dx.reshape(&x, &[batch, groups, each, plane])?;
        let mut of = |index: usize| -> Result<DeviceTensor, Stop> {
            let value = parameter(args, index, (if by_group { groups } else { channels }, 1), x.ty(), dx)?;
            Ok(dx.reshape(&value, &if by_group { [1, groups, 1, 1] } else { [1, groups, each, 1] })?)
        };
        let (scale, bias) = (of(1)?, of(2)?);
        let (rest, _, inverse) = centered(&rows, &[2, 3], epsilon, dx)?;
        let result = dx.add(&dx.mul(&dx.mul(&rest, &inverse)?, &scale)?, &bias)?;
        one(&dx.reshape(&result, &dims)?, ty, dx)
    }))
}

pub(in crate::ops) fn local_response(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let (alpha, beta) = (f64::from(node.float("alpha", 1e-4)?), f64::from(node.float("beta", 0.75)?));
    let bias = f64::from(node.float("bias", 1.0)?);
    let size = node.int("size")?.and_then(|size| usize::try_from(size).ok()).unwrap_or(1).clamp(1, 1 << 24);
    Ok(Box::new(move |args, dx| {
        let (ty, x) = (own_type(args, 0)?, args.float(0, dx)?);
        if x.rank() < 2 || x.is_empty() {
            return host_only();
        }
        let channels = x.dims()[1];
        // Neighbors further away than there are channels do not exist.
        let (before, after) = (((size - 1) / 2).min(channels), (size / 2).min(channels));
        let squares = padded(&dx.unary(Unary::Square, &x)?, 1, (before, after), 0.0, dx)?;
        let mut sum = dx.narrow(&squares, 1, 0, channels)?;
        for distance in 1..=before + after {
            sum = dx.add(&sum, &dx.narrow(&squares, 1, distance, channels)?)?;
        }
        let scale = dx.power(&dx.affine(&sum, alpha / size as f64, bias)?, beta)?;
        one(&dx.div(&x, &scale)?, ty, dx)
    }))
}

pub(in crate::ops) fn mean_variance(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let list = node.ints("axes")?.map_or_else(|| vec![0, 2, 3], <[i64]>::to_vec);
    Ok(Box::new(move |args, dx| {
        let (ty, x) = input(args, dx)?;
        let axes = axes_of(&list, x.rank())?;
        let mean = dx.mean(&x, &axes)?;
        let rest = dx.sub(&x, &mean)?;
        let deviation = dx.unary(Unary::Sqrt, &dx.mean(&dx.unary(Unary::Square, &rest)?, &axes)?)?;
        one(&dx.div(&rest, &dx.affine(&deviation, 1.0, 1e-9)?)?, ty, dx)
    }))
}

pub(in crate::ops) fn lp(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let signed_axis = node.int("axis")?.unwrap_or(-1);
    let p = node.int("p")?.unwrap_or(2);
    Ok(Box::new(move |args, dx| {
        let (ty, x) = input(args, dx)?;
        let axis = axis(signed_axis, x.rank())?;
        let norm = match p {
            1 => dx.sum(&dx.unary(Unary::Abs, &x)?, &[axis])?,
            _ => dx.unary(Unary::Sqrt, &dx.sum(&dx.unary(Unary::Square, &x)?, &[axis])?)?,
        };
        // A vector of zeros stays as it is.
        let divides = dx.compare_with(Compare::Greater, &norm, 0.0)?;
        let norm = dx.select(&divides, &norm, &dx.number(1.0, x.ty())?)?;
        one(&dx.mul(&x, &dx.unary(Unary::Reciprocal, &norm)?)?, ty, dx)
    }))
}

pub(in crate::ops) fn root_mean_square(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let epsilon = f64::from(node.float("epsilon", 1e-5)?);
    let signed_axis = node.int("axis")?.unwrap_or(-1);
    let single = node.int("stash_type")?.unwrap_or(1) == 1;
    Ok(Box::new(move |args, dx| {
        if !single {
            return host_only();
        }
        // The result has the type of the scale.
        let (ty, x) = (own_type(args, 1)?, args.float(0, dx)?);
        if x.is_empty() {
            return host_only();
        }
        let axis = axis(signed_axis, x.rank())?;
        let scale = dx.cast(&args.float(1, dx)?, x.ty())?;
        if *broadcast(x.dims(), scale.dims())? != *x.dims() {
            let (own, dims) = (Dims(scale.dims()), Dims(x.dims()));
            let why = format!("the scale {own} does not broadcast to the input {dims}");
            return Err(Error::invalid_argument(why).into());
        }
        let last: Vec<usize> = (axis..x.rank()).collect();
        let square = dx.mean(&dx.unary(Unary::Square, &x)?, &last)?;
        let root = dx.unary(Unary::Sqrt, &dx.affine(&square, 1.0, epsilon)?)?;
        one(&dx.mul(&dx.div(&x, &root)?, &scale)?, ty, dx)
    }))
}
