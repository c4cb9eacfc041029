//! Norms and gates of a layer: loops over the rows of a step.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]

use crate::math::functions::{sigmoid, tanh};
use crate::math::simd::{Loop, wide_loop, zip};

/// Divides each row of `x` by the root of its mean square, multiplies it by `weights`, and writes it to `out`.
///
/// Zhang and Sennrich, [Root Mean Square Layer Normalization](https://arxiv.org/abs/1910.07467). The rows are
/// as long as `weights`.
pub(super) fn rms_norm(x: &[f32], weights: &[f32], epsilon: f32, out: &mut [f32]) {
    wide_loop(RmsNorm { x, weights, epsilon, out });
}

/// The same, in place.
pub(super) fn rms_norm_in_place(x: &mut [f32], weights: &[f32], epsilon: f32) {
    wide_loop(RmsNormInPlace { x, weights, epsilon });
}

/// Lanes in which squares are summed, so that the sum becomes vector instructions.
const LANES: usize = 16;

#[inline(always)]
fn inverse_root(row: &[f32], epsilon: f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (lanes, rest) = row.as_chunks::<LANES>();
    for lane in lanes {
        for (sum, x) in sums.iter_mut().zip(lane) {
            *sum += x * x;
        }
    }
    let rest: f32 = rest.iter().map(|x| x * x).sum();
    let sum = sums.iter().map(|&sum| f64::from(sum)).sum::<f64>() + f64::from(rest);
    (1.0 / (sum / row.len() as f64 + f64::from(epsilon)).sqrt()) as f32
}

struct RmsNorm<'a> {
    x: &'a [f32],
    weights: &'a [f32],
    epsilon: f32,
    out: &'a mut [f32],
}

impl Loop for RmsNorm<'_> {
    #[inline(always)]
    fn run(self) {
        let width = self.weights.len();
        for (row, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            let scale = inverse_root(row, self.epsilon);
            for ((out, x), weight) in out.iter_mut().zip(row).zip(self.weights) {
                *out = x * scale * weight;
            }
        }
    }
}

struct RmsNormInPlace<'a> {
    x: &'a mut [f32],
    weights: &'a [f32],
    epsilon: f32,
}

impl Loop for RmsNormInPlace<'_> {
    #[inline(always)]
    fn run(self) {
        for row in self.x.chunks_exact_mut(self.weights.len()) {
            let scale = inverse_root(row, self.epsilon);
            for (x, weight) in row.iter_mut().zip(self.weights) {
                *x = *x * scale * weight;
            }
        }
    }
}

/// Adds `others` to `x`.
pub(super) fn add(x: &mut [f32], others: &[f32]) {
    zip(x, others, |x, other| x + other);
}

/// Adds `bias` to each row of `x`, if there is one.
pub(super) fn add_bias(x: &mut [f32], bias: Option<&[f32]>) {
    let Some(bias) = bias else { return };
    for row in x.chunks_exact_mut(bias.len()) {
        add(row, bias);
    }
}

/// Replaces each element of `gate` by `SiLU` of it, times the element of `up`.
///
/// Shazeer, [GLU Variants Improve Transformer](https://arxiv.org/abs/2002.05202).
pub(super) fn gate_by_silu(gate: &mut [f32], up: &[f32]) {
    zip(gate, up, |gate, up| gate * sigmoid(gate) * up);
}

/// The same with GELU in its approximation by tanh.
pub(super) fn gate_by_gelu(gate: &mut [f32], up: &[f32]) {
    const ROOT: f32 = 0.797_884_6;
    zip(gate, up, |gate, up| 0.5 * gate * (1.0 + tanh(ROOT * (gate + 0.044_715 * gate * gate * gate))) * up);
}
