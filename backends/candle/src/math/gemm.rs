//! Calls the `gemm` crate for products of large matrices, on the compute's threads.
//!
//! candle-core calls the same crate, but asks for the number of threads before each product: it reads the environment
//! and, if `RAYON_NUM_THREADS` is unset, /proc/cpuinfo. With candle-core 0.11.1 on a 2-core AVX-512 machine, an 8×8
//! product takes 18.6 µs with the variable unset and 0.49 µs with it set. Inferences per second of whole models on such
//! a machine under load, with the variable unset, through candle-core and by the direct call: `MiniLM` 251 and 477, the
//! OCR classifier 207 and 497, Silero 1,800 and 5,750.
//!
//! * G1: every element that a product reads or writes is within the slices that it was given. Each product checks this
//!   before its first call.
//! * G2: no single call runs for long, because a call can't be interrupted. A product is split into blocks of at least
//!   16 rows, and, if these are still too large, of at least 16 columns, and along the dimension that is summed over.
//!   Deadline and cancel token are checked before each block.

#![expect(clippy::many_single_char_names, reason = "a, b, m, n and k are the usual names of matrices and their sizes")]

use gemm::Parallelism;

use crate::compute::context::{ExecContext, VECTOR_CHECK_INTERVAL};
use graphpool::backend::Error;

/// The target for the multiplications of one call (G2). Smaller calls would make large products slower. A block of the
/// least size can have more.
const CALL_MULTIPLICATIONS: usize = VECTOR_CHECK_INTERVAL << 4;

/// The least number of rows and of columns of a block.
const BLOCK: usize = 16;

/// The most summands of one call. Real models have fewer, so that each of their sums is computed by one call.
const MAX_DEPTH: usize = 1 << 20;

/// An element type of the matrices that `gemm` multiplies.
pub(crate) trait Factor: Copy + Send + Sync + 'static {
    const ZERO: Self;
    const ONE: Self;

    /// The elements as f32, if that is their type.
    fn as_f32(_: &[Self]) -> Option<&[f32]> {
        None
    }

    /// The inverse of [`as_f32`](Self::as_f32) for a vector.
    fn from_f32(_: Vec<f32>) -> Option<Vec<Self>> {
        None
    }
}

impl Factor for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    fn as_f32(elements: &[Self]) -> Option<&[f32]> {
        Some(elements)
    }

    fn from_f32(elements: Vec<f32>) -> Option<Vec<Self>> {
        Some(elements)
    }
}

impl Factor for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
}

/// A matrix in a slice: the index of its first element, and the strides of its rows and columns in elements.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    pub(crate) elements: &'a [T],
    pub(crate) start: usize,
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl<T> Matrix<'_, T> {
    /// Whether the slice contains all of `rows` × `columns` elements; `false` for an empty matrix.
    fn contains(&self, rows: usize, columns: usize) -> bool {
        let last = || {
            let (down, along) = (self.row.checked_mul(rows.checked_sub(1)?)?, columns.checked_sub(1)?);
            self.start.checked_add(down)?.checked_add(self.column.checked_mul(along)?)
        };
        last().is_some_and(|last| last < self.elements.len())
    }
}

/// Writes the product of `a` (m×k) and `b` (k×n) to `out`, row-major. None of m, n and k is 0.
pub(crate) fn product<T: Factor>(
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    out: &mut [T],
    (m, n, k): (usize, usize, usize),
    cx: &ExecContext<'_>,
) -> Result<(), Error> {
    if !a.contains(m, k) || !b.contains(k, n) || m.checked_mul(n) != Some(out.len()) {
        return Err(Error::runtime_error("a matrix product exceeds its operands"));
    }
    let depth = k.min(MAX_DEPTH);
    let rows = (CALL_MULTIPLICATIONS / n.saturating_mul(depth)).clamp(BLOCK, m.max(BLOCK));
    let columns = (CALL_MULTIPLICATIONS / rows.min(m).saturating_mul(depth)).clamp(BLOCK, n.max(BLOCK));
    let mut parts = vec![(); cx.parts(m.div_ceil(BLOCK), m.saturating_mul(n.saturating_mul(k)))];
    cx.parallel_for(&mut parts, out, BLOCK * n, |cx, (), start, out| {
        for (index, out) in out.chunks_mut(rows * n).enumerate() {
            let (row, rows) = (start / n + index * rows, out.len() / n);
            for column in (0..n).step_by(columns) {
                for place in (0..k).step_by(depth) {
                    cx.control.check()?;
                    let (columns, depth) = (columns.min(n - column), depth.min(k - place));
                    let (out, accumulate) = (&mut out[column..], place > 0);
                    // SAFETY:
                    // * Reads of `a` and `b`: G1 is checked above for the whole product. This block has `rows` rows
                    //   from `row`, `columns` columns from `column` and `depth` summands from `place`. So the indexes
                    //   `a.start + (row + i) * a.row + (place + j) * a.column` and `b.start + (place + i) * b.row +
                    //   (column + j) * b.column` are inside the slices for all i and j of the block; those for i = j =
                    //   0 are the offsets of the pointers.
                    // * Writes to `out`: it is borrowed mutably, so it overlaps neither operand. It is initialized, and
                    //   has `rows` rows with a stride of `n`, the last of which has at least `columns` elements (G1).
                    // * Strides: a stride of a dimension above 1 is less than its slice's length, so it fits `isize`.
                    //   For a dimension of 1 the stride is never used.
                    unsafe {
                        gemm::gemm(
                            rows,
                            columns,
                            depth,
                            out.as_mut_ptr(),
                            1,
                            n as isize,
                            accumulate,
                            a.elements.as_ptr().add(a.start + row * a.row + place * a.column),
                            a.column as isize,
                            a.row as isize,
                            b.elements.as_ptr().add(b.start + place * b.row + column * b.column),
                            b.column as isize,
                            b.row as isize,
                            if accumulate { T::ONE } else { T::ZERO },
                            T::ONE,
                            false,
                            false,
                            false,
                            Parallelism::None,
                        );
                    }
                }
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::budget::ComputeBudget;
    use graphpool::backend::ComputeControl;

    fn run(a: Matrix<'_, f32>, b: Matrix<'_, f32>, out: &mut [f32], size: (usize, usize, usize)) -> Result<(), Error> {
        let control = ComputeControl::default();
        product(a, b, out, size, &ExecContext::new(&control, &ComputeBudget::new(usize::MAX)))
    }

    #[test]
    fn operands_may_be_transposed_and_begin_anywhere() {
        let elements: Vec<f32> = (0..40).map(|index| index as f32).collect();
        let a = Matrix { elements: &elements, start: 3, row: 1, column: 5 };
        let b = Matrix { elements: &elements, start: 1, row: 4, column: 2 };
        let mut out = vec![f32::NAN; 6];
        run(a, b, &mut out, (3, 2, 4)).unwrap();
        for (index, found) in out.iter().enumerate() {
            let (row, column) = (index / 2, index % 2);
            let wanted: f32 = (0..4).map(|k| elements[3 + row + 5 * k] * elements[1 + 4 * k + 2 * column]).sum();
            assert!((found - wanted).abs() < 1e-3, "{index}");
        }
    }

    #[test]
    fn a_product_that_exceeds_its_operands_is_refused() {
        let elements = [1.0; 12];
        let fits = Matrix { elements: &elements, start: 0, row: 4, column: 1 };
        let mut out = [0.0; 9];
        run(fits, Matrix { row: 3, ..fits }, &mut out, (3, 3, 4)).unwrap();
        for wrong in [
            Matrix { start: 1, ..fits },
            Matrix { row: 5, ..fits },
            Matrix { column: 2, ..fits },
            Matrix { row: usize::MAX, ..fits },
            Matrix { start: usize::MAX, ..fits },
        ] {
            assert!(run(wrong, Matrix { row: 3, ..fits }, &mut out, (3, 3, 4)).is_err());
        }
        assert!(run(fits, Matrix { row: 3, ..fits }, &mut out[..8], (3, 3, 4)).is_err());
    }

    #[test]
    fn a_product_is_split_in_every_direction() {
        // More rows than one block, more columns than one block, and more summands than one call.
        let (m, n, k) = (BLOCK + 3, BLOCK + 2, MAX_DEPTH + 5);
        let elements: Vec<f32> = (0..k + n + m).map(|index| (index * index % 7) as f32 - 3.0).collect();
        let of = |start: usize| Matrix { elements: &elements, start, row: 1, column: 1 };
        let mut out = vec![f32::NAN; m * n];
        run(of(0), of(1), &mut out, (m, n, k)).unwrap();
        for (index, found) in out.iter().enumerate() {
            let (row, column) = (index / n, index % n);
            let pairs = elements[row..row + k].iter().zip(&elements[1 + column..]);
            assert!((found - pairs.map(|(x, y)| x * y).sum::<f32>()).abs() < 1e-3, "{row} {column}");
        }
    }

    #[test]
    fn a_cancelled_product_calls_gemm_for_no_block() {
        let elements = [1.0; 16];
        let matrix = Matrix { elements: &elements, start: 0, row: 4, column: 1 };
        let (control, mut out) = (ComputeControl::default(), [0.0; 16]);
        control.cancel.cancel();
        let budget = ComputeBudget::new(usize::MAX);
        let error = product(matrix, matrix, &mut out, (4, 4, 4), &ExecContext::new(&control, &budget)).unwrap_err();
        assert_eq!((error.message(), out), ("cancelled", [0.0; 16]));
    }

    #[test]
    fn a_product_in_parts_is_one_product() {
        let (m, n, k) = (40, 3000, 3000);
        let a: Vec<f32> = (0..m * k).map(|index| (index % 3) as f32 - 1.0).collect();
        let b: Vec<f32> = (0..k * n).map(|index| (index % 5) as f32 - 2.0).collect();
        let mut out = vec![0.0; m * n];
        let (left, right) = (
            Matrix { elements: &a, start: 0, row: k, column: 1 },
            Matrix { elements: &b, start: 0, row: n, column: 1 },
        );
        run(left, right, &mut out, (m, n, k)).unwrap();
        for (row, column) in [(0, 0), (15, 2999), (28, 7), (30, 1), (39, 1500)] {
            let wanted: f32 = (0..k).map(|place| a[row * k + place] * b[place * n + column]).sum();
            assert!((out[row * n + column] - wanted).abs() < 0.5, "{row} {column}");
        }
    }
}
