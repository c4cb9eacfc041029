//! The device that a compute runs on: transfers, and what each operation does before and after candle's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{Device, Tensor, WithDType};
use half::{bf16, f16};

use crate::compute::context::ExecContext;
use crate::device::tensor::{DeviceTensor, Placed, dtype, element_size};
use crate::tensor::budget::Charge;
use crate::tensor::candle;
use crate::tensor::dims::count;
use crate::tensor::element::{Element, ElementType};
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// What one compute did on the device and beside it.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) device_steps: AtomicUsize,
    /// Steps without a device form for their inputs.
    pub(crate) host_steps: AtomicUsize,
    /// Steps on short lists of integers that were on the host, such as shapes.
    pub(crate) list_steps: AtomicUsize,
    pub(crate) uploads: AtomicUsize,
    pub(crate) downloads: AtomicUsize,
}

impl Counts {
    /// Counts one more.
    pub(crate) fn add(counter: &AtomicUsize) {
        // Relaxed: a statistic, by which no other data is published.
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn all(&self) -> [&AtomicUsize; 5] {
        [&self.device_steps, &self.host_steps, &self.list_steps, &self.uploads, &self.downloads]
    }

    /// Adds the counts of another.
    pub(crate) fn add_all(&self, other: &Self) {
        for (counter, more) in self.all().into_iter().zip(other.read()) {
            // Relaxed: as in `add`.
            counter.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// The counts in the order of the fields.
    pub(crate) fn read(&self) -> [usize; 5] {
        // Relaxed: as in `add`.
        self.all().map(|counter| counter.load(Ordering::Relaxed))
    }
}

/// Gives the copy on the device of a constant of the plan, if it has one.
pub(crate) trait Constants {
    fn placed(&self, value: &Value) -> Placed;
}

/// The device, constants and resources of one compute.
#[derive(Clone, Copy)]
pub(crate) struct DeviceContext<'a> {
    pub(crate) device: &'a Device,
    pub(crate) constants: &'a dyn Constants,
    pub(crate) cx: &'a ExecContext<'a>,
    pub(crate) counts: &'a Counts,
}

/// The error of an operation of candle's.
pub(super) fn failed(error: &candle_core::Error) -> Error {
    let text = error.to_string();
    if text.to_ascii_lowercase().contains("out of memory") {
        return Error::too_large("the device has too little free memory for a tensor of the compute");
    }
    Error::runtime_error(format!("the device failed: {}", text.lines().next().unwrap_or_default()))
}

/// A copy of a value on a device. `None` if candle has no tensors of its type. The caller charges it.
pub(crate) fn copy_to(value: &Value, device: &Device, charge: Charge) -> Result<Option<DeviceTensor>, Error> {
    check_count(value.len(), device)?;
    probe(value.bytes())?;
    let converted = match value.ty() {
        ElementType::Bool => Tensor::from_vec(converted::<bool, u8>(value)?, value.dims(), device),
        ElementType::I16 => Tensor::from_vec(converted::<i16, i64>(value)?, value.dims(), device),
        ElementType::I32 => Tensor::from_vec(converted::<i32, i64>(value)?, value.dims(), device),
        _ => match candle::copy_to(value, device)? {
            Some(tensor) => tensor,
            None => return Ok(None),
        },
    };
    let tensor = converted.map_err(|error| failed(&error))?;
    Ok(Some(DeviceTensor { tensor, ty: value.ty(), charge: Arc::new(charge), part: false }))
}

/// The elements of a value in the type that devices hold them in.
fn converted<T: Element, U: From<T>>(value: &Value) -> Result<Vec<U>, Error> {
    Ok(value.elements::<T>()?.iter().map(|&element| U::from(element)).collect())
}

/// The bytes of a list of [`converted`] elements; 0 for types that are copied as they are.
fn converted_bytes(elements: usize, ty: ElementType) -> usize {
    match ty {
        ElementType::Bool | ElementType::I16 | ElementType::I32 => elements.saturating_mul(element_size(ty)),
        _ => 0,
    }
}

/// The most elements of a tensor on a GPU. candle's kernels count them in 32 bits, and with more some would never end.
const MOST_ELEMENTS: usize = i32::MAX as usize;

/// An error if a tensor has more elements than the device may have.
fn check_count(elements: usize, device: &Device) -> Result<(), Error> {
    if elements > MOST_ELEMENTS && !device.is_cpu() {
        let why = format!("a tensor has {elements} elements, and on a GPU the limit is {MOST_ELEMENTS}");
        return Err(Error::too_large(why));
    }
    Ok(())
}

/// An error if memory of `bytes` can't be allocated on the host. candle would abort the process there.
fn probe(bytes: usize) -> Result<(), Error> {
    /// Blocks below this are too common to probe for, and hardly ever fail.
    const LARGE: usize = 1 << 20;
    let mut block = Vec::<u8>::new();
    if bytes >= LARGE && block.try_reserve_exact(bytes).is_err() {
        return Err(Error::too_large(format!("the allocation of {bytes} bytes failed")));
    }
    Ok(())
}

impl DeviceContext<'_> {
    /// Checks deadline and cancel token, and charges a tensor that an operation is about to make.
    pub(super) fn charge(&self, dims: &[usize], ty: ElementType) -> Result<Arc<Charge>, Error> {
        self.cx.control.check()?;
        let elements = count(dims)?;
        check_count(elements, self.device)?;
        let bytes = elements.saturating_mul(element_size(ty));
        let charge = self.cx.budget.charge(bytes)?;
        if self.device.is_cpu() {
            probe(bytes)?;
        }
        Ok(Arc::new(charge))
    }

    /// Runs an operation of candle's whose result has these dimensions and this type.
    pub(super) fn make(
        &self,
        dims: &[usize],
        ty: ElementType,
        operation: impl FnOnce() -> candle_core::Result<Tensor>,
    ) -> Result<DeviceTensor, Error> {
        let charge = self.charge(dims, ty)?;
        let tensor = if dims.contains(&0) {
            let dtype = dtype(ty).ok_or_else(|| Error::unsupported(format!("the device has no tensors of {ty:?}")))?;
            Tensor::zeros(dims, dtype, self.device)
        } else {
            operation()
        };
        Self::checked(tensor, dims, ty, charge)
    }

    /// As [`make`](Self::make), for a result that shares the memory of `of`.
    pub(super) fn view(
        of: &DeviceTensor,
        dims: &[usize],
        operation: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<DeviceTensor, Error> {
        let part = of.part || count(dims)? < of.len();
        let tensor = operation(&of.tensor).map_err(|error| failed(&error))?;
        if tensor.dims() != dims {
            return Err(Error::runtime_error("the device gave a tensor of other dimensions than were computed"));
        }
        Ok(DeviceTensor { tensor, ty: of.ty, charge: Arc::clone(&of.charge), part })
    }

    fn checked(
        tensor: candle_core::Result<Tensor>,
        dims: &[usize],
        ty: ElementType,
        charge: Arc<Charge>,
    ) -> Result<DeviceTensor, Error> {
        let tensor = tensor.map_err(|error| failed(&error))?;
        if tensor.dims() != dims || Some(tensor.dtype()) != dtype(ty) {
            return Err(Error::runtime_error("the device gave a tensor of another type or other dimensions"));
        }
        Ok(DeviceTensor { tensor, ty, charge, part: false })
    }

    /// A copy of a value on the device. `None` if candle has no tensors of its type.
    pub(crate) fn upload(&self, value: &Value) -> Result<Option<DeviceTensor>, Error> {
        if dtype(value.ty()).is_none() {
            return Ok(None);
        }
        self.cx.control.check()?;
        Counts::add(&self.counts.uploads);
        let _list = self.cx.budget.charge(converted_bytes(value.len(), value.ty()))?;
        let charge = self.cx.budget.charge(value.len().saturating_mul(element_size(value.ty())))?;
        copy_to(value, self.device, charge)
    }

    /// A copy of a tensor on the host.
    pub(crate) fn download(&self, tensor: &DeviceTensor) -> Result<Value, Error> {
        fn elements<T: WithDType>(tensor: &DeviceTensor) -> Result<Vec<T>, Error> {
            let elements = tensor.tensor.flatten_all().and_then(|flat| flat.to_vec1::<T>());
            elements.map_err(|error| failed(&error))
        }
        fn copy<T: Element + WithDType>(tensor: &DeviceTensor, charge: Charge) -> Result<Value, Error> {
            Value::charged(tensor.dims(), elements::<T>(tensor)?, charge)
        }
        fn converted_copy<T: WithDType, U: Element>(
            tensor: &DeviceTensor,
            charge: Charge,
            convert: impl Fn(T) -> U,
        ) -> Result<Value, Error> {
            Value::charged(tensor.dims(), elements(tensor)?.into_iter().map(convert).collect(), charge)
        }
        let mut whole = self.contiguous(tensor)?;
        if whole.part {
            // candle copies all of the memory from a GPU, and takes the part out of that.
            whole = self.make(whole.dims(), whole.ty, || whole.tensor.force_contiguous())?;
        }
        let tensor = &whole;
        Counts::add(&self.counts.downloads);
        let held = tensor.len().saturating_mul(element_size(tensor.ty));
        let _copied = self.cx.budget.charge(if self.device.is_cpu() { 0 } else { held })?;
        let _list = self.cx.budget.charge(converted_bytes(tensor.len(), tensor.ty))?;
        let charge = self.cx.budget.charge(tensor.len().saturating_mul(tensor.ty.size()))?;
        probe(held)?;
        match tensor.ty {
            ElementType::Bool => converted_copy(tensor, charge, |code: u8| code != 0),
            ElementType::I16 => converted_copy(tensor, charge, |element: i64| element as i16),
            ElementType::I32 => converted_copy(tensor, charge, |element: i64| element as i32),
            ElementType::F16 => copy::<f16>(tensor, charge),
            ElementType::Bf16 => copy::<bf16>(tensor, charge),
            ElementType::F32 => copy::<f32>(tensor, charge),
            ElementType::F64 => copy::<f64>(tensor, charge),
            ElementType::I64 => copy::<i64>(tensor, charge),
            ElementType::U8 => copy::<u8>(tensor, charge),
            ElementType::U32 => copy::<u32>(tensor, charge),
            ty => Err(Error::runtime_error(format!("the device gave a tensor of {ty:?}"))),
        }
    }

    /// A tensor of `dims` whose elements are all `number`. `ty` is F32 or F64.
    pub(crate) fn filled(&self, dims: &[usize], number: f64, ty: ElementType) -> Result<DeviceTensor, Error> {
        self.make(dims, ty, || match ty {
            ElementType::F64 => Tensor::full(number, dims, self.device),
            _ => Tensor::full(number as f32, dims, self.device),
        })
    }

    /// A number as a tensor of no dimensions.
    pub(crate) fn number(&self, number: f64, ty: ElementType) -> Result<DeviceTensor, Error> {
        self.filled(&[], number, ty)
    }
}
