//! exp, ln, sigmoid, tanh, erf and functions made of them, of f32, without branches or calls, so that loops over them become vector instructions.
//!
//! Each result is within a few units in the last place of the exact one; the tests have the bounds.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]
#![expect(clippy::many_single_char_names, reason = "the names of the formulas")]
#![expect(clippy::excessive_precision, reason = "the coefficients as they were fitted")]

/// How a product is added to a number.
pub(crate) trait MulAdd {
    /// a · b + c.
    fn mul_add(a: f32, b: f32, c: f32) -> f32;
}

/// In one operation, rounded once: only for code that is compiled for a processor that has it, as it is a call otherwise.
pub(crate) struct Fused;

/// In two operations.
pub(crate) struct Separate;

impl MulAdd for Fused {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

impl MulAdd for Separate {
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}

/// e to the power of `x`. Results below the smallest normal number are 0.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    exp_by::<Separate>(x)
}

/// [`exp`], with products that are added as `M` says.
#[inline(always)]
pub(crate) fn exp_by<M: MulAdd>(x: f32) -> f32 {
    // 1.5 × 2²³: adding it rounds to an integer, which is then in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 as the sum of two numbers. The first has few bits, so that its products with `n` are exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let rounded = M::mul_add(x, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = M::mul_add(n, -LN_2_LOW, M::mul_add(n, -LN_2_HIGH, x));
    let p = 1.987_569_2e-4_f32;
    let p = M::mul_add(p, r, 1.398_2e-3);
    let p = M::mul_add(p, r, 8.333_452e-3);
    let p = M::mul_add(p, r, 4.166_579_6e-2);
    let p = M::mul_add(p, r, 1.666_666_5e-1);
    let p = M::mul_add(p, r, 5e-1);
    let power = M::mul_add(p * r, r, r) + 1.0;
    // 2ⁿ is added to the exponent. Where that overflows, or `n` is not a number, the result is replaced.
    let n = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let result = f32::from_bits((power.to_bits() as i32).wrapping_add(n.wrapping_shl(23)) as u32);
    let result = if x < -87.336_54 { 0.0 } else { result };
    let result = if x > 88.722_83 { f32::INFINITY } else { result };
    if x.is_nan() { x } else { result }
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// eˣ - 1, exact near 0 too.
#[inline(always)]
pub(crate) fn exp_m1(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-40.0, 88.0);
    let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = clamped - n * LN_2_HIGH - n * LN_2_LOW;
    let p = 1.987_569_2e-4_f32;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5e-1;
    // eʳ - 1, to be scaled by 2ⁿ.
    let power = p * r * r + r;
    let n = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let scale = f32::from_bits(((n + 127) << 23) as u32);
    let result = power * scale + (scale - 1.0);
    // There eˣ and eˣ - 1 are the same number.
    if x < 80.0 { result } else { exp(x) }
}

/// The natural logarithm.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Numbers below the smallest normal one are scaled by 2²⁴.
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 16_777_216.0 } else { x };
    // x = m · 2ⁿ with m between √½ and √2.
    let bits = (scaled.to_bits() as i32).wrapping_sub(0x3f35_04f3);
    let n = (bits >> 23) as f32 - if tiny { 24.0 } else { 0.0 };
    let m = f32::from_bits((bits & 0x007f_ffff).wrapping_add(0x3f35_04f3) as u32) - 1.0;
    let s = m * m;
    let p = 7.037_683_6e-2_f32;
    let p = p * m - 1.151_461e-1;
    let p = p * m + 1.167_699_9e-1;
    let p = p * m - 1.242_014_1e-1;
    let p = p * m + 1.424_932_3e-1;
    let p = p * m - 1.666_805_7e-1;
    let p = p * m + 2.000_071_5e-1;
    let p = p * m - 2.499_999_4e-1;
    let p = p * m + 3.333_333_1e-1;
    let low = p * m * s + n * LN_2_LOW - 0.5 * s;
    let result = m + low + n * LN_2_HIGH;
    let result = if x > 0.0 { result } else { f32::NAN };
    let result = if x == 0.0 { f32::NEG_INFINITY } else { result };
    if x == f32::INFINITY { x } else { result }
}

/// ln(1 + x) for x from 0 to 1.
#[inline(always)]
fn ln_1p(x: f32) -> f32 {
    let sum = 1.0 + x;
    // What rounding took from the sum is made up for.
    let added = sum - 1.0;
    if added > 0.0 { ln(sum) * x / added } else { x }
}

/// ln(1 + eˣ).
#[inline(always)]
pub(crate) fn softplus(x: f32) -> f32 {
    let result = x.max(0.0) + ln_1p(exp(-x.abs()));
    if x.is_nan() { x } else { result }
}

/// x · tanh(ln(1 + eˣ)).
#[inline(always)]
pub(crate) fn mish(x: f32) -> f32 {
    // tanh(ln y) = (y² - 1) / (y² + 1), and with y = 1 + e, y² - 1 = e · (e + 2).
    let e = exp(x.min(20.0));
    let part = e * (e + 2.0);
    let result = x * (part / (part + 2.0));
    if x > 20.0 { x } else { result }
}

/// The hyperbolic tangent: a quotient of polynomials, fitted over the range in which it is not ±1.
#[inline(always)]
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
#[inline(always)]
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

/// The largest argument of [`sin`] and [`cos`], either way.
pub(crate) const LARGEST_ANGLE: f32 = 8192.0;

/// The sine and the cosine of `x` less the nearest multiple of π/2, and the number of that multiple.
#[inline(always)]
fn quarter(x: f32) -> (f32, f32, i32) {
    const ROUND: f32 = 12_582_912.0;
    // π/2 as a sum of three numbers. The products of the first two with a multiple are exact.
    const HIGH: f32 = 1.570_312_5;
    const MIDDLE: f32 = 4.837_512_97e-4;
    const LOW: f32 = 7.549_789_95e-8;
    let rounded = x * std::f32::consts::FRAC_2_PI + ROUND;
    let n = rounded - ROUND;
    let r = x - n * HIGH - n * MIDDLE - n * LOW;
    let s = r * r;
    let sine = r + r * s * (-1.666_665_5e-1 + s * (8.332_161e-3 - s * 1.951_529_6e-4));
    let cosine = 1.0 - 0.5 * s + s * s * (4.166_664_6e-2 + s * (-1.388_731_6e-3 + s * 2.443_315_7e-5));
    (sine, cosine, (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32))
}

/// The sine, for arguments up to [`LARGEST_ANGLE`].
#[inline(always)]
pub(crate) fn sin(x: f32) -> f32 {
    let (sine, cosine, n) = quarter(x);
    let result = if n & 1 == 0 { sine } else { cosine };
    let result = if n & 2 == 0 { result } else { -result };
    // Also keeps the sign of a zero.
    if x.abs() < 1e-4 { x } else { result }
}

/// The cosine, for arguments up to [`LARGEST_ANGLE`].
#[inline(always)]
pub(crate) fn cos(x: f32) -> f32 {
    let (sine, cosine, n) = quarter(x);
    let result = if n & 1 == 0 { cosine } else { sine };
    if (n + 1) & 2 == 0 { result } else { -result }
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
        assert!(worst(super::exp_by::<super::Fused>, f64::exp, -87.0, 88.7) < 2.0);
        assert!(worst(super::tanh, f64::tanh, 1e-5, 12.0) < 6.0);
        assert!(worst(super::erf, libm::erf, 1e-5, 5.0) < 8.0);
        assert!(worst(super::exp_m1, f64::exp_m1, -90.0, 88.7) < 3.0);
        assert!(worst(super::exp_m1, f64::exp_m1, -1e-2, 1e-2) < 3.0);
        assert!(worst(super::ln, f64::ln, 1.1, 1e30) < 2.0);
        assert!(worst(super::ln, f64::ln, 1e-38, 0.9) < 2.0);
        assert!(worst(super::ln, f64::ln, 0.999, 1.001) < 2.0);
        assert!(worst(super::softplus, |x| x.exp().ln_1p(), -80.0, 80.0) < 4.0);
        assert!(worst(super::mish, |x| x * x.exp().ln_1p().tanh(), -80.0, 80.0) < 6.0);
        assert!(worst(super::sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -80.0, 80.0) < 3.0);
    }

    #[test]
    fn sine_and_cosine_are_near_up_to_their_largest_argument() {
        for sample in -400_000..=400_000_i32 {
            let x = sample as f32 * (super::LARGEST_ANGLE / 400_000.0);
            assert!((f64::from(super::sin(x)) - f64::from(x).sin()).abs() < 1.5e-7, "{x}");
            assert!((f64::from(super::cos(x)) - f64::from(x).cos()).abs() < 1.5e-7, "{x}");
            let near = sample as f32 * 1e-5;
            assert!((f64::from(super::sin(near)) - f64::from(near).sin()).abs() < 1.5e-7, "{near}");
        }
        assert_eq!((super::sin(-0.0).is_sign_negative(), super::cos(0.0)), (true, 1.0));
    }

    #[test]
    fn the_ends_of_the_range_are_right() {
        assert_eq!(super::exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(super::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(super::exp(0.0), 1.0);
        assert_eq!(super::exp(89.5), f32::INFINITY);
        assert!(super::exp(88.7).is_finite());
        for f in [
            super::exp,
            super::tanh,
            super::erf,
            super::sigmoid,
            super::exp_m1,
            super::ln,
            super::softplus,
            super::mish,
        ] {
            assert!(f(f32::NAN).is_nan());
        }
        assert_eq!(super::ln(0.0), f32::NEG_INFINITY);
        assert_eq!(super::ln(-0.0), f32::NEG_INFINITY);
        assert_eq!(super::ln(f32::INFINITY), f32::INFINITY);
        assert_eq!(super::ln(1.0), 0.0);
        assert!(super::ln(-1.0).is_nan() && super::ln(f32::NEG_INFINITY).is_nan());
        assert!((super::ln(1e-40) - 1e-40_f32.ln()).abs() < 1e-4);
        assert_eq!(super::exp_m1(f32::NEG_INFINITY), -1.0);
        assert_eq!(super::exp_m1(f32::INFINITY), f32::INFINITY);
        assert_eq!(super::exp_m1(0.0), 0.0);
        assert_eq!(super::softplus(f32::INFINITY), f32::INFINITY);
        assert_eq!(super::softplus(f32::NEG_INFINITY), 0.0);
        assert_eq!(super::mish(f32::INFINITY), f32::INFINITY);
        assert!(super::mish(f32::NEG_INFINITY).is_nan());
        assert_eq!(super::tanh(f32::INFINITY), 1.0);
        assert_eq!(super::erf(4.0), 1.0);
        assert_eq!(super::erf(f32::NEG_INFINITY), -1.0);
        assert_eq!(super::sigmoid(f32::NEG_INFINITY), 0.0);
    }
}
