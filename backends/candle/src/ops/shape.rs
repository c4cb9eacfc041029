//! Operators that read or change the dimensions of a tensor and keep its elements: Shape, Size, Reshape, Flatten,
//! Squeeze, Unsqueeze; and Identity and Dropout, which return their input.

use crate::ops::cast::convert;
use crate::ops::integers::ListParameter;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::tensor::dim_list::DimVec;
use crate::tensor::dims::{axes, axis, product};
use crate::tensor::value::Value;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(1, "Identity", (1, 1), |_| Ok(Box::new(|mut args, _| Ok(values![args.take(0)?]))))
        .device(form!(moving::identity)),
    since(1, "Shape", (1, 1), shape).device(form!(|node| moving::from_dims(node, shape))),
    since(1, "Size", (1, 1), size).device(form!(|node| moving::from_dims(node, size))),
    since(1, "Reshape", (1, 1), reshape).until(4).device(form!(|node| moving::reshaping(node, reshape))),
    since(5, "Reshape", (2, 2), reshape).device(form!(|node| moving::reshaping(node, reshape))),
    since(1, "Flatten", (1, 1), flatten).device(form!(|node| moving::reshaping(node, flatten))),
    since(1, "Squeeze", (1, 2), squeeze).device(form!(|node| moving::reshaping(node, squeeze))),
    since(1, "Unsqueeze", (1, 2), unsqueeze).device(form!(|node| moving::reshaping(node, unsqueeze))),
    since(7, "Dropout", (1, 3), dropout).device(form!(moving::dropout)),
];

fn shape(node: &Node<'_>) -> Result<OpFn, Error> {
    let (start, end) = (node.int("start")?.unwrap_or(0), node.int("end")?.unwrap_or(i64::MAX));
    Ok(Box::new(move |args, cx| {
        let dims = args.get(0)?.dims();
        let rank = dims.len() as i64;
        let bound = |bound: i64| if bound < 0 { bound.saturating_add(rank) } else { bound }.clamp(0, rank) as usize;
        let dims = dims.get(bound(start)..bound(end)).unwrap_or_default();
        Ok(values![cx.output::<i64>(&[dims.len()])?.collect(dims.iter().map(|&dim| dim as i64))?])
    }))
}

fn size(_: &Node<'_>) -> Result<OpFn, Error> {
    Ok(Box::new(|args, cx| {
        let count = args.get(0)?.len() as i64;
        Ok(values![cx.output::<i64>(&[])?.collect(std::iter::once(count))?])
    }))
}

fn reshape(node: &Node<'_>) -> Result<OpFn, Error> {
    let shape = ListParameter::new(node, "shape", 5, 1)?;
    let allow_zero = node.opset >= 14 && node.flag("allowzero", false)?;
    Ok(Box::new(move |mut args, _| {
        let value = args.take(0)?;
        let shape = shape.get(&args)?.ok_or_else(|| Error::invalid_argument("the shape is missing"))?;
        let dims = resolve(&shape, value.dims(), allow_zero)?;
        Ok(values![value.reshaped(dims)?])
    }))
}

/// Replaces each 0 by the dimension of the input at its position, and the -1 by what is left.
fn resolve(shape: &[i64], old: &[usize], allow_zero: bool) -> Result<DimVec, Error> {
    let mut dims = DimVec::with_capacity(shape.len());
    let mut open = None;
    for (position, &dim) in shape.iter().enumerate() {
        dims.push(match dim {
            0 if allow_zero => 0,
            0 => *old
                .get(position)
                .ok_or_else(|| Error::invalid_argument("the shape has a 0 past the last dimension of the input"))?,
            -1 if open.is_none() => {
                open = Some(position);
                1
            }
            dim => usize::try_from(dim).map_err(|_| Error::invalid_argument(format!("dimension {dim} is negative")))?,
        });
    }
    if let Some(position) = open {
        let (rest, total) = (crate::tensor::dims::count(&dims)?, product(old));
        if rest == 0 || total % rest != 0 {
            return Err(Error::invalid_argument(format!("{total} elements are not a multiple of {rest}")));
        }
        if let Some(dim) = dims.get_mut(position) {
            *dim = total / rest;
        }
    }
    Ok(dims)
}

fn flatten(node: &Node<'_>) -> Result<OpFn, Error> {
    let signed_axis = node.int("axis")?.unwrap_or(1);
    Ok(Box::new(move |mut args, _| {
        let value = args.take(0)?;
        // Flatten allows an axis equal to the rank.
        let rank = value.rank();
        let axis = if signed_axis == rank as i64 { rank } else { axis(signed_axis, rank)? };
        let (outer, inner) = value.dims().split_at(axis);
        let dims = [product(outer), product(inner)];
        Ok(values![value.reshaped(dims)?])
    }))
}

fn squeeze(node: &Node<'_>) -> Result<OpFn, Error> {
    let axes_list = ListParameter::new(node, "axes", 13, 1)?;
    Ok(Box::new(move |mut args, _| {
        let value = args.take(0)?;
        let squeezed = match axes_list.get(&args)? {
            Some(list) => axes(&list, value.rank())?,
            None => {
                value.dims().iter().enumerate().filter(|(_, dim)| **dim == 1).map(|(position, _)| position).collect()
            }
        };
        if squeezed.iter().any(|&position| value.dims().get(position) != Some(&1)) {
            return Err(Error::invalid_argument("a dimension to be squeezed is not 1"));
        }
        let kept = value.dims().iter().enumerate().filter(|(position, _)| !squeezed.contains(position));
        let dims: DimVec = kept.map(|(_, &dim)| dim).collect();
        Ok(values![value.reshaped(dims)?])
    }))
}

fn unsqueeze(node: &Node<'_>) -> Result<OpFn, Error> {
    let axes_list = ListParameter::new(node, "axes", 13, 1)?;
    Ok(Box::new(move |mut args, _| {
        let value = args.take(0)?;
        let list = axes_list.get(&args)?.ok_or_else(|| Error::invalid_argument("the axes are missing"))?;
        let rank = value.rank() + list.len();
        if rank > crate::tensor::dims::MAX_RANK {
            return Err(Error::too_large(format!(
                "the result has {rank} dimensions, and at most {} are supported",
                crate::tensor::dims::MAX_RANK
            )));
        }
        let new = axes(&list, rank)?;
        let mut old = value.dims().iter();
        let dims = (0..rank).map(|position| if new.contains(&position) { 1 } else { old.next().copied().unwrap_or(1) });
        let dims: DimVec = dims.collect();
        Ok(values![value.reshaped(dims)?])
    }))
}

/// Inference drops no element, so that the mask is true everywhere.
fn dropout(node: &Node<'_>) -> Result<OpFn, Error> {
    node.ignore(&["ratio", "seed"]);
    let mask = node.outputs() > 1;
    // Before opset 10 the mask has the type of the input.
    let typed = node.opset < 10;
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        if args.option(2).map(Value::elements::<bool>).transpose()?.is_some_and(|mode| mode != [false]) {
            return Err(Error::unsupported("training mode is not supported"));
        }
        if !mask {
            return Ok(values![value]);
        }
        let mask = cx.output::<bool>(value.dims())?.write(true, |_| Ok(()))?;
        let mask = if typed { convert(mask, value.ty(), cx)? } else { mask };
        Ok(values![value, mask])
    }))
}
