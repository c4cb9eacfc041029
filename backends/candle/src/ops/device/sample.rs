//! Device forms of GridSample and AffineGrid. The coordinates stay on the device, and each tap takes one row for each
//! point of the grid.

use crate::device::args::{DeviceForm, Stop};
use crate::device::context::DeviceContext;
use crate::device::math::{Compare, Unary};
use crate::device::tensor::DeviceTensor;
use crate::ops::constant::dims as sizes;
use crate::ops::device::activation::rounded;
use crate::ops::device::{host_only, one, own_type};
use crate::ops::node::Node;
use crate::ops::resize_coordinates::Mode;
use crate::ops::sampler::{Padding, Sampler, affine_dims, grid_number, sampled_dims};
use crate::tensor::dims::{product, strides};
use crate::tensor::element::ElementType;
use graphpool::backend::Error;

type Result1 = Result<DeviceTensor, Error>;

/// One element along a dimension for each point of the grid.
struct Tap {
    /// The index of the element.
    place: DeviceTensor,
    /// Its weight.
    weight: DeviceTensor,
    /// Whether it counts: it is inside of the input, or stands for one that is, and its weight is not 0.
    counts: DeviceTensor,
}

pub(in crate::ops) fn grid(sampler: Sampler) -> Result<DeviceForm, Stop> {
    Ok(Box::new(move |args, dx| {
        let (ty, x, grid) = (own_type(args, 0)?, args.float(0, dx)?, args.float(1, dx)?);
        let dims = sampled_dims(x.dims(), grid.dims())?;
        let (batch, channels, spatial) = (dims[0], dims[1], x.dims()[2..].to_vec());
        let (points, plane, width) = (product(&dims[2..]), product(&spatial), spatial.len());
        if x.is_empty() || dims.contains(&0) || u32::try_from(batch * plane).is_err() {
            return host_only();
        }
        let count = batch * points;
        let numbers = dx.reshape(&dx.cast(&grid, ElementType::F64)?, &[count, width])?;
        let mut taps = Vec::with_capacity(width);
        for (axis, &size) in spatial.iter().enumerate() {
            // The last dimension comes first in the grid.
            let number = dx.reshape(&dx.narrow(&numbers, 1, width - 1 - axis, 1)?, &[count])?;
            taps.push(taps_of(sampler, &number, size, dx)?);
        }
        // As a matrix with a row for each element of the planes.
        let mut order: Vec<usize> = (0..x.rank()).filter(|&axis| axis != 1).collect();
        order.push(1);
        let elements = dx.reshape(&dx.permute(&x, &order)?, &[batch * plane, channels])?;
        let first = dx.affine(&dx.places(2, 0, batch, ElementType::F64)?, plane as f64, 0.0)?;
        let first = dx.reshape(&dx.broadcast(&first, &[batch, points])?, &[count])?;
        let steps = strides(&spatial);
        let zero = dx.number(0.0, x.ty())?;
        let mut sum = None;
        for choice in 0..taps.iter().map(Vec::len).product::<usize>() {
            let (mut row, mut weight, mut counts, mut left) = (first.clone(), None, None, choice);
            for (taps, &step) in taps.iter().zip(&steps) {
                let tap = &taps[left % taps.len()];
                left /= taps.len();
                row = dx.add(&row, &dx.affine(&tap.place, step as f64, 0.0)?)?;
                weight = Some(match weight {
                    None => tap.weight.clone(),
                    Some(weight) => dx.mul(&weight, &tap.weight)?,
                });
                counts = Some(match counts {
                    None => tap.counts.clone(),
                    Some(counts) => dx.select(&counts, &tap.counts, &counts)?,
                });
            }
            let (Some(weight), Some(counts)) = (weight, counts) else { return host_only() };
            let column = |x: &DeviceTensor| dx.reshape(x, &[count, 1]);
            let part = dx.mul(&dx.rows_at(&elements, &row)?, &column(&dx.cast(&weight, x.ty())?)?)?;
            let part = dx.select(&column(&counts)?, &part, &zero)?;
            sum = Some(match sum {
                None => part,
                Some(sum) => dx.add(&sum, &part)?,
            });
        }
        let Some(sum) = sum else { return host_only() };
        let sum = dx.permute(&dx.reshape(&sum, &[batch, points, channels])?, &[0, 2, 1])?;
        one(&dx.reshape(&sum, &dims)?, ty, dx)
    }))
}

/// AffineGrid: the product of a matrix of points and the transformations.
pub(in crate::ops) fn affine(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let align_corners = node.flag("align_corners", false)?;
    Ok(Box::new(move |args, dx| {
        let (ty, theta) = (own_type(args, 0)?, args.float(0, dx)?);
        let size = sizes(&args.host(1, dx)?)?;
        let dims = affine_dims(theta.dims(), &size)?;
        if dims.contains(&0) {
            return host_only();
        }
        let (spatial, rank) = (&size[2..], size.len() - 2);
        let mut columns = Vec::with_capacity(rank + 1);
        // The columns of a matrix begin with the last dimension.
        for axis in (0..rank).rev() {
            let mut line = vec![1; rank];
            line[axis] = spatial[axis];
            let numbers = (0..spatial[axis]).map(|index| grid_number(index, spatial[axis], align_corners));
            let numbers = dx.cx.output::<f64>(&line)?.collect(numbers)?;
            let Some(numbers) = dx.upload(&numbers)? else { return host_only() };
            columns.push(dx.flatten(&dx.broadcast(&dx.cast(&numbers, theta.ty())?, spatial)?)?);
        }
        columns.push(dx.filled(&[product(spatial)], 1.0, theta.ty())?);
        let points = dx.reshape(&dx.stack(&columns, 1)?, &[1, product(spatial), rank + 1])?;
        one(&dx.reshape(&dx.matmul(&points, &dx.transpose(&theta)?)?, &dims)?, ty, dx)
    }))
}

/// The coordinates reflected at the ends of the input.
fn reflected(sampler: Sampler, x: &DeviceTensor, size: usize, dx: &DeviceContext<'_>) -> Result1 {
    let (low, high) = sampler.ends(size);
    let (range, zero) = (2.0 * (high - low), dx.number(0.0, ElementType::F64)?);
    if range <= 0.0 {
        return dx.broadcast(&zero, x.dims());
    }
    let past = dx.affine(x, 1.0, -low)?;
    let turns = dx.unary(Unary::Floor, &dx.div(&past, &dx.number(range, ElementType::F64)?)?)?;
    let phase = dx.sub(&past, &dx.affine(&turns, range, 0.0)?)?;
    let back = dx.affine(&phase, -1.0, range)?;
    let nearer = dx.select(&dx.compare(Compare::Less, &phase, &back)?, &phase, &back)?;
    let finite = dx.compare_with(Compare::Less, &dx.unary(Unary::Abs, x)?, f64::INFINITY)?;
    dx.select(&finite, &dx.affine(&nearer, 1.0, low)?, &zero)
}

/// The coordinates at most as far as the first and the last element. A NaN is kept.
fn clamped(x: &DeviceTensor, size: usize, dx: &DeviceContext<'_>) -> Result1 {
    crate::ops::device::activation::clamped(x, 0.0, size as f64 - 1.0, dx)
}

/// The elements around normalized coordinates, from -1 to 1, along a dimension.
fn taps_of(sampler: Sampler, number: &DeviceTensor, size: usize, dx: &DeviceContext<'_>) -> Result<Vec<Tap>, Error> {
    let length = size as f64;
    let mut x = if sampler.align_corners {
        dx.affine(&dx.affine(number, 0.5, 0.5)?, length - 1.0, 0.0)?
    } else {
        dx.affine(&dx.affine(&dx.affine(number, 1.0, 1.0)?, length, -1.0)?, 0.5, 0.0)?
    };
    if sampler.mode == Mode::Nearest {
        x = rounded(&x, dx)?;
    }
    if sampler.padding != Padding::Zeros {
        let (low, high) = sampler.ends(size);
        let moved = match sampler.padding {
            Padding::Reflection => reflected(sampler, &x, size, dx)?,
            _ => clamped(&x, size, dx)?,
        };
        x = dx.select(&dx.compare_with(Compare::Less, &x, low)?, &moved, &x)?;
        x = dx.select(&dx.compare_with(Compare::Greater, &x, high)?, &moved, &x)?;
    }
    let first = dx.unary(Unary::Floor, &x)?;
    let part = dx.sub(&x, &first)?;
    let tap = |offset: f64, weight: DeviceTensor| -> Result<Tap, Error> {
        let at = dx.affine(&first, 1.0, offset)?;
        let not_zero = dx.compare_with(Compare::NotEqual, &weight, 0.0)?;
        let above = dx.compare_with(Compare::GreaterOrEqual, &at, 0.0)?;
        let below = dx.compare_with(Compare::LessOrEqual, &at, length - 1.0)?;
        let inside = dx.select(&above, &below, &above)?;
        Ok(match sampler.padding {
            Padding::Zeros => Tap { place: at, weight, counts: dx.select(&inside, &not_zero, &inside)? },
            Padding::Border => {
                // A NaN becomes 0. Its sum with the other places would be a NaN.
                let number = dx.compare(Compare::Equal, &at, &at)?;
                let place = dx.select(&number, &at, &dx.number(0.0, ElementType::F64)?)?;
                Tap { place: clamped(&place, size, dx)?, weight, counts: not_zero }
            }
            Padding::Reflection => {
                let back = clamped(&reflected(sampler, &at, size, dx)?, size, dx)?;
                // The host cuts off the fraction.
                let back = dx.unary(Unary::Floor, &back)?;
                Tap { place: dx.select(&inside, &at, &back)?, weight, counts: not_zero }
            }
        })
    };
    match sampler.mode {
        Mode::Nearest => Ok(vec![tap(0.0, dx.filled(part.dims(), 1.0, ElementType::F64)?)?]),
        Mode::Linear => Ok(vec![tap(0.0, dx.affine(&part, -1.0, 1.0)?)?, tap(1.0, part.clone())?]),
        Mode::Cubic => {
            const A: f64 = -0.75;
            // With the distance d of an element: ((A + 2)d - (A + 3))d² + 1 up to 1, and ((Ad - 5A)d + 8A)d - 4A up to
            // 2.
            let near = |d: &DeviceTensor| {
                let inner = dx.affine(d, A + 2.0, -(A + 3.0))?;
                dx.affine(&dx.mul(&dx.mul(&inner, d)?, d)?, 1.0, 1.0)
            };
            let far = |d: &DeviceTensor| {
                let inner = dx.affine(&dx.mul(&dx.affine(d, A, -5.0 * A)?, d)?, 1.0, 8.0 * A)?;
                dx.affine(&dx.mul(&inner, d)?, 1.0, -4.0 * A)
            };
            let (rest, last) = (dx.affine(&part, -1.0, 1.0)?, dx.affine(&part, -1.0, 2.0)?);
            Ok(vec![
                tap(-1.0, far(&dx.affine(&part, 1.0, 1.0)?)?)?,
                tap(0.0, near(&part)?)?,
                tap(1.0, near(&rest)?)?,
                tap(2.0, far(&last)?)?,
            ])
        }
    }
}
