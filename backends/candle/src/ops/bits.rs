//! Operators on the bits of integers: BitShift, BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseNot.

use crate::ops::activation::unary;
use crate::ops::broadcast::{map_into, zip_into};
use crate::ops::elementwise::binary;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, since};
use crate::tensor::element::ElementType;
use crate::tensor::value::no_type;
use graphpool::backend::Error;

/// Runs a body with the Rust type of a value's elements, which must be integers.
macro_rules! with_integers {
    ($value:expr, $ty:ident => $body:expr) => {
        match $value.ty() {
            ElementType::I8 => with_integers!(@ i8, $ty, $body),
            ElementType::I16 => with_integers!(@ i16, $ty, $body),
            ElementType::I32 => with_integers!(@ i32, $ty, $body),
            ElementType::I64 => with_integers!(@ i64, $ty, $body),
            ElementType::U8 => with_integers!(@ u8, $ty, $body),
            ElementType::U16 => with_integers!(@ u16, $ty, $body),
            ElementType::U32 => with_integers!(@ u32, $ty, $body),
            ElementType::U64 => with_integers!(@ u64, $ty, $body),
            _ => Err(no_type(&$value)),
        }
    };
    (@ $rust:ty, $ty:ident, $body:expr) => {{
        type $ty = $rust;
        $body
    }};
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
    since(18, "BitwiseNot", (1, 1), |_| unary(|value, cx| with_integers!(value, T => map_into(value, cx, |x: T| !x)))),
];

fn shift(node: &Node<'_>) -> Result<OpFn, Error> {
    let left = match node.string("direction", "")? {
        "LEFT" => true,
        "RIGHT" => false,
        _ => return Err(Error::invalid_encoding("attribute direction is neither LEFT nor RIGHT")),
    };
    // A shift by the width or more gives 0, or copies of the sign bit in a signed shift to the right.
    let signed = node.opset >= 28;
    macro_rules! shifts {
        ($a:ident, $b:ident, $cx:ident, |$x:tt| $shifted_out:expr, $($name:ident $ty:ty),*) => {
            match $a.ty() {
                $(ElementType::$name => zip_into($a, $b, $cx, |a: $ty, b: $ty| {
                    let shifted_out = |$x: $ty| $shifted_out;
                    let bits = u32::try_from(b).unwrap_or(u32::MAX);
                    if left { a.checked_shl(bits).unwrap_or(0) } else { a.checked_shr(bits).unwrap_or(shifted_out(a)) }
                }),)*
                _ => Err(no_type(&$a)),
            }
        };
    }
    Ok(Box::new(move |mut args, cx| {
        let (a, b) = (args.take(0)?, args.take(1)?);
        Ok(values![match a.ty() {
            ElementType::I8 | ElementType::I16 | ElementType::I32 | ElementType::I64 if signed => {
                shifts!(a, b, cx, |a| if a < 0 { -1 } else { 0 }, I8 i8, I16 i16, I32 i32, I64 i64)
            }
            _ => shifts!(a, b, cx, |_| 0, U8 u8, U16 u16, U32 u32, U64 u64),
        }?])
    }))
}
