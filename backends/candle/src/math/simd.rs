//! Vector loops over f32 for the widest vectors of the processor, without unsafe code.
//!
//! [`product`] and [`add_dots`] compute small matrix products, for which packing takes longer than it saves, and
//! products of one to three rows, whose speed is limited by memory. The `gemm` crate, which blocks for the caches, is
//! faster for larger ones. [`map`] and [`zip`] apply a function to each element.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]
#![expect(clippy::many_single_char_names, reason = "a, b, m, n and k are the usual names of matrices and their sizes")]

use std::sync::LazyLock;

use pulp::{Arch, Simd, WithSimd};

/// The most multiplications of a product with more than [`FEW_ROWS`] rows. Above it, `gemm` was measured to be faster.
const MAX_MULTIPLICATIONS: usize = 3 << 20;

/// The most summands of such a product. It bounds the copy that [`edge`] makes.
const MAX_DEPTH: usize = 1 << 14;

/// The most rows of a product that is computed in one pass over the right-hand matrix.
pub(crate) const FEW_ROWS: usize = 3;

/// Computes the lanes of the widest f32 vector of the processor.
struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// The lanes of the widest f32 vector of the processor.
pub(super) fn lanes() -> usize {
    static LANES: LazyLock<usize> = LazyLock::new(|| Arch::new().dispatch(Lanes));
    *LANES
}

/// Whether the processor has vectors that these loops use. On others, code vectorized by the compiler is faster.
fn has_vectors() -> bool {
    lanes() > 1
}

/// Whether [`product`] is faster than the `gemm` crate for m×k by k×n.
pub(crate) fn suits(m: usize, n: usize, k: usize) -> bool {
    let small = m.saturating_mul(n).saturating_mul(k) <= MAX_MULTIPLICATIONS && k <= MAX_DEPTH;
    has_vectors() && n > 1 && (m <= FEW_ROWS || small)
}

/// Whether [`add_dots`] for each row is faster than the `gemm` crate for m×k by k×n, with a column-major right-hand
/// matrix.
pub(crate) fn suits_dots(m: usize, n: usize, k: usize) -> bool {
    const ROWS: usize = 32;
    let small = m.saturating_mul(n).saturating_mul(k) <= MAX_MULTIPLICATIONS;
    has_vectors() && (m <= ROWS || n == 1) && (m <= FEW_ROWS || small)
}

/// A matrix with contiguous rows and a row stride of `pitch` elements.
#[derive(Clone, Copy)]
pub(crate) struct RowMajor<'a> {
    pub(crate) elements: &'a [f32],
    pub(crate) pitch: usize,
}

impl<'a> RowMajor<'a> {
    /// The elements `from..to` of a row.
    #[inline(always)]
    fn row(&self, index: usize, from: usize, to: usize) -> &'a [f32] {
        &self.elements[index * self.pitch + from..index * self.pitch + to]
    }
}

/// Writes the product of `a` and `b` to `out`, which is zero and has a row of `n` elements for each row of `a`.
pub(crate) fn product(a: RowMajor<'_>, b: RowMajor<'_>, out: &mut [f32], n: usize, k: usize) {
    if n > 0 && k > 0 {
        Arch::new().dispatch(Product { a, b, out, n, k });
    }
}

struct Product<'a> {
    a: RowMajor<'a>,
    b: RowMajor<'a>,
    out: &'a mut [f32],
    n: usize,
    k: usize,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { a, b, out, n, k } = self;
        if out.len() / n <= FEW_ROWS {
            for (index, out) in out.chunks_exact_mut(n).enumerate() {
                stream(simd, a.row(index, 0, k), b, out);
            }
            return;
        }
        let lanes = S::F32_LANES;
        let mut from = 0;
        while from + 3 * lanes <= n {
            panel::<S, 3>(simd, a, b, out, n, k, from);
            from += 3 * lanes;
        }
        while from + lanes <= n {
            panel::<S, 1>(simd, a, b, out, n, k, from);
            from += lanes;
        }
        if from < n {
            edge(simd, a, b, out, n, k, from);
        }
    }
}

/// One row of the product: scales the rows of `b` and adds them, four at a time. Each row is read once, in order.
#[inline(always)]
fn stream<S: Simd>(simd: S, a: &[f32], b: RowMajor<'_>, out: &mut [f32]) {
    let n = out.len();
    let (groups, rest) = a.as_chunks::<4>();
    let (head, tail) = S::as_mut_simd_f32s(out);
    for (group, x) in groups.iter().enumerate() {
        let rows = [0, 1, 2, 3].map(|place| b.row(group * 4 + place, 0, n));
        let ((b0, t0), (b1, t1)) = (S::as_simd_f32s(rows[0]), S::as_simd_f32s(rows[1]));
        let ((b2, t2), (b3, t3)) = (S::as_simd_f32s(rows[2]), S::as_simd_f32s(rows[3]));
        let (x0, x1) = (simd.splat_f32s(x[0]), simd.splat_f32s(x[1]));
        let (x2, x3) = (simd.splat_f32s(x[2]), simd.splat_f32s(x[3]));
        for ((((out, &b0), &b1), &b2), &b3) in head.iter_mut().zip(b0).zip(b1).zip(b2).zip(b3) {
            let even = simd.mul_add_e_f32s(x2, b2, simd.mul_add_e_f32s(x0, b0, *out));
            let odd = simd.mul_add_e_f32s(x3, b3, simd.mul_f32s(x1, b1));
            *out = simd.add_f32s(even, odd);
        }
        for ((((out, b0), b1), b2), b3) in tail.iter_mut().zip(t0).zip(t1).zip(t2).zip(t3) {
            *out += x[0] * b0 + x[1] * b1 + x[2] * b2 + x[3] * b3;
        }
    }
    let done = groups.len() * 4;
    for (place, &x) in rest.iter().enumerate() {
        let (rows, ends) = S::as_simd_f32s(b.row(done + place, 0, n));
        let wide = simd.splat_f32s(x);
        for (out, &b) in head.iter_mut().zip(rows) {
            *out = simd.mul_add_e_f32s(wide, b, *out);
        }
        for (out, b) in tail.iter_mut().zip(ends) {
            *out += x * b;
        }
    }
}

/// The columns of `V` vectors from column `from` on, for all rows.
#[inline(always)]
fn panel<S: Simd, const V: usize>(
    simd: S,
    a: RowMajor<'_>,
    b: RowMajor<'_>,
    out: &mut [f32],
    n: usize,
    k: usize,
    from: usize,
) {
    let mut row = 0;
    let mut rest = out;
    // With one vector, eight rows at a time give enough independent sums to hide the latency of an addition.
    if V == 1 {
        let mut blocks = rest.chunks_exact_mut(8 * n);
        for out in &mut blocks {
            block::<S, 8, V>(simd, a, b, out, n, k, (row, from));
            row += 8;
        }
        rest = blocks.into_remainder();
    }
    let mut blocks = rest.chunks_exact_mut(4 * n);
    for out in &mut blocks {
        block::<S, 4, V>(simd, a, b, out, n, k, (row, from));
        row += 4;
    }
    for out in blocks.into_remainder().chunks_exact_mut(n) {
        block::<S, 1, V>(simd, a, b, out, n, k, (row, from));
        row += 1;
    }
}

/// `R` rows by `V` vectors of columns, summed in registers.
#[inline(always)]
fn block<S: Simd, const R: usize, const V: usize>(
    simd: S,
    a: RowMajor<'_>,
    b: RowMajor<'_>,
    out: &mut [f32],
    n: usize,
    k: usize,
    (row, from): (usize, usize),
) {
    let mut left: [&[f32]; R] = [&[]; R];
    for (index, left) in left.iter_mut().enumerate() {
        *left = a.row(row + index, 0, k);
    }
    let width = V * S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    for place in 0..k {
        let (right, _) = S::as_simd_f32s(b.row(place, from, from + width));
        for (sums, left) in sums.iter_mut().zip(&left) {
            let x = simd.splat_f32s(left[place]);
            for (sum, &y) in sums.iter_mut().zip(right) {
                *sum = simd.mul_add_e_f32s(x, y, *sum);
            }
        }
    }
    for (index, sums) in sums.iter().enumerate() {
        let (out, _) = S::as_mut_simd_f32s(&mut out[index * n + from..index * n + from + width]);
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = *sum;
        }
    }
}

/// The columns from `from` on, which are fewer than the lanes of a vector: `b` and the result are padded to one vector.
#[inline(always)]
fn edge<S: Simd>(simd: S, a: RowMajor<'_>, b: RowMajor<'_>, out: &mut [f32], n: usize, k: usize, from: usize) {
    const ROWS: usize = 64;
    let lanes = S::F32_LANES;
    let mut padded = vec![0.0; k * lanes];
    for (place, padded) in padded.chunks_exact_mut(lanes).enumerate() {
        padded[..n - from].copy_from_slice(b.row(place, from, n));
    }
    let b = RowMajor { elements: &padded, pitch: lanes };
    let mut sums = vec![0.0; ROWS * lanes];
    for (index, out) in out.chunks_mut(ROWS * n).enumerate() {
        let sums = &mut sums[..out.len() / n * lanes];
        let a = RowMajor { elements: &a.elements[index * ROWS * a.pitch..], pitch: a.pitch };
        panel::<S, 1>(simd, a, b, sums, lanes, k, 0);
        for (out, sums) in out.chunks_exact_mut(n).zip(sums.chunks_exact(lanes)) {
            out[from..].copy_from_slice(&sums[..n - from]);
        }
    }
}

/// Adds to each element of `out` the dot product of `x` and a row of `rows`. Rows are contiguous and as long as `x`.
pub(crate) fn add_dots(rows: &[f32], x: &[f32], out: &mut [f32]) {
    Arch::new().dispatch(Dots { rows, x, out });
}

struct Dots<'a> {
    rows: &'a [f32],
    x: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, x, out } = self;
        let (wide_x, rest_x) = S::as_simd_f32s(x);
        for (out, row) in out.iter_mut().zip(rows.chunks_exact(x.len().max(1))) {
            let (wide, rest) = S::as_simd_f32s(row);
            let mut sums = [simd.splat_f32s(0.0); 4];
            for (x, row) in wide_x.chunks(4).zip(wide.chunks(4)) {
                for ((sum, &x), &row) in sums.iter_mut().zip(x).zip(row) {
                    *sum = simd.mul_add_e_f32s(x, row, *sum);
                }
            }
            let sum = simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3]));
            let rest: f32 = rest_x.iter().zip(rest).map(|(x, row)| x * row).sum();
            *out += simd.reduce_sum_f32s(sum) + rest;
        }
    }
}

/// A loop that the compiler vectorizes. All functions that it calls must be inlined.
pub(crate) trait Loop {
    /// Runs the loop.
    fn run(self);
}

/// Runs a loop compiled for the widest vectors of the processor.
pub(crate) fn wide_loop(body: impl Loop) {
    Arch::new().dispatch(Wide(body));
}

struct Wide<L>(L);

impl<L: Loop> WithSimd for Wide<L> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.0.run();
    }
}

/// Replaces each element by `f` of it.
pub(crate) fn map(elements: &mut [f32], f: impl Fn(f32) -> f32) {
    wide_loop(Map { elements, f });
}

struct Map<'a, F> {
    elements: &'a mut [f32],
    f: F,
}

impl<F: Fn(f32) -> f32> Loop for Map<'_, F> {
    #[inline(always)]
    fn run(self) {
        for element in self.elements {
            *element = (self.f)(*element);
        }
    }
}

/// Replaces each element of `elements` by `f` of it and the element of `others` with the same index.
pub(crate) fn zip(elements: &mut [f32], others: &[f32], f: impl Fn(f32, f32) -> f32) {
    wide_loop(Zip { elements, others, f });
}

struct Zip<'a, F> {
    elements: &'a mut [f32],
    others: &'a [f32],
    f: F,
}

impl<F: Fn(f32, f32) -> f32> Loop for Zip<'_, F> {
    #[inline(always)]
    fn run(self) {
        for (element, &other) in self.elements.iter_mut().zip(self.others) {
            *element = (self.f)(*element, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small integers, so that every order of additions gives the same sum.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|index| ((index * 7 + seed * 13) % 11) as f32 - 5.0).collect()
    }

    #[test]
    fn products_of_every_shape_are_those_of_the_definition() {
        for m in [1, 2, 3, 4, 5, 13, 140] {
            for n in [1, 2, 15, 16, 17, 47, 48, 49, 100] {
                for k in [1, 2, 3, 4, 5, 31] {
                    let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
                    let mut out = vec![0.0; m * n];
                    product(RowMajor { elements: &a, pitch: k }, RowMajor { elements: &b, pitch: n }, &mut out, n, k);
                    for row in 0..m {
                        for column in 0..n {
                            let wanted: f32 = (0..k).map(|place| a[row * k + place] * b[place * n + column]).sum();
                            assert!((out[row * n + column] - wanted).abs() < 1e-6, "{m} {n} {k}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn dots_are_those_of_the_definition() {
        for k in [1, 7, 16, 63, 64, 65, 130] {
            let (rows, x) = (numbers(5 * k, 3), numbers(k, 4));
            let mut out = vec![1.0; 5];
            add_dots(&rows, &x, &mut out);
            for (row, found) in rows.chunks_exact(k).zip(&out) {
                let wanted: f32 = 1.0 + row.iter().zip(&x).map(|(a, b)| a * b).sum::<f32>();
                assert!((found - wanted).abs() < 1e-6, "{k}");
            }
        }
    }
}
