//! Operations that move elements and compute none.

use candle_core::Tensor;

use crate::compute::context::Checkpoint;
use crate::device::context::DeviceContext;
use crate::device::tensor::DeviceTensor;
use crate::tensor::dims::{Dims, count};
use crate::tensor::element::ElementType;
use graphpool::backend::Error;

impl DeviceContext<'_> {
    /// The same elements in a contiguous tensor.
    pub(crate) fn contiguous(&self, x: &DeviceTensor) -> Result<DeviceTensor, Error> {
        if x.tensor.is_contiguous() {
            self.cx.control.check()?;
            return Ok(x.clone());
        }
        self.make(x.dims(), x.ty, || x.tensor.force_contiguous())
    }

    /// The same elements with other dimensions.
    pub(crate) fn reshape(&self, x: &DeviceTensor, dims: &[usize]) -> Result<DeviceTensor, Error> {
        if count(dims)? != x.len() {
            return Err(Error::invalid_argument(format!("{} can't be reshaped to {}", Dims(x.dims()), Dims(dims))));
        }
        if x.is_empty() {
            return self.make(dims, x.ty, || x.tensor.reshape(dims));
        }
        let x = self.contiguous(x)?;
        Self::view(&x, dims, |tensor| tensor.reshape(dims))
    }

    /// All elements in one dimension.
    pub(crate) fn flatten(&self, x: &DeviceTensor) -> Result<DeviceTensor, Error> {
        self.reshape(x, &[x.len()])
    }

    /// The dimensions in another order, which names each of them once.
    #[expect(clippy::unused_self, reason = "called like the other operations")]
    pub(crate) fn permute(&self, x: &DeviceTensor, order: &[usize]) -> Result<DeviceTensor, Error> {
        let mut seen = vec![false; x.rank()];
        for &axis in order {
            match seen.get_mut(axis) {
                Some(seen) if !*seen => *seen = true,
                _ => {
                    return Err(Error::invalid_argument("a permutation names an axis twice, or one that is not there"));
                }
            }
        }
        if order.len() != x.rank() {
            return Err(Error::invalid_argument("a permutation leaves out an axis"));
        }
        let dims: Vec<usize> = order.iter().map(|&axis| x.dims()[axis]).collect();
        Self::view(x, &dims, |tensor| tensor.permute(order))
    }

    /// `len` elements of an axis, from `start` on.
    pub(crate) fn narrow(
        &self,
        x: &DeviceTensor,
        axis: usize,
        start: usize,
        len: usize,
    ) -> Result<DeviceTensor, Error> {
        let inside = x.dims().get(axis).is_some_and(|&dim| start.checked_add(len).is_some_and(|end| end <= dim));
        if !inside {
            return Err(Error::invalid_argument(format!("{len} elements from {start} on are not in axis {axis}")));
        }
        let mut dims = x.dims().to_vec();
        dims[axis] = len;
        if dims.contains(&0) {
            return self.make(&dims, x.ty, || x.tensor.narrow(axis, start, len));
        }
        Self::view(x, &dims, |tensor| tensor.narrow(axis, start, len))
    }

    /// The tensor repeated along dimensions of 1, and along new dimensions in front.
    pub(crate) fn broadcast(&self, x: &DeviceTensor, dims: &[usize]) -> Result<DeviceTensor, Error> {
        if x.dims() == dims {
            return Ok(x.clone());
        }
        let skipped = dims.len().checked_sub(x.rank());
        let fits = skipped.is_some_and(|skipped| {
            x.dims().iter().zip(&dims[skipped..]).all(|(&own, &wanted)| own == wanted || own == 1)
        });
        if !fits {
            return Err(Error::invalid_argument(format!("{} does not broadcast to {}", Dims(x.dims()), Dims(dims))));
        }
        if dims.contains(&0) {
            return self.make(dims, x.ty, || x.tensor.broadcast_as(dims));
        }
        Self::view(x, dims, |tensor| tensor.broadcast_as(dims))
    }

    /// The tensors one after the other along an axis.
    pub(crate) fn join(&self, parts: &[DeviceTensor], axis: usize) -> Result<DeviceTensor, Error> {
        let first = parts.first().ok_or_else(|| Error::invalid_argument("there are no tensors to concatenate"))?;
        let mut dims = first.dims().to_vec();
        let Some(_) = dims.get(axis) else {
            return Err(Error::invalid_argument(format!("axis {axis} is out of range for {} dimensions", dims.len())));
        };
        dims[axis] = 0;
        for part in parts {
            let same = part.rank() == first.rank()
                && part.dims().iter().zip(first.dims()).enumerate().all(|(at, (a, b))| at == axis || a == b);
            if !same || part.ty != first.ty {
                let (a, b) = (Dims(first.dims()), Dims(part.dims()));
                return Err(Error::invalid_argument(format!("{a} and {b} do not concatenate along axis {axis}")));
            }
            dims[axis] = dims[axis].saturating_add(part.dims()[axis]);
        }
        let full = parts.iter().filter(|part| !part.is_empty()).map(|part| self.contiguous(part));
        let full = full.collect::<Result<Vec<_>, _>>()?;
        let tensors: Vec<&Tensor> = full.iter().map(|part| &part.tensor).collect();
        self.make(&dims, first.ty, || Tensor::cat(&tensors, axis))
    }

    /// The elements of an axis at these positions, each of which must be in it.
    pub(crate) fn take(&self, x: &DeviceTensor, axis: usize, positions: &[u32]) -> Result<DeviceTensor, Error> {
        let Some(&dim) = x.dims().get(axis) else {
            return Err(Error::invalid_argument(format!("axis {axis} is out of range for {} dimensions", x.rank())));
        };
        if positions.iter().any(|&position| position as usize >= dim) {
            return Err(Error::invalid_argument(format!("an index is out of range for a dimension of {dim}")));
        }
        let mut dims = x.dims().to_vec();
        dims[axis] = positions.len();
        let x = self.contiguous(x)?;
        let _positions = self.charge(&[positions.len()], ElementType::U32)?;
        self.make(&dims, x.ty, || {
            let list = Tensor::from_slice(positions, positions.len(), self.device)?;
            x.tensor.index_select(&list, axis)
        })
    }

    /// The elements of an axis at the positions that `position` gives for `0..count`.
    pub(crate) fn take_each(
        &self,
        x: &DeviceTensor,
        axis: usize,
        count: usize,
        position: impl Fn(usize) -> usize,
    ) -> Result<DeviceTensor, Error> {
        let (mut positions, _charge) = self.cx.list::<u32>(count)?;
        let mut checkpoint = Checkpoint::default();
        for at in 0..count {
            checkpoint.step(1, self.cx)?;
            let position = u32::try_from(position(at));
            positions.push(position.map_err(|_| Error::too_large("a dimension has more than 4294967295 elements"))?);
        }
        self.take(x, axis, &positions)
    }

    /// The elements of an axis from the last to the first.
    pub(crate) fn reversed(&self, x: &DeviceTensor, axis: usize) -> Result<DeviceTensor, Error> {
        let dim = x.dims().get(axis).copied().unwrap_or(0);
        self.take_each(x, axis, dim, |at| dim - 1 - at)
    }

    /// Converts the elements. Floats are cut to integers; a boolean is whether the number is not 0.
    pub(crate) fn cast(&self, x: &DeviceTensor, ty: ElementType) -> Result<DeviceTensor, Error> {
        if x.ty == ty {
            return Ok(x.clone());
        }
        let dtype = super::tensor::dtype(ty);
        let dtype = dtype.ok_or_else(|| Error::unsupported(format!("the device has no tensors of {ty:?}")))?;
        if ty == ElementType::Bool {
            let zero = || Tensor::zeros((), x.tensor.dtype(), self.device)?.broadcast_as(x.dims());
            return self.make(x.dims(), ty, || x.tensor.ne(&zero()?));
        }
        if x.tensor.dtype() == dtype {
            return Ok(DeviceTensor { ty, ..x.clone() });
        }
        self.make(x.dims(), ty, || x.tensor.to_dtype(dtype))
    }

    /// The one element of a tensor of floats.
    pub(crate) fn element(&self, x: &DeviceTensor) -> Result<f64, Error> {
        let value = self.download(&self.reshape(x, &[])?)?;
        let element = match value.ty() {
            ElementType::F64 => value.elements::<f64>()?.first().copied(),
            _ => value.elements::<f32>()?.first().copied().map(f64::from),
        };
        element.ok_or_else(|| Error::invalid_argument("a number has no element"))
    }
}
