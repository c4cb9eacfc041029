//! The device that a compute runs on: transfers, and what each operation does before and after candle's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Device, Tensor, WithDType};
use half::{bf16, f16};

use crate::compute::context::ExecContext;
use crate::device::tensor::{DeviceTensor, Placed, dtype};
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
    let tensor = if value.ty() == ElementType::Bool {
        let codes: Vec<u8> = value.elements::<bool>()?.iter().map(|&element| u8::from(element)).collect();
        Tensor::from_vec(codes, value.dims(), device)
    } else {
        let Some(tensor) = candle::copy_to(value, device)? else { return Ok(None) };
        tensor
    };
    let tensor = tensor.map_err(|error| failed(&error))?;
    Ok(Some(DeviceTensor { tensor, ty: value.ty(), charge: Arc::new(charge), part: false }))
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
        let bytes = elements.saturating_mul(ty.size());
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
        // Booleans are copied by way of a list of codes.
        let _codes = self.cx.budget.charge(if value.ty() == ElementType::Bool { value.bytes() } else { 0 })?;
        let charge = self.cx.budget.charge(value.bytes())?;
        copy_to(value, self.device, charge)
    }

    /// A copy of a tensor on the host.
    pub(crate) fn download(&self, tensor: &DeviceTensor) -> Result<Value, Error> {
        fn copy<T: Element + WithDType>(tensor: &DeviceTensor, charge: Charge) -> Result<Value, Error> {
            let elements = tensor.tensor.flatten_all().and_then(|flat| flat.to_vec1::<T>());
            Value::charged(tensor.dims(), elements.map_err(|error| failed(&error))?, charge)
        }
        let mut whole = self.contiguous(tensor)?;
        if whole.part {
            // candle copies all of the memory from a GPU, and takes the part out of that.
            whole = self.make(whole.dims(), whole.ty, || whole.tensor.force_contiguous())?;
        }
        let tensor = &whole;
        Counts::add(&self.counts.downloads);
        let bytes = tensor.len().saturating_mul(tensor.ty.size());
        let _copied = self.cx.budget.charge(if self.device.is_cpu() { 0 } else { bytes })?;
        let charge = self.cx.budget.charge(bytes)?;
        probe(bytes)?;
        match tensor.tensor.dtype() {
            DType::U8 if tensor.ty == ElementType::Bool => {
                let _codes = self.cx.budget.charge(tensor.len())?;
                let codes = tensor.tensor.flatten_all().and_then(|flat| flat.to_vec1::<u8>());
                let codes = codes.map_err(|error| failed(&error))?;
                Value::charged(tensor.dims(), codes.into_iter().map(|code| code != 0).collect(), charge)
            }
            DType::F16 => copy::<f16>(tensor, charge),
            DType::BF16 => copy::<bf16>(tensor, charge),
            DType::F32 => copy::<f32>(tensor, charge),
            DType::F64 => copy::<f64>(tensor, charge),
            DType::I16 => copy::<i16>(tensor, charge),
            DType::I32 => copy::<i32>(tensor, charge),
            DType::I64 => copy::<i64>(tensor, charge),
            DType::U8 => copy::<u8>(tensor, charge),
            DType::U32 => copy::<u32>(tensor, charge),
            dtype => Err(Error::runtime_error(format!("the device gave a tensor of {dtype:?}"))),
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
