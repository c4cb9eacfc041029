//! The types that floating-point operators compute in: f64 for tensors of f64, and f32 for f32, f16 and bf16.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use crate::compute::context::ExecContext;
use crate::math::{functions, simd};
use crate::ops::cast::convert;
use crate::ops::elementwise::Float;
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

/// A type that floating-point operators compute in.
pub(super) trait Real:
    Float
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Sum
{
    const NEG_INFINITY: Self;
    const NAN: Self;
    fn is_nan(self) -> bool;
    fn abs(self) -> Self;
    fn sqrt(self) -> Self;
    fn powi(self, power: i32) -> Self;
    fn powf(self, power: Self) -> Self;
    fn exp(self) -> Self;
    fn exp_m1(self) -> Self;
    fn ln(self) -> Self;
    fn ln_1p(self) -> Self;
    fn tanh(self) -> Self;
    fn sigmoid(self) -> Self;
    /// The larger number; the other one if one is NaN.
    fn max(self, other: Self) -> Self;
    fn clamp(self, low: Self, high: Self) -> Self;

    /// `f` of each element, in place.
    fn map(elements: &mut [Self], f: impl Fn(Self) -> Self);

    /// Adds to each element of `out` the product of `x` with one row of `rows`, which has as many elements as `x`.
    fn add_dots(rows: &[Self], x: &[Self], out: &mut [Self]);
}

macro_rules! std_functions {
    ($ty:ident) => {
        const NEG_INFINITY: Self = $ty::NEG_INFINITY;
        const NAN: Self = $ty::NAN;
        fn is_nan(self) -> bool {
            self.is_nan()
        }
        fn abs(self) -> Self {
            self.abs()
        }
        fn sqrt(self) -> Self {
            self.sqrt()
        }
        fn powi(self, power: i32) -> Self {
            self.powi(power)
        }
        fn powf(self, power: Self) -> Self {
            self.powf(power)
        }
        fn exp_m1(self) -> Self {
            self.exp_m1()
        }
        fn ln(self) -> Self {
            self.ln()
        }
        fn ln_1p(self) -> Self {
            self.ln_1p()
        }
        fn max(self, other: Self) -> Self {
            self.max(other)
        }
        fn clamp(self, low: Self, high: Self) -> Self {
            self.clamp(low, high)
        }
    };
}

impl Real for f32 {
    std_functions!(f32);
    #[inline]
    fn exp(self) -> Self {
        functions::exp(self)
    }
    #[inline]
    fn tanh(self) -> Self {
        functions::tanh(self)
    }
    #[inline]
    fn sigmoid(self) -> Self {
        functions::sigmoid(self)
    }
    fn map(elements: &mut [Self], f: impl Fn(Self) -> Self) {
        simd::map(elements, f);
    }
    fn add_dots(rows: &[Self], x: &[Self], out: &mut [Self]) {
        simd::add_dots(rows, x, out);
    }
}

impl Real for f64 {
    std_functions!(f64);
    fn exp(self) -> Self {
        self.exp()
    }
    fn tanh(self) -> Self {
        self.tanh()
    }
    fn sigmoid(self) -> Self {
        1.0 / (1.0 + (-self).exp())
    }
    fn map(elements: &mut [Self], f: impl Fn(Self) -> Self) {
        elements.iter_mut().for_each(|element| *element = f(*element));
    }
    fn add_dots(rows: &[Self], x: &[Self], out: &mut [Self]) {
        for (out, row) in out.iter_mut().zip(rows.chunks_exact(x.len().max(1))) {
            *out += row.iter().zip(x).map(|(row, x)| row * x).sum::<Self>();
        }
    }
}

/// The type that operators compute in for floats of `ty`; `None` if `ty` is not a float.
pub(super) const fn compute_type(ty: ElementType) -> Option<ElementType> {
    match ty {
        ElementType::F32 | ElementType::F16 | ElementType::Bf16 => Some(ElementType::F32),
        ElementType::F64 => Some(ElementType::F64),
        _ => None,
    }
}

/// Converts floats to their [`compute_type`]; returns their own type too, for the conversion of the result.
pub(super) fn promote(value: Value, cx: &ExecContext<'_>) -> Result<(Value, ElementType), Error> {
    let ty = value.ty();
    let compute_ty = compute_type(ty).ok_or_else(|| no_type(&value))?;
    Ok((convert(value, compute_ty, cx)?, ty))
}

/// Converts another float operand to `compute_ty`, the type of the first one.
pub(super) fn promote_to(value: Value, compute_ty: ElementType, cx: &ExecContext<'_>) -> Result<Value, Error> {
    if compute_type(value.ty()).is_none() {
        return Err(no_type(&value));
    }
    convert(value, compute_ty, cx)
}

/// Runs a body with the Rust type of a promoted value: f64, or f32.
macro_rules! with_reals {
    ($value:expr, $ty:ident => $body:expr) => {{
        if $value.ty() == $crate::tensor::element::ElementType::F64 {
            type $ty = f64;
            $body
        } else {
            type $ty = f32;
            $body
        }
    }};
}
pub(super) use with_reals;
