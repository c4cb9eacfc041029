//! MaxPool and AveragePool of f32 over one or two dimensions, line by line: the lines under the window are combined,
//! and then the columns of the result, so that every inner loop is over adjacent elements.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]

use std::marker::PhantomData;

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::simd::{self, Loop, wide_loop};
use crate::ops::window::Slide;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// The longest line that is processed without a check for cancellation.
const LONGEST: usize = 1 << 16;

/// Whether there is nothing to slide over in front of the rows, and the columns of the window are few and near enough
/// for this algorithm to be faster than one window after the other.
pub(super) fn suits(deep: &Slide, columns: &Slide) -> bool {
    let flat = deep.kernel == 1 && deep.input == 1 && deep.output == 1 && deep.before == 0;
    flat && columns.kernel <= 64
        && columns.stride <= 8
        && columns.dilation <= 8
        && columns.before.max(columns.input).max(columns.output) <= LONGEST
}

/// How the elements under a window are combined.
trait Combine {
    /// What the combination of no elements is.
    const START: f32;

    fn combine(sum: f32, x: f32) -> f32;
}

/// The largest number; NaN if one is NaN.
struct Largest;

impl Combine for Largest {
    const START: f32 = f32::NEG_INFINITY;

    #[inline(always)]
    fn combine(best: f32, x: f32) -> f32 {
        if x > best || x.is_nan() { x } else { best }
    }
}

struct Sum;

impl Combine for Sum {
    const START: f32 = 0.0;

    #[inline(always)]
    fn combine(sum: f32, x: f32) -> f32 {
        sum + x
    }
}

/// The maximum pool of consecutive planes, as a tensor of `dims`.
pub(super) fn max(elements: &[f32], dims: &[usize], slides: [Slide; 2], cx: &ExecContext<'_>) -> Result<Value, Error> {
    pool::<Largest>(elements, dims, slides, None, cx)
}

/// The average pool of consecutive planes, as a tensor of `dims`. With `count_pads`, pads count as elements of 0.
pub(super) fn average(
    elements: &[f32],
    dims: &[usize],
    slides: [Slide; 2],
    count_pads: bool,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    pool::<Sum>(elements, dims, slides, Some(count_pads), cx)
}

/// The combinations of the elements under each window, divided by their number if `counting` says how pads count.
fn pool<C: Combine>(
    elements: &[f32],
    dims: &[usize],
    [rows, columns]: [Slide; 2],
    counting: Option<bool>,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    // As far as windows reach, and one stride more, so that groups of a stride's elements are whole.
    let reach = columns.output.saturating_sub(1) * columns.stride + (columns.kernel - 1) * columns.dilation + 1;
    let mut line = cx.full_block(C::START, reach.max(columns.before + columns.input) + columns.stride)?;
    let mut divisors = cx.full_block(0.0_f32, if counting.is_some() { columns.output } else { 0 })?;
    let covered = |slide: &Slide, at: usize| {
        let (first, end) = slide.kernel_range(at);
        if counting == Some(true) { slide.padded_kernel_len(at) } else { end - first }
    };
    let (mut counted, mut checkpoint) = (None, Checkpoint::default());
    cx.output::<f32>(dims)?.write(0.0, |out| {
        let planes = elements.chunks_exact(rows.input * columns.input);
        for (plane, out) in planes.zip(out.chunks_exact_mut(rows.output * columns.output)) {
            for (y, out) in out.chunks_exact_mut(columns.output).enumerate() {
                let count = covered(&rows, y);
                if counting.is_some() && counted != Some(count) {
                    counted = Some(count);
                    checkpoint.step(columns.output, cx)?;
                    for (x, divisor) in divisors.iter_mut().enumerate() {
                        // A window over pads alone gives 0.
                        *divisor = (count * covered(&columns, x)).max(1) as f32;
                    }
                }
                let (first, end) = rows.kernel_range(y);
                let mut source = &plane[..0];
                let (mut lines, step) = (end - first, rows.dilation * columns.input);
                if lines > 0 {
                    source = &plane[rows.source(y, first) * columns.input..];
                }
                if lines * columns.input > PIECE {
                    let inside = &mut line[columns.before..columns.before + columns.input];
                    inside.fill(C::START);
                    for at in 0..lines {
                        checkpoint.step(columns.input, cx)?;
                        simd::zip(inside, &source[at * step..][..columns.input], C::combine);
                    }
                    (source, lines) = (&[], usize::MAX);
                } else {
                    checkpoint.step(lines * columns.input, cx)?;
                }
                checkpoint.step(columns.kernel * columns.output, cx)?;
                let of = PhantomData::<C>;
                wide_loop(Line { source, lines, step, padded: &mut line, columns, divisors: &divisors, out, of });
            }
        }
        Ok(())
    })
}

/// A line of outputs.
struct Line<'a, C> {
    /// The lines under the window, of which each begins `step` elements after the one before. `usize::MAX` lines are
    /// combined already.
    source: &'a [f32],
    lines: usize,
    step: usize,
    /// A padded line, for their combination.
    padded: &'a mut [f32],
    columns: Slide,
    /// Empty for none.
    divisors: &'a [f32],
    out: &'a mut [f32],
    of: PhantomData<C>,
}

impl<C: Combine> Loop for Line<'_, C> {
    #[inline(always)]
    fn run(mut self) {
        self.combine_lines();
        let Slide { kernel, stride, dilation, .. } = self.columns;
        match (kernel, stride) {
            (2, 2) if dilation == 1 => self.pairs(),
            (3, 1) if dilation == 1 => self.triples(),
            (3, 2) if dilation == 1 => self.triples_of_pairs(),
            (_, 1) => self.every::<1>(),
            (_, 2) => self.every::<2>(),
            (_, 3) => self.every::<3>(),
            (_, 4) => self.every::<4>(),
            (_, 5) => self.every::<5>(),
            (_, 6) => self.every::<6>(),
            (_, 7) => self.every::<7>(),
            _ => self.every::<8>(),
        }
        for (out, &divisor) in self.out.iter_mut().zip(self.divisors) {
            *out /= divisor;
        }
    }
}

impl<C: Combine> Line<'_, C> {
    /// Combines the lines under the window, up to three in one pass.
    #[inline(always)]
    fn combine_lines(&mut self) {
        let Slide { before, input, .. } = self.columns;
        let (source, step) = (self.source, self.step);
        let line = &mut self.padded[before..before + input];
        let row = |at: usize| &source[at * step..][..input];
        match self.lines {
            0 => line.fill(C::START),
            1 => line.copy_from_slice(row(0)),
            2 => {
                for ((line, &a), &b) in line.iter_mut().zip(row(0)).zip(row(1)) {
                    *line = C::combine(a, b);
                }
            }
            usize::MAX => {}
            lines => {
                for (((line, &a), &b), &c) in line.iter_mut().zip(row(0)).zip(row(1)).zip(row(2)) {
                    *line = C::combine(C::combine(a, b), c);
                }
                for at in 3..lines {
                    for (line, &x) in line.iter_mut().zip(row(at)) {
                        *line = C::combine(*line, x);
                    }
                }
            }
        }
    }

    /// Windows of two columns, two apart.
    #[inline(always)]
    fn pairs(&mut self) {
        for (out, pair) in self.out.iter_mut().zip(self.padded.as_chunks::<2>().0) {
            *out = C::combine(pair[0], pair[1]);
        }
    }

    /// Windows of three columns, at each column.
    #[inline(always)]
    fn triples(&mut self) {
        let line = &*self.padded;
        for (((out, &a), &b), &c) in self.out.iter_mut().zip(line).zip(&line[1..]).zip(&line[2..]) {
            *out = C::combine(C::combine(a, b), c);
        }
    }

    /// Windows of three columns, two apart.
    #[inline(always)]
    fn triples_of_pairs(&mut self) {
        let (pairs, next) = (self.padded.as_chunks::<2>().0, self.padded[2..].as_chunks::<2>().0);
        for ((out, pair), next) in self.out.iter_mut().zip(pairs).zip(next) {
            *out = C::combine(C::combine(pair[0], pair[1]), next[0]);
        }
    }

    /// Windows that are `STRIDE` columns apart.
    #[inline(always)]
    fn every<const STRIDE: usize>(&mut self) {
        for at in 0..self.columns.kernel {
            let groups = self.padded[at * self.columns.dilation..].as_chunks::<STRIDE>().0;
            if at == 0 {
                for (out, group) in self.out.iter_mut().zip(groups) {
                    *out = group[0];
                }
            } else {
                for (out, group) in self.out.iter_mut().zip(groups) {
                    *out = C::combine(*out, group[0]);
                }
            }
        }
    }
}
