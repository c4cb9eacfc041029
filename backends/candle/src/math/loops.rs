//! Loops over elements of any type, compiled for the widest vectors of the processor.
//!
//! All functions that a loop calls must be inlined. A closure that captures numbers should be given by value: behind a
//! reference, a store to the results could change what it captured, and the loop is not vectorized.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]

use crate::math::simd::{Loop, map, wide_loop};

/// Appends the items, whose number is known.
pub(crate) fn extend<U>(out: &mut Vec<U>, items: impl Iterator<Item = U>) {
    wide_loop(Extend { out, items });
}

struct Extend<'a, U, I> {
    out: &'a mut Vec<U>,
    items: I,
}

impl<U, I: Iterator<Item = U>> Loop for Extend<'_, U, I> {
    #[inline(always)]
    fn run(self) {
        self.out.extend(self.items);
    }
}

/// Appends `f` of each element, which may be a long function: it is applied in place, where the compiler inlines it.
pub(crate) fn extend_by(out: &mut Vec<f32>, elements: &[f32], f: impl Fn(f32) -> f32 + Copy) {
    // So many that they are in the nearest cache between the two passes.
    for piece in elements.chunks(1 << 11) {
        let start = out.len();
        out.extend_from_slice(piece);
        map(&mut out[start..], f);
    }
}

/// Calls `f` with each item.
pub(crate) fn for_each<I: Iterator>(items: I, f: impl FnMut(I::Item)) {
    wide_loop(Each { items, f });
}

struct Each<I, F> {
    items: I,
    f: F,
}

impl<I: Iterator, F: FnMut(I::Item)> Loop for Each<I, F> {
    #[inline(always)]
    fn run(self) {
        self.items.for_each(self.f);
    }
}

/// The partial results of a fold, which the processor computes in parallel.
pub(crate) const PARTS: usize = 32;

/// Folds the elements into `parts`, the one at index `i` into part `i` modulo their number.
pub(crate) fn fold<T: Copy, U: Copy>(parts: &mut [U; PARTS], elements: &[T], f: impl Fn(U, T) -> U) {
    wide_loop(Fold { parts, elements, f });
}

struct Fold<'a, T, U, F> {
    parts: &'a mut [U; PARTS],
    elements: &'a [T],
    f: F,
}

impl<T: Copy, U: Copy, F: Fn(U, T) -> U> Loop for Fold<'_, T, U, F> {
    #[inline(always)]
    fn run(self) {
        let (chunks, rest) = self.elements.as_chunks::<PARTS>();
        let mut parts = *self.parts;
        for chunk in chunks {
            for (part, &x) in parts.iter_mut().zip(chunk) {
                *part = (self.f)(*part, x);
            }
        }
        for (part, &x) in parts.iter_mut().zip(rest) {
            *part = (self.f)(*part, x);
        }
        *self.parts = parts;
    }
}

/// Joins the parts of a fold, in pairs.
pub(crate) fn joined<U: Copy>(mut parts: [U; PARTS], join: impl Fn(U, U) -> U) -> U {
    let mut half = PARTS / 2;
    while half > 0 {
        for index in 0..half {
            parts[index] = join(parts[index], parts[index + half]);
        }
        half /= 2;
    }
    parts[0]
}

/// Rows of fewer elements are folded by [`fold_short`], which has less to begin and to end with.
pub(crate) const SHORT: usize = 256;

/// Folds a short row, in eight parts that begin with `start`.
pub(crate) fn fold_short<T: Copy, U: Copy>(start: U, row: &[T], f: impl Fn(U, T) -> U, join: impl Fn(U, U) -> U) -> U {
    let (chunks, rest) = row.as_chunks::<8>();
    let mut parts = [start; 8];
    for chunk in chunks {
        for index in 0..8 {
            parts[index] = f(parts[index], chunk[index]);
        }
    }
    for (part, &x) in parts.iter_mut().zip(rest) {
        *part = f(*part, x);
    }
    let pair = |at: usize| join(parts[at], parts[at + 4]);
    join(join(pair(0), pair(1)), join(pair(2), pair(3)))
}

/// Folds rows that are as long as `out` into `out`, one after the other.
pub(crate) fn fold_rows<T: Copy>(out: &mut [T], rows: &[T], f: impl Fn(T, T) -> T + Copy) {
    wide_loop(FoldRows { out, rows, f });
}

struct FoldRows<'a, T, F> {
    out: &'a mut [T],
    rows: &'a [T],
    f: F,
}

impl<T: Copy, F: Fn(T, T) -> T + Copy> Loop for FoldRows<'_, T, F> {
    #[inline(always)]
    fn run(self) {
        let Self { out, rows, f } = self;
        let width = out.len().max(1);
        let mut groups = rows.chunks_exact(4 * width);
        // Four rows in one pass over the results.
        for group in &mut groups {
            let (ab, cd) = group.split_at(2 * width);
            let ((a, b), (c, d)) = (ab.split_at(width), cd.split_at(width));
            for ((((out, &a), &b), &c), &d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *out = f(f(f(f(*out, a), b), c), d);
            }
        }
        for row in groups.remainder().chunks_exact(width) {
            for (out, &x) in out.iter_mut().zip(row) {
                *out = f(*out, x);
            }
        }
    }
}
