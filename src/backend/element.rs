//! The element types of tensors, in wasi-nn and in Rust.

/// An element type of wasi-nn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TensorType {
    /// IEEE 754 binary16.
    F16,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// bfloat16: the upper half of a binary32.
    Bf16,
    /// Unsigned, 8 bits; also represents a model's booleans (0 or 1).
    U8,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
}

impl TensorType {
    /// Every element type.
    pub const ALL: [Self; 7] = [Self::F16, Self::F32, Self::F64, Self::Bf16, Self::U8, Self::I32, Self::I64];

    /// The size of one element in bytes.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }
}

/// A Rust type that a tensor's elements can have: one for each [`TensorType`].
///
/// Sealed: the types are `f32`, `f64`, `u8`, `i32`, `i64`, [`F16Bits`] and [`Bf16Bits`].
pub trait Element: sealed::Bytes {
    /// The tensor type of these elements.
    const TYPE: TensorType;
}

/// The bits of an IEEE 754 binary16, as `half::f16::to_bits` gives them. Equality compares the bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct F16Bits(pub u16);

/// The bits of a bfloat16, which are the upper half of an `f32`, as `half::bf16::to_bits` gives them. Equality compares
/// the bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Bf16Bits(pub u16);

mod sealed {
    pub trait Bytes: Copy {
        /// Little-endian.
        fn to_data(elements: &[Self]) -> Vec<u8>;

        /// The length of `data` must be a multiple of the element size.
        fn from_data(data: &[u8]) -> Vec<Self>;
    }
}

macro_rules! elements {
    ($($element:ident $number:ident $ty:ident $wrap:expr, $unwrap:expr;)*) => {
        $(
            impl sealed::Bytes for $element {
                fn to_data(elements: &[Self]) -> Vec<u8> {
                    elements.iter().flat_map(|element| $number::to_le_bytes($unwrap(*element))).collect()
                }

                fn from_data(data: &[u8]) -> Vec<Self> {
                    data.as_chunks().0.iter().map(|bytes| $wrap($number::from_le_bytes(*bytes))).collect()
                }
            }

            impl Element for $element {
                const TYPE: TensorType = TensorType::$ty;
            }
        )*
    };
}

elements! {
    f32 f32 F32 std::convert::identity, std::convert::identity;
    f64 f64 F64 std::convert::identity, std::convert::identity;
    u8 u8 U8 std::convert::identity, std::convert::identity;
    i32 i32 I32 std::convert::identity, std::convert::identity;
    i64 i64 I64 std::convert::identity, std::convert::identity;
    F16Bits u16 F16 Self, |Self(bits): Self| bits;
    Bf16Bits u16 Bf16 Self, |Self(bits): Self| bits;
}
