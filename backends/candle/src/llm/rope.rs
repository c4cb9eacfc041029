//! The rotation of queries and keys by their position.
//!
//! Su et al., [RoFormer](https://arxiv.org/abs/2104.09864): element pairs of a head are turned by the position times a
//! frequency of the pair.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]

use super::hyper::{RopeParameters, Yarn};
use crate::math::simd::{Loop, wide_loop};

/// The frequencies of a rotation.
#[derive(Debug)]
pub(crate) struct Rope {
    frequencies: Vec<f64>,
    /// Rotated elements are multiplied by it.
    magnitude: f64,
    halves: bool,
}

impl Rope {
    /// `factors`: what each frequency is divided by. `halves`: whether element `i` is paired with `i + n/2`, and not
    /// `2 i` with `2 i + 1`.
    pub(crate) fn new(parameters: RopeParameters, factors: Option<&[f32]>, halves: bool) -> Self {
        let RopeParameters { dims, base, scale, magnitude, yarn } = parameters;
        let (base, scale) = (f64::from(base), f64::from(scale));
        let frequency = |pair: usize| {
            let factor = factors.and_then(|factors| factors.get(pair)).map_or(1.0, |&factor| f64::from(factor));
            let kept = yarn.map_or(0.0, |yarn| yarn.kept(pair, dims, base));
            base.powf(-2.0 * pair as f64 / dims as f64) * (scale * (1.0 - kept) + kept) / factor
        };
        let frequencies = (0..dims / 2).map(frequency).collect();
        // As attention over more positions is less sharp.
        let sharper = yarn.filter(|yarn| yarn.extrapolation != 0.0).map_or(1.0, |_| 1.0 - 0.1 * scale.ln());
        Self { frequencies, magnitude: f64::from(magnitude) * sharper, halves }
    }

    /// Elements that [`angles`](Self::angles) writes for a position.
    pub(crate) const fn angles_len(&self) -> usize {
        self.frequencies.len() * 2
    }

    /// Bytes of the frequencies.
    pub(crate) const fn bytes(&self) -> usize {
        self.frequencies.len() * size_of::<f64>()
    }

    /// The cosines and then the sines of a position's angles, times the magnitude.
    pub(crate) fn angles(&self, position: usize, angles: &mut [f32]) {
        let (cosines, sines) = angles.split_at_mut(self.frequencies.len());
        for ((cosine, sine), frequency) in cosines.iter_mut().zip(sines).zip(&self.frequencies) {
            let (s, c) = (position as f64 * frequency).sin_cos();
            (*cosine, *sine) = ((c * self.magnitude) as f32, (s * self.magnitude) as f32);
        }
    }

    /// Rotates each head of a row. Elements of a head past the rotation's are left.
    pub(crate) fn rotate(&self, row: &mut [f32], head_dim: usize, angles: &[f32]) {
        wide_loop(Rotate { row, head_dim, angles, halves: self.halves });
    }
}

struct Rotate<'a> {
    row: &'a mut [f32],
    head_dim: usize,
    angles: &'a [f32],
    halves: bool,
}

impl Loop for Rotate<'_> {
    #[inline(always)]
    fn run(self) {
        let pairs = self.angles.len() / 2;
        let (cosines, sines) = self.angles.split_at(pairs);
        for head in self.row.chunks_exact_mut(self.head_dim) {
            if self.halves {
                let (first, second) = head[..2 * pairs].split_at_mut(pairs);
                for (((a, b), cosine), sine) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
                    (*a, *b) = (*a * cosine - *b * sine, *a * sine + *b * cosine);
                }
            } else {
                for ((pair, cosine), sine) in
                    head[..2 * pairs].as_chunks_mut::<2>().0.iter_mut().zip(cosines).zip(sines)
                {
                    let [a, b] = *pair;
                    *pair = [a * cosine - b * sine, a * sine + b * cosine];
                }
            }
        }
    }
}

impl Yarn {
    /// The part of a pair's frequency that is not scaled: all of it for the highest, nothing for the lowest, and between
    /// them in proportion to the pair's number.
    fn kept(self, pair: usize, dims: usize, base: f64) -> f64 {
        // The pair whose frequency makes so many turns in the context.
        let pair_of = |turns: f32| {
            let positions = self.context as f64 / (f64::from(turns) * std::f64::consts::TAU);
            dims as f64 * positions.ln() / (2.0 * base.ln())
        };
        let first = pair_of(self.fast).floor().max(0.0);
        let last = pair_of(self.slow).ceil().min(dims as f64 - 1.0);
        let through = ((pair as f64 - first) / (last - first).max(0.001)).clamp(0.0, 1.0);
        (1.0 - through) * f64::from(self.extrapolation)
    }
}
