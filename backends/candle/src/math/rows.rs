//! Sums and extremes of rows of f32, many rows in one call.
//!
//! Sums are of f64, so that rounding errors don't add up.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]

use crate::math::simd::{Loop, wide_loop};

/// Parts of a sum or an extreme, which the processor computes in parallel.
const PARTS: usize = 16;

/// What is summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Summand {
    /// The elements.
    Plain,
    Magnitude,
    Square,
}

/// Writes the sum of each row of `width` elements to `out`.
pub(crate) fn sums(elements: &[f32], width: usize, summand: Summand, out: &mut [f64]) {
    match summand {
        Summand::Plain => wide_loop(Sums::<0> { elements, width, out }),
        Summand::Magnitude => wide_loop(Sums::<1> { elements, width, out }),
        Summand::Square => wide_loop(Sums::<2> { elements, width, out }),
    }
}

/// Writes the largest element of each row of `width` elements to `out`, or the smallest one; NaN if there is one.
pub(crate) fn extremes(elements: &[f32], width: usize, largest: bool, out: &mut [f32]) {
    if largest {
        wide_loop(Extremes::<true> { elements, width, out });
    } else {
        wide_loop(Extremes::<false> { elements, width, out });
    }
}

/// Folds a row in parts. What is left of it is folded by itself: a loop over some of the parts would keep them in memory.
#[inline(always)]
pub(super) fn folded<U: Copy>(row: &[f32], start: U, f: impl Fn(U, f32) -> U, join: impl Fn(U, U) -> U) -> U {
    let (chunks, rest) = row.as_chunks::<PARTS>();
    let mut parts = [start; PARTS];
    for chunk in chunks {
        for (part, &x) in parts.iter_mut().zip(chunk) {
            *part = f(*part, x);
        }
    }
    let mut half = PARTS / 2;
    while half > 0 {
        for index in 0..half {
            parts[index] = join(parts[index], parts[index + half]);
        }
        half /= 2;
    }
    let (chunks, rest) = rest.as_chunks::<4>();
    let mut few = [start; 4];
    for chunk in chunks {
        for (part, &x) in few.iter_mut().zip(chunk) {
            *part = f(*part, x);
        }
    }
    let last = rest.iter().fold(start, |part, &x| f(part, x));
    join(join(parts[0], last), join(join(few[0], few[2]), join(few[1], few[3])))
}

struct Sums<'a, const SUMMAND: u8> {
    elements: &'a [f32],
    width: usize,
    out: &'a mut [f64],
}

impl<const SUMMAND: u8> Sums<'_, SUMMAND> {
    #[inline(always)]
    fn summand(x: f32) -> f64 {
        let x = f64::from(x);
        match SUMMAND {
            0 => x,
            1 => x.abs(),
            _ => x * x,
        }
    }
}

impl<const SUMMAND: u8> Loop for Sums<'_, SUMMAND> {
    #[inline(always)]
    fn run(self) {
        for (out, row) in self.out.iter_mut().zip(self.elements.chunks_exact(self.width.max(1))) {
            *out = folded(row, 0.0, |sum, x| sum + Self::summand(x), |a, b| a + b);
        }
    }
}

struct Extremes<'a, const LARGEST: bool> {
    elements: &'a [f32],
    width: usize,
    out: &'a mut [f32],
}

impl<const LARGEST: bool> Extremes<'_, LARGEST> {
    #[inline(always)]
    fn better(best: f32, x: f32) -> f32 {
        let beats = if LARGEST { x > best } else { x < best };
        if beats || x.is_nan() { x } else { best }
    }
}

impl<const LARGEST: bool> Loop for Extremes<'_, LARGEST> {
    #[inline(always)]
    fn run(self) {
        let start = if LARGEST { f32::NEG_INFINITY } else { f32::INFINITY };
        for (out, row) in self.out.iter_mut().zip(self.elements.chunks_exact(self.width.max(1))) {
            *out = folded(row, start, Self::better, Self::better);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers, so that every order of additions gives the same sum.
    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|index| ((index * 7 + index / 5) % 23) as f32 - 11.0).collect()
    }

    #[test]
    fn rows_of_every_width_have_their_sums_and_extremes() {
        for width in [1, 2, 7, 15, 16, 17, 31, 32, 50, 257] {
            for rows in [1, 3, 20] {
                let mut elements = numbers(rows * width);
                let (mut found, mut tops) = (vec![f64::NAN; rows], vec![0.0; rows]);
                for (summand, f) in [(Summand::Plain, (|x| x) as fn(f64) -> f64), (Summand::Magnitude, f64::abs)]
                    .into_iter()
                    .chain([(Summand::Square, (|x| x * x) as fn(f64) -> f64)])
                {
                    sums(&elements, width, summand, &mut found);
                    for (row, found) in elements.chunks_exact(width).zip(&found) {
                        let wanted: f64 = row.iter().map(|&x| f(f64::from(x))).sum();
                        assert!((found - wanted).abs() < 1e-9, "{width} {rows} {summand:?}");
                    }
                }
                for largest in [true, false] {
                    extremes(&elements, width, largest, &mut tops);
                    for (row, found) in elements.chunks_exact(width).zip(&tops) {
                        let wanted = row.iter().copied().reduce(if largest { f32::max } else { f32::min }).unwrap();
                        assert!((found - wanted).abs() < 1e-9, "{width} {rows} {largest}");
                    }
                }
                for place in [0, width / 2, width - 1] {
                    let before = std::mem::replace(&mut elements[place], f32::NAN);
                    extremes(&elements, width, true, &mut tops);
                    assert!(tops[0].is_nan() && tops[1..].iter().all(|top| !top.is_nan()), "{width} {place}");
                    elements[place] = before;
                }
            }
        }
    }
}
