//! Softmax, LogSoftmax and Hardmax.
//!
//! Before opset 13 the axis (1 by default) splits the dimensions in two and the function is taken over all of the
//! second part; from then on it is taken along the axis (the last by default) alone.

use super::super::meter::Cx;
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

fn softmax(node: &Node<'_>, row: fn(&mut [f32])) -> Result<Kernel, Error> {
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

fn rows(mut value: Value, width: usize, row: fn(&mut [f32]), cx: &Cx<'_>) -> Result<Value, Error> {
    if width == 0 {
        return Ok(value);
    }
    if let Some(elements) = value.elements_mut::<f32>() {
        elements.chunks_exact_mut(width).for_each(row);
        return Ok(value);
    }
    let elements = value.elements::<f32>()?;
    cx.output::<f32>(value.dims())?.write(0.0, |out| {
        out.copy_from_slice(elements);
        out.chunks_exact_mut(width).for_each(row);
    })
}

fn largest(row: &[f32]) -> f32 {
    let (chunks, rest) = row.as_chunks::<8>();
    let mut tops = [f32::NEG_INFINITY; 8];
    for chunk in chunks {
        tops.iter_mut().zip(chunk).for_each(|(top, &x)| *top = if x > *top { x } else { *top });
    }
    tops.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// A sum in eight parts, so that additions don't wait for each other.
fn sum(row: &[f32]) -> f32 {
    let (chunks, rest) = row.as_chunks::<8>();
    let mut parts = [0.0_f32; 8];
    for chunk in chunks {
        parts.iter_mut().zip(chunk).for_each(|(part, x)| *part += x);
    }
    parts.iter().chain(rest).sum()
}

/// Softmax of one row, in place.
pub(super) fn softmax_row(row: &mut [f32]) {
    let top = largest(row);
    kernel::map(row, |x| math::exp(x - top));
    let scale = 1.0 / sum(row);
    row.iter_mut().for_each(|x| *x *= scale);
}

fn log_softmax_row(row: &mut [f32]) {
    let top = largest(row);
    row.iter_mut().for_each(|x| *x -= top);
    let total: f32 = row.iter().map(|&x| math::exp(x)).sum();
    let log = total.ln();
    row.iter_mut().for_each(|x| *x -= log);
}

fn hardmax_row(row: &mut [f32]) {
    let top = largest(row);
    let place = row.iter().position(|&x| x == top);
    row.iter_mut().enumerate().for_each(|(index, x)| *x = f32::from(u8::from(Some(index) == place)));
}
