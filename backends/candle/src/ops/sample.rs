//! Samples of a tensor at interpolated coordinates: GridSample, AffineGrid.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::ops::cast::convert;
use crate::ops::constant::dims as sizes;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, since};
use crate::ops::real::{Real, promote, promote_to, with_reals};
use crate::ops::resize_coordinates::{Mode, cubic_weights};
use crate::tensor::dims::{Dims, count, product, strides};
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] =
    &[since(16, "GridSample", (2, 2), grid_sample).heavy(), since(20, "AffineGrid", (2, 2), affine_grid)];

/// The elements outside of the input.
#[derive(Clone, Copy, PartialEq)]
enum Padding {
    Zeros,
    Border,
    Reflection,
}

/// Up to four elements along one dimension, `None` for one outside, and their weights. The weights are f64 for every
/// element type, so that a coordinate halfway between two elements stays halfway.
type Taps = [(Option<usize>, f64); 4];

#[derive(Clone, Copy)]
struct Sampler {
    mode: Mode,
    padding: Padding,
    align_corners: bool,
}

impl Sampler {
    /// The ends between which coordinates are reflected.
    fn ends(self, size: usize) -> (f64, f64) {
        if self.align_corners { (0.0, size as f64 - 1.0) } else { (-0.5, size as f64 - 0.5) }
    }

    fn reflected(self, coordinate: f64, size: usize) -> f64 {
        let (low, high) = self.ends(size);
        let range = high - low;
        if range <= 0.0 || !coordinate.is_finite() {
            return 0.0;
        }
        let phase = (coordinate - low).rem_euclid(2.0 * range);
        low + phase.min(2.0 * range - phase)
    }

    /// The index of the element at an integral coordinate; `None` outside with zero padding.
    fn at(self, coordinate: f64, size: usize) -> Option<usize> {
        let last = size as f64 - 1.0;
        let coordinate = match self.padding {
            Padding::Zeros if !(0.0..=last).contains(&coordinate) => return None,
            Padding::Zeros => coordinate,
            Padding::Border => coordinate.clamp(0.0, last),
            Padding::Reflection if (0.0..=last).contains(&coordinate) => coordinate,
            Padding::Reflection => self.reflected(coordinate, size).clamp(0.0, last),
        };
        // A NaN becomes 0.
        Some((coordinate as usize).min(size - 1))
    }

    /// The elements around a normalized coordinate, from -1 to 1, along a dimension.
    fn taps(self, number: f64, size: usize) -> Taps {
        let length = size as f64;
        let coordinate = if self.align_corners {
            f64::midpoint(number, 1.0) * (length - 1.0)
        } else {
            ((number + 1.0) * length - 1.0) / 2.0
        };
        let coordinate = if self.mode == Mode::Nearest { coordinate.round_ties_even() } else { coordinate };
        let (low, high) = self.ends(size);
        let outside = coordinate < low || coordinate > high;
        let coordinate = match self.padding {
            Padding::Border if outside => coordinate.clamp(0.0, length - 1.0),
            Padding::Reflection if outside => self.reflected(coordinate, size),
            _ => coordinate,
        };
        let first = coordinate.floor();
        let part = coordinate - first;
        let tap = |offset: f64, weight: f64| (self.at(first + offset, size), weight);
        match self.mode {
            Mode::Nearest => [tap(0.0, 1.0), (None, 0.0), (None, 0.0), (None, 0.0)],
            Mode::Linear => [tap(0.0, 1.0 - part), tap(1.0, part), (None, 0.0), (None, 0.0)],
            Mode::Cubic => {
                let weights = cubic_weights(part, -0.75);
                [tap(-1.0, weights[0]), tap(0.0, weights[1]), tap(1.0, weights[2]), tap(2.0, weights[3])]
            }
        }
    }
}

fn grid_sample(node: &Node<'_>) -> Result<OpFn, Error> {
    let mode = match node.string("mode", "linear")? {
        "nearest" => Mode::Nearest,
        "linear" | "bilinear" => Mode::Linear,
        "cubic" | "bicubic" => Mode::Cubic,
        _ => return Err(Error::invalid_encoding("attribute mode is not one of nearest, linear and cubic")),
    };
    let padding = match node.string("padding_mode", "zeros")? {
        "zeros" => Padding::Zeros,
        "border" => Padding::Border,
        "reflection" => Padding::Reflection,
        _ => return Err(Error::invalid_encoding("attribute padding_mode is not one of zeros, border and reflection")),
    };
    let sampler = Sampler { mode, padding, align_corners: node.flag("align_corners", false)? };
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = promote(args.take(0)?, cx)?;
        let grid = promote_to(args.take(1)?, ElementType::F64, cx)?;
        let result = with_reals!(value, T => sample_grid::<T>(sampler, &value, &grid, cx))?;
        Ok(vec![convert(result, ty, cx)?])
    }))
}

/// The interpolated elements at each point of the grid, which is of f64.
fn sample_grid<T: Real>(sampler: Sampler, value: &Value, grid: &Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let wrong = || {
        Error::invalid_argument(format!("the grid {} does not fit the input {}", Dims(grid.dims()), Dims(value.dims())))
    };
    let (&[n, channels, ref spatial @ ..], &[n_grid, ref positions @ .., width]) = (value.dims(), grid.dims()) else {
        return Err(wrong());
    };
    let fits = n == n_grid && width == spatial.len() && positions.len() == width;
    if !fits || !(1..=3).contains(&width) || spatial.contains(&0) {
        return Err(wrong());
    }
    let dims = [&[n, channels], positions].concat();
    let (points, plane) = (product(positions), product(spatial));
    count(&dims)?;
    let (steps, mut checkpoint) = (strides(spatial), Checkpoint::default());
    let (elements, grid) = (value.elements::<T>()?, grid.elements::<f64>()?);
    cx.output::<T>(&dims)?.write(T::default(), |out| {
        for batch in 0..n {
            for point in 0..points {
                // The cost of building the list of sources.
                checkpoint.step(256, cx)?;
                let numbers = &grid[(batch * points + point) * width..][..width];
                // The last dimension comes first in the grid.
                let taps = spatial.iter().zip(numbers.iter().rev()).zip(&steps);
                let mut sources = vec![(0_usize, 1.0_f64)];
                for ((&size, &number), &step) in taps {
                    let taps = sampler.taps(number, size);
                    let each = |&(base, weight): &(usize, f64)| {
                        taps.into_iter()
                            .filter(|tap| tap.1 != 0.0)
                            .filter_map(move |(at, part)| Some((base + at? * step, weight * part)))
                    };
                    sources = sources.iter().flat_map(each).collect();
                }
                for channel in 0..channels {
                    checkpoint.step(sources.len(), cx)?;
                    let row = batch * channels + channel;
                    let plane = &elements[row * plane..(row + 1) * plane];
                    let parts = sources.iter().map(|&(at, weight)| T::from_f64(weight) * plane[at]);
                    out[row * points + point] = parts.sum();
                }
            }
        }
        Ok(())
    })
}

/// The grid of an affine transformation, as input of GridSample.
fn affine_grid(node: &Node<'_>) -> Result<OpFn, Error> {
    let align_corners = node.flag("align_corners", false)?;
    Ok(Box::new(move |mut args, cx| {
        let ((theta, ty), size) = (promote(args.take(0)?, cx)?, sizes(args.get(1)?)?);
        let wrong =
            || Error::invalid_argument(format!("theta {} does not fit the size {}", Dims(theta.dims()), Dims(&size)));
        let [n, _, spatial @ ..] = size.as_slice() else { return Err(wrong()) };
        let rank = spatial.len();
        if theta.dims() != [*n, rank, rank + 1] || !(2..=3).contains(&rank) {
            return Err(wrong());
        }
        let dims = [&[*n], spatial, &[rank]].concat();
        count(&dims)?;
        let result = with_reals!(theta, T => transformed::<T>(&theta, &dims, align_corners, cx))?;
        Ok(vec![convert(result, ty, cx)?])
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
    let number = |index: usize, size: usize| {
        let (doubled, size) = (2.0 * index as f64, size as f64);
        T::from_f64(if !align_corners {
            (doubled + 1.0) / size - 1.0
        } else if size > 1.0 {
            doubled / (size - 1.0) - 1.0
        } else {
            -1.0
        })
    };
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
