//! Values from and to little-endian bytes.

use std::sync::Arc;

use half::{bf16, f16};

use crate::tensor::element::{Data, ElementType};
use crate::tensor::value::{Dims, Value, count};
use graphpool::backend::Error;

impl Value {
    /// A copy of the elements as little-endian bytes. A boolean is 0 or 1, a narrow type has one byte for each element,
    /// and the result is empty for strings.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.append_bytes(&mut bytes);
        bytes
    }

    /// As [`to_bytes`](Self::to_bytes), at the end of `out`.
    pub(crate) fn append_bytes(&self, out: &mut Vec<u8>) {
        fn append<T: Copy, const N: usize>(elements: &[T], to: impl Fn(T) -> [u8; N], out: &mut Vec<u8>) {
            let start = out.len();
            out.reserve_exact(elements.len() * N);
            out.resize(start + elements.len() * N, 0);
            for (bytes, &element) in out[start..].as_chunks_mut::<N>().0.iter_mut().zip(elements) {
                *bytes = to(element);
            }
        }
        match self.data() {
            Some(Data::F16(elements)) => append(elements, f16::to_le_bytes, out),
            Some(Data::Bf16(elements)) => append(elements, bf16::to_le_bytes, out),
            Some(Data::F32(elements)) => append(elements, f32::to_le_bytes, out),
            Some(Data::F64(elements)) => append(elements, f64::to_le_bytes, out),
            Some(Data::I8(elements)) => append(elements, i8::to_le_bytes, out),
            Some(Data::I16(elements)) => append(elements, i16::to_le_bytes, out),
            Some(Data::I32(elements)) => append(elements, i32::to_le_bytes, out),
            Some(Data::I64(elements)) => append(elements, i64::to_le_bytes, out),
            Some(Data::U8(elements)) => out.extend_from_slice(elements),
            Some(Data::U16(elements)) => append(elements, u16::to_le_bytes, out),
            Some(Data::U32(elements)) => append(elements, u32::to_le_bytes, out),
            Some(Data::U64(elements)) => append(elements, u64::to_le_bytes, out),
            Some(Data::Bool(elements)) => append(elements, |element| [u8::from(element)], out),
            Some(Data::String(_)) | None => {}
        }
    }

    /// Overwrites the elements by those of little-endian bytes, in the format of [`to_bytes`](Self::to_bytes). Returns
    /// whether it did: not if a clone shares them, if the data have another length, and for the types of which a
    /// wasi-nn tensor has others.
    pub(crate) fn overwrite(&mut self, data: &[u8]) -> bool {
        fn write<T, const N: usize>(elements: &mut [T], data: &[u8], from: impl Fn([u8; N]) -> T) -> bool {
            let (chunks, rest) = data.as_chunks::<N>();
            let fits = chunks.len() == elements.len() && rest.is_empty();
            if fits {
                elements.iter_mut().zip(chunks).for_each(|(element, &bytes)| *element = from(bytes));
            }
            fits
        }
        let Some(buffer) = self.buffer.as_mut().and_then(Arc::get_mut) else { return false };
        match &mut buffer.data {
            Data::F16(elements) => write(elements, data, f16::from_le_bytes),
            Data::Bf16(elements) => write(elements, data, bf16::from_le_bytes),
            Data::F32(elements) => write(elements, data, f32::from_le_bytes),
            Data::F64(elements) => write(elements, data, f64::from_le_bytes),
            Data::I32(elements) => write(elements, data, i32::from_le_bytes),
            Data::I64(elements) => write(elements, data, i64::from_le_bytes),
            Data::U8(elements) if self.ty == ElementType::U8 => write(elements, data, |[byte]| byte),
            Data::Bool(elements) if data.iter().all(|&byte| byte <= 1) => write(elements, data, |[byte]| byte == 1),
            _ => false,
        }
    }

    /// A value of `dims` and `ty` from a copy of little-endian bytes, in the format of [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](graphpool::backend::ErrorKind::InvalidArgument) for data of another length than `dims` and
    /// `ty` require, for a byte that is out of range for the type, and for strings;
    /// [`TooLarge`](graphpool::backend::ErrorKind::TooLarge) as for [`new`](Self::new).
    pub fn from_bytes(dims: Vec<usize>, ty: ElementType, data: &[u8]) -> Result<Self, Error> {
        fn elements<T, const N: usize>(data: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
            data.as_chunks::<N>().0.iter().map(|&bytes| from(bytes)).collect()
        }
        if count(&dims)?.checked_mul(ty.size()) != Some(data.len()) {
            let message = format!("{} bytes of data don't fit {ty:?} in {}", data.len(), Dims(&dims));
            return Err(Error::invalid_argument(message));
        }
        match ty {
            ElementType::F16 => Self::new(dims, elements(data, f16::from_le_bytes)),
            ElementType::Bf16 => Self::new(dims, elements(data, bf16::from_le_bytes)),
            ElementType::F32 => Self::new(dims, elements(data, f32::from_le_bytes)),
            ElementType::F64 => Self::new(dims, elements(data, f64::from_le_bytes)),
            ElementType::I8 => Self::new(dims, elements(data, i8::from_le_bytes)),
            ElementType::I16 => Self::new(dims, elements(data, i16::from_le_bytes)),
            ElementType::I32 => Self::new(dims, elements(data, i32::from_le_bytes)),
            ElementType::I64 => Self::new(dims, elements(data, i64::from_le_bytes)),
            ElementType::U8 => Self::new(dims, data.to_vec()),
            ElementType::U16 => Self::new(dims, elements(data, u16::from_le_bytes)),
            ElementType::U32 => Self::new(dims, elements(data, u32::from_le_bytes)),
            ElementType::U64 => Self::new(dims, elements(data, u64::from_le_bytes)),
            ElementType::Bool if data.iter().all(|&byte| byte <= 1) => {
                Self::new(dims, data.iter().map(|&byte| byte == 1).collect())
            }
            ElementType::Bool => Err(Error::invalid_argument("a boolean is neither 0 nor 1")),
            ElementType::String => Err(Error::invalid_argument("strings can't be made from bytes of a fixed length")),
            narrow => Self::new(dims, data.to_vec())?.of_codes(narrow),
        }
    }
}
