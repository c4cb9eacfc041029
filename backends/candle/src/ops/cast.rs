//! Cast and CastLike: from any element type to any other.
//!
//! A float becomes an integer by cutting its fraction, and the nearest integer where it is out of range; an
//! integer becomes a narrower one by dropping its upper bits.

use half::{bf16, f16};

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::ops::broadcast::map;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, since};
use crate::tensor::element::{Element, ElementType};
use crate::tensor::narrow;
use crate::tensor::narrow::{Power, Rule};
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[since(6, "Cast", (1, 1), cast), since(15, "CastLike", (2, 2), cast_like)];

/// A type that can be made from a number.
trait Target: Element {
    fn from_integer(number: i128) -> Self;
    fn from_float(number: f64) -> Self;
}

macro_rules! targets {
    ($($ty:ty)*) => {$(
        impl Target for $ty {
            fn from_integer(number: i128) -> Self { number as Self }
            fn from_float(number: f64) -> Self { number as Self }
        }
    )*};
}

targets!(f32 f64 i8 i16 i32 i64 u8 u16 u32 u64);

impl Target for bool {
    fn from_integer(number: i128) -> Self {
        number != 0
    }
    fn from_float(number: f64) -> Self {
        number != 0.0
    }
}

impl Target for f16 {
    fn from_integer(number: i128) -> Self {
        Self::from_f64(number as f64)
    }
    fn from_float(number: f64) -> Self {
        Self::from_f64(number)
    }
}

impl Target for bf16 {
    fn from_integer(number: i128) -> Self {
        Self::from_f64(number as f64)
    }
    fn from_float(number: f64) -> Self {
        Self::from_f64(number)
    }
}

/// A number of any type, on its way from one type to another.
#[derive(Clone, Copy)]
enum Number {
    Integer(i128),
    Float(f64),
}

fn numbers<T: Element>(
    value: &Value,
    to: impl Fn(T) -> Number,
    cx: &ExecContext<'_>,
    visit: &mut dyn FnMut(Number),
) -> Result<(), Error> {
    let mut checkpoint = Checkpoint::default();
    for piece in value.elements::<T>()?.chunks(PIECE) {
        checkpoint.step(piece.len(), cx)?;
        piece.iter().for_each(|&element| visit(to(element)));
    }
    Ok(())
}

/// Visits every element. By way of a common type, since each pair of types would have a loop of its own otherwise.
fn each(value: &Value, cx: &ExecContext<'_>, visit: &mut dyn FnMut(Number)) -> Result<(), Error> {
    match value.ty() {
        ElementType::F32 => numbers(value, |x: f32| Number::Float(f64::from(x)), cx, visit),
        ElementType::F64 => numbers(value, Number::Float, cx, visit),
        ElementType::F16 => numbers(value, |x: f16| Number::Float(x.to_f64()), cx, visit),
        ElementType::Bf16 => numbers(value, |x: bf16| Number::Float(x.to_f64()), cx, visit),
        ElementType::I8 => numbers(value, |x: i8| Number::Integer(i128::from(x)), cx, visit),
        ElementType::I16 => numbers(value, |x: i16| Number::Integer(i128::from(x)), cx, visit),
        ElementType::I32 => numbers(value, |x: i32| Number::Integer(i128::from(x)), cx, visit),
        ElementType::I64 => numbers(value, |x: i64| Number::Integer(i128::from(x)), cx, visit),
        ElementType::U8 => numbers(value, |x: u8| Number::Integer(i128::from(x)), cx, visit),
        ElementType::U16 => numbers(value, |x: u16| Number::Integer(i128::from(x)), cx, visit),
        ElementType::U32 => numbers(value, |x: u32| Number::Integer(i128::from(x)), cx, visit),
        ElementType::U64 => numbers(value, |x: u64| Number::Integer(i128::from(x)), cx, visit),
        ElementType::Bool => numbers(value, |x: bool| Number::Integer(i128::from(x)), cx, visit),
        ElementType::String => Err(no_type(value)),
        ty => {
            let whole = narrow::integer(ty).is_some();
            let mut checkpoint = Checkpoint::default();
            for piece in value.codes()?.chunks(PIECE) {
                checkpoint.step(piece.len(), cx)?;
                for &code in piece {
                    visit(if whole {
                        Number::Integer(i128::from(narrow::decode_integer(ty, code)))
                    } else {
                        Number::Float(narrow::decode_float(ty, code))
                    });
                }
            }
            Ok(())
        }
    }
}

fn to<T: Target>(value: &Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let (mut elements, charge) = cx.scratch::<T>(value.len())?;
    each(value, cx, &mut |number| {
        elements.push(match number {
            Number::Integer(number) => T::from_integer(number),
            Number::Float(number) => T::from_float(number),
        });
    })?;
    Value::charged(value.dims().to_vec(), elements, charge)
}

/// The value with its elements converted to `ty`.
pub(super) fn convert(value: Value, ty: ElementType, cx: &ExecContext<'_>) -> Result<Value, Error> {
    if value.ty() == ty {
        return Ok(value);
    }
    // The pairs that models convert between at every inference.
    match (value.ty(), ty) {
        (ElementType::I64, ElementType::F32) => return map(&value, cx, |x: i64| x as f32),
        (ElementType::F32, ElementType::I64) => return map(&value, cx, |x: f32| x as i64),
        (ElementType::I32, ElementType::F32) => return map(&value, cx, |x: i32| x as f32),
        (ElementType::Bool, ElementType::F32) => return map(&value, cx, |x: bool| f32::from(u8::from(x))),
        (ElementType::F32, ElementType::I32) => return map(&value, cx, |x: f32| x as i32),
        (ElementType::I32, ElementType::I64) => return map(&value, cx, |x: i32| i64::from(x)),
        (ElementType::I64, ElementType::I32) => return map(&value, cx, |x: i64| x as i32),
        (ElementType::Bool, ElementType::I64) => return map(&value, cx, |x: bool| i64::from(x)),
        (ElementType::Bool, ElementType::I32) => return map(&value, cx, |x: bool| i32::from(x)),
        (ElementType::U8, ElementType::F32) => return map(&value, cx, |x: u8| f32::from(x)),
        (ElementType::F32, ElementType::F16) => return map(&value, cx, f16::from_f32),
        (ElementType::F16, ElementType::F32) => return map(&value, cx, f16::to_f32),
        _ => {}
    }
    match ty {
        ElementType::F16 => to::<f16>(&value, cx),
        ElementType::Bf16 => to::<bf16>(&value, cx),
        ElementType::F32 => to::<f32>(&value, cx),
        ElementType::F64 => to::<f64>(&value, cx),
        ElementType::I8 => to::<i8>(&value, cx),
        ElementType::I16 => to::<i16>(&value, cx),
        ElementType::I32 => to::<i32>(&value, cx),
        ElementType::I64 => to::<i64>(&value, cx),
        ElementType::U8 => to::<u8>(&value, cx),
        ElementType::U16 => to::<u16>(&value, cx),
        ElementType::U32 => to::<u32>(&value, cx),
        ElementType::U64 => to::<u64>(&value, cx),
        ElementType::Bool => to::<bool>(&value, cx),
        ElementType::String => Err(Error::unsupported("a cast from numbers to strings is not supported")),
        narrow => encode(&value, narrow, Rule::DEFAULT, cx),
    }
}

/// The value as codes of a narrow type.
pub(super) fn encode(value: &Value, ty: ElementType, rule: Rule, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let whole = narrow::integer(ty).is_some();
    let (mut codes, charge) = cx.scratch::<u8>(value.len())?;
    each(value, cx, &mut |number| {
        codes.push(match number {
            Number::Integer(number) if whole => narrow::encode_integer(ty, number),
            Number::Float(number) if whole => narrow::encode_cut(ty, number, rule),
            Number::Integer(number) => narrow::encode_float(ty, number as f64, rule),
            Number::Float(number) => narrow::encode_float(ty, number, rule),
        });
    })?;
    Value::charged(value.dims().to_vec(), codes, charge)?.of_codes(ty)
}

/// How numbers become codes of a narrow type, as a node says it.
fn rule(node: &Node<'_>) -> Result<Rule, Error> {
    // They mean nothing before the opset that brought them.
    node.ignore(&["saturate", "round_mode"]);
    let saturate = if node.opset >= 19 { node.flag("saturate", true)? } else { true };
    let power = match if node.opset >= 24 { node.string("round_mode", "up")? } else { "up" } {
        "up" => Power::Up,
        "down" => Power::Down,
        "nearest" => Power::Nearest,
        _ => return Err(Error::invalid_encoding("attribute round_mode is not one of up, down and nearest")),
    };
    // ONNX leaves open what a float past an integer's range becomes, and its tests changed their mind with opset 25.
    Ok(Rule { saturate, power, wrap: node.opset >= 25 })
}

fn converted(value: Value, ty: ElementType, rule: Rule, cx: &ExecContext<'_>) -> Result<Value, Error> {
    if ty.is_narrow() && value.ty() != ty { encode(&value, ty, rule, cx) } else { convert(value, ty, cx) }
}

fn cast(node: &Node<'_>) -> Result<OpFn, Error> {
    let ty = node.element_type("to")?.ok_or_else(|| Error::invalid_encoding("attribute to is missing"))?;
    let rule = rule(node)?;
    Ok(Box::new(move |mut args, cx| Ok(vec![converted(args.take(0)?, ty, rule, cx)?])))
}

fn cast_like(node: &Node<'_>) -> Result<OpFn, Error> {
    let rule = rule(node)?;
    Ok(Box::new(move |mut args, cx| {
        let ty = args.get(1)?.ty();
        Ok(vec![converted(args.take(0)?, ty, rule, cx)?])
    }))
}
