//! The device form of TopK. candle sorts on some devices alone, and has no rule for equal elements and for NaN, so an
//! element's place in the order is counted: short rows compare each two elements, and of long rows the largest elements
//! are taken one after the other.

use crate::device::args::{DeviceForm, Stop};
use crate::device::context::DeviceContext;
use crate::device::math::{Compare, Extreme};
use crate::device::tensor::DeviceTensor;
use crate::ops::device::reduce::best;
use crate::ops::device::{host_only, own_type};
use crate::ops::top::Top;
use crate::tensor::element::ElementType;
use graphpool::backend::Error;

/// Pairs of elements that are compared at the most.
const MOST_PAIRS: usize = 1 << 22;

/// Elements that are taken one after the other at the most.
const MOST_PASSES: usize = 16;

/// The elements that are taken of each row, and their indexes in the row as floats.
type Taken = (DeviceTensor, DeviceTensor);

pub(in crate::ops) fn top(top: Top) -> Result<DeviceForm, Stop> {
    Ok(Box::new(move |args, dx| {
        let k = if args.option(1).is_some() { Some(args.host(1, dx)?) } else { None };
        let (ty, x) = (own_type(args, 0)?, args.float(0, dx)?);
        let (axis, k) = top.of(x.dims(), k.as_ref())?;
        let dim = x.dims()[axis];
        if x.is_empty() || k == 0 {
            return host_only();
        }
        let (rows, dims) = rows(&x, axis, dx)?;
        let pairs = rows.dims()[0].saturating_mul(dim).saturating_mul(dim);
        let (found, places) = if pairs <= MOST_PAIRS {
            ranked(&rows, k, top.largest, dx)?
        } else if top.largest && k <= MOST_PASSES {
            largest_first(&rows, k, dx)?
        } else {
            return host_only();
        };
        // The rows are back along their axis.
        let back = |x: &DeviceTensor| {
            let split = dx.reshape(x, &[dims.as_slice(), &[k]].concat())?;
            let mut order: Vec<usize> = (0..dims.len()).collect();
            order.insert(axis, dims.len());
            dx.permute(&split, &order)
        };
        let places = dx.cast(&back(&places)?, ElementType::I64)?;
        Ok(vec![dx.cast(&back(&found)?, ty)?.into(), places.into()])
    }))
}

/// The rows along an axis as a matrix, and the other dimensions.
fn rows(x: &DeviceTensor, axis: usize, dx: &DeviceContext<'_>) -> Result<(DeviceTensor, Vec<usize>), Error> {
    let mut order: Vec<usize> = (0..x.rank()).filter(|&other| other != axis).collect();
    let dims: Vec<usize> = order.iter().map(|&other| x.dims()[other]).collect();
    order.push(axis);
    let rows = dx.reshape(&dx.permute(x, &order)?, &[dims.iter().product(), x.dims()[axis]])?;
    Ok((rows, dims))
}

/// The place of each element is the number of elements before it. Of equal elements the first comes first, and a NaN
/// counts as larger than any number.
fn ranked(x: &DeviceTensor, k: usize, largest: bool, dx: &DeviceContext<'_>) -> Result<Taken, Error> {
    let &[rows, dim] = x.dims() else { return Err(Error::invalid_argument("a matrix must have two dimensions")) };
    let (this, other) = (dx.reshape(x, &[rows, dim, 1])?, dx.reshape(x, &[rows, 1, dim])?);
    let is_nan = |x: &DeviceTensor| dx.compare(Compare::NotEqual, x, x);
    let is_number = |x: &DeviceTensor| dx.compare(Compare::Equal, x, x);
    // No comparison with a NaN holds.
    let before = if largest {
        let greater = dx.compare(Compare::Greater, &other, &this)?;
        dx.select(&is_nan(&other)?, &is_number(&this)?, &greater)?
    } else {
        let less = dx.compare(Compare::Less, &other, &this)?;
        dx.select(&is_nan(&this)?, &is_number(&other)?, &less)?
    };
    let equal = dx.select(&is_nan(&this)?, &is_nan(&other)?, &dx.compare(Compare::Equal, &other, &this)?)?;
    let ty = ElementType::F32;
    let places = dx.places(3, 2, dim, ty)?;
    let earlier = dx.compare(Compare::Less, &places, &dx.places(3, 1, dim, ty)?)?;
    let before = dx.select(&equal, &earlier, &before)?;
    let ranks = dx.reshape(&dx.sum(&dx.cast(&before, ty)?, &[2])?, &[rows, 1, dim])?;
    let taken = dx.compare(Compare::Equal, &ranks, &dx.places(3, 1, k, ty)?)?;
    let found = only(&taken, &other, dx)?;
    let places = dx.sum(&dx.select(&taken, &places, &dx.number(0.0, ty)?)?, &[2])?;
    Ok((found, places))
}

/// The one element of the last axis at which the condition holds.
fn only(condition: &DeviceTensor, x: &DeviceTensor, dx: &DeviceContext<'_>) -> Result<DeviceTensor, Error> {
    let x = dx.select(condition, x, &dx.number(f64::NEG_INFINITY, x.ty())?)?;
    let last = x.rank() - 1;
    dx.extreme_of(Extreme::Max, &x, &[last])
}

/// The largest element of each row, then the largest of the others, and so on; a NaN comes first.
fn largest_first(x: &DeviceTensor, k: usize, dx: &DeviceContext<'_>) -> Result<Taken, Error> {
    let lowest = dx.number(f64::NEG_INFINITY, x.ty())?;
    let (mut found, mut indexes) = (Vec::with_capacity(k), Vec::with_capacity(k));
    let mut rest: Option<DeviceTensor> = None;
    for _ in 0..k {
        let candidates = match &rest {
            None => best(Extreme::Max, x, 1, dx)?,
            // An element that was taken is not less than -∞, but not taken again.
            Some(rest) => dx.select(rest, &best(Extreme::Max, &dx.select(rest, x, &lowest)?, 1, dx)?, rest)?,
        };
        let index = dx.index_of(&candidates, 1, false)?;
        let places = dx.places(2, 1, x.dims()[1], index.ty())?;
        found.push(only(&dx.compare(Compare::Equal, &places, &index)?, x, dx)?);
        let others = dx.compare(Compare::NotEqual, &places, &index)?;
        rest = Some(match &rest {
            None => others,
            Some(rest) => dx.select(rest, &others, rest)?,
        });
        indexes.push(index);
    }
    Ok((dx.join(&found, 1)?, dx.join(&indexes, 1)?))
}
