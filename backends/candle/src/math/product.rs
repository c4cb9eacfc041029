//! Products of matrices of floats: [`multiply`] is the one entry for operands that are not packed.
//!
//! The choice between the implementations follows from measurements. The table has the time on one core with 512-bit
//! vectors, relative to the time of the `gemm` crate for the same product (medians of 25 interleaved rounds; row-major
//! operands):
//!
//! | m×k by k×n | loops of `simd` | `pack`, both sides packed in the call | `pack`, right side packed before |
//! | --- | --- | --- | --- |
//! | 1×64 by 64×64 | 0.32 | 1.31 | 0.41 |
//! | 1×1024 by 1024×1024 | 0.64 | 8.87 | 0.78 |
//! | 16×16 by 16×16 | 0.44 | 1.11 | 0.83 |
//! | 64×64 by 64×64 | 0.93 | 1.32 | 1.20 |
//! | 128×128 by 128×128 | 0.97 | 1.16 | 1.10 |
//! | 256×256 by 256×256 | 0.97 | 1.09 | 1.05 |
//! | 32×784 by 784×784 | 0.91 | 1.24 | 1.02 |
//!
//! * Small products, and products of one to three rows, use the loops of [`simd`] on unpacked operands: `gemm` packs
//!   its operands first, which takes longer than it saves. The loops do no cache blocking, so they are used up to 3
//!   million multiplications.
//! * Larger products, products of f64 and operands with other strides use the `gemm` crate ([`gemm`]).
//! * Where one side is packed anyway, [`pack`](super::pack) multiplies it: patches of a convolution. The weights of a
//!   fused step (`ops::weighted`) are multiplied by [`gathered`](super::gathered).

use smallvec::SmallVec;

use crate::compute::context::{ExecContext, VECTOR_CHECK_INTERVAL};
use crate::math::gemm::{Factor, Matrix};
use crate::math::tiles::{Strip, TILE};
use crate::math::{gemm, simd};
use crate::tensor::budget::Charge;
use crate::tensor::dims::count;
use crate::tensor::element::Element;
use graphpool::backend::Error;

/// The most rows of a product whose column-major right-hand matrix is transposed first; `gemm` is faster for more.
const TRANSPOSED_ROWS: usize = 64;

/// A batch of matrices in a slice: the index of the first element, and the strides of batches, rows and columns in
/// elements.
#[derive(Clone, Copy)]
pub(crate) struct Matrices<'a, T> {
    pub(crate) elements: &'a [T],
    pub(crate) start: usize,
    pub(crate) batch: usize,
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl<'a, T> Matrices<'a, T> {
    /// Contiguous row-major matrices of `rows` × `columns`.
    pub(crate) fn row_major(elements: &'a [T], rows: usize, columns: usize) -> Self {
        Self { elements, start: 0, batch: rows * columns, row: columns, column: 1 }
    }

    /// The transposed matrices.
    pub(crate) fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }

    /// The same strides over another slice.
    fn with_elements<U>(self, elements: &[U]) -> Matrices<'_, U> {
        let Self { start, batch, row, column, .. } = self;
        Matrices { elements, start, batch, row, column }
    }

    /// The matrix of a batch.
    fn matrix(&self, index: usize) -> Matrix<'a, T> {
        Matrix { elements: self.elements, start: self.start + index * self.batch, row: self.row, column: self.column }
    }
}

/// The number of products in a batch, and their size: m×k by k×n.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) batch: usize,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
}

/// The products of `batch` pairs of matrices, m×k by k×n: contiguous and row-major, charged to the compute's budget.
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
    if let (Some(left), Some(right)) = (T::as_f32(a.elements), T::as_f32(b.elements)) {
        let (a, b) = (a.with_elements(left), b.with_elements(right));
        if let Some(kind) = Loop::for_product(a, b, size) {
            let (out, charge) = multiply_unpacked(kind, a, b, size, cx)?;
            let out = T::from_f32(out).ok_or_else(|| Error::runtime_error("a product of another type"))?;
            return Ok((out, charge));
        }
    }
    let (mut out, charge) = cx.filled(T::default(), elements)?;
    let mut parts = vec![(); cx.parts(batch, elements.saturating_mul(k))];
    cx.parallel_for(&mut parts, &mut out, m * n, |cx, (), start, out| {
        for (index, out) in out.chunks_exact_mut(m * n).enumerate() {
            let index = start / (m * n) + index;
            gemm::product(a.matrix(index), b.matrix(index), out, (m, n, k), cx)?;
        }
        Ok(())
    })?;
    Ok((out, charge))
}

/// A loop of [`simd`] over unpacked operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loop {
    /// For a row-major right-hand matrix: rows of it are scaled and added.
    Rows,
    /// For a column-major right-hand matrix, which is transposed first: its rows are scaled and added.
    Transposed,
    /// For a column-major right-hand matrix: each result is the dot product of two contiguous vectors.
    Dots,
}

impl Loop {
    /// The loop that is faster than the `gemm` crate for this product, if there is one.
    fn for_product(a: Matrices<'_, f32>, b: Matrices<'_, f32>, size: Size) -> Option<Self> {
        let Size { m, n, k, .. } = size;
        if a.column != 1 {
            return None;
        }
        if b.row == 1 && m > simd::FEW_ROWS && n > 1 && m <= TRANSPOSED_ROWS && simd::suits(m, n, k) {
            return Some(Self::Transposed);
        }
        if b.row == 1 && (n == 1 || b.column == k) && simd::suits_dots(m, n, k) {
            return Some(Self::Dots);
        }
        (b.column == 1 && simd::suits(m, n, k)).then_some(Self::Rows)
    }
}

/// The products by one of the loops.
fn multiply_unpacked(
    kind: Loop,
    a: Matrices<'_, f32>,
    b: Matrices<'_, f32>,
    size: Size,
    cx: &ExecContext<'_>,
) -> Result<(Vec<f32>, Charge), Error> {
    let Size { batch, m, n, k } = size;
    let elements = count(&[batch, m, n])?;
    let (mut out, charge) = cx.filled(0.0, elements)?;
    // Large products check the token between rows, or between groups of the four summands that the loop adds together.
    let rows = (VECTOR_CHECK_INTERVAL / k).max(1);
    let depth = (VECTOR_CHECK_INTERVAL / n).max(4) / 4 * 4;
    let transposed = |_| cx.full_block(0.0_f32, if kind == Loop::Transposed { k * n } else { 0 });
    let parts = cx.parts(batch, elements.saturating_mul(k));
    let mut parts = (0..parts).map(transposed).collect::<Result<SmallVec<[_; 1]>, Error>>()?;
    cx.parallel_for(&mut parts, &mut out, m * n, |cx, transposed, start, out| {
        for (index, out) in out.chunks_exact_mut(m * n).enumerate() {
            cx.control.check()?;
            let index = start / (m * n) + index;
            let (left, right) = (&a.elements[a.start + index * a.batch..], &b.elements[b.start + index * b.batch..]);
            match kind {
                Loop::Rows if m <= simd::FEW_ROWS => {
                    for from in (0..k).step_by(depth) {
                        cx.control.check()?;
                        let left = simd::RowMajor { elements: &left[from..], pitch: a.row };
                        let right = simd::RowMajor { elements: &right[from * b.row..], pitch: b.row };
                        simd::product(left, right, out, n, depth.min(k - from));
                    }
                }
                Loop::Rows => {
                    let left = simd::RowMajor { elements: left, pitch: a.row };
                    simd::product(left, simd::RowMajor { elements: right, pitch: b.row }, out, n, k);
                }
                Loop::Transposed => {
                    for first in (0..k).step_by(TILE) {
                        let (count, target) = (TILE.min(k - first), &mut transposed[first * n..]);
                        Strip { source: &right[first..], target, count, width: n, from: b.column, to: n }.transpose();
                    }
                    let left = simd::RowMajor { elements: left, pitch: a.row };
                    simd::product(left, simd::RowMajor { elements: transposed, pitch: n }, out, n, k);
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
