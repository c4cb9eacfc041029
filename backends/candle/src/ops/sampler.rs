//! Where GridSample takes its elements, and how much of each: the same rules on the host and on a device.

use crate::ops::node::Node;
use crate::ops::resize_coordinates::{Mode, cubic_weights};
use crate::tensor::dims::{Dims, count};
use graphpool::backend::Error;

/// The elements outside of the input.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Padding {
    Zeros,
    Border,
    Reflection,
}

/// Up to four elements along one dimension, `None` for one outside, and their weights. The weights are f64 for every
/// element type, so that a coordinate halfway between two elements stays halfway.
pub(super) type Taps = [(Option<usize>, f64); 4];

#[derive(Clone, Copy)]
pub(super) struct Sampler {
    pub(super) mode: Mode,
    pub(super) padding: Padding,
    pub(super) align_corners: bool,
}

impl Sampler {
    pub(super) fn new(node: &Node<'_>) -> Result<Self, Error> {
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
            _ => {
                return Err(Error::invalid_encoding(
                    "attribute padding_mode is not one of zeros, border and reflection",
                ));
            }
        };
        Ok(Self { mode, padding, align_corners: node.flag("align_corners", false)? })
    }

    /// The ends between which coordinates are reflected.
    pub(super) fn ends(self, size: usize) -> (f64, f64) {
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
    pub(super) fn taps(self, number: f64, size: usize) -> Taps {
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

/// The dimensions of the result for an input and a grid of these dimensions, of which one to three are spatial.
pub(super) fn sampled_dims(value: &[usize], grid: &[usize]) -> Result<Vec<usize>, Error> {
    let wrong = || Error::invalid_argument(format!("the grid {} does not fit the input {}", Dims(grid), Dims(value)));
    let (&[n, channels, ref spatial @ ..], &[n_grid, ref positions @ .., width]) = (value, grid) else {
        return Err(wrong());
    };
    let fits = n == n_grid && width == spatial.len() && positions.len() == width;
    if !fits || !(1..=3).contains(&width) || spatial.contains(&0) {
        return Err(wrong());
    }
    let dims = [&[n, channels], positions].concat();
    count(&dims)?;
    Ok(dims)
}

/// The dimensions of the grid of affine transformations of these dimensions, for an input of dimensions `size`.
pub(super) fn affine_dims(theta: &[usize], size: &[usize]) -> Result<Vec<usize>, Error> {
    let wrong = || Error::invalid_argument(format!("theta {} does not fit the size {}", Dims(theta), Dims(size)));
    let [n, _, spatial @ ..] = size else { return Err(wrong()) };
    let rank = spatial.len();
    if theta != [*n, rank, rank + 1] || !(2..=3).contains(&rank) {
        return Err(wrong());
    }
    let dims = [&[*n], spatial, &[rank]].concat();
    count(&dims)?;
    Ok(dims)
}

/// The normalized coordinate of an index, from -1 to 1.
pub(super) fn grid_number(index: usize, size: usize, align_corners: bool) -> f64 {
    let (doubled, length) = (2.0 * index as f64, size as f64);
    if !align_corners {
        (doubled + 1.0) / length - 1.0
    } else if size > 1 {
        doubled / (length - 1.0) - 1.0
    } else {
        -1.0
    }
}
