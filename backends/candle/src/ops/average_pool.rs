//! The averages of AveragePool.
//!
//! The rows under the window of a row of outputs are added to one padded row, and then its elements under each window.
//! So a window of h rows and w columns takes h + w additions for each output, most of them in vectors.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::loops;
use crate::math::simd::{Loop, wide_loop};
use crate::ops::real::Real;
use crate::ops::window::Slide;
use crate::tensor::budget::Block;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// The span of the window at each output of a dimension.
pub(super) fn spans<T: Send + 'static>(
    slide: &Slide,
    span: impl Fn(&Slide, usize) -> T,
    cx: &ExecContext<'_>,
) -> Result<Block<T>, Error> {
    let mut spans = cx.block(slide.output)?;
    let mut checkpoint = Checkpoint::default();
    for at in 0..slide.output {
        checkpoint.step(1, cx)?;
        spans.push(span(slide, at));
    }
    Ok(spans)
}

/// The average of the elements under each window; with `count_pads`, pads count as elements of 0.
pub(super) fn averages<T: Real>(
    value: &Value,
    [zs, ys, xs]: [Slide; 3],
    dims: &[usize],
    count_pads: bool,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let elements = value.elements::<T>()?;
    let plane = zs.input * ys.input * xs.input;
    let mut checkpoint = Checkpoint::default();
    let span = |slide: &Slide, at: usize| {
        let (first, end) = slide.kernel_range(at);
        (first, end, if count_pads { slide.padded_kernel_len(at) } else { end - first })
    };
    let spans = |slide: &Slide| spans(slide, span, cx);
    let (deep, high, wide) = (spans(&zs)?, spans(&ys)?, spans(&xs)?);
    // As far as windows reach, and one stride more, so that groups of a stride's elements are whole.
    let reach = xs.output.saturating_sub(1) * xs.stride + (xs.kernel - 1) * xs.dilation + 1;
    if plane > 0 && reach.max(xs.before + xs.input) + xs.stride > 4 * (xs.input + xs.output) + PIECE {
        let spans = [&deep, &high, &wide].map(|spans| spans.as_slice());
        return cx.output::<T>(dims)?.append(|out| by_windows(elements, [zs, ys, xs], spans, out, cx));
    }
    let (mut line, _line) = cx.filled(T::default(), reach.max(xs.before + xs.input) + xs.stride)?;
    let (mut divisors, _divisors) = cx.filled(T::default(), xs.output)?;
    let mut counted = None;
    cx.output::<T>(dims)?.write(T::default(), |out| {
        if plane == 0 {
            return Ok(());
        }
        let mut rows = out.chunks_exact_mut(xs.output);
        for plane in elements.chunks_exact(plane) {
            for (z, &(z_first, z_end, z_count)) in deep.iter().enumerate() {
                for (y, &(y_first, y_end, y_count)) in high.iter().enumerate() {
                    let Some(out) = rows.next() else { return Ok(()) };
                    if counted != Some(z_count * y_count) {
                        counted = Some(z_count * y_count);
                        checkpoint.step(xs.output, cx)?;
                        for (divisor, &(_, _, x_count)) in divisors.iter_mut().zip(wide.iter()) {
                            // A window over pads alone gives 0.
                            *divisor = T::from_f64((z_count * y_count * x_count).max(1) as f64);
                        }
                    }
                    let work = (z_end - z_first) * (y_end - y_first) * xs.input + xs.kernel * xs.output;
                    if work <= 4 * PIECE {
                        checkpoint.step(work, cx)?;
                        let rows = (z_first..z_end).flat_map(|dz| {
                            let slab = zs.source(z, dz) * ys.input;
                            (y_first..y_end).map(move |dy| (slab + ys.source(y, dy)) * xs.input)
                        });
                        wide_loop(ShortRow { plane, rows, line: &mut line, slide: xs, divisors: &divisors, out });
                        continue;
                    }
                    let line_inside = &mut line[xs.before..xs.before + xs.input];
                    checkpoint.set(T::default(), line_inside, cx)?;
                    for dz in z_first..z_end {
                        let slab = zs.source(z, dz) * ys.input;
                        for dy in y_first..y_end {
                            let start = (slab + ys.source(y, dy)) * xs.input;
                            let row = &plane[start..start + xs.input];
                            for (line, row) in line_inside.chunks_mut(PIECE).zip(row.chunks(PIECE)) {
                                checkpoint.step(row.len(), cx)?;
                                loops::for_each(line.iter_mut().zip(row), |(line, &x)| *line += x);
                            }
                        }
                    }
                    for (part, out) in out.chunks_mut(PIECE).enumerate() {
                        let from = part * PIECE;
                        for at in 0..xs.kernel {
                            checkpoint.step(out.len(), cx)?;
                            let line = &line[from * xs.stride + at * xs.dilation..];
                            wide_loop(AddEvery { out: &mut *out, line, stride: xs.stride });
                        }
                        let divisors = &divisors[from..from + out.len()];
                        loops::for_each(out.iter_mut().zip(divisors), |(out, &divisor)| *out /= divisor);
                    }
                }
            }
        }
        Ok(())
    })
}

/// Appends the averages, each as the sum under its window: for windows that are far apart or far larger than the rows,
/// whose padded row would be long.
fn by_windows<T: Real>(
    elements: &[T],
    [zs, ys, xs]: [Slide; 3],
    [deep, high, wide]: [&[(usize, usize, usize)]; 3],
    out: &mut Vec<T>,
    cx: &ExecContext<'_>,
) -> Result<(), Error> {
    let mut checkpoint = Checkpoint::default();
    for plane in elements.chunks_exact((zs.input * ys.input * xs.input).max(1)) {
        for (z, &(z_first, z_end, z_count)) in deep.iter().enumerate() {
            for (y, &(y_first, y_end, y_count)) in high.iter().enumerate() {
                for (x, &(x_first, x_end, x_count)) in wide.iter().enumerate() {
                    checkpoint.step(1, cx)?;
                    let mut sum = T::default();
                    for dz in z_first..z_end {
                        let slab = zs.source(z, dz) * ys.input;
                        for dy in y_first..y_end {
                            checkpoint.step(x_end - x_first, cx)?;
                            let line = (slab + ys.source(y, dy)) * xs.input;
                            for dx in x_first..x_end {
                                sum += plane[line + xs.source(x, dx)];
                            }
                        }
                    }
                    // A window over pads alone gives 0.
                    out.push(sum / T::from_f64((z_count * y_count * x_count).max(1) as f64));
                }
            }
        }
    }
    Ok(())
}

/// A row of averages, of the rows that begin at each of `rows`.
struct ShortRow<'a, T, R> {
    plane: &'a [T],
    rows: R,
    line: &'a mut [T],
    slide: Slide,
    divisors: &'a [T],
    out: &'a mut [T],
}

impl<T: Real, R: Iterator<Item = usize>> Loop for ShortRow<'_, T, R> {
    #[inline(always)]
    fn run(self) {
        let Self { plane, rows, line, slide, divisors, out } = self;
        let inside = &mut line[slide.before..slide.before + slide.input];
        inside.fill(T::default());
        for start in rows {
            for (line, &x) in inside.iter_mut().zip(&plane[start..start + slide.input]) {
                *line += x;
            }
        }
        for at in 0..slide.kernel {
            AddEvery { out: &mut *out, line: &line[at * slide.dilation..], stride: slide.stride }.run();
        }
        for (out, &divisor) in out.iter_mut().zip(divisors) {
            *out /= divisor;
        }
    }
}

/// Adds to each element of `out` the next element of `line`, of which each `stride`-th counts.
struct AddEvery<'a, T> {
    out: &'a mut [T],
    line: &'a [T],
    stride: usize,
}

impl<T: Real> AddEvery<'_, T> {
    #[inline(always)]
    fn add<const STRIDE: usize>(self) {
        for (out, group) in self.out.iter_mut().zip(self.line.as_chunks::<STRIDE>().0) {
            *out += group[0];
        }
    }
}

impl<T: Real> Loop for AddEvery<'_, T> {
    #[inline(always)]
    fn run(self) {
        match self.stride {
            1 => self.add::<1>(),
            2 => self.add::<2>(),
            3 => self.add::<3>(),
            4 => self.add::<4>(),
            stride => {
                for (out, &x) in self.out.iter_mut().zip(self.line.iter().step_by(stride)) {
                    *out += x;
                }
            }
        }
    }
}
