//! Device forms of Pow and of Mod of floats. candle has a power by one number and no remainder, so both are made of
//! other operations, in F64: it holds the quotients and logarithms of narrower floats with bits to spare.

use crate::device::args::{DeviceArgs, DeviceForm, Stop};
use crate::device::context::DeviceContext;
use crate::device::math::{Compare, Extreme, Unary};
use crate::device::tensor::DeviceTensor;
use crate::ops::device::{host_only, one, own_type, require_one_type};
use crate::ops::node::Node;
use crate::tensor::element::ElementType;
use graphpool::backend::Error;

type Result1 = Result<DeviceTensor, Error>;

pub(in crate::ops) fn power(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    Ok(Box::new(|args, dx| {
        let (ty, x) = (own_type(args, 0)?, args.float(0, dx)?);
        if let Some(exponent) = common_exponent(args, dx)? {
            // The host has a square root for F32 alone. It differs from the power at -0.0 and -∞.
            let single = ty == ElementType::F32 && own_type(args, 1)? == ElementType::F32;
            let exact = x.ty() == ElementType::F64 || f64::from(exponent as f32) == exponent || exponent.is_nan();
            if exponent == 2.0 {
                return one(&dx.mul(&x, &x)?, ty, dx);
            }
            if exponent == 0.5 && single {
                return one(&dx.unary(Unary::Sqrt, &x)?, ty, dx);
            }
            if exact {
                return one(&dx.power(&x, exponent)?, ty, dx);
            }
        }
        if own_type(args, 1)? == ElementType::Bool {
            return host_only();
        }
        let exponents = args.tensor(1, dx)?;
        let wide = |x: &DeviceTensor| dx.cast(x, ElementType::F64);
        one(&power_of(&wide(&x)?, &wide(&exponents)?, dx)?, ty, dx)
    }))
}

/// The exponent, if it is one number for all elements.
fn common_exponent(args: &mut DeviceArgs, dx: &DeviceContext<'_>) -> Result<Option<f64>, Stop> {
    let dims = args.get(1)?.dims();
    if dims.iter().product::<usize>() != 1 || dims.len() > args.get(0)?.dims().len() {
        return Ok(None);
    }
    Ok(match own_type(args, 1)? {
        ElementType::F32 | ElementType::F64 | ElementType::F16 | ElementType::Bf16 => {
            let exponent = args.float(1, dx)?;
            Some(dx.element(&exponent)?)
        }
        ElementType::I64 | ElementType::I32 => args.host(1, dx)?.to_i64s()?.first().map(|&exponent| exponent as f64),
        _ => None,
    })
}

/// Whether both hold.
fn both(a: &DeviceTensor, b: &DeviceTensor, dx: &DeviceContext<'_>) -> Result1 {
    dx.select(a, b, a)
}

/// x to the power of y, which broadcast, both F64, with the special cases of IEEE 754.
fn power_of(x: &DeviceTensor, y: &DeviceTensor, dx: &DeviceContext<'_>) -> Result1 {
    let (size, floor) = (dx.unary(Unary::Abs, x)?, dx.unary(Unary::Floor, y)?);
    // Of zeros and infinities, too, the power of the size is this.
    let power = dx.unary(Unary::Exp, &dx.mul(y, &dx.unary(Unary::Log, &size)?)?)?;
    let below = dx.compare_with(Compare::Less, x, 0.0)?;
    // -0.0 is not less than 0, but its reciprocal is -∞.
    let under = dx.compare_with(Compare::Equal, &dx.unary(Unary::Reciprocal, x)?, f64::NEG_INFINITY)?;
    let negative = dx.select(&below, &below, &under)?;
    // An odd integer is one more than twice the floor of its half. From 2^53 on, all are even.
    let whole = dx.compare(Compare::Equal, &floor, y)?;
    let half = dx.unary(Unary::Floor, &dx.affine(y, 0.5, 0.0)?)?;
    let odd = dx.compare_with(Compare::Equal, &dx.sub(y, &dx.affine(&half, 2.0, 0.0)?)?, 1.0)?;
    let flips = both(&negative, &both(&whole, &odd, dx)?, dx)?;
    let power = dx.select(&flips, &dx.unary(Unary::Neg, &power)?, &power)?;
    // A finite number below 0 has no power with a fraction.
    let finite = both(&below, &dx.compare_with(Compare::Greater, x, f64::NEG_INFINITY)?, dx)?;
    let undefined = both(&finite, &dx.compare(Compare::NotEqual, &floor, y)?, dx)?;
    let power = dx.select(&undefined, &dx.number(f64::NAN, ElementType::F64)?, &power)?;
    // 1 to any power, anything to the power of 0, and -1 to an infinite power are 1, also where the other is a NaN.
    let endless = dx.compare_with(Compare::Equal, &dx.unary(Unary::Abs, y)?, f64::INFINITY)?;
    let unit = both(&dx.compare_with(Compare::Equal, &size, 1.0)?, &endless, dx)?;
    let one = dx.number(1.0, ElementType::F64)?;
    let power = dx.select(&unit, &one, &power)?;
    let power = dx.select(&dx.compare_with(Compare::Equal, x, 1.0)?, &one, &power)?;
    dx.select(&dx.compare_with(Compare::Equal, y, 0.0)?, &one, &power)
}

pub(in crate::ops) fn modulo(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let (fmod, floored) = (node.flag("fmod", false)?, node.opset >= 28);
    Ok(Box::new(move |args, dx| {
        let ty = require_one_type(args, 1..2)?;
        // There is no type that is wider than F64, and the host refuses floats without fmod at older opsets.
        if ty == ElementType::F64 || !(fmod || floored) {
            return host_only();
        }
        let (a, b) = (args.float(0, dx)?, args.float(1, dx)?);
        let (a, b) = (dx.cast(&a, ElementType::F64)?, dx.cast(&b, ElementType::F64)?);
        let Some(rest) = remainder(&a, &b, dx)? else { return host_only() };
        let result = if fmod { rest } else { with_sign_of_divisor(&rest, &b, dx)? };
        one(&result, ty, dx)
    }))
}

/// The remainder of F64 that hold numbers of narrower types, with the sign of the dividend. `None` if a quotient has
/// too many digits for one division, or there are no elements.
fn remainder(a: &DeviceTensor, b: &DeviceTensor, dx: &DeviceContext<'_>) -> Result<Option<DeviceTensor>, Error> {
    // Products of a quotient below this and the 24 bits of an F32 are exact.
    const LARGEST: f64 = (1_u64 << 28) as f64;
    let (size, divisor) = (dx.unary(Unary::Abs, a)?, dx.unary(Unary::Abs, b)?);
    let quotient = dx.unary(Unary::Floor, &dx.div(&size, &divisor)?)?;
    if quotient.is_empty() {
        return Ok(None);
    }
    let zero = dx.number(0.0, ElementType::F64)?;
    // Quotients by 0 and of ∞ give a NaN in any case.
    let finite = dx.select(&dx.compare_with(Compare::Less, &quotient, f64::INFINITY)?, &quotient, &zero)?;
    let all: Vec<usize> = (0..finite.rank()).collect();
    if dx.element(&dx.extreme_of(Extreme::Max, &finite, &all)?)? >= LARGEST {
        return Ok(None);
    }
    let rest = dx.sub(&size, &dx.mul(&quotient, &divisor)?)?;
    // The quotient may have been rounded up to an integer.
    let rest = dx.select(&dx.compare(Compare::Less, &rest, &zero)?, &dx.add(&rest, &divisor)?, &rest)?;
    // An infinite divisor leaves the dividend as it is.
    let endless = dx.compare_with(Compare::Equal, &divisor, f64::INFINITY)?;
    let kept = both(&endless, &dx.compare_with(Compare::Less, &size, f64::INFINITY)?, dx)?;
    let rest = dx.select(&kept, &size, &rest)?;
    let below = dx.compare(Compare::Less, a, &zero)?;
    let signed = dx.select(&below, &dx.unary(Unary::Neg, &rest)?, &rest)?;
    // A dividend of 0 has its own sign.
    let empty = both(&dx.compare(Compare::Equal, a, &zero)?, &dx.compare(Compare::Equal, &rest, &zero)?, dx)?;
    dx.select(&empty, a, &signed).map(Some)
}

/// The remainder with the sign of the divisor.
fn with_sign_of_divisor(rest: &DeviceTensor, b: &DeviceTensor, dx: &DeviceContext<'_>) -> Result1 {
    let (below, negative) = (dx.compare_with(Compare::Less, rest, 0.0)?, dx.compare_with(Compare::Less, b, 0.0)?);
    let differs = dx.compare(Compare::NotEqual, &below, &negative)?;
    let moved = dx.select(&differs, &dx.add(rest, b)?, rest)?;
    let zeros = dx.select(&negative, &dx.number(-0.0, ElementType::F64)?, &dx.number(0.0, ElementType::F64)?)?;
    dx.select(&dx.compare_with(Compare::Equal, rest, 0.0)?, &zeros, &moved)
}
