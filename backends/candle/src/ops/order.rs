//! Operators that sort, select or reverse elements: NonZero, Compress, ReverseSequence, Unique.

use std::cmp::Ordering;

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::ops::cast::convert;
use crate::ops::elementwise::{Number, with_numbers};
use crate::ops::integers::integers;
use crate::ops::layout::{axis_first, inverse, permute};
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::ops::select::{offsets, select};
use crate::tensor::budget::Charge;
use crate::tensor::dims::{Dims, axis, product, strides};
use crate::tensor::element::{Element, ElementType, with_elements};
use crate::tensor::value::Values;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(9, "NonZero", (1, 1), non_zero),
    since(9, "Compress", (2, 2), compress).device(form!(|node| moving::moving(node, compress, &[0]))),
    since(10, "ReverseSequence", (2, 2), reverse).device(form!(|node| moving::moving(node, reverse, &[0]))),
    since(11, "Unique", (1, 1), unique).heavy(),
];

/// The order of two numbers; NaN comes last.
pub(super) fn nan_last<T: PartialOrd>(a: &T, b: &T) -> Ordering {
    #[expect(clippy::eq_op, reason = "only a NaN is not equal to itself")]
    a.partial_cmp(b).unwrap_or_else(|| (a != a).cmp(&(b != b)))
}

/// Sorts a list, stably. A comparison takes about `cost` steps.
///
/// Pieces are sorted and then merged, so that the sort of a long list checks for cancellation.
pub(super) fn sort<T: Copy + Send + 'static>(
    list: &mut [T],
    cost: usize,
    compare: impl Fn(&T, &T) -> Ordering,
    cx: &ExecContext<'_>,
) -> Result<(), Error> {
    let mut checkpoint = Checkpoint::default();
    let cost = cost.saturating_add(1);
    let mut sorted = (PIECE / cost).max(1);
    for piece in list.chunks_mut(sorted) {
        checkpoint.step(cost.saturating_mul(16).saturating_mul(piece.len()), cx)?;
        piece.sort_by(&compare);
    }
    let mut merged = cx.block::<T>(if list.len() > sorted { list.len() } else { 0 })?;
    while sorted < list.len() {
        merged.clear();
        for pair in list.chunks(sorted.saturating_mul(2)) {
            let (mut left, mut right) = pair.split_at(sorted.min(pair.len()));
            while let (Some((a, rest_left)), Some((b, rest_right))) = (left.split_first(), right.split_first()) {
                checkpoint.step(cost, cx)?;
                if compare(b, a).is_lt() {
                    merged.push(*b);
                    right = rest_right;
                } else {
                    merged.push(*a);
                    left = rest_left;
                }
            }
            checkpoint.copy(left, &mut merged, cx)?;
            checkpoint.copy(right, &mut merged, cx)?;
        }
        list.copy_from_slice(&merged);
        sorted = sorted.saturating_mul(2);
    }
    Ok(())
}

/// The positions of the elements that are not zero.
fn non_zero_positions<T: Element>(elements: &[T], cx: &ExecContext<'_>) -> Result<(Vec<usize>, Charge), Error> {
    let (mut count, mut checkpoint) = (0, Checkpoint::default());
    for piece in elements.chunks(PIECE) {
        checkpoint.step(piece.len(), cx)?;
        count += piece.iter().filter(|x| **x != T::default()).count();
    }
    let (mut positions, charge) = cx.list::<usize>(count)?;
    for (position, x) in elements.iter().enumerate() {
        checkpoint.step(1, cx)?;
        if *x != T::default() {
            positions.push(position);
        }
    }
    Ok((positions, charge))
}

fn non_zero(_: &Node<'_>) -> Result<OpFn, Error> {
    Ok(Box::new(|args, cx| {
        let value = args.get(0)?;
        let (positions, _charge) = with_elements!(value, |elements| non_zero_positions(elements, cx)?);
        // A scalar has no dimensions, and the result no rows.
        let dims = value.dims();
        let mut checkpoint = Checkpoint::default();
        let result = cx.output::<i64>(&[dims.len(), positions.len()])?.append(|out| {
            for (&dim, stride) in dims.iter().zip(strides(dims)) {
                for positions in positions.chunks(PIECE) {
                    checkpoint.step(positions.len(), cx)?;
                    out.extend(positions.iter().map(|position| (position / stride % dim.max(1)) as i64));
                }
            }
            Ok(())
        })?;
        Ok(values![result])
    }))
}

fn compress(node: &Node<'_>) -> Result<OpFn, Error> {
    let at = node.int("axis")?;
    Ok(Box::new(move |mut args, cx| {
        let mut value = args.take(0)?;
        let condition = args.get(1)?.elements::<bool>()?;
        let at = if let Some(at) = at {
            axis(at, value.rank())?
        } else {
            let len = value.len();
            value = value.reshaped(vec![len])?;
            0
        };
        let (kept, _charge) = non_zero_positions(&condition[..condition.len().min(value.dims()[at])], cx)?;
        let lists = value.dims().iter().zip(strides(value.dims())).enumerate().map(|(position, (&dim, stride))| {
            if position == at { offsets(kept.iter().copied(), stride, cx) } else { offsets(0..dim, stride, cx) }
        });
        Ok(values![select(&value, &lists.collect::<Result<Vec<_>, _>>()?, cx)?])
    }))
}

/// Reverses the first elements of each sequence of a batch.
fn reverse(node: &Node<'_>) -> Result<OpFn, Error> {
    let (batch_axis, time_axis) = (node.int("batch_axis")?.unwrap_or(1), node.int("time_axis")?.unwrap_or(0));
    Ok(Box::new(move |args, cx| {
        let (value, lens) = (args.get(0)?, integers(args.get(1)?, cx)?);
        let (batch_axis, time_axis) = (axis(batch_axis, value.rank())?, axis(time_axis, value.rank())?);
        let (batch, time) = (value.dims()[batch_axis], value.dims()[time_axis]);
        let fits = lens.len() == batch && lens.iter().all(|&len| (0..=time as i64).contains(&len));
        if batch_axis + time_axis != 1 || !fits {
            return Err(Error::invalid_argument(format!(
                "the {} sequence lengths do not fit the input {}",
                lens.len(),
                Dims(value.dims())
            )));
        }
        let inner = product(&value.dims()[2..]);
        let mut checkpoint = Checkpoint::default();
        Ok(values![with_elements!(value, |elements| cx.output(value.dims())?.append(|out| {
            for first in 0..value.dims()[0] {
                for second in 0..value.dims()[1] {
                    let (row, step) = if batch_axis == 0 { (first, second) } else { (second, first) };
                    let len = lens[row] as usize;
                    let step = if step < len { len - 1 - step } else { step };
                    let (first, second) = if batch_axis == 0 { (row, step) } else { (step, row) };
                    let start = (first * value.dims()[1] + second) * inner;
                    checkpoint.copy(&elements[start..start + inner], out, cx)?;
                }
            }
            Ok(())
        }))?])
    }))
}

fn unique(node: &Node<'_>) -> Result<OpFn, Error> {
    let (at, sorted) = (node.int("axis")?, node.flag("sorted", true)?);
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        let ty = value.ty();
        // Booleans are compared as 0 and 1.
        let value = if ty == ElementType::Bool { convert(value, ElementType::U8, cx)? } else { value };
        // The axis is moved to the front, so that each compared slice is contiguous.
        let (rows, order) = if let Some(at) = at {
            let order = axis_first(axis(at, value.rank())?, value.rank());
            (permute(value, &order, cx)?, Some(order))
        } else {
            let len = value.len();
            (value.reshaped(vec![len])?, None)
        };
        let mut outputs =
            with_numbers!(rows, T => unique_rows(rows.elements::<T>()?, rows.dims(), order.as_deref(), sorted, cx))?;
        if let Some(kept) = outputs.first_mut() {
            *kept = convert(kept.clone(), ty, cx)?;
        }
        Ok(outputs)
    }))
}

fn unique_rows<T: Number>(
    elements: &[T],
    dims: &[usize],
    permutation: Option<&[usize]>,
    sorted: bool,
    cx: &ExecContext<'_>,
) -> Result<Values, Error> {
    let (rows, width) = (dims[0], product(&dims[1..]));
    let row = |index: usize| &elements[index * width..(index + 1) * width];
    let compare = |a: usize, b: usize| {
        row(a).iter().zip(row(b)).map(|(a, b)| nan_last(a, b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    };
    let _charge = cx.charge::<u64>(&[rows, 6])?;
    let mut checkpoint = Checkpoint::default();
    let mut positions = Vec::with_capacity(rows);
    for first in (0..rows).step_by(PIECE) {
        checkpoint.step(PIECE, cx)?;
        positions.extend(first..rows.min(first + PIECE));
    }
    sort(&mut positions, width, |&a, &b| compare(a, b), cx)?;
    // The first row of each group of equal rows, and the group of each row.
    let (mut firsts, mut counts) = (Vec::with_capacity(rows), Vec::<i64>::with_capacity(rows));
    let mut group = Vec::with_capacity(rows);
    checkpoint.fill(0_usize, rows, &mut group, cx)?;
    for &position in &positions {
        checkpoint.step(width, cx)?;
        match firsts.last() {
            Some(&first) if compare(first, position).is_eq() => {}
            _ => {
                firsts.push(position);
                counts.push(0);
            }
        }
        if let Some(count) = counts.last_mut() {
            *count += 1;
        }
        group[position] = firsts.len() - 1;
    }
    let mut ranks: Vec<usize> = (0..firsts.len()).collect();
    if !sorted {
        sort(&mut ranks, 1, |&a, &b| firsts[a].cmp(&firsts[b]), cx)?;
    }
    let mut new = vec![0_i64; firsts.len()];
    ranks.iter().enumerate().for_each(|(position, &rank)| new[rank] = position as i64);
    let mut out = dims.to_vec();
    out[0] = firsts.len();
    let kept = cx
        .output::<T>(&out)?
        .append(|out| ranks.iter().try_for_each(|&rank| checkpoint.copy(row(firsts[rank]), out, cx)))?;
    let kept = match permutation {
        Some(order) => permute(kept, &inverse(order), cx)?,
        None => kept,
    };
    let found = firsts.len();
    Ok(values![
        kept,
        cx.output::<i64>(&[found])?.collect(ranks.iter().map(|&rank| firsts[rank] as i64))?,
        cx.output::<i64>(&[rows])?.collect(group.iter().map(|&rank| new[rank]))?,
        cx.output::<i64>(&[found])?.collect(ranks.iter().map(|&rank| counts[rank]))?,
    ])
}
