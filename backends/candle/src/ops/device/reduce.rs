//! Device forms of reductions, of Softmax and its relatives, and of cumulative sums and products.

use crate::device::args::{DeviceForm, Stop};
use crate::device::context::DeviceContext;
use crate::device::math::{Binary, Compare, Extreme, Unary};
use crate::device::tensor::DeviceTensor;
use crate::ops::device::product::padded;
use crate::ops::device::{host_only, one, own_type, unary};
use crate::ops::node::{Args, Node};
use crate::ops::reduced::Reduced;
use crate::tensor::dims::axis;
use crate::tensor::element::ElementType;
use graphpool::backend::Error;

/// A function of all elements of some axes, which stay as dimensions of 1.
type Reduce = fn(&DeviceTensor, &[usize], &DeviceContext<'_>) -> Result<DeviceTensor, Error>;

pub(in crate::ops) fn sum(x: &DeviceTensor, axes: &[usize], dx: &DeviceContext<'_>) -> Result<DeviceTensor, Error> {
    dx.sum(x, axes)
}

pub(in crate::ops) fn mean(x: &DeviceTensor, axes: &[usize], dx: &DeviceContext<'_>) -> Result<DeviceTensor, Error> {
    dx.mean(x, axes)
}

pub(in crate::ops) fn largest(x: &DeviceTensor, axes: &[usize], dx: &DeviceContext<'_>) -> Result<DeviceTensor, Error> {
    dx.extreme_of(Extreme::Max, x, axes)
}

pub(in crate::ops) fn smallest(
    x: &DeviceTensor,
    axes: &[usize],
    dx: &DeviceContext<'_>,
) -> Result<DeviceTensor, Error> {
    dx.extreme_of(Extreme::Min, x, axes)
}

/// The product, by halves: each pass multiplies the first half of the elements by the second. The host multiplies them
/// in their order, so that a product that overflows on the way may differ.
pub(in crate::ops) fn product(x: &DeviceTensor, axes: &[usize], dx: &DeviceContext<'_>) -> Result<DeviceTensor, Error> {
    let mut x = x.clone();
    for &axis in axes {
        if x.dims()[axis] == 0 {
            let mut dims = x.dims().to_vec();
            dims[axis] = 1;
            x = dx.filled(&dims, 1.0, x.ty())?;
        }
        while x.dims()[axis] > 1 {
            let dim = x.dims()[axis];
            let (half, odd) = (dim / 2, dim % 2);
            let halves = dx.mul(&dx.narrow(&x, axis, 0, half)?, &dx.narrow(&x, axis, half, half)?)?;
            x = if odd == 1 { dx.join(&[halves, dx.narrow(&x, axis, dim - 1, 1)?], axis)? } else { halves };
        }
    }
    Ok(x)
}

pub(in crate::ops) fn l1(x: &DeviceTensor, axes: &[usize], dx: &DeviceContext<'_>) -> Result<DeviceTensor, Error> {
    dx.sum(&dx.unary(Unary::Abs, x)?, axes)
}

pub(in crate::ops) fn sum_square(
    x: &DeviceTensor,
    axes: &[usize],
    dx: &DeviceContext<'_>,
) -> Result<DeviceTensor, Error> {
    dx.sum(&dx.unary(Unary::Square, x)?, axes)
}

pub(in crate::ops) fn l2(x: &DeviceTensor, axes: &[usize], dx: &DeviceContext<'_>) -> Result<DeviceTensor, Error> {
    // In F64, as on the host: the square of an F32 may be too large or too small for F32, and its root is not.
    let wide = dx.cast(x, ElementType::F64)?;
    dx.cast(&dx.unary(Unary::Sqrt, &sum_square(&wide, axes, dx)?)?, x.ty())
}

pub(in crate::ops) fn log_sum(x: &DeviceTensor, axes: &[usize], dx: &DeviceContext<'_>) -> Result<DeviceTensor, Error> {
    dx.unary(Unary::Log, &dx.sum(x, axes)?)
}

pub(in crate::ops) fn log_sum_exp(
    x: &DeviceTensor,
    axes: &[usize],
    dx: &DeviceContext<'_>,
) -> Result<DeviceTensor, Error> {
    // An infinite maximum is not subtracted.
    let top = dx.extreme_of(Extreme::Max, x, axes)?;
    let finite = dx.compare_with(Compare::Less, &dx.unary(Unary::Abs, &top)?, f64::INFINITY)?;
    let top = dx.select(&finite, &top, &dx.number(0.0, x.ty())?)?;
    let sum = dx.sum(&dx.unary(Unary::Exp, &dx.sub(x, &top)?)?, axes)?;
    dx.add(&dx.unary(Unary::Log, &sum)?, &top)
}

/// A Reduce operator. Its axes are an input from `axes_input_since` on.
pub(in crate::ops) fn reduce(node: &Node<'_>, axes_input_since: i64, reduce: Reduce) -> Result<DeviceForm, Stop> {
    let reduced_axes = Reduced::new(node, axes_input_since)?;
    Ok(Box::new(move |args, dx| {
        let (ty, x) = (own_type(args, 0)?, args.float(0, dx)?);
        let given = if args.option(1).is_some() { Some(args.host(1, dx)?) } else { None };
        let (reduced, dims) = reduced_axes.of(x.dims(), &Args::new(vec![None, given]))?;
        one(&dx.reshape(&reduce(&x, &reduced, dx)?, &dims)?, ty, dx)
    }))
}

/// The index of the largest or the smallest element.
pub(in crate::ops) fn arg_extreme(node: &Node<'_>, largest: bool) -> Result<DeviceForm, Stop> {
    let signed_axis = node.int("axis")?.unwrap_or(0);
    let keep = node.flag("keepdims", true)?;
    let last = node.opset >= 12 && node.flag("select_last_index", false)?;
    Ok(Box::new(move |args, dx| {
        let x = args.float(0, dx)?;
        let axis = axis(signed_axis, x.rank())?;
        if x.is_empty() || u32::try_from(x.dims()[axis]).is_err() {
            return host_only();
        }
        let best = best(if largest { Extreme::Max } else { Extreme::Min }, &x, axis, dx)?;
        let found = dx.cast(&dx.index_of(&best, axis, last)?, ElementType::I64)?;
        let mut dims = found.dims().to_vec();
        if !keep {
            dims.remove(axis);
        }
        Ok(vec![dx.reshape(&found, &dims)?.into()])
    }))
}

/// What Softmax and its relatives give for the elements of some axes.
type Normalize = fn(&DeviceTensor, &[usize], &DeviceContext<'_>) -> Result<DeviceTensor, Error>;

pub(in crate::ops) fn softmax_of(
    x: &DeviceTensor,
    axes: &[usize],
    dx: &DeviceContext<'_>,
) -> Result<DeviceTensor, Error> {
    let powers = dx.unary(Unary::Exp, &dx.sub(x, &dx.extreme_of(Extreme::Max, x, axes)?)?)?;
    dx.div(&powers, &dx.sum(&powers, axes)?)
}

pub(in crate::ops) fn log_softmax_of(
    x: &DeviceTensor,
    axes: &[usize],
    dx: &DeviceContext<'_>,
) -> Result<DeviceTensor, Error> {
    let shifted = dx.sub(x, &dx.extreme_of(Extreme::Max, x, axes)?)?;
    dx.sub(&shifted, &dx.unary(Unary::Log, &dx.sum(&dx.unary(Unary::Exp, &shifted)?, axes)?)?)
}

/// Whether each element is the largest or the smallest of its axis; if a NaN is among them, whether it is NaN.
pub(super) fn best(f: Extreme, x: &DeviceTensor, axis: usize, dx: &DeviceContext<'_>) -> Result<DeviceTensor, Error> {
    let wrong = dx.compare(Compare::NotEqual, x, x)?;
    let top = dx.extreme_of(f, x, &[axis])?;
    let best = dx.compare(Compare::Equal, x, &dx.broadcast(&top, x.dims())?)?;
    // Where a NaN is, the largest element is NaN too, and nothing is equal to it.
    dx.select(&wrong, &wrong, &best)
}

/// 1 for the first NaN or, without one, the first of the largest elements; 0 for the others.
pub(in crate::ops) fn hardmax_of(
    x: &DeviceTensor,
    axes: &[usize],
    dx: &DeviceContext<'_>,
) -> Result<DeviceTensor, Error> {
    let [one] = *axes else { return Err(Error::unsupported("Hardmax over several axes is not supported")) };
    let first = dx.index_of(&best(Extreme::Max, x, one, dx)?, one, false)?;
    let places = dx.places(x.rank(), one, x.dims()[one], first.ty())?;
    dx.cast(&dx.compare(Compare::Equal, &places, &first)?, x.ty())
}

pub(in crate::ops) fn softmax(node: &Node<'_>, normalize: Normalize) -> Result<DeviceForm, Stop> {
    let flatten = node.opset < 13;
    let signed_axis = node.int("axis")?.unwrap_or(if flatten { 1 } else { -1 });
    unary(move |x, dx| {
        let rank = x.rank();
        let axis = if flatten && signed_axis == rank as i64 { rank } else { axis(signed_axis, rank)? };
        if x.is_empty() {
            return Ok(x.clone());
        }
        if !flatten {
            return normalize(x, &[axis], dx);
        }
        let (outer, inner) = x.dims().split_at(axis);
        let rows = [crate::tensor::dims::product(outer), crate::tensor::dims::product(inner)];
        dx.reshape(&normalize(&dx.reshape(x, &rows)?, &[1], dx)?, x.dims())
    })
}

/// Sums or products of the elements up to each one: in each pass, each element is combined with the one that is twice
/// as far as before. `start` is that of no elements. As in a product of all elements, the order differs from the
/// host's.
pub(in crate::ops) fn cumulative(node: &Node<'_>, f: Binary, start: f64) -> Result<DeviceForm, Stop> {
    let (exclusive, reverse) = (node.flag("exclusive", false)?, node.flag("reverse", false)?);
    Ok(Box::new(move |args, dx| {
        let ty = own_type(args, 0)?;
        let at = args.host(1, dx)?.to_i64s()?;
        let &[at] = at.as_slice() else { return host_only() };
        let mut x = args.float(0, dx)?;
        let axis = axis(at, x.rank())?;
        let dim = x.dims()[axis];
        if x.is_empty() || u32::try_from(dim).is_err() {
            return host_only();
        }
        if reverse {
            x = dx.reversed(&x, axis)?;
        }
        let shifted = |x: &DeviceTensor, distance: usize| {
            padded(&dx.narrow(x, axis, 0, dim - distance)?, axis, (distance, 0), start, dx)
        };
        if exclusive {
            x = shifted(&x, 1)?;
        }
        let mut distance = 1;
        while distance < dim {
            x = dx.binary(f, &x, &shifted(&x, distance)?)?;
            distance *= 2;
        }
        if reverse {
            x = dx.reversed(&x, axis)?;
        }
        one(&x, ty, dx)
    }))
}
