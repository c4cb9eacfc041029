//! Arithmetic of two tensors or of any number of them: Add, Sub, Mul, Div, Mod, Pow, Min, Max, Mean, Sum.
//!
//! Integers wrap around, as in other ONNX runtimes; a division of integers by zero is an error.

use half::{bf16, f16};

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::gemm::Factor;
use crate::math::program::Binary as Fused;
use crate::ops::broadcast::{map_into, zip, zip_into};
use crate::ops::cast::convert;
use crate::ops::fusion::Follower;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{MANY, Operator, form, since};
use crate::tensor::element::{Element, ElementType};
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(7, "Add", (2, 2), |_| binary(add))
        .follower(|_| follower(Fused::Add))
        .device(form!(|_| arithmetic::binary(Binary::Add))),
    since(7, "Sub", (2, 2), |_| binary(sub))
        .follower(|_| follower(Fused::Sub))
        .device(form!(|_| arithmetic::binary(Binary::Sub))),
    since(7, "Mul", (2, 2), |_| binary(mul))
        .follower(|_| follower(Fused::Mul))
        .device(form!(|_| arithmetic::binary(Binary::Mul))),
    since(7, "Div", (2, 2), |_| binary(div))
        .follower(|_| follower(Fused::Div))
        .device(form!(|_| arithmetic::binary(Binary::Div))),
    since(10, "Mod", (2, 2), modulo).device(form!(power::modulo)),
    since(7, "Pow", (2, 2), |_| binary(power)).device(form!(power::power)),
    since(6, "Min", (1, MANY), |_| variadic(min)).device(form!(|_| arithmetic::extreme(Extreme::Min))),
    since(6, "Max", (1, MANY), |_| variadic(max)).device(form!(|_| arithmetic::extreme(Extreme::Max))),
    since(6, "Sum", (1, MANY), |_| sum(|_| 1.0)).device(form!(|_| arithmetic::sum(|_| 1.0))),
    since(6, "Mean", (1, MANY), |_| sum(|count| count as f64)).device(form!(|_| arithmetic::sum(|count| count as f64))),
];

pub(super) type Binary = fn(Value, Value, &ExecContext<'_>) -> Result<Value, Error>;

/// The arithmetic of an element type that is a number.
pub(super) trait Number: Element + PartialOrd {
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    fn divided_by(self, other: Self) -> Self;
    /// The smaller and the larger number; for floats, NaN if either is.
    fn smaller(self, other: Self) -> Self;
    fn larger(self, other: Self) -> Self;
    /// The remainder with the sign of the divisor.
    fn modulo(self, other: Self) -> Self;
    /// The remainder with the sign of the dividend.
    fn remainder(self, other: Self) -> Self;
    /// Whether the number may be a divisor.
    fn divides(self) -> bool;
    fn from_f64(number: f64) -> Self;
    fn to_f64(self) -> f64;
}

/// A float that matrix products are computed in.
pub(super) trait Float: Number + Factor {}

impl<T: Number + Factor> Float for T {}

macro_rules! impl_floats {
    ($($ty:ty)*) => {$(
        impl Number for $ty {
            fn plus(self, other: Self) -> Self { self + other }
            fn minus(self, other: Self) -> Self { self - other }
            fn times(self, other: Self) -> Self { self * other }
            fn divided_by(self, other: Self) -> Self { self / other }
            // NaN propagates, as in numpy.
            fn smaller(self, other: Self) -> Self { if self < other || self != self { self } else { other } }
            fn larger(self, other: Self) -> Self { if self > other || self != self { self } else { other } }
            fn modulo(self, other: Self) -> Self {
                let remainder = self % other;
                let zero = Self::default();
                if remainder != zero && (remainder < zero) != (other < zero) { remainder + other } else { remainder }
            }
            fn remainder(self, other: Self) -> Self { self % other }
            fn divides(self) -> bool { true }
            fn from_f64(number: f64) -> Self { number as Self }
            fn to_f64(self) -> f64 { f64::from(self) }
        }
    )*};
}

macro_rules! impl_half_floats {
    ($($ty:ty)*) => {$(
        impl Number for $ty {
            fn plus(self, other: Self) -> Self { self + other }
            fn minus(self, other: Self) -> Self { self - other }
            fn times(self, other: Self) -> Self { self * other }
            fn divided_by(self, other: Self) -> Self { self / other }
            fn smaller(self, other: Self) -> Self { if self < other || self.is_nan() { self } else { other } }
            fn larger(self, other: Self) -> Self { if self > other || self.is_nan() { self } else { other } }
            fn modulo(self, other: Self) -> Self { Self::from_f64(self.to_f64().modulo(other.to_f64())) }
            fn remainder(self, other: Self) -> Self { Self::from_f64(self.to_f64() % other.to_f64()) }
            fn divides(self) -> bool { true }
            fn from_f64(number: f64) -> Self { <$ty>::from_f64(number) }
            fn to_f64(self) -> f64 { <$ty>::to_f64(self) }
        }
    )*};
}

macro_rules! impl_integers {
    ($($ty:ty)*) => {$(
        impl Number for $ty {
            fn plus(self, other: Self) -> Self { self.wrapping_add(other) }
            fn minus(self, other: Self) -> Self { self.wrapping_sub(other) }
            fn times(self, other: Self) -> Self { self.wrapping_mul(other) }
            // A zero divisor does not occur: `no_zero` refuses the tensor first.
            fn divided_by(self, other: Self) -> Self { if other == 0 { 0 } else { self.wrapping_div(other) } }
            fn smaller(self, other: Self) -> Self { self.min(other) }
            fn larger(self, other: Self) -> Self { self.max(other) }
            #[allow(unused_comparisons, reason = "the sign of an unsigned number")]
            fn modulo(self, other: Self) -> Self {
                let remainder = self.remainder(other);
                if remainder != 0 && (remainder < 0) != (other < 0) { remainder.wrapping_add(other) } else { remainder }
            }
            fn remainder(self, other: Self) -> Self { if other == 0 { 0 } else { self.wrapping_rem(other) } }
            fn divides(self) -> bool { self != 0 }
            fn from_f64(number: f64) -> Self { number as Self }
            #[allow(clippy::cast_lossless, reason = "not so for 64 bits")]
            fn to_f64(self) -> f64 { self as f64 }
        }
    )*};
}

impl_floats!(f32 f64);
impl_half_floats!(f16 bf16);
impl_integers!(i8 i16 i32 i64 u8 u16 u32 u64);

/// Runs a body with the Rust type of a value's elements, which must be numbers.
macro_rules! with_numbers {
    ($value:expr, $ty:ident => $body:expr) => {{
        use $crate::tensor::element::ElementType;
        match $value.ty() {
            ElementType::F32 => with_numbers!(@ f32, $ty, $body),
            ElementType::F64 => with_numbers!(@ f64, $ty, $body),
            ElementType::F16 => with_numbers!(@ half::f16, $ty, $body),
            ElementType::Bf16 => with_numbers!(@ half::bf16, $ty, $body),
            ElementType::I8 => with_numbers!(@ i8, $ty, $body),
            ElementType::I16 => with_numbers!(@ i16, $ty, $body),
            ElementType::I32 => with_numbers!(@ i32, $ty, $body),
            ElementType::I64 => with_numbers!(@ i64, $ty, $body),
            ElementType::U8 => with_numbers!(@ u8, $ty, $body),
            ElementType::U16 => with_numbers!(@ u16, $ty, $body),
            ElementType::U32 => with_numbers!(@ u32, $ty, $body),
            ElementType::U64 => with_numbers!(@ u64, $ty, $body),
            _ => Err($crate::tensor::value::no_type(&$value)),
        }
    }};
    (@ $rust:ty, $ty:ident, $body:expr) => {{
        type $ty = $rust;
        $body
    }};
}
pub(super) use with_numbers;

/// An operation with a loop of its own for f32 and i64. The other types call it by pointer, so that all operations
/// share one loop a type.
macro_rules! arithmetic {
    ($a:ident, $b:ident, $cx:ident, $operation:ident) => {
        match $a.ty() {
            ElementType::F32 => zip_into($a, $b, $cx, f32::$operation),
            ElementType::I64 => zip_into($a, $b, $cx, i64::$operation),
            // Each operation of f16 is one of f32, rounded.
            ElementType::F16 if $b.ty() == ElementType::F16 => {
                let (a, b) = (convert($a, ElementType::F32, $cx)?, convert($b, ElementType::F32, $cx)?);
                convert(zip_into(a, b, $cx, f32::$operation)?, ElementType::F16, $cx)
            }
            _ => with_numbers!($a, T => zip_into($a, $b, $cx, T::$operation as fn(T, T) -> T)),
        }
    };
}

pub(super) fn add(a: Value, b: Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
    arithmetic!(a, b, cx, plus)
}

fn sub(a: Value, b: Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
    arithmetic!(a, b, cx, minus)
}

pub(super) fn mul(a: Value, b: Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
    arithmetic!(a, b, cx, times)
}

fn div(a: Value, b: Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
    with_numbers!(a, T => {
        no_zero::<T>(&b, cx)
    })?;
    arithmetic!(a, b, cx, divided_by)
}

fn min(a: Value, b: Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
    arithmetic!(a, b, cx, smaller)
}

fn max(a: Value, b: Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
    arithmetic!(a, b, cx, larger)
}

fn no_zero<T: Number>(divisors: &Value, cx: &ExecContext<'_>) -> Result<(), Error> {
    let mut checkpoint = Checkpoint::default();
    for piece in divisors.elements::<T>()?.chunks(PIECE) {
        checkpoint.step(piece.len(), cx)?;
        if !piece.iter().all(|divisor| divisor.divides()) {
            return Err(Error::invalid_argument("an integer is divided by zero"));
        }
    }
    Ok(())
}

/// The exponent may have another type than the base; the result has that of the base.
fn power(a: Value, b: Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
    match (a.ty(), b.ty()) {
        (ElementType::F32, ElementType::F32) => match b.elements::<f32>()? {
            // The exponents that models use most have loops of their own.
            [2.0] if b.rank() <= a.rank() => map_into(a, cx, |x: f32| x * x),
            [3.0] if b.rank() <= a.rank() => map_into(a, cx, |x: f32| x * x * x),
            [0.5] if b.rank() <= a.rank() => map_into(a, cx, f32::sqrt),
            _ => zip_into(a, b, cx, f32::powf),
        },
        (ElementType::F64, ElementType::F64) => zip_into(a, b, cx, f64::powf),
        (ElementType::I64, ElementType::I64) => zip(&a, &b, cx, integer_power),
        (ElementType::I32, ElementType::I32) => {
            zip(&a, &b, cx, |a: i32, b: i32| integer_power(i64::from(a), i64::from(b)) as i32)
        }
        _ => {
            let exponent = with_numbers!(b, T => crate::ops::broadcast::map(&b, cx, |x: T| x.to_f64()))?;
            with_numbers!(a, T => {
                let base = crate::ops::broadcast::map(&a, cx, |x: T| x.to_f64())?;
                let result = zip_into(base, exponent, cx, f64::powf)?;
                crate::ops::broadcast::map(&result, cx, |x: f64| <T as Number>::from_f64(x))
            })
        }
    }
}

/// A power that wraps around. Negative exponents give 0, except for the bases 1 and -1.
fn integer_power(base: i64, exponent: i64) -> i64 {
    match (base, exponent) {
        (1, _) => 1,
        (-1, _) => {
            if exponent % 2 == 0 {
                1
            } else {
                -1
            }
        }
        (_, ..0) => 0,
        _ => {
            let (mut result, mut square, mut left) = (1_i64, base, exponent);
            while left > 0 {
                if left % 2 == 1 {
                    result = result.wrapping_mul(square);
                }
                square = square.wrapping_mul(square);
                left /= 2;
            }
            result
        }
    }
}

fn modulo(node: &Node<'_>) -> Result<OpFn, Error> {
    let fmod = node.flag("fmod", false)?;
    let floored = node.opset >= 28;
    Ok(Box::new(move |mut args, cx| {
        let (a, b) = (args.take(0)?, args.take(1)?);
        let float = matches!(a.ty(), ElementType::F16 | ElementType::Bf16 | ElementType::F32 | ElementType::F64);
        if float && !fmod {
            if !floored {
                return Err(no_type(&a));
            }
            return Ok(values![floored_remainder(a, b, cx)?]);
        }
        Ok(values![with_numbers!(a, T => {
            no_zero::<T>(&b, cx)?;
            zip_into(a, b, cx, if fmod { T::remainder } else { T::modulo } as fn(T, T) -> T)
        })?])
    }))
}

/// The remainder of floats with the sign of the divisor, also if it is 0. A finite dividend and an infinite divisor of
/// opposite signs give the divisor.
fn floored_remainder(a: Value, b: Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
    fn remainder(a: f64, b: f64) -> f64 {
        let rest = a % b;
        if rest == 0.0 {
            return 0.0_f64.copysign(b);
        }
        if rest.is_sign_negative() == b.is_sign_negative() { rest } else { rest + b }
    }
    // f64 holds the remainder of two narrower floats exactly.
    match a.ty() {
        ElementType::F64 => zip_into(a, b, cx, remainder),
        ElementType::F32 => zip_into(a, b, cx, |a: f32, b: f32| remainder(f64::from(a), f64::from(b)) as f32),
        ElementType::F16 => zip_into(a, b, cx, |a: f16, b: f16| f16::from_f64(remainder(a.to_f64(), b.to_f64()))),
        _ => zip_into(a, b, cx, |a: bf16, b: bf16| bf16::from_f64(remainder(a.to_f64(), b.to_f64()))),
    }
}

fn follower(binary: Fused) -> Option<Follower> {
    Some(Follower::Binary(binary))
}

/// An operator of two tensors.
pub(super) fn binary(f: Binary) -> Result<OpFn, Error> {
    Ok(Box::new(move |mut args, cx| Ok(values![f(args.take(0)?, args.take(1)?, cx)?])))
}

/// An operator of any number of tensors, from left to right.
fn variadic(f: Binary) -> Result<OpFn, Error> {
    Ok(Box::new(move |mut args, cx| {
        let mut result = args.take(0)?;
        for index in 1..args.len() {
            cx.control.check()?;
            result = f(result, args.take(index)?, cx)?;
        }
        Ok(values![result])
    }))
}

/// The sum of the operands divided by `divisor` of their number. f16 and bf16 are summed in f32 and rounded once.
fn sum(divisor: fn(usize) -> f64) -> Result<OpFn, Error> {
    Ok(Box::new(move |mut args, cx| {
        let ty = args.get(0)?.ty();
        let (count, narrow) = (args.len(), matches!(ty, ElementType::F16 | ElementType::Bf16));
        let mut operand = |index: usize| -> Result<Value, Error> {
            let value = args.take(index)?;
            if value.ty() != ty {
                return Err(Error::invalid_argument(format!(
                    "the operands have different types: {ty:?} and {:?}",
                    value.ty()
                )));
            }
            if narrow { convert(value, ElementType::F32, cx) } else { Ok(value) }
        };
        let mut result = operand(0)?;
        for index in 1..count {
            cx.control.check()?;
            result = add(result, operand(index)?, cx)?;
        }
        let divisor = divisor(count);
        if divisor != 1.0 {
            result =
                with_numbers!(result, T => map_into(result, cx, |x: T| <T as Number>::from_f64(x.to_f64() / divisor)))?;
        }
        Ok(values![convert(result, ty, cx)?])
    }))
}
