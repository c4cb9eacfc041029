//! Operators that create tensors: Constant, ConstantOfShape, Range.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::loops;
use crate::ops::cast::convert;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::tensor::dim_list::DimVec;
use crate::tensor::element::{Element, ElementType, with_elements};
use crate::tensor::value::Value;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(1, "Constant", (0, 0), constant).free(),
    since(9, "ConstantOfShape", (1, 1), constant_of_shape)
        .device(form!(|node| moving::from_parameters(node, constant_of_shape))),
    since(11, "Range", (3, 3), range).device(form!(|node| moving::from_parameters(node, range))),
];

fn constant(node: &Node<'_>) -> Result<OpFn, Error> {
    let value = if let Some(value) = node.tensor("value")? {
        value
    } else if let Some(number) = node.float_option("value_float")? {
        Value::scalar(number)?
    } else if let Some(number) = node.int("value_int")? {
        Value::scalar(number)?
    } else if let Some(numbers) = node.floats("value_floats")? {
        Value::new(vec![numbers.len()], numbers.to_vec())?
    } else if let Some(numbers) = node.ints("value_ints")? {
        Value::new(vec![numbers.len()], numbers.to_vec())?
    } else {
        return Err(Error::unsupported(
            "a Constant without value, value_float, value_floats, value_int and value_ints is not supported",
        ));
    };
    Ok(Box::new(move |_, _| Ok(values![value.clone()])))
}

/// The dimensions that a tensor of integers holds.
pub(super) fn dims(shape: &Value) -> Result<DimVec, Error> {
    let dim =
        |&dim: &i64| usize::try_from(dim).map_err(|_| Error::invalid_argument(format!("dimension {dim} is negative")));
    shape.to_i64s()?.iter().map(dim).collect()
}

fn constant_of_shape(node: &Node<'_>) -> Result<OpFn, Error> {
    let value = match node.tensor("value")? {
        Some(value) => value,
        None => Value::scalar(0.0_f32)?,
    };
    if value.len() != 1 {
        return Err(Error::invalid_encoding("attribute value must have one element"));
    }
    Ok(Box::new(move |args, cx| {
        let dims = dims(args.get(0)?)?;
        let plain = value.plain();
        let filled = with_elements!(plain, |elements| {
            let element = elements.first().copied().unwrap_or_default();
            cx.output(&dims)?.write(element, |_| Ok(()))
        })?;
        Ok(values![filled.retyped(value.ty())])
    }))
}

/// `f` of each number of steps.
fn filled<T: Element>(steps: usize, f: impl Fn(usize) -> T + Copy, cx: &ExecContext<'_>) -> Result<Value, Error> {
    cx.output::<T>(&[steps])?.append(|out| {
        let mut checkpoint = Checkpoint::default();
        for first in (0..steps).step_by(PIECE) {
            let end = steps.min(first + PIECE);
            checkpoint.step(end - first, cx)?;
            loops::extend(out, (first..end).map(f));
        }
        Ok(())
    })
}

fn range(node: &Node<'_>) -> Result<OpFn, Error> {
    let allows_half = node.opset >= 27;
    if allows_half {
        // The type of partial sums, which do not occur here: each element is computed from its index.
        node.ignore(&["stash_type"]);
    }
    Ok(Box::new(move |args, cx| {
        let ty = args.get(0)?.ty();
        // f16 and bf16 are computed in f32, so that their rounding does not end the range early.
        let is_half = allows_half && matches!(ty, ElementType::F16 | ElementType::Bf16);
        let bound = |index: usize| -> Result<Value, Error> {
            let value = args.get(index)?.clone();
            if value.ty() != ty {
                return Err(Error::invalid_argument(format!(
                    "start, limit and delta have different types: {ty:?} and {:?}",
                    value.ty()
                )));
            }
            if is_half { convert(value, ElementType::F32, cx) } else { Ok(value) }
        };
        let (start, limit, delta) = (&bound(0)?, &bound(1)?, &bound(2)?);
        if start.len() != 1 || limit.len() != 1 || delta.len() != 1 {
            return Err(Error::invalid_argument("start, limit and delta must each have one element"));
        }
        macro_rules! float_range {
            ($ty:ty) => {{
                let read = |value: &Value| -> Result<$ty, Error> { Ok(value.elements::<$ty>()?[0]) };
                let (start, limit, delta) = (read(start)?, read(limit)?, read(delta)?);
                // In f64, so that the quotient is not rounded to a whole number.
                let steps = ((f64::from(limit) - f64::from(start)) / f64::from(delta)).ceil();
                if delta == 0.0 || !steps.is_finite() {
                    return Err(Error::invalid_argument("the range has no end: delta is 0, or a bound is not finite"));
                }
                // The conversion saturates.
                let steps = steps.max(0.0) as usize;
                filled(steps, move |step| start + step as $ty * delta, cx)?
            }};
        }
        macro_rules! integer_range {
            ($ty:ty) => {{
                let read = |value: &Value| -> Result<i128, Error> { Ok(i128::from(value.elements::<$ty>()?[0])) };
                let (start, limit, delta) = (read(start)?, read(limit)?, read(delta)?);
                if delta == 0 {
                    return Err(Error::invalid_argument("the range has no end: delta is 0"));
                }
                let span = limit - start;
                // Rounded up, towards the limit.
                let steps = span / delta + i128::from(span % delta != 0 && (span < 0) == (delta < 0));
                let steps = usize::try_from(steps.max(0)).unwrap_or(usize::MAX);
                // Every element is in range, so that products and sums may wrap around on the way.
                let (start, delta) = (start as $ty, delta as $ty);
                filled(steps, move |step| start.wrapping_add(delta.wrapping_mul(step as $ty)), cx)?
            }};
        }
        let result = match start.ty() {
            ElementType::F32 => float_range!(f32),
            ElementType::F64 => float_range!(f64),
            ElementType::I16 => integer_range!(i16),
            ElementType::I32 => integer_range!(i32),
            ElementType::I64 => integer_range!(i64),
            _ => return Err(crate::tensor::value::no_type(start)),
        };
        Ok(values![convert(result, ty, cx)?])
    }))
}
