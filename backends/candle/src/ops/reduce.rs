//! Reductions over axes: ReduceSum, ReduceMean and the other Reduce operators, ArgMax, ArgMin.
//!
//! Axes are an attribute, and an input from opset 13 (ReduceSum) or 18 (the others) on. Without axes, all are reduced.
//!
//! The maximum and the minimum of elements with a NaN are NaN; ArgMax and ArgMin give the index of a NaN.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::loops;
use crate::ops::cast::convert;
use crate::ops::elementwise::{Number, with_numbers};
use crate::ops::layout::permute;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::ops::reduce_f32::{has_last_axes, last_axes, reduce_rows};
use crate::ops::reduced::{Reduced, Reduction};
use crate::tensor::dim_list::DimVec;
use crate::tensor::dims::{axis, product, strides};
use crate::tensor::element::{Element, ElementType};
use crate::tensor::value::Value;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] =
    &[
        since(1, "ReduceSum", (1, 2), |node| reduce(node, 13, Reduction::Sum)).device(form!(|node| reduce::reduce(
            node,
            13,
            reduce::sum
        ))),
        since(1, "ReduceMean", (1, 2), |node| reduce(node, 18, Reduction::Mean)).device(form!(|node| reduce::reduce(
            node,
            18,
            reduce::mean
        ))),
        since(1, "ReduceMax", (1, 2), |node| reduce(node, 18, Reduction::Max)).device(form!(|node| reduce::reduce(
            node,
            18,
            reduce::largest
        ))),
        since(1, "ReduceMin", (1, 2), |node| reduce(node, 18, Reduction::Min)).device(form!(|node| reduce::reduce(
            node,
            18,
            reduce::smallest
        ))),
        since(1, "ReduceProd", (1, 2), |node| reduce(node, 18, Reduction::Product))
            .device(form!(|node| reduce::reduce(node, 18, reduce::product))),
        since(1, "ReduceL1", (1, 2), |node| reduce(node, 18, Reduction::L1)).device(form!(|node| reduce::reduce(
            node,
            18,
            reduce::l1
        ))),
        since(1, "ReduceL2", (1, 2), |node| reduce(node, 18, Reduction::L2)).device(form!(|node| reduce::reduce(
            node,
            18,
            reduce::l2
        ))),
        since(1, "ReduceSumSquare", (1, 2), |node| reduce(node, 18, Reduction::SumSquare))
            .device(form!(|node| reduce::reduce(node, 18, reduce::sum_square))),
        since(1, "ReduceLogSum", (1, 2), |node| reduce(node, 18, Reduction::LogSum))
            .device(form!(|node| reduce::reduce(node, 18, reduce::log_sum))),
        since(1, "ReduceLogSumExp", (1, 2), |node| reduce(node, 18, Reduction::LogSumExp))
            .device(form!(|node| reduce::reduce(node, 18, reduce::log_sum_exp))),
        since(1, "ArgMax", (1, 1), |node| arg_extreme(node, true))
            .device(form!(|node| reduce::arg_extreme(node, true))),
        since(1, "ArgMin", (1, 1), |node| arg_extreme(node, false))
            .device(form!(|node| reduce::arg_extreme(node, false))),
    ];

fn reduce(node: &Node<'_>, axes_input_since: i64, reduction: Reduction) -> Result<OpFn, Error> {
    let reduced_axes = Reduced::new(node, axes_input_since)?;
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        let ty = value.ty();
        // Booleans are compared as 0 and 1.
        let extreme = matches!(reduction, Reduction::Max | Reduction::Min);
        let value = if ty == ElementType::Bool && extreme { convert(value, ElementType::U8, cx)? } else { value };
        let (reduced, dims) = reduced_axes.of(value.dims(), &args)?;
        let kept: DimVec = (0..value.rank()).filter(|position| !reduced.contains(position)).collect();
        let outer: usize = kept.iter().map(|&position| value.dims()[position]).product();
        let inner: usize = reduced.iter().map(|&position| value.dims()[position]).product();

        // A reduction of adjacent axes that are not the last needs no transposition: whole rows are combined.
        let adjacent = reduced.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        let width = reduced.last().map_or(1, |&last| product(&value.dims()[last + 1..]));
        if adjacent
            && inner > 0
            && width > 1
            && value.ty() == ElementType::F32
            && matches!(reduction, Reduction::Sum | Reduction::Mean | Reduction::Max | Reduction::Min)
        {
            return Ok(values![reduce_rows(&value, inner, width, &dims, reduction, cx)?]);
        }
        let order: DimVec = kept.iter().chain(&reduced).copied().collect();
        let value = permute(value, &order, cx)?;
        if value.ty() == ElementType::F32 && inner > 0 && has_last_axes(reduction) {
            return Ok(values![last_axes(&value, inner, &dims, reduction, cx)?]);
        }
        let result = with_numbers!(value, T => {
            let (elements, mut checkpoint) = (value.elements::<T>()?, Checkpoint::default());
            cx.output::<T>(&dims)?.append(|out| {
                for row in 0..outer {
                    out.push(fold(&elements[row * inner..(row + 1) * inner], reduction, &mut checkpoint, cx)?);
                }
                Ok(())
            })
        })?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

/// The reduction of one row.
fn fold<T: Number>(
    row: &[T],
    reduction: Reduction,
    checkpoint: &mut Checkpoint,
    cx: &ExecContext<'_>,
) -> Result<T, Error> {
    let number = |x: f64| T::from_f64(x);
    // f16 and bf16 are summed in f64, because their own precision would lose small elements.
    let narrow = matches!(T::TYPE, ElementType::F16 | ElementType::Bf16);
    Ok(match reduction {
        Reduction::Sum if narrow || T::TYPE == ElementType::F32 => number(sum(row, |x| x, checkpoint, cx)?),
        Reduction::Sum => folded(row, T::default(), T::plus, checkpoint, cx)?,
        Reduction::Mean => number(sum(row, |x| x, checkpoint, cx)? / row.len() as f64),
        Reduction::Max | Reduction::Min => {
            let infinity = if reduction == Reduction::Max { f64::NEG_INFINITY } else { f64::INFINITY };
            let Some(&first) = row.first() else { return Ok(identity::<T>(infinity)) };
            match reduction {
                Reduction::Max => extreme(first, row, T::larger, checkpoint, cx)?,
                _ => extreme(first, row, T::smaller, checkpoint, cx)?,
            }
        }
        Reduction::Product if narrow => number(folded(row, 1.0, |product, x| product * x.to_f64(), checkpoint, cx)?),
        Reduction::Product => folded(row, number(1.0), T::times, checkpoint, cx)?,
        Reduction::L1 => number(sum(row, f64::abs, checkpoint, cx)?),
        Reduction::L2 => number(sum(row, |x| x * x, checkpoint, cx)?.sqrt()),
        Reduction::SumSquare => number(sum(row, |x| x * x, checkpoint, cx)?),
        Reduction::LogSum => number(sum(row, |x| x, checkpoint, cx)?.ln()),
        Reduction::LogSumExp => {
            let top = folded(row, f64::NEG_INFINITY, |top: f64, x| top.max(x.to_f64()), checkpoint, cx)?;
            let top = if top.is_finite() { top } else { 0.0 };
            number(top + folded(row, 0.0, |sum, x| sum + (x.to_f64() - top).exp(), checkpoint, cx)?.ln())
        }
    })
}

/// The largest or smallest element of a row, as `f` says.
fn extreme<T: Number>(
    first: T,
    row: &[T],
    f: impl Fn(T, T) -> T + Copy,
    checkpoint: &mut Checkpoint,
    cx: &ExecContext<'_>,
) -> Result<T, Error> {
    if row.len() < loops::SHORT {
        checkpoint.step(row.len(), cx)?;
        return Ok(loops::fold_short(first, row, f, f));
    }
    let mut parts = [first; loops::PARTS];
    for piece in row.chunks(PIECE) {
        checkpoint.step(piece.len(), cx)?;
        loops::fold(&mut parts, piece, f);
    }
    Ok(loops::joined(parts, f))
}

/// Folds a row with `f`, from `start` on.
fn folded<T: Number, U>(
    row: &[T],
    start: U,
    f: impl Fn(U, T) -> U,
    checkpoint: &mut Checkpoint,
    cx: &ExecContext<'_>,
) -> Result<U, Error> {
    let mut result = start;
    for piece in row.chunks(PIECE) {
        checkpoint.step(piece.len(), cx)?;
        result = piece.iter().fold(result, |result, &x| f(result, x));
    }
    Ok(result)
}

/// The maximum or minimum of no elements: -∞ or ∞.
fn identity<T: Number>(infinity: f64) -> T {
    // The conversion to an integer saturates.
    T::from_f64(infinity)
}

/// A sum in f64, in independent parts, which the processor adds in parallel.
fn sum<T: Number>(
    row: &[T],
    f: impl Fn(f64) -> f64,
    checkpoint: &mut Checkpoint,
    cx: &ExecContext<'_>,
) -> Result<f64, Error> {
    if row.len() < loops::SHORT {
        checkpoint.step(row.len(), cx)?;
        return Ok(loops::fold_short(0.0, row, |part: f64, x: T| part + f(x.to_f64()), |a, b| a + b));
    }
    let mut parts = [0.0_f64; loops::PARTS];
    for piece in row.chunks(PIECE) {
        checkpoint.step(piece.len(), cx)?;
        loops::fold(&mut parts, piece, |part, x| part + f(x.to_f64()));
    }
    Ok(loops::joined(parts, |a, b| a + b))
}

fn arg_extreme(node: &Node<'_>, largest: bool) -> Result<OpFn, Error> {
    let signed_axis = node.int("axis")?.unwrap_or(0);
    let keep = node.flag("keepdims", true)?;
    let last = node.opset >= 12 && node.flag("select_last_index", false)?;
    Ok(Box::new(move |args, cx| {
        let value = args.get(0)?;
        let axis = axis(signed_axis, value.rank())?;
        let (dim, step) = (value.dims()[axis], strides(value.dims())[axis]);
        let mut dims = value.dims().to_vec();
        if keep {
            dims[axis] = 1;
        } else {
            dims.remove(axis);
        }
        let outer = product(&value.dims()[..axis]);
        if dim == 0 && product(&dims) > 0 {
            return Err(Error::invalid_argument("the reduced axis is empty"));
        }
        let inner = product(&value.dims()[axis + 1..]);
        Ok(values![with_numbers!(*value, T => {
            let elements = value.elements::<T>()?;
            #[expect(clippy::eq_op, reason = "only a NaN is not equal to itself")]
            let beats = |new: T, old: T| match (new != new, old != old) {
                (false, false) => (if largest { new > old } else { new < old }) || (last && new == old),
                // A NaN beats every number.
                (new, old) => new && (last || !old),
            };
            let mut checkpoint = Checkpoint::default();
            cx.output::<i64>(&dims)?.append(|out| {
                for block in 0..outer {
                    for position in 0..inner {
                        let start = block * dim * inner + position;
                        out.push(best_index(elements, start, (dim, step), beats, &mut checkpoint, cx)?);
                    }
                }
                Ok(())
            })
        })?])
    }))
}

/// The index of the element that `beats` every earlier one.
fn best_index<T: Element>(
    elements: &[T],
    start: usize,
    (dim, step): (usize, usize),
    beats: impl Fn(T, T) -> bool,
    checkpoint: &mut Checkpoint,
    cx: &ExecContext<'_>,
) -> Result<i64, Error> {
    let (mut best, mut found) = (elements[start], 0);
    for first in (0..dim).step_by(PIECE) {
        let end = dim.min(first + PIECE);
        checkpoint.step(end - first, cx)?;
        for index in first..end {
            let element = elements[start + index * step];
            if index > 0 && beats(element, best) {
                (best, found) = (element, index);
            }
        }
    }
    Ok(found as i64)
}

/// The mean over the trailing `inner` elements of each of `outer` rows, for the global pools.
pub(super) fn row_means<T: Number>(
    value: &Value,
    outer: usize,
    inner: usize,
    dims: &[usize],
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    if value.ty() == ElementType::F32 && inner > 0 {
        return last_axes(value, inner, dims, Reduction::Mean, cx);
    }
    let (elements, mut checkpoint) = (value.elements::<T>()?, Checkpoint::default());
    cx.output::<T>(dims)?.append(|out| {
        for row in 0..outer {
            out.push(fold(&elements[row * inner..(row + 1) * inner], Reduction::Mean, &mut checkpoint, cx)?);
        }
        Ok(())
    })
}
