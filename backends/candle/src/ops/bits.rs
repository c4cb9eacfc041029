//! Operators on the bits of integers: BitShift, BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseNot.

use crate::compute::context::ExecContext;
use crate::ops::broadcast::{map_into, zip_into};
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, since};
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

/// Runs a body with the Rust type of a value's integers.
macro_rules! with_integers {
    ($value:expr, $ty:ident => $body:expr) => {
        match $value.ty() {
            ElementType::I8 => {
                type $ty = i8;
                $body
            }
            ElementType::I16 => {
                type $ty = i16;
                $body
            }
            ElementType::I32 => {
                type $ty = i32;
                $body
            }
            ElementType::I64 => {
                type $ty = i64;
                $body
            }
            ElementType::U8 => {
                type $ty = u8;
                $body
            }
            ElementType::U16 => {
                type $ty = u16;
                $body
            }
            ElementType::U32 => {
                type $ty = u32;
                $body
            }
            ElementType::U64 => {
                type $ty = u64;
                $body
            }
            _ => Err(no_type(&$value)),
        }
    };
}
pub(super) const OPERATORS: &[Operator] = &[
    since(11, "BitShift", (2, 2), shift),
    since(18, "BitwiseAnd", (2, 2), |_| {
        binary(|a, b, cx| with_integers!(a, T => zip_into(a, b, cx, |a: T, b: T| a & b)))
    }),
    since(18, "BitwiseOr", (2, 2), |_| {
        binary(|a, b, cx| with_integers!(a, T => zip_into(a, b, cx, |a: T, b: T| a | b)))
    }),
    since(18, "BitwiseXor", (2, 2), |_| {
        binary(|a, b, cx| with_integers!(a, T => zip_into(a, b, cx, |a: T, b: T| a ^ b)))
    }),
    since(18, "BitwiseNot", (1, 1), not),
];

fn binary(f: fn(Value, Value, &ExecContext<'_>) -> Result<Value, Error>) -> Result<OpFn, Error> {
    Ok(Box::new(move |mut args, cx| Ok(vec![f(args.take(0)?, args.take(1)?, cx)?])))
}

fn not(_: &Node<'_>) -> Result<OpFn, Error> {
    Ok(Box::new(|mut args, cx| {
        let value = args.take(0)?;
        Ok(vec![with_integers!(value, T => map_into(value, cx, |x: T| !x))?])
    }))
}

fn shift(node: &Node<'_>) -> Result<OpFn, Error> {
    let left = match node.string("direction", "")? {
        "LEFT" => true,
        "RIGHT" => false,
        _ => return Err(Error::invalid_encoding("attribute direction is neither LEFT nor RIGHT")),
    };
    // Bits shifted out are gone; so are all of them past the width, but for copies of a sign.
    let signed = node.opset >= 28;
    macro_rules! shifts {
        ($a:ident, $b:ident, $cx:ident, |$x:tt| $past:expr, $($name:ident $ty:ty),*) => {
            match $a.ty() {
                $(ElementType::$name => zip_into($a, $b, $cx, |a: $ty, b: $ty| {
                    let past = |$x: $ty| $past;
                    let by = u32::try_from(b).unwrap_or(u32::MAX);
                    if left { a.checked_shl(by).unwrap_or(0) } else { a.checked_shr(by).unwrap_or(past(a)) }
                }),)*
                _ => Err(no_type(&$a)),
            }
        };
    }
    Ok(Box::new(move |mut args, cx| {
        let (a, b) = (args.take(0)?, args.take(1)?);
        Ok(vec![match a.ty() {
            ElementType::I8 | ElementType::I16 | ElementType::I32 | ElementType::I64 if signed => {
                shifts!(a, b, cx, |a| if a < 0 { -1 } else { 0 }, I8 i8, I16 i16, I32 i32, I64 i64)
            }
            _ => shifts!(a, b, cx, |_| 0, U8 u8, U16 u16, U32 u32, U64 u64),
        }?])
    }))
}
