//! Device forms of operators that keep a state from call to call: CausalConvWithState and TensorScatter.

use crate::compute::context::ExecContext;
use crate::device::args::{DeviceForm, Stop};
use crate::device::context::DeviceContext;
use crate::device::tensor::{DeviceTensor, Placed};
use crate::ops::device::activation::sigmoid_of;
use crate::ops::device::{host_only, own_type, require_one_type};
use crate::tensor::budget::Charge;
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// Taps of a filter at the most. The device reads the whole input once for each.
const MOST_TAPS: usize = 32;

/// Sequences of a cache at the most. Each is written by itself.
const MOST_SEQUENCES: usize = 64;

/// Batch, channels, length and taps of an input and weights of these dimensions; a bias and a past state must fit them.
type ConvolutionSizes = fn([&[usize]; 2], [Option<&[usize]>; 2]) -> Result<[usize; 4], Error>;

pub(in crate::ops) fn causal_convolution(silu: bool, sizes: ConvolutionSizes) -> Result<DeviceForm, Stop> {
    Ok(Box::new(move |args, dx| {
        let ty = own_type(args, 0)?;
        // The host refuses other types, and a past state of another one.
        if !matches!(ty, ElementType::F32 | ElementType::F16 | ElementType::Bf16)
            || args.option(3).is_some_and(|past| past.ty() != ty)
        {
            return host_only();
        }
        let (value, weights) = (args.tensor(0, dx)?, args.float(1, dx)?);
        let dims = |index: usize| args.option(index).map(Placed::dims);
        let [batch, channels, len, taps] = sizes([value.dims(), weights.dims()], [dims(2), dims(3)])?;
        if value.is_empty() || taps > MOST_TAPS {
            return host_only();
        }
        let state_dims = [batch, channels, taps - 1];
        let past = match args.option(3) {
            Some(_) => args.tensor(3, dx)?,
            None => dx.cast(&dx.filled(&state_dims, 0.0, ElementType::F32)?, ty)?,
        };
        let padded = dx.join(&[past, value], 2)?;
        let source = dx.cast(&padded, ElementType::F32)?;
        let weights = dx.reshape(&dx.cast(&weights, ElementType::F32)?, &[channels, taps])?;
        let mut sum = match args.optional_float(2, dx)? {
            Some(bias) => dx.reshape(&dx.cast(&bias, ElementType::F32)?, &[channels, 1])?,
            None => dx.number(0.0, ElementType::F32)?,
        };
        for tap in 0..taps {
            let (elements, weight) = (dx.narrow(&source, 2, tap, len)?, dx.narrow(&weights, 1, tap, 1)?);
            sum = dx.add(&sum, &dx.mul(&elements, &weight)?)?;
        }
        if silu {
            sum = dx.mul(&sum, &sigmoid_of(&sum, dx)?)?;
        }
        // A copy, which does not keep all elements in memory.
        let state = dx.contiguous(&dx.narrow(&padded, 2, len, taps - 1)?)?;
        Ok(vec![dx.cast(&sum, ty)?.into(), state.into()])
    }))
}

/// The axis, and the first position of each sequence's update, for a cache and an update of these dimensions. No
/// positions are given if each is 0.
pub(in crate::ops) type Starts = Box<
    dyn Fn(&[usize], &[usize], Option<&Value>, &ExecContext<'_>) -> Result<(usize, Vec<usize>, Charge), Error>
        + Send
        + Sync,
>;

pub(in crate::ops) fn tensor_scatter(starts: Starts) -> Result<DeviceForm, Stop> {
    Ok(Box::new(move |args, dx| {
        require_one_type(args, 1..2)?;
        let indices = if args.option(2).is_some() { Some(args.host(2, dx)?) } else { None };
        let (cache, update) = (args.tensor(0, dx)?, args.tensor(1, dx)?);
        let (axis, starts, _charge) = starts(cache.dims(), update.dims(), indices.as_ref(), dx.cx)?;
        let batch = cache.dims()[0];
        if cache.is_empty() || update.is_empty() || (!starts.is_empty() && batch > MOST_SEQUENCES) {
            return host_only();
        }
        if starts.is_empty() {
            return Ok(vec![written(&cache, &update, axis, 0, dx)?.into()]);
        }
        let mut sequences = Vec::with_capacity(batch);
        for (index, &start) in starts.iter().enumerate() {
            let one = |x: &DeviceTensor| dx.narrow(x, 0, index, 1);
            sequences.push(written(&one(&cache)?, &one(&update)?, axis, start, dx)?);
        }
        Ok(vec![dx.join(&sequences, 0)?.into()])
    }))
}

/// The cache with the update from `start` on; what is past its end is at its beginning.
fn written(
    cache: &DeviceTensor,
    update: &DeviceTensor,
    axis: usize,
    start: usize,
    dx: &DeviceContext<'_>,
) -> Result<DeviceTensor, Error> {
    let (capacity, len) = (cache.dims()[axis], update.dims()[axis]);
    let before = len.min(capacity - start);
    let wrapped = len - before;
    let mut parts = Vec::with_capacity(4);
    for (of, from, to) in
        [(update, before, len), (cache, wrapped, start), (update, 0, before), (cache, start + before, capacity)]
    {
        if from < to {
            parts.push(dx.narrow(of, axis, from, to - from)?);
        }
    }
    dx.join(&parts, axis)
}
