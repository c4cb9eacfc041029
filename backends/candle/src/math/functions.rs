//! exp, sigmoid, tanh and erf of f32, without branches or calls, so that loops over them become vector instructions.
//!
//! Each result is within a few units in the last place of the exact one; the tests have the bounds.

#![expect(clippy::many_single_char_names, reason = "the names of the formulas")]
#![expect(clippy::excessive_precision, reason = "the coefficients as they were fitted")]

/// e to the power of `x`. Results below the smallest normal number are 0.
#[inline]
pub(crate) fn exp(x: f32) -> f32 {
    // 1.5 × 2²³: adding it rounds to an integer, which is then in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 as the sum of two numbers. The first has few bits, so that its products with `n` are exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-87.5, 89.0);
    let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = clamped - n * LN_2_HIGH - n * LN_2_LOW;
    let p = 1.987_569_2e-4_f32;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5e-1;
    let power = p * r * r + r + 1.0;
    // 2ⁿ as two factors, because 2¹²⁸ overflows while e⁸⁸·⁷ does not.
    let n = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    let scale = |n: i32| f32::from_bits(((n + 127) << 23) as u32);
    let result = power * scale(half) * scale(n - half);
    let result = if x < -87.336_54 { 0.0 } else { result };
    let result = if x > 88.722_83 { f32::INFINITY } else { result };
    if x.is_nan() { x } else { result }
}

/// 1 / (1 + e⁻ˣ).
#[inline]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The hyperbolic tangent: a quotient of polynomials, fitted over the range in which it is not ±1.
#[inline]
pub(crate) fn tanh(x: f32) -> f32 {
    const LIMIT: f32 = 7.905_311;
    let c = x.clamp(-LIMIT, LIMIT);
    let s = c * c;
    let p = -2.760_768_4e-16_f32;
    let p = p * s + 2.000_188e-13;
    let p = p * s - 8.604_672e-11;
    let p = p * s + 5.122_297e-8;
    let p = p * s + 1.485_722_4e-5;
    let p = p * s + 6.372_619e-4;
    let p = p * s + 4.893_524_6e-3;
    let q = 1.198_258_4e-6_f32;
    let q = q * s + 1.185_347e-4;
    let q = q * s + 2.268_434_7e-3;
    let q = q * s + 4.893_525_2e-3;
    let result = c * p / q;
    let result = if x.abs() >= LIMIT { 1.0_f32.copysign(x) } else { result };
    // Near 0, the function equals its argument in f32.
    if x.abs() < 4e-4 { x } else { result }
}

/// The error function: a quotient of polynomials, fitted over the range in which it is not ±1.
#[inline]
pub(crate) fn erf(x: f32) -> f32 {
    const LIMIT: f32 = 3.92;
    let c = x.clamp(-LIMIT, LIMIT);
    let s = c * c;
    let p = -2.726_142_2e-10_f32;
    let p = p * s + 2.770_681_4e-8;
    let p = p * s - 2.101_024e-6;
    let p = p * s - 5.692_506_5e-5;
    let p = p * s - 7.349_906_3e-4;
    let p = p * s - 2.954_6e-3;
    let p = p * s - 1.609_603_3e-2;
    let q = -1.456_607_2e-5_f32;
    let q = q * s - 2.133_740_6e-4;
    let q = q * s - 1.682_827e-3;
    let q = q * s - 7.373_329e-3;
    let q = q * s - 1.426_473_9e-2;
    let result = c * p / q;
    // Exactly ±1, so that `1 - erf(x)` is 0. Gelu multiplies that difference by `x`, which would magnify the fit's
    // error.
    if x.abs() >= LIMIT { 1.0_f32.copysign(x) } else { result }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the ends of the range are exact")]
mod tests {
    /// The largest relative error of `f` against `exact` over `from..to`, in units of the last place.
    fn worst(f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64, from: f32, to: f32) -> f64 {
        let samples = 200_000;
        (0..=samples)
            .map(|sample| from + (to - from) * sample as f32 / samples as f32)
            .map(|x| (f64::from(f(x)) - exact(f64::from(x))).abs() / exact(f64::from(x)).abs().max(1e-30))
            .fold(0.0, f64::max)
            / f64::from(f32::EPSILON)
    }

    #[test]
    fn the_functions_are_within_a_few_units_of_the_last_place() {
        assert!(worst(super::exp, f64::exp, -87.0, 88.7) < 2.0);
        assert!(worst(super::tanh, f64::tanh, 1e-5, 12.0) < 6.0);
        assert!(worst(super::erf, libm::erf, 1e-5, 5.0) < 8.0);
        assert!(worst(super::sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -80.0, 80.0) < 3.0);
    }

    #[test]
    fn the_ends_of_the_range_are_right() {
        assert_eq!(super::exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(super::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(super::exp(0.0), 1.0);
        assert_eq!(super::exp(89.5), f32::INFINITY);
        assert!(super::exp(88.7).is_finite());
        for f in [super::exp, super::tanh, super::erf, super::sigmoid] {
            assert!(f(f32::NAN).is_nan());
        }
        assert_eq!(super::tanh(f32::INFINITY), 1.0);
        assert_eq!(super::erf(4.0), 1.0);
        assert_eq!(super::erf(f32::NEG_INFINITY), -1.0);
        assert_eq!(super::sigmoid(f32::NEG_INFINITY), 0.0);
    }
}
