//! Device forms of elementwise functions of one tensor.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_PI_2, LN_2};

use crate::device::args::{DeviceForm, Stop};
use crate::device::context::DeviceContext;
use crate::device::math::{Binary, Compare, Extreme, Unary};
use crate::device::tensor::DeviceTensor;
use crate::ops::device::{one, require_one_type, unary};
use crate::ops::node::Node;
use graphpool::backend::Error;

type Result1 = Result<DeviceTensor, Error>;

/// A function that candle has.
pub(in crate::ops) fn plain(f: Unary) -> Result<DeviceForm, Stop> {
    unary(move |x, dx| dx.unary(f, x))
}

/// The elements above 0, or NaN, and 0 for the others.
pub(super) fn positive_part(x: &DeviceTensor, dx: &DeviceContext<'_>) -> Result1 {
    let zero = dx.number(0.0, x.ty())?;
    dx.select(&dx.compare(Compare::Less, x, &zero)?, &zero, x)
}

pub(in crate::ops) fn relu(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    unary(positive_part)
}

/// `below` of the elements less than 0, and the others as they are.
fn below_zero(x: &DeviceTensor, dx: &DeviceContext<'_>, below: impl Fn(&DeviceTensor) -> Result1) -> Result1 {
    dx.select(&dx.compare_with(Compare::Less, x, 0.0)?, &below(x)?, x)
}

/// e^x - 1 with the precision of the element type near 0, where the difference of two numbers near 1 has little.
pub(super) fn exp_minus_one(x: &DeviceTensor, dx: &DeviceContext<'_>) -> Result1 {
    // 2 · e^(x/2) · sinh(x/2) = tanh(x/2) · (e^x + 1), which is exact near 0.
    let half = dx.unary(Unary::Tanh, &dx.affine(x, 0.5, 0.0)?)?;
    let near = dx.mul(&half, &dx.affine(&dx.unary(Unary::Exp, x)?, 1.0, 1.0)?)?;
    // Above, e^x may be infinite.
    let far = dx.affine(&dx.unary(Unary::Exp, x)?, 1.0, -1.0)?;
    let size = dx.unary(Unary::Abs, x)?;
    dx.select(&dx.compare_with(Compare::Less, &size, 1.0)?, &near, &far)
}

pub(in crate::ops) fn leaky_relu(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let alpha = f64::from(node.float("alpha", 0.01)?);
    unary(move |x, dx| below_zero(x, dx, |x| dx.affine(x, alpha, 0.0)))
}

pub(in crate::ops) fn prelu(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    Ok(Box::new(|args, dx| {
        let ty = require_one_type(args, 1..2)?;
        let (x, slope) = (args.float(0, dx)?, args.float(1, dx)?);
        let product = dx.mul(&x, &slope)?;
        one(&dx.select(&dx.compare_with(Compare::Less, &x, 0.0)?, &product, &x)?, ty, dx)
    }))
}

pub(in crate::ops) fn elu(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let alpha = f64::from(node.float("alpha", 1.0)?);
    unary(move |x, dx| below_zero(x, dx, |x| dx.affine(&exp_minus_one(x, dx)?, alpha, 0.0)))
}

pub(in crate::ops) fn selu(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let alpha = f64::from(node.float("alpha", 1.673_263_2)?);
    let gamma = f64::from(node.float("gamma", 1.050_701)?);
    unary(move |x, dx| {
        let curve = dx.affine(&exp_minus_one(x, dx)?, alpha, 0.0)?;
        dx.affine(&dx.select(&dx.compare_with(Compare::Greater, x, 0.0)?, x, &curve)?, gamma, 0.0)
    })
}

pub(in crate::ops) fn celu(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let alpha = f64::from(node.float("alpha", 1.0)?);
    unary(move |x, dx| {
        let scaled = dx.binary(Binary::Div, x, &dx.number(alpha, x.ty())?)?;
        let curve = dx.affine(&exp_minus_one(&scaled, dx)?, alpha, 0.0)?;
        dx.select(&dx.compare_with(Compare::Greater, x, 0.0)?, x, &curve)
    })
}

pub(in crate::ops) fn thresholded_relu(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let alpha = f64::from(node.float("alpha", 1.0)?);
    unary(move |x, dx| dx.select(&dx.compare_with(Compare::Greater, x, alpha)?, x, &dx.number(0.0, x.ty())?))
}

/// 1 / (1 + e^-x).
pub(super) fn sigmoid_of(x: &DeviceTensor, dx: &DeviceContext<'_>) -> Result1 {
    let power = dx.unary(Unary::Exp, &dx.unary(Unary::Neg, x)?)?;
    dx.unary(Unary::Reciprocal, &dx.affine(&power, 1.0, 1.0)?)
}

pub(in crate::ops) fn sigmoid(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    unary(sigmoid_of)
}

/// The elements cut off at a bound. A NaN is kept, and a bound that is NaN cuts off nothing.
fn cut(x: &DeviceTensor, side: Extreme, bound: &DeviceTensor, dx: &DeviceContext<'_>) -> Result1 {
    let beyond = if side == Extreme::Max { Compare::Less } else { Compare::Greater };
    dx.select(&dx.compare(beyond, x, bound)?, bound, x)
}

/// The elements cut off below and above.
pub(super) fn clamped(x: &DeviceTensor, low: f64, high: f64, dx: &DeviceContext<'_>) -> Result1 {
    let (low, high) = (dx.number(low, x.ty())?, dx.number(high, x.ty())?);
    cut(&cut(x, Extreme::Max, &low, dx)?, Extreme::Min, &high, dx)
}

pub(in crate::ops) fn hard_sigmoid(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let (alpha, beta) = (f64::from(node.float("alpha", 0.2)?), f64::from(node.float("beta", 0.5)?));
    unary(move |x, dx| clamped(&dx.affine(x, alpha, beta)?, 0.0, 1.0, dx))
}

pub(in crate::ops) fn hard_swish(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    unary(|x, dx| dx.mul(x, &clamped(&dx.affine(x, 1.0 / 6.0, 0.5)?, 0.0, 1.0, dx)?))
}

pub(in crate::ops) fn shrink(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let (bias, lambd) = (f64::from(node.float("bias", 0.0)?), f64::from(node.float("lambd", 0.5)?));
    unary(move |x, dx| {
        let inner = dx.select(
            &dx.compare_with(Compare::Greater, x, lambd)?,
            &dx.affine(x, 1.0, -bias)?,
            &dx.number(0.0, x.ty())?,
        )?;
        dx.select(&dx.compare_with(Compare::Less, x, -lambd)?, &dx.affine(x, 1.0, bias)?, &inner)
    })
}

pub(in crate::ops) fn gelu(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let tanh = node.string("approximate", "none")? == "tanh";
    unary(move |x, dx| {
        let curve = if tanh {
            let cube = dx.mul(&dx.unary(Unary::Square, x)?, x)?;
            let inner = dx.add(x, &dx.affine(&cube, 0.044_715, 0.0)?)?;
            dx.unary(Unary::Tanh, &dx.affine(&inner, (2.0 / std::f64::consts::PI).sqrt(), 0.0)?)?
        } else {
            dx.unary(Unary::Erf, &dx.affine(x, FRAC_1_SQRT_2, 0.0)?)?
        };
        dx.mul(&dx.affine(x, 0.5, 0.0)?, &dx.affine(&curve, 1.0, 1.0)?)
    })
}

pub(in crate::ops) fn swish(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let alpha = f64::from(node.float("alpha", 1.0)?);
    unary(move |x, dx| dx.mul(x, &sigmoid_of(&dx.affine(x, alpha, 0.0)?, dx)?))
}

/// ln(1 + x) of elements from 0 on, with the precision of the element type near 0.
fn log_one_plus(x: &DeviceTensor, dx: &DeviceContext<'_>) -> Result1 {
    // ln(w) · x / (w - 1) for w = 1 + x as it is rounded, and x where w is 1.
    let sum = dx.affine(x, 1.0, 1.0)?;
    let rest = dx.affine(&sum, 1.0, -1.0)?;
    let scaled = dx.div(&dx.mul(&dx.unary(Unary::Log, &sum)?, x)?, &rest)?;
    dx.select(&dx.compare_with(Compare::Equal, &rest, 0.0)?, x, &scaled)
}

/// ln(1 + e^x).
pub(super) fn softplus_of(x: &DeviceTensor, dx: &DeviceContext<'_>) -> Result1 {
    let power = dx.unary(Unary::Exp, &dx.unary(Unary::Neg, &dx.unary(Unary::Abs, x)?)?)?;
    dx.add(&positive_part(x, dx)?, &log_one_plus(&power, dx)?)
}

pub(in crate::ops) fn softplus(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    unary(softplus_of)
}

pub(in crate::ops) fn mish(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    unary(|x, dx| dx.mul(x, &dx.unary(Unary::Tanh, &softplus_of(x, dx)?)?))
}

pub(in crate::ops) fn softsign(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    unary(|x, dx| dx.div(x, &dx.affine(&dx.unary(Unary::Abs, x)?, 1.0, 1.0)?))
}

pub(in crate::ops) fn tan(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    unary(|x, dx| dx.div(&dx.unary(Unary::Sin, x)?, &dx.unary(Unary::Cos, x)?))
}

/// Rounds to the nearest integer, and a half to the even one.
pub(super) fn rounded(x: &DeviceTensor, dx: &DeviceContext<'_>) -> Result1 {
    let floor = dx.unary(Unary::Floor, x)?;
    let rest = dx.sub(x, &floor)?;
    let half = dx.unary(Unary::Floor, &dx.affine(&floor, 0.5, 0.0)?)?;
    // 1 for an odd floor, 0 for an even one.
    let odd = dx.sub(&floor, &dx.affine(&half, 2.0, 0.0)?)?;
    let up = dx.affine(&floor, 1.0, 1.0)?;
    let tie = dx.add(&floor, &odd)?;
    let above = dx.select(&dx.compare_with(Compare::Greater, &rest, 0.5)?, &up, &tie)?;
    let result = dx.select(&dx.compare_with(Compare::Less, &rest, 0.5)?, &floor, &above)?;
    // A zero has the sign of the element.
    let zero = dx.affine(x, 0.0, -0.0)?;
    let result = dx.select(&dx.compare_with(Compare::Equal, &result, 0.0)?, &zero, &result)?;
    // Infinities have no fraction.
    let size = dx.unary(Unary::Abs, x)?;
    dx.select(&dx.compare_with(Compare::Equal, &size, f64::INFINITY)?, x, &result)
}

pub(in crate::ops) fn round(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    unary(rounded)
}

pub(in crate::ops) fn sign(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    unary(|x, dx| {
        // A NaN and a zero, whose sign is kept, are neither less nor greater than 0.
        let zero = dx.number(0.0, x.ty())?;
        let above = dx.select(&dx.compare(Compare::Greater, x, &zero)?, &dx.number(1.0, x.ty())?, x)?;
        dx.select(&dx.compare(Compare::Less, x, &zero)?, &dx.number(-1.0, x.ty())?, &above)
    })
}

/// (e^x - e^-x) / 2, with the precision of the element type near 0.
pub(in crate::ops) fn sinh(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    unary(|x, dx| {
        // With t = e^|x| - 1: (t + t / (t + 1)) / 2, and e^(|x| - ln 2) where t is large.
        let size = dx.unary(Unary::Abs, x)?;
        let power = exp_minus_one(&size, dx)?;
        let near = dx.add(&power, &dx.div(&power, &dx.affine(&power, 1.0, 1.0)?)?)?;
        let near = dx.affine(&near, 0.5, 0.0)?;
        let far = dx.unary(Unary::Exp, &dx.affine(&size, 1.0, -LN_2)?)?;
        let result = dx.select(&dx.compare_with(Compare::Greater, &size, 20.0)?, &far, &near)?;
        let result = dx.select(&dx.compare_with(Compare::Less, x, 0.0)?, &dx.unary(Unary::Neg, &result)?, &result)?;
        dx.select(&dx.compare_with(Compare::Equal, x, 0.0)?, x, &result)
    })
}

pub(in crate::ops) fn cosh(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    unary(|x, dx| {
        let shifted = dx.affine(&dx.unary(Unary::Abs, x)?, 1.0, -LN_2)?;
        let power = dx.unary(Unary::Exp, &shifted)?;
        // e^-|x| / 2 = 1 / (4 · e^(|x| - ln 2)).
        dx.add(&power, &dx.affine(&dx.unary(Unary::Reciprocal, &power)?, 0.25, 0.0)?)
    })
}

/// Clip with its bounds as attributes.
pub(in crate::ops) fn clip_by_attributes(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let low = f64::from(node.float("min", f32::MIN)?);
    let high = f64::from(node.float("max", f32::MAX)?);
    unary(move |x, dx| clamped(x, low, high, dx))
}

/// Clip with its bounds as inputs.
pub(in crate::ops) fn clip_by_inputs(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    Ok(Box::new(|args, dx| {
        let ty = require_one_type(args, 1..3)?;
        let mut x = args.float(0, dx)?;
        for (index, side) in [(1, Extreme::Max), (2, Extreme::Min)] {
            if let Some(bound) = args.optional_float(index, dx)? {
                if bound.len() != 1 {
                    return Err(Error::invalid_argument("a bound must have one element").into());
                }
                x = cut(&x, side, &dx.reshape(&bound, &[])?, dx)?;
            }
        }
        one(&x, ty, dx)
    }))
}

/// Whether each element is a NaN.
pub(in crate::ops) fn is_nan(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    Ok(Box::new(|args, dx| {
        let x = args.float(0, dx)?;
        Ok(vec![dx.compare(Compare::NotEqual, &x, &x)?.into()])
    }))
}

/// The inverse of the tangent. An element is halved as an angle three times, and a series has it then.
fn atan_of(x: &DeviceTensor, dx: &DeviceContext<'_>) -> Result1 {
    let size = dx.unary(Unary::Abs, x)?;
    // Above 1, π/2 less the angle of the reciprocal.
    let large = dx.compare_with(Compare::Greater, &size, 1.0)?;
    let mut t = dx.select(&large, &dx.unary(Unary::Reciprocal, &size)?, &size)?;
    for _ in 0..3 {
        let root = dx.unary(Unary::Sqrt, &dx.affine(&dx.unary(Unary::Square, &t)?, 1.0, 1.0)?)?;
        t = dx.div(&t, &dx.affine(&root, 1.0, 1.0)?)?;
    }
    let square = dx.unary(Unary::Square, &t)?;
    let mut series = dx.affine(&square, 1.0 / 17.0, -1.0 / 15.0)?;
    for term in [1.0 / 13.0, -1.0 / 11.0, 1.0 / 9.0, -1.0 / 7.0, 1.0 / 5.0, -1.0 / 3.0, 1.0] {
        series = dx.affine(&dx.mul(&series, &square)?, 1.0, term)?;
    }
    let angle = dx.affine(&dx.mul(&series, &t)?, 8.0, 0.0)?;
    let angle = dx.select(&large, &dx.affine(&angle, -1.0, FRAC_PI_2)?, &angle)?;
    with_sign_of(x, &angle, dx)
}

/// The elements, which are not negative, with the signs of those of `x`.
fn with_sign_of(x: &DeviceTensor, result: &DeviceTensor, dx: &DeviceContext<'_>) -> Result1 {
    let signed = dx.select(&dx.compare_with(Compare::Less, x, 0.0)?, &dx.unary(Unary::Neg, result)?, result)?;
    // Zeros have their own signs.
    dx.select(&dx.compare_with(Compare::Equal, x, 0.0)?, x, &signed)
}

pub(in crate::ops) fn atan(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    unary(atan_of)
}

pub(in crate::ops) fn asin(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    unary(|x, dx| {
        let square = dx.mul(&dx.affine(x, -1.0, 1.0)?, &dx.affine(x, 1.0, 1.0)?)?;
        atan_of(&dx.div(x, &dx.unary(Unary::Sqrt, &square)?)?, dx)
    })
}

pub(in crate::ops) fn acos(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    unary(|x, dx| {
        let ratio = dx.div(&dx.affine(x, -1.0, 1.0)?, &dx.affine(x, 1.0, 1.0)?)?;
        dx.affine(&atan_of(&dx.unary(Unary::Sqrt, &ratio)?, dx)?, 2.0, 0.0)
    })
}

/// From here on x + √(x² ± 1) rounds to 2x in both types, and x² does not overflow before.
const LARGE: f64 = 1e15;

/// ln(2x) of large elements.
fn log_of_double(x: &DeviceTensor, dx: &DeviceContext<'_>) -> Result1 {
    dx.affine(&dx.unary(Unary::Log, x)?, 1.0, LN_2)
}

pub(in crate::ops) fn asinh(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    unary(|x, dx| {
        let size = dx.unary(Unary::Abs, x)?;
        let square = dx.unary(Unary::Square, &size)?;
        let root = dx.affine(&dx.unary(Unary::Sqrt, &dx.affine(&square, 1.0, 1.0)?)?, 1.0, 1.0)?;
        let near = log_one_plus(&dx.add(&size, &dx.div(&square, &root)?)?, dx)?;
        let large = dx.compare_with(Compare::Greater, &size, LARGE)?;
        with_sign_of(x, &dx.select(&large, &log_of_double(&size, dx)?, &near)?, dx)
    })
}

pub(in crate::ops) fn acosh(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    unary(|x, dx| {
        let less = dx.affine(x, 1.0, -1.0)?;
        let root = dx.unary(Unary::Sqrt, &dx.mul(&less, &dx.affine(x, 1.0, 1.0)?)?)?;
        let near = log_one_plus(&dx.add(&less, &root)?, dx)?;
        let large = dx.compare_with(Compare::Greater, x, LARGE)?;
        let result = dx.select(&large, &log_of_double(x, dx)?, &near)?;
        dx.select(&dx.compare_with(Compare::Less, x, 1.0)?, &dx.number(f64::NAN, x.ty())?, &result)
    })
}

pub(in crate::ops) fn atanh(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    unary(|x, dx| {
        let size = dx.unary(Unary::Abs, x)?;
        let ratio = dx.div(&dx.affine(&size, 2.0, 0.0)?, &dx.affine(&size, -1.0, 1.0)?)?;
        let result = dx.affine(&log_one_plus(&ratio, dx)?, 0.5, 0.0)?;
        // At 1 the ratio is infinite.
        let edge = dx.compare_with(Compare::Equal, &size, 1.0)?;
        with_sign_of(x, &dx.select(&edge, &dx.number(f64::INFINITY, x.ty())?, &result)?, dx)
    })
}
