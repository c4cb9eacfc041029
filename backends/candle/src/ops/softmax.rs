//! Softmax, LogSoftmax and Hardmax.
//!
//! Before opset 13 the axis (1 by default) splits the dimensions in two and the function is taken over all of the
//! second part; from then on it is taken along the axis (the last by default) alone.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::loops;
use crate::math::softmax::{Kind, columns, rows as vector_rows};
use crate::ops::cast::convert;
use crate::ops::layout::{inverse, permute};
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::ops::pool::exceeds;
use crate::ops::real::{Real, promote};
use crate::tensor::dims::{axis, product};
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(1, "Softmax", (1, 1), |node| softmax(node, Some(Kind::Softmax), softmax_row, softmax_row))
        .device(form!(|node| reduce::softmax(node, reduce::softmax_of))),
    since(1, "LogSoftmax", (1, 1), |node| softmax(node, Some(Kind::LogSoftmax), log_softmax_row, log_softmax_row))
        .device(form!(|node| reduce::softmax(node, reduce::log_softmax_of))),
    since(1, "Hardmax", (1, 1), |node| softmax(node, None, hardmax_row, hardmax_row))
        .device(form!(|node| reduce::softmax(node, reduce::hardmax_of))),
];

fn softmax(node: &Node<'_>, kind: Option<Kind>, single: Row<f32>, double: Row<f64>) -> Result<OpFn, Error> {
    let flatten = node.opset < 13;
    let signed_axis = node.int("axis")?.unwrap_or(if flatten { 1 } else { -1 });
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = promote(args.take(0)?, cx)?;
        let rows = |value: Value, width: usize| match value.ty() {
            ElementType::F64 => rows(value, width, double, cx),
            _ => rows(value, width, single, cx),
        };
        let rank = value.rank();
        let axis = if flatten && signed_axis == rank as i64 { rank } else { axis(signed_axis, rank)? };
        let (dim, inner) = match value.dims().get(axis) {
            Some(&dim) if !flatten => (dim, product(&value.dims()[axis + 1..])),
            _ => (product(&value.dims()[axis..]), 1),
        };
        if let Some(kind) = kind
            && value.ty() == ElementType::F32
            && dim > 0
            && (inner == 1 || inner >= FEWEST_COLUMNS)
            && dim.saturating_mul(inner.min(FEWEST_COLUMNS)) <= PIECE
        {
            return Ok(values![convert(single_precision(kind, &value, dim, inner, cx)?, ty, cx)?]);
        }
        let result = if flatten || axis + 1 == rank {
            let width = product(&value.dims()[axis..]);
            rows(value, width)?
        } else {
            // The axis is moved to the end and back.
            let mut order: Vec<usize> = (0..rank).filter(|&position| position != axis).collect();
            order.push(axis);
            let width = value.dims()[axis];
            permute(rows(permute(value, &order, cx)?, width)?, &inverse(&order), cx)?
        };
        Ok(values![convert(result, ty, cx)?])
    }))
}

/// With fewer columns, the axis is moved to the end.
const FEWEST_COLUMNS: usize = 16;

/// The most columns that are computed at a time, so that they stay in the cache.
const MOST_COLUMNS: usize = 256;

/// Softmax or LogSoftmax of f32 along an axis of `dim` elements, which are `inner` elements apart.
fn single_precision(kind: Kind, value: &Value, dim: usize, inner: usize, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let elements = value.elements::<f32>()?;
    let mut checkpoint = Checkpoint::default();
    let (mut tops, mut sums) = ([0.0; MOST_COLUMNS], [0.0; MOST_COLUMNS]);
    // As a row is read before it is written, the results of a few rows are appended at a time.
    let each = if inner == 1 { (PIECE / dim / 4).max(1) * dim } else { dim.saturating_mul(inner) };
    cx.output::<f32>(value.dims())?.append(|out| {
        for block in elements.chunks(each) {
            let start = out.len();
            checkpoint.fill(0.0, start + block.len(), out, cx)?;
            let out = &mut out[start..];
            if inner == 1 {
                checkpoint.step(4 * block.len(), cx)?;
                vector_rows(kind, block, out, dim);
                continue;
            }
            let most = (PIECE / dim).clamp(FEWEST_COLUMNS, MOST_COLUMNS);
            for first in (0..inner).step_by(most) {
                let count = most.min(inner - first);
                checkpoint.step(4 * dim * count, cx)?;
                let end = (dim - 1) * inner + first + count;
                let (tops, sums) = (&mut tops[..count], &mut sums[..count]);
                columns(kind, &block[first..end], &mut out[first..end], inner, tops, sums);
            }
        }
        Ok(())
    })
}

fn rows<T: Real>(mut value: Value, width: usize, row: Row<T>, cx: &ExecContext<'_>) -> Result<Value, Error> {
    if width == 0 {
        return Ok(value);
    }
    let mut checkpoint = Checkpoint::default();
    if let Some(elements) = value.elements_mut::<T>() {
        elements.chunks_exact_mut(width).try_for_each(|elements| row(elements, &mut checkpoint, cx))?;
        return Ok(value);
    }
    let elements = value.elements::<T>()?;
    cx.output::<T>(value.dims())?.append(|out| {
        checkpoint.copy(elements, out, cx)?;
        out.chunks_exact_mut(width).try_for_each(|elements| row(elements, &mut checkpoint, cx))
    })
}

/// Calls `f` for each piece of a row.
fn pieces<T>(
    row: &mut [T],
    checkpoint: &mut Checkpoint,
    cx: &ExecContext<'_>,
    mut f: impl FnMut(&mut [T]),
) -> Result<(), Error> {
    for piece in row.chunks_mut(PIECE) {
        checkpoint.step(piece.len(), cx)?;
        f(piece);
    }
    Ok(())
}

/// The largest element; NaN is ignored.
fn largest<T: Real>(row: &mut [T], checkpoint: &mut Checkpoint, cx: &ExecContext<'_>) -> Result<T, Error> {
    let mut tops = [T::NEG_INFINITY; loops::PARTS];
    pieces(row, checkpoint, cx, |piece| {
        loops::fold(&mut tops, piece, |top: T, x| if x > top { x } else { top });
    })?;
    Ok(loops::joined(tops, T::max))
}

/// The sum of `f` of each element, in independent parts, which the processor adds in parallel.
fn sum<T: Real>(row: &[T], f: impl Fn(T) -> T, checkpoint: &mut Checkpoint, cx: &ExecContext<'_>) -> Result<T, Error> {
    let mut parts = [T::default(); loops::PARTS];
    for piece in row.chunks(PIECE) {
        checkpoint.step(piece.len(), cx)?;
        loops::fold(&mut parts, piece, |part: T, x| part + f(x));
    }
    Ok(loops::joined(parts, |a, b| a + b))
}

/// A function of one row, in place.
type Row<T> = fn(&mut [T], &mut Checkpoint, &ExecContext<'_>) -> Result<(), Error>;

fn softmax_row<T: Real>(row: &mut [T], checkpoint: &mut Checkpoint, cx: &ExecContext<'_>) -> Result<(), Error> {
    let top = largest(row, checkpoint, cx)?;
    pieces(row, checkpoint, cx, |piece| T::map(piece, move |x| (x - top).exp()))?;
    let scale = T::ONE / sum(row, |x| x, checkpoint, cx)?;
    pieces(row, checkpoint, cx, |piece| T::map(piece, move |x| x * scale))
}

fn log_softmax_row<T: Real>(row: &mut [T], checkpoint: &mut Checkpoint, cx: &ExecContext<'_>) -> Result<(), Error> {
    let top = largest(row, checkpoint, cx)?;
    let log = sum(row, |x| (x - top).exp(), checkpoint, cx)?.ln();
    pieces(row, checkpoint, cx, |piece| T::map(piece, move |x| x - top - log))
}

fn hardmax_row<T: Real>(row: &mut [T], checkpoint: &mut Checkpoint, cx: &ExecContext<'_>) -> Result<(), Error> {
    // The first NaN or, without one, the first of the largest elements.
    let (mut best, mut winner, mut index) = (T::NEG_INFINITY, 0, 0);
    pieces(row, checkpoint, cx, |piece| {
        for &mut x in piece {
            if exceeds(x, best) {
                (best, winner) = (x, index);
            }
            index += 1;
        }
    })?;
    let mut index = 0;
    pieces(row, checkpoint, cx, |piece| {
        for x in piece {
            *x = if index == winner { T::ONE } else { T::ZERO };
            index += 1;
        }
    })
}
