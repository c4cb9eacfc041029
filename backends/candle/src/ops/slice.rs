//! Slice: the elements from a start to an end of each axis, with a step.

use smallvec::{SmallVec, smallvec};

use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::ops::select::{check_budget, offsets, select};
use crate::tensor::dim_list::{DimVec, IntVec};
use crate::tensor::dims::{axis, strides};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(1, "Slice", (1, 1), slice).until(9).device(form!(sliced)),
    since(10, "Slice", (3, 5), slice).device(form!(sliced)),
];

#[cfg(feature = "candle")]
fn sliced(node: &Node<'_>) -> Result<crate::device::args::DeviceForm, crate::device::args::Stop> {
    crate::ops::device::moving::slice(Box::new(ranges(node)?))
}

/// First index, step and number of indices of each dimension.
type Ranges = SmallVec<[(usize, i64, usize); 6]>;

fn slice(node: &Node<'_>) -> Result<OpFn, Error> {
    let ranges = ranges(node)?;
    Ok(Box::new(move |args, cx| {
        let value = args.get(0)?;
        let ranges = ranges(value.dims(), &args)?;
        let dims: DimVec = ranges.iter().map(|&(_, _, count)| count).collect();
        check_budget(&dims, value, cx)?;
        let lists = ranges.iter().zip(strides(value.dims()));
        let lists = lists.map(|(&(first, step, count), stride)| {
            let indices =
                (0..count).map(|position| (first as i64).wrapping_add(step.wrapping_mul(position as i64)) as usize);
            offsets(indices, stride, cx)
        });
        let lists = lists.collect::<Result<SmallVec<[_; 4]>, _>>()?;
        Ok(values![select(value, &lists, cx)?])
    }))
}

/// What a node slices of an input of these dimensions. The lists are attributes, or inputs after the first.
fn ranges(node: &Node<'_>) -> Result<impl Fn(&[usize], &Args) -> Result<Ranges, Error> + use<>, Error> {
    let mut attributes = Vec::new();
    if node.opset < 10 {
        for name in ["starts", "ends", "axes"] {
            attributes.push(node.ints(name)?.map(<[i64]>::to_vec));
        }
    }
    Ok(move |dims: &[usize], args: &Args| {
        let list = |index: usize| match (attributes.is_empty(), args.option(index + 1)) {
            (false, _) => {
                Ok(attributes.get(index).and_then(Option::as_ref).map(|list: &Vec<i64>| IntVec::from(list.as_slice())))
            }
            (true, Some(list)) => list.to_i64s().map(Some),
            (true, None) => Ok(None),
        };
        let missing = || Error::invalid_argument("starts or ends are missing");
        let (starts, ends) = (list(0)?.ok_or_else(missing)?, list(1)?.ok_or_else(missing)?);
        let axes = list(2)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = list(3)?.unwrap_or_else(|| smallvec![1; starts.len()]);
        if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
            return Err(Error::invalid_argument("starts, ends, axes and steps have different lengths"));
        }
        let mut ranges: Ranges = dims.iter().map(|&dim| (0, 1, dim)).collect();
        let mut seen: SmallVec<[bool; 8]> = smallvec![false; ranges.len()];
        for (((&signed_axis, &start), &end), &step) in axes.iter().zip(&starts).zip(&ends).zip(&steps) {
            let index = axis(signed_axis, dims.len())?;
            if std::mem::replace(&mut seen[index], true) {
                return Err(Error::invalid_argument("an axis is named twice"));
            }
            ranges[index] = range(dims[index] as i64, start, end, step)?;
        }
        Ok(ranges)
    })
}

/// First index, step and number of indices; bounds outside the dimension are moved to its ends.
fn range(dim: i64, start: i64, end: i64, step: i64) -> Result<(usize, i64, usize), Error> {
    if step == 0 {
        return Err(Error::invalid_argument("a step is 0"));
    }
    let counted = |bound: i64| if bound < 0 { bound.saturating_add(dim) } else { bound };
    let (low, high) = if step > 0 { (0, dim) } else { (-1, dim - 1) };
    let start = if step > 0 { counted(start).clamp(0, dim) } else { counted(start).clamp(0.min(high), high) };
    let end = counted(end).clamp(low.min(high), high);
    let span = if step > 0 { end - start } else { start - end };
    // Unsigned, since a step of i64::MIN has no positive counterpart.
    let count = (span.max(0) as u64).div_ceil(step.unsigned_abs());
    Ok((start.max(0) as usize, step, count as usize))
}
