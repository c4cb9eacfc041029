//! Device forms of operators that move elements and compute none.
//!
//! The host's kernel says where each element goes: it is run on the numbers of the elements instead of the elements,
//! and the device takes the elements by the numbers in its result. So the rules of shapes, indices and pads, and their
//! checks, are the host's. The most frequent operators have forms of their own, which move no numbers.

use crate::compute::context::{Checkpoint, PIECE};
use crate::device::args::{DeviceArgs, DeviceForm, Outputs, Stop};
use crate::device::context::DeviceContext;
use crate::device::tensor::{DeviceTensor, Placed};
use crate::ops::device::{host_only, own_type, require_one_type};
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::Build;
use crate::tensor::dims::axis;
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use graphpool::backend::{Error, ErrorKind};

/// The form of an operator that moves the elements of the inputs `data`, which are of one type; the other inputs are
/// parameters. `build` makes the host's kernel.
///
/// A kernel may fill places with zeros: the numbers begin at 1, and 0 stands for a zero of the data's type.
pub(in crate::ops) fn moving(node: &Node<'_>, build: Build, data: &'static [usize]) -> Result<DeviceForm, Stop> {
    let kernel = build(node)?;
    Ok(Box::new(move |args, dx| {
        let given: Vec<usize> = data.iter().copied().filter(|&index| args.option(index).is_some()).collect();
        let first = given.first().copied().unwrap_or(0);
        let ty = own_type(args, first)?;
        if given.iter().any(|&index| args.option(index).is_some_and(|value| value.ty() != ty)) {
            // The host's kernel says what is wrong, or whether the types may differ.
            return host_only();
        }
        move_by(&kernel, args, &given, ty, dx)
    }))
}

/// The numbers `first..` in a tensor of `dims`.
fn numbers(dims: &[usize], first: u32, dx: &DeviceContext<'_>) -> Result<Value, Error> {
    dx.cx.output::<u32>(dims)?.append(|out| {
        let mut checkpoint = Checkpoint::default();
        let count = crate::tensor::dims::product(dims);
        for start in (0..count).step_by(PIECE) {
            let end = count.min(start + PIECE);
            checkpoint.step(end - start, dx.cx)?;
            out.extend((start..end).map(|at| first + at as u32));
        }
        Ok(())
    })
}

fn move_by(kernel: &OpFn, args: &mut DeviceArgs, given: &[usize], ty: ElementType, dx: &DeviceContext<'_>) -> Outputs {
    let mut inputs = Vec::with_capacity(args.len());
    let mut tensors = Vec::with_capacity(given.len());
    let mut next = 1_usize;
    for index in 0..args.len() {
        let input = match args.option(index) {
            None => None,
            Some(placed) if given.contains(&index) => {
                let (dims, first) = (placed.dims().to_vec(), next);
                next += dims.iter().product::<usize>();
                if next > u32::MAX as usize {
                    return host_only();
                }
                tensors.push(args.tensor(index, dx)?);
                Some(numbers(&dims, first as u32, dx)?)
            }
            Some(_) => Some(args.host(index, dx)?),
        };
        inputs.push(input);
    }
    let moved = match kernel(Args::new(inputs), dx.cx) {
        // The kernel may support the data's type and not that of the numbers.
        Err(error) if error.kind() == ErrorKind::UnsupportedOperation => return host_only(),
        moved => moved?,
    };
    let zero = zero(ty, dx)?;
    let mut parts = vec![zero];
    for tensor in &tensors {
        parts.push(dx.flatten(tensor)?);
    }
    let all = dx.join(&parts, 0)?;
    let take = |value: Value| -> Result<Placed, Error> {
        if value.ty() != ElementType::U32 {
            return Ok(value.into());
        }
        let taken = dx.take(&all, 0, value.elements::<u32>()?)?;
        Ok(dx.reshape(&taken, value.dims())?.into())
    };
    Ok(moved.into_iter().map(take).collect::<Result<_, _>>()?)
}

/// One zero of type `ty`.
fn zero(ty: ElementType, dx: &DeviceContext<'_>) -> Result<DeviceTensor, Error> {
    let zero = Value::from_bytes(vec![1], ty, &vec![0; ty.size()])?;
    dx.upload(&zero)?.ok_or_else(|| Error::unsupported(format!("the device has no tensors of {ty:?}")))
}

/// The inputs after the first one on the host.
pub(super) fn parameters(args: &mut DeviceArgs, dx: &DeviceContext<'_>) -> Result<Vec<Option<Value>>, Error> {
    let mut inputs = vec![None];
    for index in 1..args.len() {
        inputs.push(if args.option(index).is_some() { Some(args.host(index, dx)?) } else { None });
    }
    Ok(inputs)
}

/// The form of an operator whose result the host computes from parameters and from dimensions: it reads no element on
/// the device.
pub(in crate::ops) fn from_dims(node: &Node<'_>, build: Build) -> Result<DeviceForm, Stop> {
    let kernel = build(node)?;
    Ok(Box::new(move |args, dx| {
        let dims = args.get(0)?.dims().to_vec();
        // The kernel reads the dimensions alone, which a tensor of any type has.
        let stand_in = match args.get(0)?.on_host() {
            Some(value) => value.clone(),
            None => dx.cx.output::<u8>(&dims)?.write(0, |_| Ok(()))?,
        };
        Ok(kernel(Args::new(vec![Some(stand_in)]), dx.cx)?.into_iter().map(Placed::from).collect())
    }))
}

/// As [`from_dims`], for an operator whose result has the type of its input by default.
pub(in crate::ops) fn from_typed_dims(node: &Node<'_>, build: Build) -> Result<DeviceForm, Stop> {
    let kernel = build(node)?;
    Ok(Box::new(move |args, dx| match args.get(0)?.on_host() {
        Some(value) => Ok(kernel(Args::new(vec![Some(value.clone())]), dx.cx)?.into_iter().map(Placed::from).collect()),
        None => host_only(),
    }))
}

/// The form of an operator whose inputs are all parameters.
pub(in crate::ops) fn from_parameters(node: &Node<'_>, build: Build) -> Result<DeviceForm, Stop> {
    let kernel = build(node)?;
    Ok(Box::new(move |args, dx| {
        let mut inputs = parameters(args, dx)?;
        if args.option(0).is_some() {
            inputs[0] = Some(args.host(0, dx)?);
        }
        Ok(kernel(Args::new(inputs), dx.cx)?.into_iter().map(Placed::from).collect())
    }))
}

/// The form of an operator that changes dimensions alone: the host's kernel computes them from those of the input.
pub(in crate::ops) fn reshaping(node: &Node<'_>, build: Build) -> Result<DeviceForm, Stop> {
    let kernel = build(node)?;
    Ok(Box::new(move |args, dx| {
        let x = args.tensor(0, dx)?;
        // The kernel gives its input with other dimensions; a byte stands for each element.
        let stand_in = dx.cx.output::<u8>(x.dims())?.write(0, |_| Ok(()))?;
        let mut inputs = parameters(args, dx)?;
        inputs[0] = Some(stand_in);
        let reshaped = kernel(Args::new(inputs), dx.cx)?;
        let [value] = reshaped.as_slice() else { return host_only() };
        Ok(vec![dx.reshape(&x, value.dims())?.into()])
    }))
}

/// The first input unchanged.
pub(in crate::ops) fn identity(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    Ok(Box::new(|args, _| Ok(vec![args.get(0)?.clone()])))
}

pub(in crate::ops) fn transpose(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let order = node.ints("perm")?.map(<[i64]>::to_vec);
    Ok(Box::new(move |args, dx| {
        let x = args.tensor(0, dx)?;
        let order = match &order {
            None => (0..x.rank()).rev().collect(),
            Some(order) => order.iter().map(|&at| axis(at, x.rank())).collect::<Result<Vec<_>, _>>()?,
        };
        Ok(vec![dx.permute(&x, &order)?.into()])
    }))
}

pub(in crate::ops) fn concat(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let signed_axis = node.int("axis")?.ok_or_else(|| Error::invalid_encoding("attribute axis is missing"))?;
    Ok(Box::new(move |args, dx| {
        require_one_type(args, 1..args.len())?;
        let parts = (0..args.len()).map(|index| args.tensor(index, dx)).collect::<Result<Vec<_>, _>>()?;
        let rank = parts.first().map_or(0, DeviceTensor::rank);
        Ok(vec![dx.join(&parts, axis(signed_axis, rank)?)?.into()])
    }))
}

pub(in crate::ops) fn gather(node: &Node<'_>, build: Build) -> Result<DeviceForm, Stop> {
    let signed_axis = node.int("axis")?.unwrap_or(0);
    let kernel = build(node)?;
    Ok(Box::new(move |args, dx| {
        let dims = args.get(0)?.dims().to_vec();
        let axis = axis(signed_axis, dims.len())?;
        // The positions of an axis could be far more than the elements, of which there are none.
        if dims.contains(&0) {
            return host_only();
        }
        let dim = u32::try_from(dims[axis]).or_else(|_| host_only())?;
        // The host's kernel checks the indices: it gathers from the positions of the axis.
        let positions = numbers(&[dim as usize], 0, dx)?;
        let mut line = vec![1; dims.len()];
        line[axis] = dim as usize;
        let indices = args.host(1, dx)?;
        let found = kernel(Args::new(vec![Some(positions.reshaped(line)?), Some(indices.clone())]), dx.cx)?;
        let [found] = found.as_slice() else { return host_only() };
        let x = args.tensor(0, dx)?;
        let taken = dx.take(&x, axis, found.elements::<u32>()?)?;
        let dims = [&dims[..axis], indices.dims(), &dims[axis + 1..]].concat();
        Ok(vec![dx.reshape(&taken, &dims)?.into()])
    }))
}

/// The first index, the step and the number of indices of each dimension that a slice has, from the dimensions of its
/// input and its parameters.
pub(in crate::ops) type Ranges =
    Box<dyn Fn(&[usize], &Args) -> Result<smallvec::SmallVec<[(usize, i64, usize); 6]>, Error> + Send + Sync>;

pub(in crate::ops) fn slice(ranges: Ranges) -> Result<DeviceForm, Stop> {
    Ok(Box::new(move |args, dx| {
        let parameters = parameters(args, dx)?;
        let mut x = args.tensor(0, dx)?;
        for (axis, (first, step, count)) in ranges(x.dims(), &Args::new(parameters))?.into_iter().enumerate() {
            x = if step == 1 || count <= 1 {
                dx.narrow(&x, axis, first.min(x.dims()[axis] - count), count)?
            } else {
                if u32::try_from(x.dims()[axis]).is_err() {
                    return host_only();
                }
                let position = |at: usize| (first as i64).wrapping_add(step.wrapping_mul(at as i64)) as usize;
                dx.take_each(&x, axis, count, position)?
            };
        }
        Ok(vec![x.into()])
    }))
}

/// The parts of a split along an axis.
pub(in crate::ops) fn split(node: &Node<'_>, build: Build) -> Result<DeviceForm, Stop> {
    let signed_axis = node.int("axis")?.unwrap_or(0);
    let kernel = build(node)?;
    Ok(Box::new(move |args, dx| {
        let dims = args.get(0)?.dims().to_vec();
        let axis = axis(signed_axis, dims.len())?;
        if dims.contains(&0) || u32::try_from(dims[axis]).is_err() {
            return host_only();
        }
        // The host's kernel splits the positions of the axis.
        let mut line = vec![1; dims.len()];
        line[axis] = dims[axis];
        let positions = numbers(&line, 0, dx)?;
        let mut inputs = parameters(args, dx)?;
        inputs[0] = Some(positions);
        let parts = kernel(Args::new(inputs), dx.cx)?;
        let x = args.tensor(0, dx)?;
        let mut start = 0;
        let mut outputs = Vec::with_capacity(parts.len());
        for part in parts {
            let len = part.dims()[axis];
            outputs.push(dx.narrow(&x, axis, start, len)?.into());
            start += len;
        }
        Ok(outputs)
    }))
}

pub(in crate::ops) fn expand(_: &Node<'_>) -> Result<DeviceForm, Stop> {
    Ok(Box::new(|args, dx| {
        let wanted = args.host(1, dx)?.to_i64s()?;
        let wanted = wanted.iter().map(|&dim| usize::try_from(dim)).collect::<Result<Vec<_>, _>>();
        let wanted = wanted.map_err(|_| Error::invalid_argument("a dimension is negative"))?;
        let x = args.tensor(0, dx)?;
        let dims = crate::tensor::dims::broadcast(x.dims(), &wanted)?;
        Ok(vec![dx.contiguous(&dx.broadcast(&x, &dims)?)?.into()])
    }))
}

/// Dropout without a mask, which drops nothing in inference.
pub(in crate::ops) fn dropout(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let mask = node.outputs() > 1;
    node.ignore(&["ratio", "seed"]);
    Ok(Box::new(move |args, _| {
        // The host's kernel makes the mask, and refuses the training mode.
        if mask || args.option(2).is_some() {
            return host_only();
        }
        Ok(vec![args.get(0)?.clone()])
    }))
}

/// No form, for a node whose operator has one for other attributes.
pub(in crate::ops) fn none() -> Result<DeviceForm, Stop> {
    host_only()
}
