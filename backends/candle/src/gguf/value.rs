//! Metadata values. Strings and arrays are the file's own bytes.

use super::cursor::Cursor;
use crate::quote::quote;
use graphpool::backend::Error;

/// How deep arrays may lie within arrays.
const MAX_NESTING: usize = 4;

/// The type of a value, as the format numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    fn of(number: u32, key: &str) -> Result<Self, Error> {
        Ok(match number {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            8 => Self::String,
            9 => Self::Array,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => {
                let why = format!("the key {} has the value type {number}, and the types are 0 to 12", quote(key));
                return Err(Error::invalid_encoding(why));
            }
        })
    }

    /// The fewest bytes that a value takes in a file: a string has its length in front, an array its type and count.
    const fn least(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::String => 8,
            Self::Array => 12,
        }
    }
}

/// A metadata value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    /// An integer of any of the format's types.
    Integer(i128),
    Float(f64),
    Bool(bool),
    String(&'a [u8]),
    Array(Array<'a>),
}

impl<'a> Value<'a> {
    /// Reads a type and a value of it.
    pub(crate) fn read(cursor: &mut Cursor<'a>, key: &str) -> Result<Self, Error> {
        let ty = ValueType::of(cursor.u32(|| format!("the type of the key {}", quote(key)))?, key)?;
        let what = || format!("the value of the key {}", quote(key));
        match ty {
            ValueType::String => Ok(Self::String(cursor.string(what)?)),
            ValueType::Array => Ok(Self::Array(Array::read(cursor, key, 0)?)),
            scalar => {
                let bytes = cursor.take(scalar.least() as u64, what)?;
                if scalar == ValueType::Bool && bytes[0] > 1 {
                    let why = format!("the key {} is a boolean with the byte {}, not 0 or 1", quote(key), bytes[0]);
                    return Err(Error::invalid_encoding(why));
                }
                Ok(Self::scalar(scalar, bytes))
            }
        }
    }

    /// The value of a scalar type in its bytes, of which there are as many as the type has.
    fn scalar(ty: ValueType, bytes: &[u8]) -> Self {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        let bits = u64::from_le_bytes(word);
        match ty {
            ValueType::I8 => Self::Integer(i128::from(bits as u8 as i8)),
            ValueType::I16 => Self::Integer(i128::from(bits as u16 as i16)),
            ValueType::I32 => Self::Integer(i128::from(bits as u32 as i32)),
            ValueType::I64 => Self::Integer(i128::from(bits as i64)),
            ValueType::F32 => Self::Float(f64::from(f32::from_bits(bits as u32))),
            ValueType::F64 => Self::Float(f64::from_bits(bits)),
            ValueType::Bool => Self::Bool(bits != 0),
            _ => Self::Integer(i128::from(bits)),
        }
    }

    /// What the value is, for an error message.
    pub(crate) const fn description(&self) -> &'static str {
        match self {
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a boolean",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
        }
    }
}

/// An array of values of one type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Array<'a> {
    ty: ValueType,
    len: usize,
    /// The elements as they are in the file, checked when the file was read.
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// Reads an array and checks each of its elements, so that later reads can't fail.
    fn read(cursor: &mut Cursor<'a>, key: &str, depth: usize) -> Result<Self, Error> {
        if depth >= MAX_NESTING {
            let why = format!("the key {} has arrays within arrays more than {MAX_NESTING} deep", quote(key));
            return Err(Error::invalid_encoding(why));
        }
        let what = || format!("the array of the key {}", quote(key));
        let ty = ValueType::of(cursor.u32(what)?, key)?;
        let declared = cursor.u64(what)?;
        let len = cursor.fits(declared, ty.least(), || format!("elements in {}", what()))?;
        let mut elements = cursor.clone();
        match ty {
            ValueType::String => {
                for _ in 0..len {
                    cursor.string(what)?;
                }
            }
            ValueType::Array => {
                for _ in 0..len {
                    Self::read(cursor, key, depth + 1)?;
                }
            }
            scalar => {
                // No overflow: so many bytes are left.
                cursor.take((len * scalar.least()) as u64, what)?;
            }
        }
        let bytes = elements.take((cursor.position() - elements.position()) as u64, what)?;
        Ok(Self { ty, len, bytes })
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The strings of an array of strings; `None` for an array of another type.
    pub(crate) fn strings(&self) -> Option<impl Iterator<Item = &'a [u8]> + use<'a>> {
        let mut cursor = Cursor::new(self.bytes);
        let strings = (0..self.len).map_while(move |_| cursor.string(String::new).ok());
        (self.ty == ValueType::String).then_some(strings)
    }

    /// The integers of an array of integers; `None` for an array of another type.
    pub(crate) fn integers(&self) -> Option<impl Iterator<Item = i128> + use<'a>> {
        let numbers = self.scalars(!matches!(self.ty, ValueType::F32 | ValueType::F64 | ValueType::Bool))?;
        Some(numbers.map(|value| if let Value::Integer(integer) = value { integer } else { 0 }))
    }

    /// The floats of an array of floats; `None` for an array of another type.
    pub(crate) fn floats(&self) -> Option<impl Iterator<Item = f64> + use<'a>> {
        let numbers = self.scalars(matches!(self.ty, ValueType::F32 | ValueType::F64))?;
        Some(numbers.map(|value| if let Value::Float(float) = value { float } else { 0.0 }))
    }

    /// The elements, if they are scalars and of a `right` type.
    fn scalars(&self, right: bool) -> Option<impl Iterator<Item = Value<'a>> + use<'a>> {
        let (ty, bytes) = (self.ty, self.bytes);
        let right = right && !matches!(ty, ValueType::String | ValueType::Array);
        right.then(|| bytes.chunks_exact(ty.least()).map(move |bytes| Value::scalar(ty, bytes)))
    }
}
