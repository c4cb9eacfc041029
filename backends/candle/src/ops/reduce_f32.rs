//! Reductions of f32 over adjacent axes.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::rows::Summand;
use crate::math::{loops, rows};
use crate::ops::elementwise::Number as _;
use crate::ops::reduced::Reduction;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// A reduction of `count` rows of `width` elements at a time to one row.
pub(super) fn reduce_rows(
    value: &Value,
    count: usize,
    width: usize,
    dims: &[usize],
    reduction: Reduction,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let elements = value.elements::<f32>()?;
    let combine = |out: &mut [f32], rows: &[f32]| match reduction {
        Reduction::Max => loops::fold_rows(out, rows, f32::larger),
        Reduction::Min => loops::fold_rows(out, rows, f32::smaller),
        _ => loops::fold_rows(out, rows, f32::plus),
    };
    let mut checkpoint = Checkpoint::default();
    cx.output::<f32>(dims)?.append(|out| {
        for block in elements.chunks_exact(count * width) {
            let start = out.len();
            let (first, rest) = block.split_at(width);
            checkpoint.copy(first, out, cx)?;
            let out = &mut out[start..];
            if width > PIECE {
                for row in rest.chunks_exact(width) {
                    for (out, row) in out.chunks_mut(PIECE).zip(row.chunks(PIECE)) {
                        checkpoint.step(row.len(), cx)?;
                        combine(out, row);
                    }
                }
            } else {
                for rows in rest.chunks(PIECE / width * width) {
                    checkpoint.step(rows.len(), cx)?;
                    combine(out, rows);
                }
            }
            if reduction == Reduction::Mean {
                let scale = 1.0 / count as f32;
                out.iter_mut().for_each(|out| *out *= scale);
            }
        }
        Ok(())
    })
}

/// Whether [`last_axes`] computes this reduction.
pub(super) fn has_last_axes(reduction: Reduction) -> bool {
    !matches!(reduction, Reduction::Product | Reduction::LogSumExp)
}

/// The most rows that are reduced at a time.
const ROWS: usize = 64;

/// The reduction of each `inner` elements of f32, which are at least one.
pub(super) fn last_axes(
    value: &Value,
    inner: usize,
    dims: &[usize],
    reduction: Reduction,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let elements = value.elements::<f32>()?;
    let summand = match reduction {
        Reduction::L1 => Summand::Magnitude,
        Reduction::L2 | Reduction::SumSquare => Summand::Square,
        _ => Summand::Plain,
    };
    let result = |sum: f64| match reduction {
        Reduction::Mean => sum / inner as f64,
        Reduction::L2 => sum.sqrt(),
        Reduction::LogSum => sum.ln(),
        _ => sum,
    };
    let largest = match reduction {
        Reduction::Max => Some(true),
        Reduction::Min => Some(false),
        _ => None,
    };
    let mut checkpoint = Checkpoint::default();
    cx.output::<f32>(dims)?.append(|out| {
        if inner > PIECE {
            for row in elements.chunks_exact(inner) {
                let (mut sum, mut top) = (0.0, row[0]);
                for piece in row.chunks(PIECE) {
                    checkpoint.step(piece.len(), cx)?;
                    if let Some(largest) = largest {
                        let mut found = [0.0];
                        rows::extremes(piece, piece.len(), largest, &mut found);
                        top = if largest { top.larger(found[0]) } else { top.smaller(found[0]) };
                    } else {
                        let mut found = [0.0];
                        rows::sums(piece, piece.len(), summand, &mut found);
                        sum += found[0];
                    }
                }
                out.push(if largest.is_some() { top } else { result(sum) as f32 });
            }
            return Ok(());
        }
        let (mut sums, mut tops) = ([0.0; ROWS], [0.0; ROWS]);
        for block in elements.chunks((PIECE / inner).clamp(1, ROWS) * inner) {
            checkpoint.step(block.len(), cx)?;
            let count = block.len() / inner;
            if let Some(largest) = largest {
                rows::extremes(block, inner, largest, &mut tops[..count]);
                out.extend_from_slice(&tops[..count]);
            } else {
                rows::sums(block, inner, summand, &mut sums[..count]);
                out.extend(sums[..count].iter().map(|&sum| result(sum) as f32));
            }
        }
        Ok(())
    })
}
