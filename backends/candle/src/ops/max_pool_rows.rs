//! MaxPool over one or two dimensions, line by line: the maximum over the lines of the window, and then over its
//! columns, so that every inner loop is over adjacent elements.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::math::simd;
use crate::ops::window::Slide;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// The longest line that is processed without a check for cancellation.
const LONGEST: usize = 1 << 16;

/// Whether the columns of the window are few and near enough for this algorithm to be faster.
pub(super) fn suits(columns: &Slide) -> bool {
    columns.kernel <= 64 && columns.stride <= 8 && columns.dilation <= 8 && columns.input.max(columns.output) <= LONGEST
}

/// The larger number; NaN if one is NaN.
fn larger(best: f32, element: f32) -> f32 {
    if element > best || element.is_nan() { element } else { best }
}

/// The maximum pool of consecutive planes, as a tensor of `dims`.
pub(super) fn max(
    elements: &[f32],
    dims: &[usize],
    rows: Slide,
    columns: Slide,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    // A padded line, and the maxima of the windows that begin at each of its elements.
    let reach = (columns.kernel - 1) * columns.dilation;
    let starts = columns.output.saturating_sub(1) * columns.stride + 1;
    let padded = (starts + reach).max(columns.before + columns.input);
    let (mut line, mut maxima) = (cx.block::<f32>(padded)?, cx.block::<f32>(starts)?);
    line.resize(padded, f32::NEG_INFINITY);
    let mut checkpoint = Checkpoint::default();
    cx.output::<f32>(dims)?.append(|out| {
        for plane in elements.chunks_exact(rows.input * columns.input) {
            for y in 0..rows.output {
                let (first, end) = rows.kernel_range(y);
                checkpoint.step(columns.kernel * starts, cx)?;
                let inside = &mut line[columns.before..columns.before + columns.input];
                inside.fill(f32::NEG_INFINITY);
                for row in first..end {
                    checkpoint.step(columns.input, cx)?;
                    let start = rows.source(y, row) * columns.input;
                    simd::zip(inside, &plane[start..start + columns.input], larger);
                }
                maxima.clear();
                maxima.extend_from_slice(&line[..starts]);
                for column in 1..columns.kernel {
                    simd::zip(&mut maxima, &line[column * columns.dilation..], larger);
                }
                if columns.stride == 1 {
                    out.extend_from_slice(&maxima[..columns.output]);
                } else {
                    out.extend(maxima.chunks(columns.stride).take(columns.output).map(|maxima| maxima[0]));
                }
            }
        }
        Ok(())
    })
}
