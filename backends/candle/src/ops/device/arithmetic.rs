//! Device forms of operators on two tensors or more: arithmetic, comparisons, logic, Where; and of Cast.

use crate::device::args::{DeviceArgs, DeviceForm, Outputs, Stop};
use crate::device::context::DeviceContext;
use crate::device::math::{Binary, Compare, Extreme};
use crate::device::tensor::DeviceTensor;
use crate::ops::device::{host_only, one, own_type, require_one_type};
use crate::ops::node::Node;
use crate::tensor::element::ElementType;
use graphpool::backend::Error;

/// An operator of two tensors of floats.
fn pair(
    f: impl Fn(&DeviceTensor, &DeviceTensor, &DeviceContext<'_>) -> Result<DeviceTensor, Error> + Send + Sync + 'static,
) -> Result<DeviceForm, Stop> {
    Ok(Box::new(move |args, dx| {
        let ty = require_one_type(args, 1..2)?;
        let (a, b) = (args.float(0, dx)?, args.float(1, dx)?);
        one(&f(&a, &b, dx)?, ty, dx)
    }))
}

pub(in crate::ops) fn binary(f: Binary) -> Result<DeviceForm, Stop> {
    pair(move |a, b, dx| dx.binary(f, a, b))
}

/// The largest or smallest of any number of tensors.
pub(in crate::ops) fn extreme(f: Extreme) -> Result<DeviceForm, Stop> {
    Ok(Box::new(move |args, dx| {
        let ty = require_one_type(args, 1..args.len())?;
        let mut result = args.float(0, dx)?;
        for index in 1..args.len() {
            result = dx.extreme(f, &result, &args.float(index, dx)?)?;
        }
        one(&result, ty, dx)
    }))
}

/// The sum of any number of tensors, divided by `divisor` of their number.
pub(in crate::ops) fn sum(divisor: fn(usize) -> f64) -> Result<DeviceForm, Stop> {
    Ok(Box::new(move |args, dx| {
        let ty = require_one_type(args, 1..args.len())?;
        let mut result = args.float(0, dx)?;
        for index in 1..args.len() {
            result = dx.add(&result, &args.float(index, dx)?)?;
        }
        let divisor = divisor(args.len());
        if divisor != 1.0 {
            result = dx.div(&result, &dx.number(divisor, result.ty())?)?;
        }
        one(&result, ty, dx)
    }))
}

/// The input at `index` as it is compared: floats of 16 bits as F32.
fn operand(args: &mut DeviceArgs, index: usize, dx: &DeviceContext<'_>) -> Result<DeviceTensor, Stop> {
    match own_type(args, index)? {
        ElementType::F16 | ElementType::Bf16 => args.float(index, dx),
        _ => args.tensor(index, dx),
    }
}

pub(in crate::ops) fn compare(f: Compare) -> Result<DeviceForm, Stop> {
    Ok(Box::new(move |args, dx| {
        let ty = require_one_type(args, 1..2)?;
        // Booleans have no order, and the host says so.
        if ty == ElementType::Bool && !matches!(f, Compare::Equal) {
            return host_only();
        }
        let (a, b) = (operand(args, 0, dx)?, operand(args, 1, dx)?);
        Ok(vec![dx.compare(f, &a, &b)?.into()])
    }))
}

/// A function of two booleans.
#[derive(Clone, Copy)]
pub(in crate::ops) enum Logic {
    And,
    Or,
    Xor,
}

/// The input at `index`, which is a tensor of booleans.
fn booleans(args: &mut DeviceArgs, index: usize, dx: &DeviceContext<'_>) -> Result<DeviceTensor, Stop> {
    match own_type(args, index)? {
        ElementType::Bool => args.tensor(index, dx),
        _ => host_only(),
    }
}

pub(in crate::ops) fn logic(f: Logic) -> Result<DeviceForm, Stop> {
    Ok(Box::new(move |args, dx| {
        let (a, b) = (booleans(args, 0, dx)?, booleans(args, 1, dx)?);
        let result = match f {
            Logic::And => dx.select(&a, &b, &a)?,
            Logic::Or => dx.select(&a, &a, &b)?,
            Logic::Xor => dx.compare(Compare::NotEqual, &a, &b)?,
        };
        Ok(vec![result.into()])
    }))
}

pub(in crate::ops) fn not(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    Ok(Box::new(|args, dx| {
        let x = booleans(args, 0, dx)?;
        let no = dx.compare(Compare::NotEqual, &x, &x)?;
        Ok(vec![dx.compare(Compare::Equal, &x, &no)?.into()])
    }))
}

pub(in crate::ops) fn select(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    Ok(Box::new(|args, dx| {
        let condition = booleans(args, 0, dx)?;
        let (a, b) = (args.tensor(1, dx)?, args.tensor(2, dx)?);
        Ok(vec![dx.select(&condition, &a, &b)?.into()])
    }))
}

pub(in crate::ops) fn is_infinite(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let (negative, positive) = (node.flag("detect_negative", true)?, node.flag("detect_positive", true)?);
    Ok(Box::new(move |args, dx| {
        let x = args.float(0, dx)?;
        let (low, high) = (
            dx.compare_with(Compare::Equal, &x, f64::NEG_INFINITY)?,
            dx.compare_with(Compare::Equal, &x, f64::INFINITY)?,
        );
        let result = match (negative, positive) {
            (true, true) => dx.select(&low, &low, &high)?,
            (true, false) => low,
            (false, true) => high,
            (false, false) => dx.compare(Compare::Greater, &low, &low)?,
        };
        Ok(vec![result.into()])
    }))
}

/// The conversions that give the same numbers on every device: all but those of floats that an integer can't hold,
/// and of integers to narrower ones.
fn converts(from: ElementType, to: ElementType) -> bool {
    let float = |ty| matches!(ty, ElementType::F16 | ElementType::Bf16 | ElementType::F32 | ElementType::F64);
    let integer =
        |ty| matches!(ty, ElementType::U8 | ElementType::U32 | ElementType::I16 | ElementType::I32 | ElementType::I64);
    match (from, to) {
        (from, to) if from == to => float(from) || integer(from) || from == ElementType::Bool,
        (from, to) if float(from) => float(to) || to == ElementType::Bool,
        (ElementType::Bool, to) => float(to) || integer(to),
        (from, to) if integer(from) => float(to) || to == ElementType::I64 || to == ElementType::Bool,
        _ => false,
    }
}

fn converted(args: &mut DeviceArgs, ty: ElementType, dx: &DeviceContext<'_>) -> Outputs {
    let from = own_type(args, 0)?;
    if !converts(from, ty) {
        return host_only();
    }
    let x = args.tensor(0, dx)?;
    // A number is rounded once: integers to 16 bits by way of F64, which holds all but the largest.
    let narrow = |ty| matches!(ty, ElementType::F16 | ElementType::Bf16);
    let x = match from {
        from if from == ty || !narrow(ty) => x,
        ElementType::F32 | ElementType::F64 => x,
        from if narrow(from) => dx.cast(&x, ElementType::F32)?,
        _ => dx.cast(&x, ElementType::F64)?,
    };
    Ok(vec![dx.cast(&x, ty)?.into()])
}

pub(in crate::ops) fn cast(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let ty = node.element_type("to")?.ok_or_else(|| Error::invalid_encoding("attribute to is missing"))?;
    node.ignore(&["saturate", "round_mode"]);
    Ok(Box::new(move |args, dx| converted(args, ty, dx)))
}

pub(in crate::ops) fn cast_like(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    node.ignore(&["saturate", "round_mode"]);
    Ok(Box::new(|args, dx| {
        let ty = own_type(args, 1)?;
        converted(args, ty, dx)
    }))
}
