//! The coordinate in the input of each output index of a resized dimension, as an exact fraction.
//!
//! A rounded coordinate could fall on the wrong side of an element, or of the middle between two, and select another
//! one. A scale that is given as a float stands for the ratio of the sizes, if the float nearest to the ratio is the
//! scale; otherwise for the simplest fraction to which the scale is the nearest float: 0.3 is three tenths.

use crate::ops::node::Node;
use graphpool::backend::Error;

/// How elements between coordinates are interpolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// The weights of the four elements around a point of cubic interpolation, which lies `part` past the second one.
pub(super) fn cubic_weights(part: f64, a: f64) -> [f64; 4] {
    let near = |x: f64| ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a;
    [far(1.0 + part), near(part), near(1.0 - part), far(2.0 - part)]
}

/// The coordinate transformation: which coordinate of the input an output index stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transform {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
}

/// How a coordinate is rounded to the index of the nearest element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
}

impl Rounding {
    /// The rounding that attribute `nearest_mode` names.
    pub(super) fn named(node: &Node<'_>) -> Result<Self, Error> {
        match node.string("nearest_mode", "round_prefer_floor")? {
            "round_prefer_floor" => Ok(Self::PreferFloor),
            "round_prefer_ceil" => Ok(Self::PreferCeil),
            "floor" => Ok(Self::Floor),
            "ceil" => Ok(Self::Ceil),
            _ => Err(Error::invalid_encoding(
                "attribute nearest_mode is not one of round_prefer_floor, round_prefer_ceil, floor and ceil",
            )),
        }
    }
}

/// A fraction with a positive denominator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fraction {
    numerator: i128,
    denominator: i128,
}

impl Fraction {
    /// The largest integer that is not greater.
    pub(super) const fn floor(self) -> i128 {
        self.numerator.div_euclid(self.denominator)
    }

    /// The difference to the floor.
    pub(super) fn part(self) -> f64 {
        self.numerator.rem_euclid(self.denominator) as f64 / self.denominator as f64
    }

    /// The index of the nearest element.
    pub(super) fn nearest(self, rounding: Rounding, input: usize) -> usize {
        let Self { numerator, denominator } = self;
        let ceil = |numerator: i128, denominator: i128| -(-numerator).div_euclid(denominator);
        let at = match rounding {
            Rounding::Floor => self.floor(),
            Rounding::Ceil => ceil(numerator, denominator),
            Rounding::PreferFloor => ceil(2 * numerator - denominator, 2 * denominator),
            Rounding::PreferCeil => (2 * numerator + denominator).div_euclid(2 * denominator),
        };
        at.clamp(0, input as i128 - 1) as usize
    }
}

/// One dimension that is resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis {
    pub(super) input: usize,
    pub(super) output: usize,
    /// Output elements for each input element.
    scale: Fraction,
}

impl Axis {
    /// A dimension that is resized from one size to another. An empty input has no coordinates.
    pub(super) fn of_sizes(input: usize, output: usize) -> Self {
        let scale = Fraction { numerator: output.max(1) as i128, denominator: input.max(1) as i128 };
        Self { input, output, scale }
    }

    /// A dimension that is resized by a positive and finite scale.
    pub(super) fn of_scale(input: usize, scale: f32) -> Self {
        // ONNX computes the size in floats. A size out of the range of usize saturates, and the budget refuses it.
        let output = (input as f32 * scale).floor() as usize;
        let ratio = Self::of_sizes(input, output);
        if (output as f64 / input as f64) as f32 == scale {
            return ratio;
        }
        Self { scale: simplest(scale), ..ratio }
    }

    /// Whether each coordinate is its output index, for every transformation.
    pub(super) fn is_same(self) -> bool {
        self.input == self.output && self.scale.numerator == self.scale.denominator
    }

    /// The coordinate in the input that an output index stands for.
    ///
    /// The products do not overflow: the sizes are those of tensors that fit a budget, and a scale that gives any
    /// output is at least one over `input`.
    pub(super) fn coordinate(self, index: usize, transform: Transform) -> Fraction {
        let Fraction { numerator: p, denominator: q } = self.scale;
        let (at, old, new) = (index as i128, self.input as i128, self.output as i128);
        match transform {
            Transform::Asymmetric => Fraction { numerator: at * q, denominator: p },
            Transform::PytorchHalfPixel if new == 1 => Fraction { numerator: 0, denominator: 1 },
            Transform::HalfPixel | Transform::PytorchHalfPixel => {
                Fraction { numerator: (2 * at + 1) * q - p, denominator: 2 * p }
            }
            // ONNX takes the size of the output before it is rounded.
            Transform::AlignCorners if old * p > q => {
                Fraction { numerator: at * (old - 1) * q, denominator: old * p - q }
            }
            Transform::AlignCorners => Fraction { numerator: 0, denominator: 1 },
            Transform::HalfPixelSymmetric => {
                Fraction { numerator: old * p - new * q + (2 * at + 1) * q - p, denominator: 2 * p }
            }
        }
    }
}

/// The fraction with the smallest denominator among those to which `scale` is the nearest float.
fn simplest(scale: f32) -> Fraction {
    // A scale out of this range gives no output, or one that is too large.
    const SMALLEST: f32 = 1.0 / (1_u64 << 40) as f32;
    const LARGEST: f32 = (1_u64 << 40) as f32;
    if !(SMALLEST..=LARGEST).contains(&scale) {
        return Fraction { numerator: 1, denominator: 1 };
    }
    // The interval between the midpoints to the adjacent floats, both over a common denominator.
    let denominator = 1_i128 << 72;
    let whole = |x: f64| (x * denominator as f64) as i128;
    let between = |other: f32| f64::midpoint(f64::from(scale), f64::from(other));
    let (low, high) = (whole(between(scale.next_down())), whole(between(scale.next_up())));
    // Continued fractions: the smallest integer inside the interval, if there is one; otherwise the common integer part
    // plus one over the simplest fraction in the interval of the reciprocals of the remainders.
    let (mut low, mut high) = ((low, denominator), (high, denominator));
    let (mut before, mut last) = ((0_i128, 1_i128), (1_i128, 0_i128));
    loop {
        let common = low.0.div_euclid(low.1);
        let next = |whole: i128| (whole * last.0 + before.0, whole * last.1 + before.1);
        let ends = common + 1 < high.0.div_euclid(high.1) + i128::from(high.0 % high.1 != 0);
        if ends {
            let (numerator, denominator) = next(common + 1);
            return Fraction { numerator, denominator };
        }
        (before, last) = (last, next(common));
        let left = |(numerator, denominator): (i128, i128)| (denominator, numerator - common * denominator);
        (low, high) = (left(high), left(low));
        if high.1 == 0 {
            // The remainder of the lower end is 0, so that the interval of the reciprocals has no upper end.
            let whole = low.0.div_euclid(low.1) + 1;
            let (numerator, denominator) = (whole * last.0 + before.0, whole * last.1 + before.1);
            return Fraction { numerator, denominator };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSFORMS: [Transform; 5] = [
        Transform::HalfPixel,
        Transform::HalfPixelSymmetric,
        Transform::PytorchHalfPixel,
        Transform::AlignCorners,
        Transform::Asymmetric,
    ];

    #[test]
    fn a_scale_is_the_simplest_fraction_that_it_is_nearest_to() {
        for (numerator, denominator) in
            [(3, 10), (1, 3), (13, 5), (2, 1), (1, 2), (7, 9), (355, 113), (1, 1), (1, 1000), (2047, 2048)]
        {
            let found = simplest(numerator as f32 / denominator as f32);
            assert_eq!(found, Fraction { numerator, denominator });
        }
        // Each fraction rounds to its float again.
        let mut bits = 0x3000_0001_u32;
        while bits < 0x4f00_0000 {
            let scale = f32::from_bits(bits);
            let Fraction { numerator, denominator } = simplest(scale);
            assert_eq!((numerator as f64 / denominator as f64) as f32, scale, "{numerator}/{denominator}");
            bits += 7_654_321;
        }
    }

    #[test]
    fn indices_are_inside_whatever_the_scale() {
        for transform in TRANSFORMS {
            for rounding in [Rounding::Floor, Rounding::Ceil, Rounding::PreferFloor, Rounding::PreferCeil] {
                for scale in [1e-30, 1e-6, 0.1, 0.999_999_9, 1.0, 1.000_000_1, 3.7, 4096.3] {
                    for input in [1, 2, 7, 4097] {
                        let axis = Axis::of_scale(input, scale);
                        for index in [0, 1, axis.output / 2, axis.output.saturating_sub(1)] {
                            assert!(axis.coordinate(index, transform).nearest(rounding, input) < input);
                        }
                    }
                }
            }
        }
    }
}
