//! Samples of a tensor at interpolated coordinates: GridSample, AffineGrid.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::ops::cast::convert;
use crate::ops::constant::dims as sizes;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::ops::real::{Real, promote, promote_to, with_reals};
use crate::ops::resize_coordinates::Mode;
use crate::ops::sampler::{Sampler, affine_dims, grid_number, sampled_dims};
use crate::tensor::dims::{product, strides};
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(16, "GridSample", (2, 2), grid_sample).heavy().device(form!(|node| sample::grid(Sampler::new(node)?))),
    since(20, "AffineGrid", (2, 2), affine_grid).device(form!(sample::affine)),
];

/// Points whose sources are listed at a time.
const POINTS: usize = 1 << 12;

/// The most elements of a point: four along each of three dimensions.
const MOST_TAPS: usize = 64;

fn grid_sample(node: &Node<'_>) -> Result<OpFn, Error> {
    let sampler = Sampler::new(node)?;
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = promote(args.take(0)?, cx)?;
        let grid = promote_to(args.take(1)?, ElementType::F64, cx)?;
        let result = with_reals!(value, T => sample_grid::<T>(sampler, &value, &grid, cx))?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

/// The interpolated elements at each point of the grid, which is of f64.
fn sample_grid<T: Real>(sampler: Sampler, value: &Value, grid: &Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let dims = sampled_dims(value.dims(), grid.dims())?;
    let ([n, channels, positions @ ..], spatial) = (dims.as_slice(), &value.dims()[2..]) else {
        return Err(Error::runtime_error("a sampled tensor has no channels"));
    };
    let (n, channels, width) = (*n, *channels, spatial.len());
    let (points, plane) = (product(positions), product(spatial));
    let (steps, mut checkpoint) = (strides(spatial), Checkpoint::default());
    let (elements, grid) = (value.elements::<T>()?, grid.elements::<f64>()?);
    let taps: usize = match sampler.mode {
        Mode::Nearest => 1,
        Mode::Linear => 2,
        Mode::Cubic => 4,
    };
    let most = taps.pow(width as u32);
    // `most` elements of each of some points, and their weights.
    let (mut sources, _sources) = cx.list::<(usize, T)>(points.min(POINTS) * most)?;
    let mut finite = true;
    for piece in elements.chunks(PIECE) {
        checkpoint.step(piece.len(), cx)?;
        // Only the product of an infinity or a NaN with 0 is not 0.
        finite &= piece.iter().fold(true, |finite, &x| finite & (x * T::default() == T::default()));
    }
    let mut combined = [(0, 0.0); MOST_TAPS];
    cx.output::<T>(&dims)?.write(T::default(), |out| {
        for batch in 0..n {
            for first in (0..points).step_by(POINTS) {
                sources.clear();
                let end = points.min(first + POINTS);
                for point in first..end {
                    // The cost of building the list of sources.
                    checkpoint.step(64, cx)?;
                    let numbers = &grid[(batch * points + point) * width..][..width];
                    combined[0] = (0, 1.0);
                    let mut count = 1;
                    // The last dimension comes first in the grid.
                    for ((&size, &number), &step) in spatial.iter().zip(numbers.iter().rev()).zip(&steps) {
                        let found = sampler.taps(number, size);
                        // From the last one on, so that none is overwritten before it is combined.
                        for index in (0..count).rev() {
                            let (base, weight): (usize, f64) = combined[index];
                            for (place, &(at, part)) in found.iter().enumerate().take(taps) {
                                combined[index * taps + place] = match at {
                                    Some(at) if part != 0.0 => (base + at * step, weight * part),
                                    _ => (0, 0.0),
                                };
                            }
                        }
                        count *= taps;
                    }
                    sources.extend(combined[..most].iter().map(|&(at, weight)| (at, T::from_f64(weight))));
                }
                for row in batch * channels..(batch + 1) * channels {
                    checkpoint.step(sources.len(), cx)?;
                    let plane = &elements[row * plane..(row + 1) * plane];
                    let out = &mut out[row * points + first..row * points + end];
                    match most {
                        1 => weighted_sums::<T, 1>(plane, &sources, finite, out),
                        2 => weighted_sums::<T, 2>(plane, &sources, finite, out),
                        4 => weighted_sums::<T, 4>(plane, &sources, finite, out),
                        8 => weighted_sums::<T, 8>(plane, &sources, finite, out),
                        16 => weighted_sums::<T, 16>(plane, &sources, finite, out),
                        _ => weighted_sums::<T, MOST_TAPS>(plane, &sources, finite, out),
                    }
                }
            }
        }
        Ok(())
    })
}

/// The weighted sum of each `N` sources. What has no weight has no part in it, also if it is infinite: `finite` says that
/// nothing is.
fn weighted_sums<T: Real, const N: usize>(plane: &[T], sources: &[(usize, T)], finite: bool, out: &mut [T]) {
    let sources = sources.as_chunks::<N>().0;
    if finite {
        for (out, sources) in out.iter_mut().zip(sources) {
            *out = sources.iter().fold(T::default(), |sum, &(at, weight)| sum + weight * plane[at]);
        }
        return;
    }
    for (out, sources) in out.iter_mut().zip(sources) {
        *out = sources.iter().fold(T::default(), |sum, &(at, weight)| {
            let part = weight * plane[at];
            sum + if weight == T::default() { T::default() } else { part }
        });
    }
}

/// The grid of an affine transformation, as input of GridSample.
fn affine_grid(node: &Node<'_>) -> Result<OpFn, Error> {
    let align_corners = node.flag("align_corners", false)?;
    Ok(Box::new(move |mut args, cx| {
        let ((theta, ty), size) = (promote(args.take(0)?, cx)?, sizes(args.get(1)?)?);
        let dims = affine_dims(theta.dims(), &size)?;
        let result = with_reals!(theta, T => transformed::<T>(&theta, &dims, align_corners, cx))?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

/// The coordinates of a grid of `dims`, transformed by each matrix.
fn transformed<T: Real>(
    theta: &Value,
    dims: &[usize],
    align_corners: bool,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let [_, spatial @ .., rank] = dims else { return Err(Error::invalid_argument("the grid has no dimensions")) };
    let (rank, points) = (*rank, product(spatial));
    let mut checkpoint = Checkpoint::default();
    let (matrices, steps) = (theta.elements::<T>()?, strides(spatial));
    let number = |index: usize, size: usize| T::from_f64(grid_number(index, size, align_corners));
    cx.output::<T>(dims)?.append(|out| {
        for matrix in matrices.chunks_exact(rank * (rank + 1)) {
            for point in 0..points {
                checkpoint.step(rank * rank, cx)?;
                let at = |axis: usize| number(point / steps[axis] % spatial[axis], spatial[axis]);
                // The columns of a matrix begin with the last dimension.
                let row = |row: &[T]| row[rank] + (0..rank).map(|axis| row[axis] * at(rank - 1 - axis)).sum::<T>();
                out.extend(matrix.chunks_exact(rank + 1).map(row));
            }
        }
        Ok(())
    })
}
