//! Cast and CastLike: conversions between element types.
//!
//! A float is truncated to an integer and saturates if it is out of range. An integer wraps around to a narrower one.

use half::{bf16, f16};

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::halves;
use crate::ops::broadcast::map;
use crate::ops::bytes::{ROUNDER, extend};
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::tensor::element::{Element, ElementType};
use crate::tensor::narrow;
use crate::tensor::narrow::{Power, Rule};
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(6, "Cast", (1, 1), cast).device(form!(arithmetic::cast)),
    since(15, "CastLike", (2, 2), cast_like).device(form!(arithmetic::cast_like)),
];

/// An element type that numbers are converted to.
trait Target: Element {
    fn from_integer(number: i128) -> Self;
    fn from_float(number: f64) -> Self;
}

macro_rules! impl_target {
    ($($ty:ty)*) => {$(
        impl Target for $ty {
            fn from_integer(number: i128) -> Self { number as Self }
            fn from_float(number: f64) -> Self { number as Self }
        }
    )*};
}

impl_target!(f32 f64 i8 i16 i32 i64 u8 u16 u32 u64);

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

/// An element of any type, between the conversion from its type and the one to the target.
#[derive(Clone, Copy)]
enum Number {
    Integer(i128),
    Float(f64),
}

fn visit_as<T: Element>(
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

/// Visits every element as a [`Number`]. A loop for each pair of types would make the crate much larger.
fn visit_numbers(value: &Value, cx: &ExecContext<'_>, visit: &mut dyn FnMut(Number)) -> Result<(), Error> {
    match value.ty() {
        ElementType::F32 => visit_as(value, |x: f32| Number::Float(f64::from(x)), cx, visit),
        ElementType::F64 => visit_as(value, Number::Float, cx, visit),
        ElementType::F16 => visit_as(value, |x: f16| Number::Float(x.to_f64()), cx, visit),
        ElementType::Bf16 => visit_as(value, |x: bf16| Number::Float(x.to_f64()), cx, visit),
        ElementType::I8 => visit_as(value, |x: i8| Number::Integer(i128::from(x)), cx, visit),
        ElementType::I16 => visit_as(value, |x: i16| Number::Integer(i128::from(x)), cx, visit),
        ElementType::I32 => visit_as(value, |x: i32| Number::Integer(i128::from(x)), cx, visit),
        ElementType::I64 => visit_as(value, |x: i64| Number::Integer(i128::from(x)), cx, visit),
        ElementType::U8 => visit_as(value, |x: u8| Number::Integer(i128::from(x)), cx, visit),
        ElementType::U16 => visit_as(value, |x: u16| Number::Integer(i128::from(x)), cx, visit),
        ElementType::U32 => visit_as(value, |x: u32| Number::Integer(i128::from(x)), cx, visit),
        ElementType::U64 => visit_as(value, |x: u64| Number::Integer(i128::from(x)), cx, visit),
        ElementType::Bool => visit_as(value, |x: bool| Number::Integer(i128::from(x)), cx, visit),
        ElementType::String => Err(no_type(value)),
        ty => {
            let is_integer = narrow::integer(ty).is_some();
            let mut checkpoint = Checkpoint::default();
            for piece in value.codes()?.chunks(PIECE) {
                checkpoint.step(piece.len(), cx)?;
                for &code in piece {
                    visit(if is_integer {
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

fn convert_to<T: Target>(value: &Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let (mut elements, charge) = cx.scratch::<T>(value.len())?;
    visit_numbers(value, cx, &mut |number| {
        elements.push(match number {
            Number::Integer(number) => T::from_integer(number),
            Number::Float(number) => T::from_float(number),
        });
    })?;
    Value::charged(value.dims().to_vec(), elements, charge)
}

/// As [`map`], in a loop for the widest vectors of the processor.
fn map_wide<T: Element, U: Element>(value: &Value, cx: &ExecContext<'_>, f: impl Fn(T) -> U) -> Result<Value, Error> {
    let (elements, mut checkpoint) = (value.elements::<T>()?, Checkpoint::default());
    cx.output::<U>(value.dims())?.append(|out| {
        for piece in elements.chunks(PIECE) {
            checkpoint.step(piece.len(), cx)?;
            extend(piece, out, &f);
        }
        Ok(())
    })
}

/// The integer part of a number, within a range of less than 2²². NaN becomes 0.
#[inline]
fn saturated(x: f32, low: f32, high: f32) -> i32 {
    let number = if x.is_nan() { 0.0 } else { x.max(low).min(high) };
    (number.trunc() + ROUNDER).to_bits() as i32 - ROUNDER.to_bits() as i32
}

/// The value with its elements converted to `ty`.
pub(super) fn convert(value: Value, ty: ElementType, cx: &ExecContext<'_>) -> Result<Value, Error> {
    if value.ty() == ty {
        return Ok(value);
    }
    // The conversions that models use most have loops of their own.
    match (value.ty(), ty) {
        (ElementType::I64, ElementType::F32) => return map(&value, cx, |x: i64| x as f32),
        (ElementType::F32, ElementType::I64) => return map(&value, cx, |x: f32| x as i64),
        (ElementType::I32, ElementType::F32) => return map_wide(&value, cx, |x: i32| x as f32),
        (ElementType::Bool, ElementType::F32) => return map(&value, cx, |x: bool| f32::from(u8::from(x))),
        (ElementType::F32, ElementType::I32) => return map(&value, cx, to_i32),
        (ElementType::I32, ElementType::I64) => return map(&value, cx, |x: i32| i64::from(x)),
        (ElementType::I64, ElementType::I32) => return map(&value, cx, |x: i64| x as i32),
        (ElementType::Bool, ElementType::I64) => return map(&value, cx, |x: bool| i64::from(x)),
        (ElementType::Bool, ElementType::I32) => return map(&value, cx, |x: bool| i32::from(x)),
        (ElementType::U8, ElementType::F32) => return map_wide(&value, cx, |x: u8| f32::from(x)),
        (ElementType::I8, ElementType::F32) => return map_wide(&value, cx, |x: i8| f32::from(x)),
        (ElementType::U8, ElementType::I32) => return map_wide(&value, cx, |x: u8| i32::from(x)),
        (ElementType::I8, ElementType::I32) => return map_wide(&value, cx, |x: i8| i32::from(x)),
        (ElementType::I32, ElementType::U8) => return map_wide(&value, cx, |x: i32| x as u8),
        (ElementType::I32, ElementType::I8) => return map_wide(&value, cx, |x: i32| x as i8),
        (ElementType::F32, ElementType::U8) => return map_wide(&value, cx, |x: f32| saturated(x, 0.0, 255.0) as u8),
        (ElementType::F32, ElementType::I8) => return map_wide(&value, cx, |x: f32| saturated(x, -128.0, 127.0) as i8),
        (ElementType::U8, ElementType::I64) => return map(&value, cx, |x: u8| i64::from(x)),
        (ElementType::Bool, ElementType::U8) => return map(&value, cx, |x: bool| u8::from(x)),
        (ElementType::F32, ElementType::Bool) => return map(&value, cx, |x: f32| x != 0.0),
        (ElementType::I64, ElementType::Bool) => return map(&value, cx, |x: i64| x != 0),
        (ElementType::I32, ElementType::Bool) => return map(&value, cx, |x: i32| x != 0),
        (ElementType::U8, ElementType::Bool) => return map(&value, cx, |x: u8| x != 0),
        (ElementType::F32, ElementType::F64) => return map(&value, cx, |x: f32| f64::from(x)),
        (ElementType::F64, ElementType::F32) => return map(&value, cx, |x: f64| x as f32),
        (ElementType::F32, ElementType::F16) => return narrowed(&value, cx),
        (ElementType::F16, ElementType::F32) => return widened(&value, cx),
        _ => {}
    }
    match ty {
        ElementType::F16 => convert_to::<f16>(&value, cx),
        ElementType::Bf16 => convert_to::<bf16>(&value, cx),
        ElementType::F32 => convert_to::<f32>(&value, cx),
        ElementType::F64 => convert_to::<f64>(&value, cx),
        ElementType::I8 => convert_to::<i8>(&value, cx),
        ElementType::I16 => convert_to::<i16>(&value, cx),
        ElementType::I32 => convert_to::<i32>(&value, cx),
        ElementType::I64 => convert_to::<i64>(&value, cx),
        ElementType::U8 => convert_to::<u8>(&value, cx),
        ElementType::U16 => convert_to::<u16>(&value, cx),
        ElementType::U32 => convert_to::<u32>(&value, cx),
        ElementType::U64 => convert_to::<u64>(&value, cx),
        ElementType::Bool => convert_to::<bool>(&value, cx),
        ElementType::String => Err(Error::unsupported("a cast from numbers to strings is not supported")),
        narrow => encode(&value, narrow, Rule::DEFAULT, cx),
    }
}

/// Elements that are converted at a time, which stay in the nearest cache.
const FEW: usize = 1 << 11;

/// f32 in f16, in loops for the widest vectors of the processor.
fn narrowed(value: &Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let (elements, mut checkpoint) = (value.elements::<f32>()?, Checkpoint::default());
    cx.output::<f16>(value.dims())?.append(|out| {
        for piece in elements.chunks(FEW) {
            checkpoint.step(piece.len(), cx)?;
            let start = out.len();
            out.resize(start + piece.len(), f16::ZERO);
            halves::narrow(piece, &mut out[start..]);
        }
        Ok(())
    })
}

/// f16 in f32, likewise.
fn widened(value: &Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let (elements, mut checkpoint) = (value.elements::<f16>()?, Checkpoint::default());
    cx.output::<f32>(value.dims())?.append(|out| {
        for piece in elements.chunks(FEW) {
            checkpoint.step(piece.len(), cx)?;
            let start = out.len();
            out.resize(start + piece.len(), 0.0);
            halves::widen(piece, &mut out[start..]);
        }
        Ok(())
    })
}

/// As `x as i32`, in operations that vectors have.
#[inline]
fn to_i32(x: f32) -> i32 {
    // Adding 1.5 × 2⁵² puts an integer into the lowest bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let wide = f64::from(if x.is_nan() { 0.0 } else { x });
    let wide = wide.trunc().clamp(f64::from(i32::MIN), f64::from(i32::MAX));
    (wide + ROUND).to_bits() as i32
}

/// The value encoded in a narrow type, such as an 8-bit float or a 4-bit integer.
pub(super) fn encode(value: &Value, ty: ElementType, rule: Rule, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let is_integer = narrow::integer(ty).is_some();
    let (mut codes, charge) = cx.scratch::<u8>(value.len())?;
    visit_numbers(value, cx, &mut |number| {
        codes.push(match number {
            Number::Integer(number) if is_integer => narrow::encode_integer(ty, number),
            Number::Float(number) if is_integer => narrow::encode_cut(ty, number, rule),
            Number::Integer(number) => narrow::encode_float(ty, number as f64, rule),
            Number::Float(number) => narrow::encode_float(ty, number, rule),
        });
    })?;
    Value::charged(value.dims().to_vec(), codes, charge)?.of_codes(ty)
}

/// How the attributes of a node round numbers to a narrow type.
fn rule(node: &Node<'_>) -> Result<Rule, Error> {
    // Both attributes are without meaning before the opset that introduced them.
    node.ignore(&["saturate", "round_mode"]);
    let saturate = if node.opset >= 19 { node.flag("saturate", true)? } else { true };
    let power = match if node.opset >= 24 { node.string("round_mode", "up")? } else { "up" } {
        "up" => Power::Up,
        "down" => Power::Down,
        "nearest" => Power::Nearest,
        _ => return Err(Error::invalid_encoding("attribute round_mode is not one of up, down and nearest")),
    };
    // ONNX does not define how a float out of range becomes an integer; its tests wrap around from opset 25 on.
    Ok(Rule { saturate, power, wrap: node.opset >= 25 })
}

fn cast_to(value: Value, ty: ElementType, rule: Rule, cx: &ExecContext<'_>) -> Result<Value, Error> {
    if ty.is_narrow() && value.ty() != ty { encode(&value, ty, rule, cx) } else { convert(value, ty, cx) }
}

fn cast(node: &Node<'_>) -> Result<OpFn, Error> {
    let ty = node.element_type("to")?.ok_or_else(|| Error::invalid_encoding("attribute to is missing"))?;
    let rule = rule(node)?;
    Ok(Box::new(move |mut args, cx| Ok(values![cast_to(args.take(0)?, ty, rule, cx)?])))
}

fn cast_like(node: &Node<'_>) -> Result<OpFn, Error> {
    let rule = rule(node)?;
    Ok(Box::new(move |mut args, cx| {
        let ty = args.get(1)?.ty();
        Ok(values![cast_to(args.take(0)?, ty, rule, cx)?])
    }))
}
