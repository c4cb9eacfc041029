//! The inputs of a device form.

use crate::device::context::DeviceContext;
use crate::device::tensor::{DeviceTensor, Placed};
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// Why a device form gave no result.
pub(crate) enum Stop {
    /// It does not cover these element types or sizes: the step runs on the host.
    HostOnly,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The outputs of a device form.
pub(crate) type Outputs = Result<Vec<Placed>, Stop>;

/// An operator on a device, compiled from its node.
pub(crate) type DeviceForm = Box<dyn Fn(&mut DeviceArgs, &DeviceContext<'_>) -> Outputs + Send + Sync>;

/// The inputs of one call of a device form.
pub(crate) struct DeviceArgs {
    values: Vec<Option<Placed>>,
}

impl DeviceArgs {
    pub(crate) fn new(values: Vec<Option<Placed>>) -> Self {
        Self { values }
    }

    /// The values, with what the form has moved.
    pub(crate) fn into_values(self) -> Vec<Option<Placed>> {
        self.values
    }

    /// The number of inputs, omitted ones included.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn option(&self, index: usize) -> Option<&Placed> {
        self.values.get(index)?.as_ref()
    }

    pub(crate) fn get(&self, index: usize) -> Result<&Placed, Error> {
        self.option(index).ok_or_else(|| Error::invalid_argument(format!("input {index} is missing")))
    }

    fn slot(&mut self, index: usize) -> Result<&mut Placed, Error> {
        let slot = self.values.get_mut(index).and_then(Option::as_mut);
        slot.ok_or_else(|| Error::invalid_argument(format!("input {index} is missing")))
    }

    /// The input at `index` on the device.
    pub(crate) fn tensor(&mut self, index: usize, dx: &DeviceContext<'_>) -> Result<DeviceTensor, Stop> {
        let slot = self.slot(index)?;
        if let Some(tensor) = &slot.device {
            return Ok(tensor.clone());
        }
        let Some(value) = &slot.host else { return Err(Stop::HostOnly) };
        let tensor = dx.upload(value)?.ok_or(Stop::HostOnly)?;
        slot.device = Some(tensor.clone());
        Ok(tensor)
    }

    /// As [`tensor`](Self::tensor), in the type that floats are computed in: F64, or F32 for those of 32 and 16 bits.
    pub(crate) fn float(&mut self, index: usize, dx: &DeviceContext<'_>) -> Result<DeviceTensor, Stop> {
        let ty = match self.get(index)?.ty() {
            ElementType::F64 => ElementType::F64,
            ElementType::F32 | ElementType::F16 | ElementType::Bf16 => ElementType::F32,
            _ => return Err(Stop::HostOnly),
        };
        let tensor = self.tensor(index, dx)?;
        Ok(dx.cast(&tensor, ty)?)
    }

    /// As [`float`](Self::float), for an input that may be left out.
    pub(crate) fn optional_float(
        &mut self,
        index: usize,
        dx: &DeviceContext<'_>,
    ) -> Result<Option<DeviceTensor>, Stop> {
        if self.option(index).is_some() { self.float(index, dx).map(Some) } else { Ok(None) }
    }

    /// The input at `index` on the host: a parameter such as a shape.
    pub(crate) fn host(&mut self, index: usize, dx: &DeviceContext<'_>) -> Result<Value, Error> {
        let slot = self.slot(index)?;
        if let Some(value) = &slot.host {
            return Ok(value.clone());
        }
        let tensor = slot.device.as_ref().ok_or_else(|| Error::runtime_error("a value is in no place"))?;
        let value = dx.download(tensor)?;
        slot.host = Some(value.clone());
        Ok(value)
    }
}
