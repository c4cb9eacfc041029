//! The tensors that a plan computes with.
//!
//! A [`Value`] is immutable once made and cheap to clone: its elements are shared. They lie row-major without gaps,
//! in candle's own storage wherever candle has the type, so that candle's matrix product takes them as they are.
//!
//! * V1: a value has exactly as many elements as its dimensions say.
//! * V2: the product of its dimensions, each zero counted as one, is at most [`MAX_ELEMENTS`]; strides and offsets
//!   made of them never overflow.
//! * V3: it has at most [`MAX_RANK`] dimensions.

use crate::tensor::element::{Data, Element, ElementType};
use std::sync::Arc;

use candle_core::CpuStorage;
use half::{bf16, f16};

use crate::tensor::budget::{Charge, allocation};
pub use crate::tensor::dims::MAX_RANK;
pub(crate) use crate::tensor::dims::{Dims, count};
use graphpool::backend::Error;

#[derive(Debug)]
struct Buffer {
    data: Data,
    /// Gives the bytes back to the budget they were charged to.
    _charge: Charge,
}

/// A tensor: dimensions and shared elements.
#[derive(Debug, Clone)]
pub struct Value {
    /// Shared, so that a clone allocates nothing.
    dims: Arc<[usize]>,
    /// What the elements are: the buffer's own type, or codes of a narrow one in bytes.
    ty: ElementType,
    buffer: Arc<Buffer>,
}

impl Value {
    /// A value of these elements, charged to no budget.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](graphpool::backend::ErrorKind::InvalidArgument) where there are not as many elements as `dims` say,
    /// [`TooLarge`](graphpool::backend::ErrorKind::TooLarge) past [`MAX_RANK`] or [`MAX_ELEMENTS`].
    pub fn new<T: Element>(dims: Vec<usize>, elements: Vec<T>) -> Result<Self, Error> {
        Self::charged(dims, elements, Charge::none())
    }

    /// A value of these elements that gives `charge` back when the last clone is gone.
    pub(crate) fn charged<T: Element>(
        dims: impl Into<Arc<[usize]>>,
        elements: Vec<T>,
        charge: Charge,
    ) -> Result<Self, Error> {
        let dims = dims.into();
        let count = count(&dims)?;
        if count != elements.len() {
            return Err(Error::invalid_argument(format!(
                "{} elements where {} wants {count}",
                elements.len(),
                Dims(&dims)
            )));
        }
        Ok(Self { dims, ty: T::TYPE, buffer: Arc::new(Buffer { data: T::wrap(elements), _charge: charge }) })
    }

    /// A value of no dimension.
    ///
    /// # Errors
    ///
    /// None: one element always fits.
    pub fn scalar<T: Element>(element: T) -> Result<Self, Error> {
        Self::new(Vec::new(), vec![element])
    }

    /// The sizes, outermost first; none for a scalar.
    #[must_use]
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The number of dimensions.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether it has no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dims.contains(&0)
    }

    /// The element type.
    #[must_use]
    pub fn ty(&self) -> ElementType {
        self.ty
    }

    /// Bytes of the elements.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.len() * self.ty().size()
    }

    /// The elements, row-major.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](graphpool::backend::ErrorKind::InvalidArgument) where they are of another type.
    pub fn elements<T: Element>(&self) -> Result<&[T], Error> {
        let own = if self.ty == T::TYPE { T::slice(&self.buffer.data) } else { None };
        own.ok_or_else(|| Error::invalid_argument(format!("elements are {:?}, not {:?}", self.ty(), T::TYPE)))
    }

    /// The elements where nobody else holds them, so that an operator may overwrite them.
    pub(crate) fn elements_mut<T: Element>(&mut self) -> Option<&mut [T]> {
        if self.ty != T::TYPE {
            return None;
        }
        T::slice_mut(&mut Arc::get_mut(&mut self.buffer)?.data)
    }

    /// The blocks of memory that it shares with its clones, each by its address and with the bytes that it takes: the
    /// dimensions, and the elements with what is kept of them.
    pub(crate) fn blocks(&self) -> [(usize, usize); 2] {
        const COUNTS: usize = 2 * size_of::<usize>();
        let dims = allocation(COUNTS + size_of_val(&*self.dims));
        let elements = allocation(COUNTS + size_of::<Buffer>()).saturating_add(allocation(self.bytes()));
        [(self.dims.as_ptr().addr(), dims), (Arc::as_ptr(&self.buffer).addr(), elements)]
    }

    /// The codes of a narrow type.
    pub(crate) fn codes(&self) -> Result<&[u8], Error> {
        let codes = if self.ty.is_narrow() { u8::slice(&self.buffer.data) } else { None };
        codes.ok_or_else(|| Error::invalid_argument(format!("elements are {:?}, no codes", self.ty)))
    }

    /// The value for an operator that only moves elements: codes of a narrow type as bytes.
    pub(crate) fn plain(&self) -> Self {
        self.clone().into_plain()
    }

    /// The same without another holder of the elements.
    pub(crate) fn into_plain(self) -> Self {
        let ty = if self.ty.is_narrow() { ElementType::U8 } else { self.ty };
        Self { ty, ..self }
    }

    /// What such an operator made, with the type that went into it.
    pub(crate) fn retyped(self, ty: ElementType) -> Self {
        if ty.is_narrow() && self.ty == ElementType::U8 { Self { ty, ..self } } else { self }
    }

    /// Bytes as the codes of a narrow type, each of which is one.
    pub(crate) fn of_codes(mut self, ty: ElementType) -> Result<Self, Error> {
        let bits = ty.bits();
        let codes = self.elements::<u8>()?;
        if !ty.is_narrow() || (bits < 8 && codes.iter().any(|code| code >> bits != 0)) {
            return Err(Error::invalid_argument(format!("a byte that is no {ty:?}")));
        }
        self.ty = ty;
        Ok(self)
    }

    /// The same elements under other dimensions.
    pub(crate) fn reshaped(mut self, dims: Vec<usize>) -> Result<Self, Error> {
        let wanted = count(&dims)?;
        if wanted != self.len() {
            return Err(Error::invalid_argument(format!("{} can't be read as {}", Dims(&self.dims), Dims(&dims))));
        }
        self.dims = dims.into();
        Ok(self)
    }

    /// The elements of a tensor of shapes, axes or counts: i64, or i32 where the operator takes that too. No more than
    /// two for each dimension that there can be.
    pub(crate) fn to_i64s(&self) -> Result<Vec<i64>, Error> {
        if self.len() > 2 * MAX_RANK {
            return Err(Error::invalid_argument(format!("{} integers where a few are wanted", self.len())));
        }
        match self.ty() {
            ElementType::I64 => Ok(self.elements::<i64>()?.to_vec()),
            ElementType::I32 => Ok(self.elements::<i32>()?.iter().map(|&element| i64::from(element)).collect()),
            other => Err(Error::invalid_argument(format!("{other:?} where integers are wanted"))),
        }
    }

    /// The elements as little-endian bytes; a boolean is 0 or 1, and strings have none.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        fn bytes<T: Copy, const N: usize>(elements: &[T], to: impl Fn(T) -> [u8; N]) -> Vec<u8> {
            let mut bytes = vec![0; elements.len() * N];
            for (bytes, &element) in bytes.as_chunks_mut::<N>().0.iter_mut().zip(elements) {
                *bytes = to(element);
            }
            bytes
        }
        match &self.buffer.data {
            Data::Bool(elements) => bytes(elements, |element| [u8::from(element)]),
            Data::I8(elements) => bytes(elements, i8::to_le_bytes),
            Data::U16(elements) => bytes(elements, u16::to_le_bytes),
            Data::U64(elements) => bytes(elements, u64::to_le_bytes),
            Data::Candle(CpuStorage::U8(elements)) => elements.clone(),
            Data::Candle(CpuStorage::U32(elements)) => bytes(elements, u32::to_le_bytes),
            Data::Candle(CpuStorage::I16(elements)) => bytes(elements, i16::to_le_bytes),
            Data::Candle(CpuStorage::I32(elements)) => bytes(elements, i32::to_le_bytes),
            Data::Candle(CpuStorage::I64(elements)) => bytes(elements, i64::to_le_bytes),
            Data::Candle(CpuStorage::F16(elements)) => bytes(elements, f16::to_le_bytes),
            Data::Candle(CpuStorage::BF16(elements)) => bytes(elements, bf16::to_le_bytes),
            Data::Candle(CpuStorage::F32(elements)) => bytes(elements, f32::to_le_bytes),
            Data::Candle(CpuStorage::F64(elements)) => bytes(elements, f64::to_le_bytes),
            Data::Candle(_) | Data::String(_) => Vec::new(),
        }
    }

    /// A value of `ty` from little-endian bytes.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](graphpool::backend::ErrorKind::InvalidArgument) where the data is not exactly as long as `dims`
    /// and `ty` say, or a boolean is neither 0 nor 1.
    pub fn from_bytes(dims: Vec<usize>, ty: ElementType, data: &[u8]) -> Result<Self, Error> {
        fn elements<T, const N: usize>(data: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
            data.as_chunks::<N>().0.iter().map(|&bytes| from(bytes)).collect()
        }
        if count(&dims)?.checked_mul(ty.size()) != Some(data.len()) {
            let message = format!("{} bytes of data for {ty:?} in {}", data.len(), Dims(&dims));
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
            ElementType::String => Err(Error::invalid_argument("strings are no bytes of a fixed length")),
            narrow => Self::new(dims, data.to_vec())?.of_codes(narrow),
        }
    }
}

/// A type that an operator doesn't take.
pub(crate) fn no_type(value: &Value) -> Error {
    Error::unsupported(format!("elements of type {:?} are not supported", value.ty()))
}
