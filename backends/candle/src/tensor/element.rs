//! Element types of tensors, and the Rust types of their elements.

use crate::tensor::recycler::Recycler;
use crate::tensor::string_table::StringId;
use half::{bf16, f16};

/// The element types that the candle backend computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
// As large as what a value has beside it, so that the move of a value moves whole words.
#[repr(u64)]
pub enum ElementType {
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of a binary32.
    Bf16,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// Signed, 8 bits.
    I8,
    /// Signed, 16 bits.
    I16,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// True or false.
    Bool,
    /// An 8-bit float with 4 exponent bits, 3 mantissa bits and no infinities.
    F8E4M3Fn,
    /// As [`F8E4M3Fn`](Self::F8E4M3Fn), with another bias and no negative zero.
    F8E4M3Fnuz,
    /// An 8-bit float with 5 exponent bits and 2 mantissa bits.
    F8E5M2,
    /// As [`F8E5M2`](Self::F8E5M2), with another bias, no infinities and no negative zero.
    F8E5M2Fnuz,
    /// An 8-bit power of two, or NaN.
    F8E8M0,
    /// A 4-bit float with 2 exponent bits and 1 mantissa bit.
    F4E2M1,
    /// Unsigned, 4 bits.
    U4,
    /// Signed, 4 bits.
    I4,
    /// Unsigned, 2 bits.
    U2,
    /// Signed, 2 bits.
    I2,
    /// A string. Elements are ids in the model's string table; see
    /// [`CandleGraph::strings`](crate::CandleGraph::strings).
    String,
}

impl ElementType {
    /// The type of a number of ONNX's enumeration `TensorProto.DataType`. `None` for strings, complex numbers and
    /// numbers that are not assigned.
    #[must_use]
    pub const fn from_onnx(number: i32) -> Option<Self> {
        Some(match number {
            1 => Self::F32,
            2 => Self::U8,
            3 => Self::I8,
            4 => Self::U16,
            5 => Self::I16,
            6 => Self::I32,
            7 => Self::I64,
            9 => Self::Bool,
            10 => Self::F16,
            11 => Self::F64,
            12 => Self::U32,
            13 => Self::U64,
            16 => Self::Bf16,
            17 => Self::F8E4M3Fn,
            18 => Self::F8E4M3Fnuz,
            19 => Self::F8E5M2,
            20 => Self::F8E5M2Fnuz,
            21 => Self::U4,
            22 => Self::I4,
            23 => Self::F4E2M1,
            24 => Self::F8E8M0,
            25 => Self::U2,
            26 => Self::I2,
            _ => return None,
        })
    }

    /// Whether the type has at most 8 bits and no Rust type of its own. Elements are stored as codes, one in a byte,
    /// and are converted before they are computed with.
    #[must_use]
    pub const fn is_narrow(self) -> bool {
        matches!(
            self,
            Self::F8E4M3Fn
                | Self::F8E4M3Fnuz
                | Self::F8E5M2
                | Self::F8E5M2Fnuz
                | Self::F8E8M0
                | Self::F4E2M1
                | Self::U4
                | Self::I4
                | Self::U2
                | Self::I2
        )
    }

    /// The size of one element in a model's file, in bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::U2 | Self::I2 => 2,
            Self::U4 | Self::I4 | Self::F4E2M1 => 4,
            _ => 8 * self.size() as u32,
        }
    }

    /// The size of one element in memory, in bytes.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 | Self::String => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
            _ => 1,
        }
    }
}

/// The elements of a value.
#[derive(Debug)]
pub(crate) enum Data {
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    /// Those of the narrow types, too.
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    Bool(Vec<bool>),
    String(Vec<StringId>),
}

/// Evaluates an expression with the vector of any type.
macro_rules! with_vec {
    ($data:expr, $vec:ident => $body:expr) => {
        match $data {
            Data::F16($vec) => $body,
            Data::Bf16($vec) => $body,
            Data::F32($vec) => $body,
            Data::F64($vec) => $body,
            Data::I8($vec) => $body,
            Data::I16($vec) => $body,
            Data::I32($vec) => $body,
            Data::I64($vec) => $body,
            Data::U8($vec) => $body,
            Data::U16($vec) => $body,
            Data::U32($vec) => $body,
            Data::U64($vec) => $body,
            Data::Bool($vec) => $body,
            Data::String($vec) => $body,
        }
    };
}

impl Data {
    /// Keeps the memory of the elements.
    pub(crate) fn recycle(self, recycler: &mut Recycler) {
        with_vec!(self, elements => {
            let mut elements = elements;
            elements.clear();
            recycler.give_vec(elements);
        });
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type of the elements of a [`Value`](crate::Value). The trait is sealed.
///
/// It is implemented for `bool`, the integers of 8 to 64 bits, `f32`, `f64`, and `f16` and `bf16` of the crate `half`.
pub trait Element: Copy + Default + PartialEq + Send + Sync + sealed::Sealed + 'static {
    /// The element type that this Rust type stands for.
    const TYPE: ElementType;

    #[doc(hidden)]
    #[expect(private_interfaces, reason = "sealed: only this module implements and calls it")]
    fn wrap(elements: Vec<Self>) -> Data;
    #[doc(hidden)]
    #[expect(private_interfaces, reason = "sealed: only this module implements and calls it")]
    fn slice(data: &Data) -> Option<&[Self]>;
    #[doc(hidden)]
    #[expect(private_interfaces, reason = "sealed: only this module implements and calls it")]
    fn slice_mut(data: &mut Data) -> Option<&mut [Self]>;
}

macro_rules! elements {
    ($($ty:ty, $name:ident;)*) => {$(
        impl sealed::Sealed for $ty {}
        impl Element for $ty {
            const TYPE: ElementType = ElementType::$name;
            #[allow(private_interfaces, reason = "sealed: only this module implements and calls it")]
            fn wrap(elements: Vec<Self>) -> Data {
                Data::$name(elements)
            }
            #[allow(private_interfaces, reason = "sealed: only this module implements and calls it")]
            fn slice(data: &Data) -> Option<&[Self]> {
                if let Data::$name(elements) = data { Some(elements) } else { None }
            }
            #[allow(private_interfaces, reason = "sealed: only this module implements and calls it")]
            fn slice_mut(data: &mut Data) -> Option<&mut [Self]> {
                if let Data::$name(elements) = data { Some(elements) } else { None }
            }
        }
    )*};
}

elements! {
    f16, F16;
    bf16, Bf16;
    f32, F32;
    f64, F64;
    i8, I8;
    i16, I16;
    i32, I32;
    i64, I64;
    u8, U8;
    u16, U16;
    u32, U32;
    u64, U64;
    bool, Bool;
    StringId, String;
}

/// Evaluates an expression with the elements of a value as a slice of their Rust type. For a narrow type, which has
/// none, the enclosing function returns an error.
macro_rules! with_elements {
    ($value:expr, |$elements:ident| $body:expr) => {{
        use $crate::tensor::element::ElementType;
        match $value.ty() {
            ElementType::F16 => with_elements!(@ half::f16, $value, $elements, $body),
            ElementType::Bf16 => with_elements!(@ half::bf16, $value, $elements, $body),
            ElementType::F32 => with_elements!(@ f32, $value, $elements, $body),
            ElementType::F64 => with_elements!(@ f64, $value, $elements, $body),
            ElementType::I8 => with_elements!(@ i8, $value, $elements, $body),
            ElementType::I16 => with_elements!(@ i16, $value, $elements, $body),
            ElementType::I32 => with_elements!(@ i32, $value, $elements, $body),
            ElementType::I64 => with_elements!(@ i64, $value, $elements, $body),
            ElementType::U8 => with_elements!(@ u8, $value, $elements, $body),
            ElementType::U16 => with_elements!(@ u16, $value, $elements, $body),
            ElementType::U32 => with_elements!(@ u32, $value, $elements, $body),
            ElementType::U64 => with_elements!(@ u64, $value, $elements, $body),
            ElementType::Bool => with_elements!(@ bool, $value, $elements, $body),
            ElementType::String => with_elements!(@ $crate::tensor::string_table::StringId, $value, $elements, $body),
            other => {
                let why = format!("elements of type {other:?} are not supported");
                return Err(graphpool::backend::Error::unsupported(why));
            }
        }
    }};
    (@ $ty:ty, $value:expr, $elements:ident, $body:expr) => {{
        let $elements: &[$ty] = $value.elements::<$ty>()?;
        $body
    }};
}

pub(crate) use with_elements;
