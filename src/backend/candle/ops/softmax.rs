//! Softmax, LogSoftmax and Hardmax.
//!
//! Before opset 13 the axis (1 by default) splits the dimensions in two and the function is taken over all of the
//! second part; from then on it is taken along the axis (the last by default) alone.

use super::super::meter::{Cx, PIECE, Pace};
use super::super::node::Node;
use super::super::value::{ElementType, Value};
use super::super::{kernel, math};
use super::cast::convert;
use super::layout::permute;
use super::{Kernel, Operator, axis, no_type, product, since};
use crate::nn::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(1, "Softmax", (1, 1), |node| softmax(node, softmax_row)),
    since(1, "LogSoftmax", (1, 1), |node| softmax(node, log_softmax_row)),
    since(1, "Hardmax", (1, 1), |node| softmax(node, hardmax_row)),
];

fn softmax(node: &Node<'_>, row: Row) -> Result<Kernel, Error> {
    let flatten = node.opset < 13;
    let at = node.int("axis")?.unwrap_or(if flatten { 1 } else { -1 });
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        let ty = value.ty();
        if !matches!(ty, ElementType::F32 | ElementType::F64 | ElementType::F16 | ElementType::Bf16) {
            return Err(no_type(&value));
        }
        let value = convert(value, ElementType::F32, cx)?;
        let rank = value.rank();
        let at = if flatten && at == rank as i64 { rank } else { axis(at, rank)? };
        let result = if flatten || at + 1 == rank {
            let width = product(&value.dims()[at..]);
            rows(value, width, row, cx)?
        } else {
            // The axis goes to the end and comes back.
            let mut order: Vec<usize> = (0..rank).filter(|&place| place != at).collect();
            order.push(at);
            let mut back: Vec<usize> = (0..rank - 1).collect();
            back.insert(at, rank - 1);
            let width = value.dims()[at];
            permute(rows(permute(value, &order, cx)?, width, row, cx)?, &back, cx)?
        };
        Ok(vec![convert(result, ty, cx)?])
    }))
}

fn rows(mut value: Value, width: usize, row: Row, cx: &Cx<'_>) -> Result<Value, Error> {
    if width == 0 {
        return Ok(value);
    }
    let mut pace = Pace::default();
    if let Some(elements) = value.elements_mut::<f32>() {
        elements.chunks_exact_mut(width).try_for_each(|elements| row(elements, &mut pace, cx))?;
        return Ok(value);
    }
    let elements = value.elements::<f32>()?;
    cx.output::<f32>(value.dims())?.append(|out| {
        pace.copy(elements, out, cx)?;
        out.chunks_exact_mut(width).try_for_each(|elements| row(elements, &mut pace, cx))
    })
}

/// Does something to a row, piece by piece.
fn pieces(row: &mut [f32], pace: &mut Pace, cx: &Cx<'_>, mut f: impl FnMut(&mut [f32])) -> Result<(), Error> {
    for piece in row.chunks_mut(PIECE) {
        pace.step(piece.len(), cx)?;
        f(piece);
    }
    Ok(())
}

fn largest(row: &mut [f32], pace: &mut Pace, cx: &Cx<'_>) -> Result<f32, Error> {
    let mut tops = [f32::NEG_INFINITY; 8];
    pieces(row, pace, cx, |piece| {
        let (chunks, rest) = piece.as_chunks::<8>();
        for chunk in chunks {
            tops.iter_mut().zip(chunk).for_each(|(top, &x)| *top = if x > *top { x } else { *top });
        }
        tops.iter_mut().zip(rest).for_each(|(top, &x)| *top = top.max(x));
    })?;
    Ok(tops.iter().copied().fold(f32::NEG_INFINITY, f32::max))
}

/// A sum in eight parts, so that additions don't wait for each other.
fn sum(row: &[f32], pace: &mut Pace, cx: &Cx<'_>) -> Result<f32, Error> {
    let (chunks, rest) = row.as_chunks::<8>();
    let mut parts = [0.0_f32; 8];
    for chunks in chunks.chunks(PIECE / 8) {
        pace.step(chunks.len() * 8, cx)?;
        for chunk in chunks {
            parts.iter_mut().zip(chunk).for_each(|(part, x)| *part += x);
        }
    }
    Ok(parts.iter().chain(rest).sum())
}

/// A function of one row, in place.
type Row = fn(&mut [f32], &mut Pace, &Cx<'_>) -> Result<(), Error>;

fn softmax_row(row: &mut [f32], pace: &mut Pace, cx: &Cx<'_>) -> Result<(), Error> {
    let top = largest(row, pace, cx)?;
    pieces(row, pace, cx, |piece| kernel::map(piece, |x| math::exp(x - top)))?;
    let scale = 1.0 / sum(row, pace, cx)?;
    pieces(row, pace, cx, |piece| piece.iter_mut().for_each(|x| *x *= scale))
}

fn log_softmax_row(row: &mut [f32], pace: &mut Pace, cx: &Cx<'_>) -> Result<(), Error> {
    let top = largest(row, pace, cx)?;
    let mut total = 0.0_f32;
    pieces(row, pace, cx, |piece| {
        for x in piece {
            *x -= top;
            total += math::exp(*x);
        }
    })?;
    let log = total.ln();
    pieces(row, pace, cx, |piece| piece.iter_mut().for_each(|x| *x -= log))
}

fn hardmax_row(row: &mut [f32], pace: &mut Pace, cx: &Cx<'_>) -> Result<(), Error> {
    let top = largest(row, pace, cx)?;
    // The first of equal ones.
    let mut found = false;
    pieces(row, pace, cx, |piece| {
        for x in piece {
            let first = !found && *x == top;
            found |= first;
            *x = f32::from(u8::from(first));
        }
    })
}
