//! The device form of Resize with interpolation. The host computes the sources and the weights of each output index,
//! and the device adds the weighted elements up, one dimension after the other.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::device::args::{DeviceForm, Stop};
use crate::device::context::DeviceContext;
use crate::device::tensor::DeviceTensor;
use crate::ops::device::moving::parameters;
use crate::ops::device::{host_only, one, own_type};
use crate::ops::node::Args;
use crate::ops::resize_filter::Sources;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// Sources of an output index at the most. The device reads the whole input once for each.
const MOST_TAPS: usize = 16;

/// The dimensions that change, with their sources, from the dimensions of the input and the parameters; `None` for
/// tensors without elements.
pub(in crate::ops) type SourcesOf =
    Box<dyn Fn(&[usize], &Args, &ExecContext<'_>) -> Result<Option<Vec<(usize, Sources)>>, Error> + Send + Sync>;

pub(in crate::ops) fn resize(sources: SourcesOf, outside: f64) -> Result<DeviceForm, Stop> {
    Ok(Box::new(move |args, dx| {
        let parameters = Args::new(parameters(args, dx)?);
        let (ty, mut x) = (own_type(args, 0)?, args.float(0, dx)?);
        let Some(plan) = sources(x.dims(), &parameters, dx.cx)? else { return host_only() };
        let taps = |sources: &Sources| sources.starts.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or(0);
        if plan.iter().any(|(_, sources)| taps(sources) > MOST_TAPS) {
            return host_only();
        }
        for (axis, sources) in &plan {
            x = resampled(&x, *axis, (sources, taps(sources)), outside, dx)?;
        }
        one(&x, ty, dx)
    }))
}

/// The elements along an axis as the sums of their weighted sources, of which there are up to `taps`.
fn resampled(
    x: &DeviceTensor,
    axis: usize,
    (sources, taps): (&Sources, usize),
    outside: f64,
    dx: &DeviceContext<'_>,
) -> Result<DeviceTensor, Stop> {
    let count = sources.starts.len() - 1;
    let list = |index: usize| &sources.list[sources.starts[index]..sources.starts[index + 1]];
    let mut line = vec![1; x.rank()];
    line[axis] = count;
    let zero = dx.number(0.0, x.ty())?;
    let mut sum = None;
    for tap in 0..taps {
        let weight = |index: usize| list(index).get(tap).map_or(0.0, |&(_, weight)| weight);
        let taken = dx.take_each(x, axis, count, |index| list(index).get(tap).map_or(0, |&(at, _)| at))?;
        let weights = placed(&dx.cx.output::<f64>(&line)?.collect((0..count).map(weight))?, dx)?;
        let part = dx.mul(&taken, &dx.cast(&weights, x.ty())?)?;
        // What is infinite is not multiplied by the 0 of an index with fewer sources.
        let part = if (0..count).all(|index| list(index).len() > tap) {
            part
        } else {
            dx.select(&flags(&line, |index| list(index).len() > tap, dx)?, &part, &zero)?
        };
        sum = Some(match sum {
            None => part,
            Some(sum) => dx.add(&sum, &part)?,
        });
    }
    let inside = |index: usize| !list(index).is_empty();
    let outside = dx.number(outside, x.ty())?;
    match sum {
        Some(sum) if (0..count).all(inside) => Ok(sum),
        Some(sum) => Ok(dx.select(&flags(&line, inside, dx)?, &sum, &outside)?),
        None => {
            let mut dims = x.dims().to_vec();
            dims[axis] = count;
            Ok(dx.broadcast(&outside, &dims)?)
        }
    }
}

/// A tensor of booleans of `dims`, of which one is not 1.
fn flags(dims: &[usize], flag: impl Fn(usize) -> bool, dx: &DeviceContext<'_>) -> Result<DeviceTensor, Stop> {
    let flags = dx.cx.output::<bool>(dims)?.append(|out| {
        let mut checkpoint = Checkpoint::default();
        for index in 0..dims.iter().product() {
            checkpoint.step(1, dx.cx)?;
            out.push(flag(index));
        }
        Ok(())
    })?;
    placed(&flags, dx)
}

/// A value of the host's on the device.
fn placed(value: &Value, dx: &DeviceContext<'_>) -> Result<DeviceTensor, Stop> {
    dx.upload(value)?.ok_or(Stop::HostOnly)
}
