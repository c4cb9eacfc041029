//! TensorScatter: writes new rows into a cache, in place if the cache has no other owner.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::ops::heads::overwrite;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::tensor::budget::Charge;
use crate::tensor::dims::{Dims, axis, product};
use crate::tensor::element::{Element, with_elements};
use crate::tensor::value::Value;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[since(24, "TensorScatter", (2, 3), scatter).device(form!(on_device))];

/// The attributes of TensorScatter.
struct TensorScatter {
    axis: i64,
    circular: bool,
}

impl TensorScatter {
    fn new(node: &Node<'_>) -> Result<Self, Error> {
        let axis = node.int("axis")?.unwrap_or(-2);
        let circular = match node.string("mode", "linear")? {
            "linear" => false,
            "circular" => true,
            _ => return Err(Error::invalid_encoding("attribute mode is neither linear nor circular")),
        };
        Ok(Self { axis, circular })
    }

    /// The axis, and the first position of each sequence's update, for a cache and an update of these dimensions. No
    /// positions are given if each is 0.
    fn starts(
        &self,
        cache: &[usize],
        update: &[usize],
        indices: Option<&Value>,
        cx: &ExecContext<'_>,
    ) -> Result<(usize, Vec<usize>, Charge), Error> {
        let axis = axis(self.axis, cache.len())?;
        let same =
            |(position, (old, new)): (usize, (&usize, &usize))| if position == axis { new <= old } else { new == old };
        let fits = cache.len() == update.len() && cache.iter().zip(update).enumerate().all(same);
        if axis == 0 || !fits {
            let why = format!("the update {} does not fit the cache {} along axis {axis}", Dims(update), Dims(cache));
            return Err(Error::invalid_argument(why));
        }
        let (batch, len, capacity) = (cache[0], update[axis], cache[axis]);
        let (mut starts, charge) = cx.list::<usize>(batch)?;
        if let Some(indices) = indices.filter(|indices| indices.dims() != [batch]) {
            return Err(Error::invalid_argument(format!(
                "write_indices has dimensions {}, and the batch has {batch} sequences",
                Dims(indices.dims())
            )));
        }
        for &index in indices.map(Value::elements::<i64>).transpose()?.unwrap_or_default() {
            let wrong = || {
                Error::invalid_argument(format!("{len} rows at write index {index} do not fit a cache of {capacity}"))
            };
            let start = usize::try_from(index).map_err(|_| wrong())?;
            let start = if self.circular { start.checked_rem(capacity).unwrap_or(0) } else { start };
            if !self.circular && start.checked_add(len).is_none_or(|end| end > capacity) {
                return Err(wrong());
            }
            starts.push(start);
        }
        Ok((axis, starts, charge))
    }
}

#[cfg(feature = "candle")]
fn on_device(node: &Node<'_>) -> Result<crate::device::args::DeviceForm, crate::device::args::Stop> {
    let attributes = TensorScatter::new(node)?;
    crate::ops::device::sequence::tensor_scatter(Box::new(move |cache, update, indices, cx| {
        attributes.starts(cache, update, indices, cx)
    }))
}

fn scatter(node: &Node<'_>) -> Result<OpFn, Error> {
    let attributes = TensorScatter::new(node)?;
    Ok(Box::new(move |mut args, cx| {
        let cache = args.take(0)?;
        let update = args.get(1)?;
        let (axis, starts, _charge) = attributes.starts(cache.dims(), update.dims(), args.option(2), cx)?;
        let ty = cache.ty();
        if update.ty() != ty {
            return Err(Error::invalid_argument(format!("the update is {:?}, and the cache is {ty:?}", update.ty())));
        }
        let update = update.plain();
        let written =
            with_elements!(update, |elements| write(cache.into_plain(), elements, update.dims(), axis, &starts, cx))?;
        Ok(values![written.retyped(ty)])
    }))
}

fn write<T: Element>(
    mut cache: Value,
    update: &[T],
    dims: &[usize],
    axis: usize,
    starts: &[usize],
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let capacity = cache.dims()[axis];
    let (len, inner) = (dims[axis], product(&dims[axis + 1..]));
    let each = product(&dims[1..axis]);
    let mut checkpoint = Checkpoint::default();
    let mut rows = |out: &mut [T]| -> Result<(), Error> {
        if update.is_empty() {
            return Ok(());
        }
        for (block, update) in update.chunks_exact(len * inner).enumerate() {
            let start = starts.get(block / each).copied().unwrap_or(0);
            let out = &mut out[block * capacity * inner..(block + 1) * capacity * inner];
            // The rows up to the end of the cache, and those that wrap around to its start.
            let before = len.min(capacity - start);
            let (first, rest) = update.split_at(before * inner);
            overwrite(&mut out[start * inner..(start + before) * inner], first, &mut checkpoint, cx)?;
            overwrite(&mut out[..rest.len()], rest, &mut checkpoint, cx)?;
        }
        Ok(())
    };
    if let Some(out) = cache.elements_mut::<T>() {
        rows(out)?;
        return Ok(cache);
    }
    let elements = cache.elements::<T>()?;
    cx.output::<T>(cache.dims())?.append(|out| {
        Checkpoint::default().copy(elements, out, cx)?;
        rows(out)
    })
}
