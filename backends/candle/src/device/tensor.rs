//! A tensor on a device, and a value that is on the host, on the device, or on both.

use std::sync::Arc;

use candle_core::{DType, Tensor};

use crate::profile::record::Made;
use crate::tensor::budget::Charge;
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;

/// A tensor on a device. Clones and views share its memory.
#[derive(Debug, Clone)]
pub(crate) struct DeviceTensor {
    pub(super) tensor: Tensor,
    /// The element type. The tensor has the type that [`dtype`] gives for it.
    pub(super) ty: ElementType,
    /// Releases the bytes when the last tensor that shares the memory is dropped.
    pub(super) charge: Arc<Charge>,
    /// Whether the memory may have more elements than the tensor, which is a view of a part of it.
    pub(super) part: bool,
}

impl DeviceTensor {
    pub(crate) fn ty(&self) -> ElementType {
        self.ty
    }

    pub(crate) fn dims(&self) -> &[usize] {
        self.tensor.dims()
    }

    pub(crate) fn rank(&self) -> usize {
        self.tensor.rank()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.dims().contains(&0)
    }

    /// The same elements with other dimensions; `None` if they do not fit. The tensor must be contiguous.
    pub(crate) fn with_dims(&self, dims: &[usize]) -> Option<Self> {
        if self.dims() == dims {
            return Some(self.clone());
        }
        let tensor = self.tensor.reshape(dims).ok()?;
        Some(Self { tensor, ty: self.ty, charge: Arc::clone(&self.charge), part: self.part })
    }

    /// The number of elements.
    pub(crate) fn len(&self) -> usize {
        self.dims().iter().product()
    }
}

/// The type of candle's tensors for elements of `ty`; `None` if there is none. Booleans are 0 or 1 in U8. I16 and I32 are
/// held in I64, because candle has next to no kernels for them on a GPU.
pub(super) const fn dtype(ty: ElementType) -> Option<DType> {
    Some(match ty {
        ElementType::F16 => DType::F16,
        ElementType::Bf16 => DType::BF16,
        ElementType::F32 => DType::F32,
        ElementType::F64 => DType::F64,
        ElementType::I16 | ElementType::I32 | ElementType::I64 => DType::I64,
        ElementType::U8 | ElementType::Bool => DType::U8,
        ElementType::U32 => DType::U32,
        _ => return None,
    })
}

/// Bytes of an element of `ty` on a device.
pub(super) fn element_size(ty: ElementType) -> usize {
    dtype(ty).map_or(ty.size(), |dtype| dtype.size_in_bytes())
}

/// A value of a plan that runs on a device. It is in at least one of the two places.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(super) host: Option<Value>,
    pub(super) device: Option<DeviceTensor>,
}

impl Placed {
    /// A value on the host and, if `device` is given, on the device too.
    pub(crate) fn new(host: Value, device: Option<DeviceTensor>) -> Self {
        Self { host: Some(host), device }
    }

    pub(crate) fn dims(&self) -> &[usize] {
        match (&self.host, &self.device) {
            (Some(value), _) => value.dims(),
            (None, Some(tensor)) => tensor.dims(),
            (None, None) => &[],
        }
    }

    pub(crate) fn ty(&self) -> ElementType {
        match (&self.host, &self.device) {
            (Some(value), _) => value.ty(),
            (_, Some(tensor)) => tensor.ty(),
            (None, None) => ElementType::F32,
        }
    }

    /// The value, if it is on the host.
    pub(crate) fn on_host(&self) -> Option<&Value> {
        self.host.as_ref()
    }
}

impl Made for Placed {
    fn dims(&self) -> &[usize] {
        self.dims()
    }

    /// As on the host, so that the two can be compared.
    fn bytes(&self) -> usize {
        self.dims().iter().product::<usize>() * self.ty().size()
    }
}

impl From<Value> for Placed {
    fn from(value: Value) -> Self {
        Self { host: Some(value), device: None }
    }
}

impl From<DeviceTensor> for Placed {
    fn from(tensor: DeviceTensor) -> Self {
        Self { host: None, device: Some(tensor) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The types of which candle-kernels 0.11 has copies, comparisons, selections and moves for a GPU. A tensor of
    /// another type can be uploaded there, and then operations on it fail.
    const WITH_KERNELS: [DType; 7] =
        [DType::U8, DType::U32, DType::I64, DType::F16, DType::BF16, DType::F32, DType::F64];

    #[test]
    fn devices_hold_only_types_that_gpus_have_kernels_for() {
        use ElementType::{Bf16, Bool, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
        for ty in [F16, Bf16, F32, F64, I16, I32, I64, U8, U32, Bool] {
            let dtype = dtype(ty).unwrap();
            assert!(WITH_KERNELS.contains(&dtype), "{ty:?} is held in {dtype:?}");
            assert!(element_size(ty) >= ty.size(), "{ty:?} does not fit into {dtype:?}");
        }
        assert!([I8, U16, U64].map(dtype).iter().all(Option::is_none));
    }
}
