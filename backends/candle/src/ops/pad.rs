//! Pad, with the modes constant, edge, reflect and wrap. A negative pad crops.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::ops::broadcast::elements_like;
use crate::ops::cast::convert;
use crate::ops::integers::ListParameter;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::ops::select::{check_budget, offsets, select};
use crate::tensor::dims::{axis, strides};
use crate::tensor::element::{Element, with_elements};
use crate::tensor::value::Value;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(2, "Pad", (1, 1), pad).until(10).device(form!(on_device)),
    since(11, "Pad", (2, 4), pad).device(form!(on_device)),
];

/// The form moves elements, and 0 as the default of what is around them.
#[cfg(feature = "candle")]
fn on_device(node: &Node<'_>) -> Result<crate::device::args::DeviceForm, crate::device::args::Stop> {
    if node.opset < 11 && node.float("value", 0.0)? != 0.0 {
        return crate::ops::device::moving::none();
    }
    crate::ops::device::moving::moving(node, pad, &[0, 2])
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Constant,
    Edge,
    Reflect,
    Wrap,
}

fn pad(node: &Node<'_>) -> Result<OpFn, Error> {
    let mode = match node.string("mode", "constant")? {
        "constant" => Mode::Constant,
        "edge" => Mode::Edge,
        "reflect" => Mode::Reflect,
        "wrap" if node.opset >= 19 => Mode::Wrap,
        _ => return Err(Error::unsupported("attribute mode is not one of constant, edge, reflect and wrap")),
    };
    let pads = ListParameter::new(node, "pads", 11, 1)?;
    let attribute_value = if node.opset < 11 { node.float("value", 0.0)? } else { 0.0 };
    Ok(Box::new(move |args, cx| {
        let value = args.get(0)?;
        let pads = pads.get(&args)?.ok_or_else(|| Error::invalid_argument("the pads are missing"))?;
        let axes = match args.option(3) {
            Some(axes) => axes.to_i64s()?,
            None => (0..value.rank() as i64).collect(),
        };
        if pads.len() != 2 * axes.len() {
            return Err(Error::invalid_argument(format!(
                "there are {} pads for {} axes, which need two each",
                pads.len(),
                axes.len()
            )));
        }
        let mut ends = vec![(0_i64, 0_i64); value.rank()];
        // With this bound, the sum of two pads and an index fits an i64.
        if let Some(pad) = pads.iter().find(|pad| pad.unsigned_abs() > 1 << 61) {
            return Err(Error::invalid_argument(format!("a pad of {pad} is out of range")));
        }
        for (position, &signed_axis) in axes.iter().enumerate() {
            ends[axis(signed_axis, value.rank())?] = (pads[position], pads[position + axes.len()]);
        }
        let mut dims = Vec::with_capacity(ends.len());
        for (&dim, (before, after)) in value.dims().iter().zip(&ends) {
            let padded = (dim as i64).checked_add(*before).and_then(|sum| sum.checked_add(*after));
            let padded = padded.and_then(|dim| usize::try_from(dim).ok());
            dims.push(padded.ok_or_else(|| Error::invalid_argument("a padded dimension is negative or too large"))?);
        }
        check_budget(&dims, value, cx)?;
        if mode == Mode::Constant {
            let filler = match args.option(2) {
                Some(filler) => filler.clone(),
                None => convert(Value::scalar(attribute_value)?, value.ty(), cx)?,
            };
            if filler.ty() != value.ty() {
                return Err(Error::invalid_argument(format!(
                    "constant_value is {:?}, and the input is {:?}",
                    filler.ty(),
                    value.ty()
                )));
            }
            let (plain, filler) = (value.plain(), filler.plain());
            let padded = with_elements!(plain, |elements| {
                let filler = elements_like(elements, &filler)?.first().copied().unwrap_or_default();
                constant(elements, value.dims(), &ends, &dims, filler, cx)
            })?;
            return Ok(values![padded.retyped(value.ty())]);
        }
        let lists = value.dims().iter().zip(&ends).zip(&dims).zip(strides(value.dims()));
        let lists = lists.map(|(((&dim, &(before, _)), &padded), stride)| {
            if dim == 0 && padded > 0 {
                return Err(Error::invalid_argument("an empty dimension has no elements to pad with"));
            }
            offsets((0..padded).map(|position| source(position as i64 - before, dim as i64, mode) as usize), stride, cx)
        });
        Ok(values![select(value, &lists.collect::<Result<Vec<_>, _>>()?, cx)?])
    }))
}

/// The index in `0..dim` of the element at `position`, which may be outside.
fn source(position: i64, dim: i64, mode: Mode) -> i64 {
    match mode {
        Mode::Edge | Mode::Constant => position.clamp(0, dim - 1),
        Mode::Wrap => position.rem_euclid(dim),
        // The reflection has a period of 2 (dim - 1) elements.
        Mode::Reflect if dim == 1 => 0,
        Mode::Reflect => {
            let period = 2 * (dim - 1);
            let phase = position.rem_euclid(period);
            phase.min(period - phase)
        }
    }
}

/// Pads `elements` of dimensions `old` to dimensions `new` with a constant.
pub(super) fn constant<T: Element>(
    elements: &[T],
    old: &[usize],
    ends: &[(i64, i64)],
    new: &[usize],
    filler: T,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    cx.output(new)?.write(filler, |out| {
        // The part of each dimension that is copied: its first index in the input and in the output, and its length.
        let kept = old.iter().zip(ends).map(|(&dim, &(before, after))| {
            let first = (-before).max(0);
            let len = (dim as i64 - first - (-after).max(0)).max(0);
            (first as usize, before.max(0) as usize, len as usize)
        });
        let kept: Vec<_> = kept.collect();
        if kept.iter().any(|&(_, _, len)| len == 0) {
            return Ok(());
        }
        let (Some((&(first, begin, len), outer)), old_steps, new_steps) =
            (kept.split_last(), strides(old), strides(new))
        else {
            if let (Some(out), Some(element)) = (out.first_mut(), elements.first()) {
                *out = *element;
            }
            return Ok(());
        };
        let mut checkpoint = Checkpoint::default();
        let mut index = vec![0_usize; outer.len()];
        let rows = outer.iter().map(|&(_, _, len)| len).product::<usize>();
        for _ in 0..rows {
            let (mut from, mut to) = (first, begin);
            for ((index, &(first, begin, _)), (old, new)) in
                index.iter().zip(outer).zip(old_steps.iter().zip(&new_steps))
            {
                from += (first + index) * old;
                to += (begin + index) * new;
            }
            for (out, elements) in out[to..to + len].chunks_mut(PIECE).zip(elements[from..from + len].chunks(PIECE)) {
                checkpoint.step(elements.len(), cx)?;
                out.copy_from_slice(elements);
            }
            for (index, &(_, _, len)) in index.iter_mut().zip(outer).rev() {
                *index += 1;
                if *index < len {
                    break;
                }
                *index = 0;
            }
        }
        Ok(())
    })
}
