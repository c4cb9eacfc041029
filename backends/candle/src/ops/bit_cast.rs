//! BitCast: reinterprets the bits of each element as another element type of the same size.

use half::{bf16, f16};

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::ops::broadcast::map;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, since};
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[since(26, "BitCast", (1, 1), cast)];

fn cast(node: &Node<'_>) -> Result<OpFn, Error> {
    let ty = node.element_type("to")?.ok_or_else(|| Error::invalid_encoding("attribute to is missing"))?;
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        if value.ty() == ty {
            return Ok(values![value]);
        }
        if value.ty().bits() != ty.bits() {
            return Err(Error::invalid_argument(format!("{:?} and {ty:?} have different numbers of bits", value.ty())));
        }
        Ok(values![from_bits(&to_bits(value, cx)?, ty, cx)?])
    }))
}

/// The bits of the elements, as unsigned integers.
fn to_bits(value: Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
    match value.ty() {
        ElementType::U8 | ElementType::U16 | ElementType::U32 | ElementType::U64 => Ok(value),
        ElementType::Bool => map(&value, cx, |x: bool| u8::from(x)),
        ElementType::I8 => map(&value, cx, i8::cast_unsigned),
        ElementType::I16 => map(&value, cx, i16::cast_unsigned),
        ElementType::F16 => map(&value, cx, f16::to_bits),
        ElementType::Bf16 => map(&value, cx, bf16::to_bits),
        ElementType::I32 => map(&value, cx, i32::cast_unsigned),
        ElementType::F32 => map(&value, cx, f32::to_bits),
        ElementType::I64 => map(&value, cx, i64::cast_unsigned),
        ElementType::F64 => map(&value, cx, f64::to_bits),
        _ => Ok(value.into_plain()),
    }
}

/// The elements of type `ty` with the bits in `value`, which holds unsigned integers of that size.
fn from_bits(value: &Value, ty: ElementType, cx: &ExecContext<'_>) -> Result<Value, Error> {
    match ty {
        ElementType::U8 | ElementType::U16 | ElementType::U32 | ElementType::U64 => Ok(value.clone()),
        ElementType::Bool => {
            let mut checkpoint = Checkpoint::default();
            for piece in value.elements::<u8>()?.chunks(PIECE) {
                checkpoint.step(piece.len(), cx)?;
                if piece.iter().any(|&x| x > 1) {
                    return Err(Error::invalid_argument("the bits of a boolean are neither 0 nor 1"));
                }
            }
            map(value, cx, |x: u8| x == 1)
        }
        ElementType::I8 => map(value, cx, u8::cast_signed),
        ElementType::I16 => map(value, cx, u16::cast_signed),
        ElementType::F16 => map(value, cx, f16::from_bits),
        ElementType::Bf16 => map(value, cx, bf16::from_bits),
        ElementType::I32 => map(value, cx, u32::cast_signed),
        ElementType::F32 => map(value, cx, f32::from_bits),
        ElementType::I64 => map(value, cx, u64::cast_signed),
        ElementType::F64 => map(value, cx, f64::from_bits),
        narrow => value.clone().of_codes(narrow),
    }
}
