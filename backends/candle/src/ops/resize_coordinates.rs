//! Where in the input an output index of a resized dimension lies, as exact fractions.
//!
//! A float would fall to the wrong side of an exact place, or of the middle between two, and so choose another element.
//! A scale given as a float stands for the ratio of the sizes where it is the float nearest to that, and else for the
//! simplest fraction that it is the nearest float to: 0.3 is three tenths.

/// Which place in the input an output index stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transform {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
}

/// How the nearest element is found where a place lies between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
}

/// A number as a fraction; what is below is positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fraction {
    above: i128,
    below: i128,
}

impl Fraction {
    /// The integer below, or the number itself where it is one.
    pub(super) const fn floor(self) -> i128 {
        self.above.div_euclid(self.below)
    }

    /// How far the number lies above its floor.
    pub(super) fn part(self) -> f64 {
        self.above.rem_euclid(self.below) as f64 / self.below as f64
    }

    /// The index of the nearest element.
    pub(super) fn nearest(self, rounding: Rounding, input: usize) -> usize {
        let Self { above, below } = self;
        let ceil = |above: i128, below: i128| -(-above).div_euclid(below);
        let at = match rounding {
            Rounding::Floor => self.floor(),
            Rounding::Ceil => ceil(above, below),
            Rounding::PreferFloor => ceil(2 * above - below, 2 * below),
            Rounding::PreferCeil => (2 * above + below).div_euclid(2 * below),
        };
        at.clamp(0, input as i128 - 1) as usize
    }
}

/// One dimension that is resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis {
    pub(super) input: usize,
    pub(super) output: usize,
    /// Outputs for so many inputs.
    scale: Fraction,
}

impl Axis {
    /// From a size to another; an input of nothing has no places.
    pub(super) fn of_sizes(input: usize, output: usize) -> Self {
        let scale = Fraction { above: output.max(1) as i128, below: input.max(1) as i128 };
        Self { input, output, scale }
    }

    /// By a positive and finite scale.
    pub(super) fn of_scale(input: usize, scale: f32) -> Self {
        // The size is a product of floats for everyone. Past usize's range, the conversion gives its end,
        // which the budget refuses.
        let output = (input as f32 * scale).floor() as usize;
        let ratio = Self::of_sizes(input, output);
        if (output as f64 / input as f64) as f32 == scale {
            return ratio;
        }
        Self { scale: simplest(scale), ..ratio }
    }

    /// Whether every place is that of its index, whatever the transform.
    pub(super) fn is_same(self) -> bool {
        self.input == self.output && self.scale.above == self.scale.below
    }

    /// The place in the input that an output index stands for.
    ///
    /// Sizes are those of tensors that fit a budget, and a scale by which there is any output is no less than one over
    /// the input's, so that the products here fit.
    pub(super) fn place(self, index: usize, transform: Transform) -> Fraction {
        let Fraction { above: p, below: q } = self.scale;
        let (at, old, new) = (index as i128, self.input as i128, self.output as i128);
        match transform {
            Transform::Asymmetric => Fraction { above: at * q, below: p },
            Transform::PytorchHalfPixel if new == 1 => Fraction { above: 0, below: 1 },
            Transform::HalfPixel | Transform::PytorchHalfPixel => {
                Fraction { above: (2 * at + 1) * q - p, below: 2 * p }
            }
            // By what the output's size would be were it no whole number.
            Transform::AlignCorners if old * p > q => Fraction { above: at * (old - 1) * q, below: old * p - q },
            Transform::AlignCorners => Fraction { above: 0, below: 1 },
            Transform::HalfPixelSymmetric => Fraction { above: old * p - new * q + (2 * at + 1) * q - p, below: 2 * p },
        }
    }
}

/// The fraction with the smallest numbers among those that `scale` is the nearest float to.
fn simplest(scale: f32) -> Fraction {
    // Beyond these there is no output, or more than there can be.
    const SMALLEST: f32 = 1.0 / (1_u64 << 40) as f32;
    const LARGEST: f32 = (1_u64 << 40) as f32;
    if !(SMALLEST..=LARGEST).contains(&scale) {
        return Fraction { above: 1, below: 1 };
    }
    // Halfway to the floats around, over a denominator that makes both whole numbers.
    let below = 1_i128 << 72;
    let whole = |x: f64| (x * below as f64) as i128;
    let between = |other: f32| f64::midpoint(f64::from(scale), f64::from(other));
    let (low, high) = (whole(between(scale.next_down())), whole(between(scale.next_up())));
    // By continued fractions: the integer between the two if there is one, else what they have in common and one over
    // the simplest fraction between what is left of them.
    let (mut low, mut high) = ((low, below), (high, below));
    let (mut before, mut last) = ((0_i128, 1_i128), (1_i128, 0_i128));
    loop {
        let common = low.0.div_euclid(low.1);
        let next = |whole: i128| (whole * last.0 + before.0, whole * last.1 + before.1);
        let ends = common + 1 < high.0.div_euclid(high.1) + i128::from(high.0 % high.1 != 0);
        if ends {
            let (above, below) = next(common + 1);
            return Fraction { above, below };
        }
        (before, last) = (last, next(common));
        let left = |(above, below): (i128, i128)| (below, above - common * below);
        (low, high) = (left(high), left(low));
        if high.1 == 0 {
            // The lower end is a whole number, so that the other may be as large as need be.
            let whole = low.0.div_euclid(low.1) + 1;
            let (above, below) = (whole * last.0 + before.0, whole * last.1 + before.1);
            return Fraction { above, below };
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
        for (above, below) in
            [(3, 10), (1, 3), (13, 5), (2, 1), (1, 2), (7, 9), (355, 113), (1, 1), (1, 1000), (2047, 2048)]
        {
            let found = simplest(above as f32 / below as f32);
            assert_eq!(found, Fraction { above, below });
        }
        // Whatever the float, the fraction goes back to it.
        let mut bits = 0x3000_0001_u32;
        while bits < 0x4f00_0000 {
            let scale = f32::from_bits(bits);
            let Fraction { above, below } = simplest(scale);
            assert_eq!((above as f64 / below as f64) as f32, scale, "{above}/{below}");
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
                            assert!(axis.place(index, transform).nearest(rounding, input) < input);
                        }
                    }
                }
            }
        }
    }
}
