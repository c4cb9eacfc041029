//! Elementwise functions of one tensor: activations, exponentials, trigonometry, rounding, signs, Clip.

use half::{bf16, f16};

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::program::Unary;
use crate::math::{functions, loops, simd};
use crate::ops::broadcast::{map, map_into, zip_into};
use crate::ops::elementwise::{Number, with_numbers};
use crate::ops::fusion::Follower;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

/// A function of floats, written once for f32 and f64.
macro_rules! float_unary {
    (|$x:ident| $body:expr) => {
        float_unary(|$x: f32| $body, |$x: f64| $body)
    };
}

pub(super) const OPERATORS: &[Operator] = &[
    since(6, "Relu", (1, 1), |_| unary(|value, cx| with_numbers!(value, T => map_into(value, cx, relu::<T>))))
        .follower(|_| fused(Unary::Relu))
        .device(form!(activation::relu)),
    since(6, "Abs", (1, 1), |_| unary(|value, cx| with_numbers!(value, T => map_into(value, cx, absolute::<T>))))
        .device(form!(|_| activation::plain(Unary::Abs))),
    since(6, "Neg", (1, 1), |_| unary(|value, cx| with_numbers!(value, T => map_into(value, cx, negative::<T>))))
        .device(form!(|_| activation::plain(Unary::Neg))),
    since(9, "Sign", (1, 1), |_| unary(|value, cx| with_numbers!(value, T => map_into(value, cx, sign::<T>))))
        .device(form!(activation::sign)),
    since(6, "LeakyRelu", (1, 1), leaky_relu)
        .follower(|node| fused(Unary::LeakyRelu(node.float("alpha", 0.01).ok()?)))
        .device(form!(activation::leaky_relu)),
    since(7, "PRelu", (2, 2), prelu).device(form!(activation::prelu)),
    since(6, "Elu", (1, 1), elu).device(form!(activation::elu)),
    since(6, "Selu", (1, 1), selu).device(form!(activation::selu)),
    since(12, "Celu", (1, 1), celu).device(form!(activation::celu)),
    since(10, "ThresholdedRelu", (1, 1), thresholded_relu).device(form!(activation::thresholded_relu)),
    since(6, "Sigmoid", (1, 1), |_| float_unary(functions::sigmoid, |x| 1.0 / (1.0 + (-x).exp())))
        .follower(|_| fused(Unary::Sigmoid))
        .device(form!(activation::sigmoid)),
    since(6, "HardSigmoid", (1, 1), hard_sigmoid)
        .follower(|node| fused(Unary::HardSigmoid(node.float("alpha", 0.2).ok()?, node.float("beta", 0.5).ok()?)))
        .device(form!(activation::hard_sigmoid)),
    since(9, "Shrink", (1, 1), shrink).device(form!(activation::shrink)),
    since(14, "HardSwish", (1, 1), |_| float_unary!(|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)))
        .follower(|_| fused(Unary::HardSwish))
        .device(form!(activation::hard_swish)),
    since(6, "Tanh", (1, 1), |_| float_unary(functions::tanh, f64::tanh))
        .follower(|_| fused(Unary::Tanh))
        .device(form!(|_| activation::plain(Unary::Tanh))),
    since(20, "Gelu", (1, 1), gelu).follower(fused_gelu).device(form!(activation::gelu)),
    since(24, "Swish", (1, 1), swish).device(form!(activation::swish)),
    since(18, "Mish", (1, 1), |_| float_unary(functions::mish, |x| x * (x.max(0.0) + (-x.abs()).exp().ln_1p()).tanh()))
        .device(form!(activation::mish)),
    since(1, "Softplus", (1, 1), |_| float_unary(functions::softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p()))
        .device(form!(activation::softplus)),
    since(1, "Softsign", (1, 1), |_| float_unary!(|x| x / (1.0 + x.abs()))).device(form!(activation::softsign)),
    since(9, "Erf", (1, 1), |_| float_unary(functions::erf, libm::erf))
        .follower(|_| fused(Unary::Erf))
        .device(form!(|_| activation::plain(Unary::Erf))),
    since(6, "Exp", (1, 1), |_| float_unary(functions::exp, f64::exp)).device(form!(|_| activation::plain(Unary::Exp))),
    since(6, "Log", (1, 1), |_| float_unary(functions::ln, f64::ln)).device(form!(|_| activation::plain(Unary::Log))),
    since(6, "Sqrt", (1, 1), |_| float_unary!(|x| x.sqrt())).device(form!(|_| activation::plain(Unary::Sqrt))),
    since(6, "Reciprocal", (1, 1), |_| float_unary!(|x| 1.0 / x))
        .device(form!(|_| activation::plain(Unary::Reciprocal))),
    since(6, "Floor", (1, 1), |_| float_unary!(|x| x.floor())).device(form!(|_| activation::plain(Unary::Floor))),
    since(6, "Ceil", (1, 1), |_| float_unary!(|x| x.ceil())).device(form!(|_| activation::plain(Unary::Ceil))),
    since(11, "Round", (1, 1), |_| float_unary!(|x| x.round_ties_even())).device(form!(activation::round)),
    since(7, "Sin", (1, 1), |_| angle(functions::sin, f32::sin, f64::sin))
        .device(form!(|_| activation::plain(Unary::Sin))),
    since(7, "Cos", (1, 1), |_| angle(functions::cos, f32::cos, f64::cos))
        .device(form!(|_| activation::plain(Unary::Cos))),
    since(7, "Tan", (1, 1), |_| float_unary!(|x| x.tan())).device(form!(activation::tan)),
    since(7, "Asin", (1, 1), |_| float_unary!(|x| x.asin())).device(form!(activation::asin)),
    since(7, "Acos", (1, 1), |_| float_unary!(|x| x.acos())).device(form!(activation::acos)),
    since(7, "Atan", (1, 1), |_| float_unary!(|x| x.atan())).device(form!(activation::atan)),
    since(9, "Sinh", (1, 1), |_| float_unary!(|x| x.sinh())).device(form!(activation::sinh)),
    since(9, "Cosh", (1, 1), |_| float_unary!(|x| x.cosh())).device(form!(activation::cosh)),
    since(9, "Asinh", (1, 1), |_| float_unary(|x| asinh(f64::from(x)) as f32, asinh)).device(form!(activation::asinh)),
    since(9, "Acosh", (1, 1), |_| float_unary(|x| acosh(f64::from(x)) as f32, acosh)).device(form!(activation::acosh)),
    // Rust's `atanh` is inexact near -1 and exact near 1.
    since(9, "Atanh", (1, 1), |_| float_unary!(|x| x.abs().atanh().copysign(x))).device(form!(activation::atanh)),
    since(6, "Clip", (1, 1), clip_by_attributes)
        .until(10)
        .follower(fused_clip)
        .device(form!(activation::clip_by_attributes)),
    since(11, "Clip", (1, 3), clip_by_inputs).follower(fused_clip).device(form!(activation::clip_by_inputs)),
];

/// An operator of one tensor of floats; f16 and bf16 are computed in f32.
fn float_unary(
    single: impl Fn(f32) -> f32 + Copy + Send + Sync + 'static,
    double: impl Fn(f64) -> f64 + Copy + Send + Sync + 'static,
) -> Result<OpFn, Error> {
    unary(move |value, cx| match value.ty() {
        ElementType::F32 => map_f32(value, cx, single),
        ElementType::F64 => map_into(value, cx, double),
        ElementType::F16 => map_into(value, cx, |x: f16| f16::from_f32(single(x.to_f32()))),
        ElementType::Bf16 => map_into(value, cx, |x: bf16| bf16::from_f32(single(x.to_f32()))),
        _ => Err(no_type(&value)),
    })
}

/// `f` of each element, in the widest vectors of the processor.
fn map_f32(mut value: Value, cx: &ExecContext<'_>, f: impl Fn(f32) -> f32 + Copy) -> Result<Value, Error> {
    let mut checkpoint = Checkpoint::default();
    if let Some(elements) = value.elements_mut::<f32>() {
        for piece in elements.chunks_mut(PIECE) {
            checkpoint.step(piece.len(), cx)?;
            simd::map(piece, f);
        }
        return Ok(value);
    }
    let elements = value.elements::<f32>()?;
    cx.output::<f32>(value.dims())?.append(|out| {
        for piece in elements.chunks(PIECE) {
            checkpoint.step(piece.len(), cx)?;
            loops::extend_by(out, piece, f);
        }
        Ok(())
    })
}

/// A function of angles; `fast` computes those up to [`functions::LARGEST_ANGLE`].
fn angle(
    fast: impl Fn(f32) -> f32 + Copy + Send + Sync + 'static,
    single: fn(f32) -> f32,
    double: fn(f64) -> f64,
) -> Result<OpFn, Error> {
    let others = float_unary(single, double)?;
    Ok(Box::new(move |mut args, cx| {
        if args.get(0)?.ty() != ElementType::F32 {
            return others(args, cx);
        }
        let value = args.take(0)?;
        let (elements, mut checkpoint) = (value.elements::<f32>()?, Checkpoint::default());
        Ok(values![cx.output::<f32>(value.dims())?.append(|out| {
            for piece in elements.chunks(1 << 10) {
                checkpoint.step(piece.len(), cx)?;
                let mut small = [true; loops::PARTS];
                loops::fold(&mut small, piece, |small, x: f32| small & (x.abs() <= functions::LARGEST_ANGLE));
                if small.into_iter().all(|small| small) {
                    loops::extend_by(out, piece, fast);
                } else {
                    out.extend(piece.iter().map(|&x| single(x)));
                }
            }
            Ok(())
        })?])
    }))
}

/// An operator of one tensor.
pub(super) fn unary(
    f: impl Fn(Value, &ExecContext<'_>) -> Result<Value, Error> + Send + Sync + 'static,
) -> Result<OpFn, Error> {
    Ok(Box::new(move |mut args, cx| Ok(values![f(args.take(0)?, cx)?])))
}

fn relu<T: Number>(x: T) -> T {
    // NaN is not less than 0 and is kept.
    if x < T::default() { T::default() } else { x }
}

fn absolute<T: Number>(x: T) -> T {
    // Adding 0 turns -0.0 into 0.0.
    if x < T::default() { negative(x) } else { x.plus(T::default()) }
}

fn negative<T: Number>(x: T) -> T {
    // Subtracting from -0.0 turns 0.0 into -0.0.
    T::from_f64(-0.0).minus(x)
}

fn sign<T: Number>(x: T) -> T {
    let zero = T::default();
    if x > zero {
        T::from_f64(1.0)
    } else if x < zero {
        T::from_f64(-1.0)
    } else {
        x
    }
}

fn leaky_relu(node: &Node<'_>) -> Result<OpFn, Error> {
    let alpha = node.float("alpha", 0.01)?;
    let wide = f64::from(alpha);
    float_unary(move |x| if x < 0.0 { alpha * x } else { x }, move |x| if x < 0.0 { wide * x } else { x })
}

fn prelu(_: &Node<'_>) -> Result<OpFn, Error> {
    Ok(Box::new(|mut args, cx| {
        let (value, slope) = (args.take(0)?, args.take(1)?);
        Ok(values![with_numbers!(value, T => {
            zip_into(value, slope, cx, |x: T, slope: T| if x < T::default() { slope.times(x) } else { x })
        })?])
    }))
}

fn elu(node: &Node<'_>) -> Result<OpFn, Error> {
    let alpha = node.float("alpha", 1.0)?;
    let wide = f64::from(alpha);
    float_unary(
        move |x| if x < 0.0 { alpha * functions::exp_m1(x) } else { x },
        move |x| if x < 0.0 { wide * x.exp_m1() } else { x },
    )
}

fn selu(node: &Node<'_>) -> Result<OpFn, Error> {
    let alpha = node.float("alpha", 1.673_263_2)?;
    let gamma = node.float("gamma", 1.050_701)?;
    let wide = (f64::from(alpha), f64::from(gamma));
    float_unary(
        move |x| gamma * if x > 0.0 { x } else { alpha * functions::exp_m1(x) },
        move |x| wide.1 * if x > 0.0 { x } else { wide.0 * x.exp_m1() },
    )
}

/// From here on `x + √(x² ± 1)` rounds to `2x`, whose logarithm is `ln x + ln 2`; `2x` itself may overflow.
const LARGE: f64 = 1e100;

fn asinh(x: f64) -> f64 {
    if x.abs() > LARGE { (x.abs().ln() + std::f64::consts::LN_2).copysign(x) } else { x.asinh() }
}

fn acosh(x: f64) -> f64 {
    if x > LARGE { x.ln() + std::f64::consts::LN_2 } else { x.acosh() }
}

fn celu(node: &Node<'_>) -> Result<OpFn, Error> {
    let alpha = node.float("alpha", 1.0)?;
    let wide = f64::from(alpha);
    float_unary(
        move |x| if x > 0.0 { x } else { alpha * functions::exp_m1(x / alpha) },
        move |x| if x > 0.0 { x } else { wide * (x / wide).exp_m1() },
    )
}

fn thresholded_relu(node: &Node<'_>) -> Result<OpFn, Error> {
    let alpha = node.float("alpha", 1.0)?;
    let wide = f64::from(alpha);
    float_unary(move |x| if x > alpha { x } else { 0.0 }, move |x| if x > wide { x } else { 0.0 })
}

fn shrink(node: &Node<'_>) -> Result<OpFn, Error> {
    let (bias, edge) = (f64::from(node.float("bias", 0.0)?), f64::from(node.float("lambd", 0.5)?));
    unary(move |value, cx| {
        with_numbers!(value, T => map_into(value, cx, |x: T| {
            let wide = x.to_f64();
            if wide < -edge {
                <T as Number>::from_f64(wide + bias)
            } else if wide > edge {
                <T as Number>::from_f64(wide - bias)
            } else {
                T::default()
            }
        }))
    })
}

fn hard_sigmoid(node: &Node<'_>) -> Result<OpFn, Error> {
    let alpha = node.float("alpha", 0.2)?;
    let beta = node.float("beta", 0.5)?;
    let wide = (f64::from(alpha), f64::from(beta));
    float_unary(move |x| (alpha * x + beta).clamp(0.0, 1.0), move |x| (wide.0 * x + wide.1).clamp(0.0, 1.0))
}

fn swish(node: &Node<'_>) -> Result<OpFn, Error> {
    let alpha = node.float("alpha", 1.0)?;
    let wide = f64::from(alpha);
    float_unary(move |x| x * functions::sigmoid(alpha * x), move |x| x / (1.0 + (-wide * x).exp()))
}

fn gelu(node: &Node<'_>) -> Result<OpFn, Error> {
    use std::f32::consts::FRAC_1_SQRT_2;
    match node.string("approximate", "none")? {
        "none" => float_unary(
            |x| 0.5 * x * (1.0 + functions::erf(x * FRAC_1_SQRT_2)),
            |x| 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        ),
        "tanh" => float_unary(
            |x| 0.5 * x * (1.0 + functions::tanh(0.797_884_6 * (x + 0.044_715 * x * x * x))),
            |x| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh()),
        ),
        _ => Err(Error::unsupported("attribute approximate is neither none nor tanh")),
    }
}

fn clip_by_attributes(node: &Node<'_>) -> Result<OpFn, Error> {
    let low = node.float("min", f32::MIN)?;
    let high = node.float("max", f32::MAX)?;
    unary(move |value, cx| clip(value, Some(f64::from(low)), Some(f64::from(high)), cx))
}

fn clip_by_inputs(_: &Node<'_>) -> Result<OpFn, Error> {
    Ok(Box::new(|mut args, cx| {
        let value = args.take(0)?;
        with_numbers!(value, T => {
            let bound = |index| -> Result<Option<T>, Error> {
                let Some(bound) = args.option(index) else { return Ok(None) };
                match bound.elements::<T>()? {
                    [bound] => Ok(Some(*bound)),
                    _ => Err(Error::invalid_argument("min and max must each have one element")),
                }
            };
            Ok(values![clip_to(value, bound(1)?, bound(2)?, cx)?])
        })
    }))
}

fn clip(value: Value, low: Option<f64>, high: Option<f64>, cx: &ExecContext<'_>) -> Result<Value, Error> {
    with_numbers!(value, T => {
        clip_to(value, low.map(<T as Number>::from_f64), high.map(<T as Number>::from_f64), cx)
    })
}

fn clip_to<T: Number>(value: Value, low: Option<T>, high: Option<T>, cx: &ExecContext<'_>) -> Result<Value, Error> {
    // If low > high, the result is high. NaN is kept.
    match (low, high) {
        (None, None) => Ok(value),
        (Some(low), None) => map_into(value, cx, move |x: T| if x < low { low } else { x }),
        (None, Some(high)) => map_into(value, cx, move |x: T| if x > high { high } else { x }),
        (Some(low), Some(high)) => map_into(value, cx, move |x: T| {
            let x = if x < low { low } else { x };
            if x > high { high } else { x }
        }),
    }
}

/// An operator that gives a boolean for each float.
pub(super) fn predicate(
    single: impl Fn(f32) -> bool + Send + Sync + 'static,
    double: impl Fn(f64) -> bool + Send + Sync + 'static,
) -> Result<OpFn, Error> {
    unary(move |value, cx| match value.ty() {
        ElementType::F32 => map(&value, cx, &single),
        ElementType::F64 => map(&value, cx, &double),
        ElementType::F16 => map(&value, cx, |x: f16| single(x.to_f32())),
        ElementType::Bf16 => map(&value, cx, |x: bf16| single(x.to_f32())),
        _ => Err(no_type(&value)),
    })
}

fn fused(op: Unary) -> Option<Follower> {
    Some(Follower::Unary(op))
}

fn fused_gelu(node: &Node<'_>) -> Option<Follower> {
    if node.string("approximate", "none").ok()? == "none" { fused(Unary::Gelu) } else { None }
}

fn fused_clip(node: &Node<'_>) -> Option<Follower> {
    if node.opset < 11 {
        return fused(Unary::Clip(Some(node.float("min", f32::MIN).ok()?), Some(node.float("max", f32::MAX).ok()?)));
    }
    let bound = |index: usize| -> Option<Option<f32>> {
        if !node.has_input(index) {
            return Some(None);
        }
        match node.constant(index)?.elements::<f32>().ok()? {
            [bound] => Some(Some(*bound)),
            _ => None,
        }
    };
    fused(Unary::Clip(bound(1)?, bound(2)?))
}
