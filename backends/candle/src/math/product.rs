//! Products of matrices of floats: one entry, [`multiply`], for operands that nobody has prepared.
//!
//! Which code multiplies was settled by measurement. Time on one core with 512-bit vectors, in parts of what the `gemm`
//! crate takes for the same product (medians of 25 interleaved rounds; operands row by row):
//!
//! | m×k by k×n | loops of `simd` | packed here, both sides | packed, right side ready |
//! | --- | --- | --- | --- |
//! | 1×64 by 64×64 | 0.32 | 1.31 | 0.41 |
//! | 1×1024 by 1024×1024 | 0.64 | 8.87 | 0.78 |
//! | 16×16 by 16×16 | 0.44 | 1.11 | 0.83 |
//! | 64×64 by 64×64 | 0.93 | 1.32 | 1.20 |
//! | 128×128 by 128×128 | 0.97 | 1.16 | 1.10 |
//! | 256×256 by 256×256 | 0.97 | 1.09 | 1.05 |
//! | 32×784 by 784×784 | 0.91 | 1.24 | 1.02 |
//!
//! * Small products, and those of one to three rows, are loops over the operands as they lie ([`simd`]): `gemm` packs
//!   them first, which costs more than it gains. The loops know nothing of caches, so that they end at 3 million
//!   multiplications.
//! * Larger ones, those of f64, and operands that lie otherwise are the `gemm` crate's ([`gemm`]).
//! * Where one side has to be laid out anyway, [`pack`](super::pack) has its layouts and its own product: the patches of
//!   a convolution, and weights whose result gets more operators before it goes to memory (`ops::weighted`).

use crate::compute::context::{ExecContext, VECTOR_CHECK_INTERVAL};
use crate::math::gemm::{Factor, Matrix};
use crate::math::{gemm, simd};
use crate::tensor::budget::Charge;
use crate::tensor::dims::count;
use crate::tensor::element::Element;
use graphpool::backend::Error;

/// Matrices in a slice: where the first begins and how far apart batches, rows and columns are.
#[derive(Clone, Copy)]
pub(crate) struct Matrices<'a, T> {
    pub(crate) elements: &'a [T],
    pub(crate) start: usize,
    pub(crate) batch: usize,
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl<'a, T> Matrices<'a, T> {
    /// Row-major matrices one after the other.
    pub(crate) fn rows(elements: &'a [T], rows: usize, columns: usize) -> Self {
        Self { elements, start: 0, batch: rows * columns, row: columns, column: 1 }
    }

    /// The same matrices with rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }

    /// These places in another slice.
    fn of<U>(self, elements: &[U]) -> Matrices<'_, U> {
        let Self { start, batch, row, column, .. } = self;
        Matrices { elements, start, batch, row, column }
    }

    /// The matrix of so many batches after the first.
    fn one(&self, index: usize) -> Matrix<'a, T> {
        Matrix { elements: self.elements, start: self.start + index * self.batch, row: self.row, column: self.column }
    }
}

/// How many products of which size.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) batch: usize,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
}

/// The products of `batch` pairs of matrices, m×k by k×n, row-major one after the other.
pub(crate) fn multiply<T: Factor + Element>(
    a: Matrices<'_, T>,
    b: Matrices<'_, T>,
    size: Size,
    cx: &ExecContext<'_>,
) -> Result<(Vec<T>, Charge), Error> {
    let Size { batch, m, n, k } = size;
    let elements = count(&[batch, m, n])?;
    if elements == 0 || k == 0 {
        return cx.filled(T::default(), elements);
    }
    if let (Some(left), Some(right)) = (T::singles(a.elements), T::singles(b.elements)) {
        let (a, b) = (a.of(left), b.of(right));
        if let Some(way) = Loop::for_product(a, b, size) {
            let (out, charge) = in_place(way, a, b, size, cx)?;
            let out = T::from_singles(out).ok_or_else(|| Error::runtime_error("a product of another type"))?;
            return Ok((out, charge));
        }
    }
    let (mut out, charge) = cx.filled(T::default(), elements)?;
    let mut parts = vec![(); cx.parts(batch, elements.saturating_mul(k))];
    cx.parallel_for(&mut parts, &mut out, m * n, |cx, (), start, out| {
        for (index, out) in out.chunks_exact_mut(m * n).enumerate() {
            let index = start / (m * n) + index;
            gemm::product(a.one(index), b.one(index), out, (m, n, k), cx)?;
        }
        Ok(())
    })?;
    Ok((out, charge))
}

/// A loop over operands as they lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loop {
    /// The right-hand matrix lies row by row.
    Rows,
    /// It lies column by column: each result is the product of two contiguous vectors.
    Dots,
}

impl Loop {
    /// The loop that is faster than packing, if one is.
    fn for_product(a: Matrices<'_, f32>, b: Matrices<'_, f32>, size: Size) -> Option<Self> {
        let Size { m, n, k, .. } = size;
        if a.column != 1 {
            return None;
        }
        if b.row == 1 && (n == 1 || b.column == k) && simd::suits_dots(m, n, k) {
            return Some(Self::Dots);
        }
        (b.column == 1 && simd::suits(m, n, k)).then_some(Self::Rows)
    }
}

/// The products by one of the loops.
fn in_place(
    way: Loop,
    a: Matrices<'_, f32>,
    b: Matrices<'_, f32>,
    size: Size,
    cx: &ExecContext<'_>,
) -> Result<(Vec<f32>, Charge), Error> {
    let Size { batch, m, n, k } = size;
    let elements = count(&[batch, m, n])?;
    let (mut out, charge) = cx.filled(0.0, elements)?;
    // The sums of what is large are cut where they are added up anyway, or between two results.
    let rows = (VECTOR_CHECK_INTERVAL / k).max(1);
    let depth = (VECTOR_CHECK_INTERVAL / n).max(4) / 4 * 4;
    let mut parts = vec![(); cx.parts(batch, elements.saturating_mul(k))];
    cx.parallel_for(&mut parts, &mut out, m * n, |cx, (), start, out| {
        for (index, out) in out.chunks_exact_mut(m * n).enumerate() {
            cx.control.check()?;
            let index = start / (m * n) + index;
            let (left, right) = (&a.elements[a.start + index * a.batch..], &b.elements[b.start + index * b.batch..]);
            match way {
                Loop::Rows if m <= simd::FEW_ROWS => {
                    for from in (0..k).step_by(depth) {
                        cx.control.check()?;
                        let left = simd::Rows { elements: &left[from..], pitch: a.row };
                        let right = simd::Rows { elements: &right[from * b.row..], pitch: b.row };
                        simd::product(left, right, out, n, depth.min(k - from));
                    }
                }
                Loop::Rows => {
                    let left = simd::Rows { elements: left, pitch: a.row };
                    simd::product(left, simd::Rows { elements: right, pitch: b.row }, out, n, k);
                }
                Loop::Dots if n == 1 && a.row == k => {
                    for (left, out) in left.chunks(rows * k).zip(out.chunks_mut(rows)) {
                        cx.control.check()?;
                        simd::add_dots(left, &right[..k], out);
                    }
                }
                Loop::Dots => {
                    for (row, out) in out.chunks_exact_mut(n).enumerate() {
                        let left = &left[row * a.row..row * a.row + k];
                        for (right, out) in right.chunks(rows * k).zip(out.chunks_mut(rows)) {
                            cx.control.check()?;
                            simd::add_dots(right, left, out);
                        }
                    }
                }
            }
        }
        Ok(())
    })?;
    Ok((out, charge))
}
