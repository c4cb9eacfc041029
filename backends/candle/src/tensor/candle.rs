//! Conversions between [`Value`] and candle's `Tensor`.

use candle_core::{DType, Device, Tensor, WithDType};
use half::{bf16, f16};

use crate::tensor::element::{Element, ElementType};
use crate::tensor::value::Value;
use graphpool::backend::Error;

fn failed(error: &candle_core::Error) -> Error {
    Error::runtime_error(format!("candle failed: {error}"))
}

/// What candle makes of a copy of the value on a device. `None` if it has no tensors of the element type.
pub(crate) fn copy_to(value: &Value, device: &Device) -> Result<Option<candle_core::Result<Tensor>>, Error> {
    fn copy<T: Element + WithDType>(value: &Value, device: &Device) -> Result<candle_core::Result<Tensor>, Error> {
        Ok(Tensor::from_slice(value.elements::<T>()?, value.dims(), device))
    }
    Ok(Some(match value.ty() {
        ElementType::F16 => copy::<f16>(value, device),
        ElementType::Bf16 => copy::<bf16>(value, device),
        ElementType::F32 => copy::<f32>(value, device),
        ElementType::F64 => copy::<f64>(value, device),
        ElementType::U8 => copy::<u8>(value, device),
        ElementType::U32 => copy::<u32>(value, device),
        ElementType::I16 => copy::<i16>(value, device),
        ElementType::I32 => copy::<i32>(value, device),
        ElementType::I64 => copy::<i64>(value, device),
        _ => return Ok(None),
    }?))
}

impl Value {
    /// The tensor on a device of candle's, with the same dimensions and elements, which are copied.
    ///
    /// # Errors
    ///
    /// [`UnsupportedOperation`](graphpool::backend::ErrorKind::UnsupportedOperation) for element types that candle
    /// does not have: `Bool`, `I8`, `U16`, `U64`, `String` and those of fewer than 8 bits or without a Rust type;
    /// [`RuntimeError`](graphpool::backend::ErrorKind::RuntimeError) if the device can't hold the tensor.
    pub fn to_candle(&self, device: &Device) -> Result<Tensor, Error> {
        match copy_to(self, device)? {
            Some(tensor) => tensor.map_err(|error| failed(&error)),
            None => Err(Error::unsupported(format!("candle has no tensors of {:?}", self.ty()))),
        }
    }

    /// A value with the dimensions and elements of a tensor of candle's, which are copied from its device.
    ///
    /// # Errors
    ///
    /// [`UnsupportedOperation`](graphpool::backend::ErrorKind::UnsupportedOperation) for an element type that has no
    /// [`ElementType`], [`RuntimeError`](graphpool::backend::ErrorKind::RuntimeError) if the copy fails, and the errors
    /// of [`new`](Self::new).
    pub fn from_candle(tensor: &Tensor) -> Result<Self, Error> {
        fn copy<T: Element + WithDType>(tensor: &Tensor) -> Result<Value, Error> {
            let elements = tensor.flatten_all().and_then(|flat| flat.to_vec1::<T>());
            Value::new(tensor.dims().to_vec(), elements.map_err(|error| failed(&error))?)
        }
        match tensor.dtype() {
            DType::F16 => copy::<f16>(tensor),
            DType::BF16 => copy::<bf16>(tensor),
            DType::F32 => copy::<f32>(tensor),
            DType::F64 => copy::<f64>(tensor),
            DType::U8 => copy::<u8>(tensor),
            DType::U32 => copy::<u32>(tensor),
            DType::I16 => copy::<i16>(tensor),
            DType::I32 => copy::<i32>(tensor),
            DType::I64 => copy::<i64>(tensor),
            dtype => Err(Error::unsupported(format!("tensors of candle's {dtype:?} are not supported"))),
        }
    }
}
