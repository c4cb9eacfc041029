//! The products of weights in floats of 32 or 16 bits with rows of activations, in f32, for any [`FloatUnit`].
//!
//! A product of two rows is summed in 16 lanes, in the order of the columns, with fused multiply-adds; then the lanes
//! are added up, and last the columns after the last whole 16. So all float units give the same bits, whatever the
//! number of rows. Only [`plain`](super::plain) rounds each product before it is added, if the compiler's target has no
//! fused multiply-add.

#![expect(clippy::needless_range_loop, reason = "an index is that of several arrays")]

use half::{bf16, f16};

use super::types::QuantType;
use super::vector::{FloatUnit, LANES, Product, VectorUnit};

/// A type of weights, in arrays of bytes.
trait Weights {
    /// The bytes of 16 weights.
    type Chunk;

    /// Whole 16 weights of a row.
    fn chunks(row: &[u8]) -> &[Self::Chunk];
    fn vector<U: FloatUnit>(unit: U, chunk: &Self::Chunk) -> U::Vector;
    /// The weight of a column.
    fn float(row: &[u8], column: usize) -> f32;
}

struct F32;
struct F16;
struct Bf16;

impl Weights for F32 {
    type Chunk = [u8; 4 * LANES];

    #[inline(always)]
    fn chunks(row: &[u8]) -> &[Self::Chunk] {
        row.as_chunks().0
    }

    #[inline(always)]
    fn vector<U: FloatUnit>(unit: U, chunk: &Self::Chunk) -> U::Vector {
        unit.f32(chunk)
    }

    #[inline(always)]
    fn float(row: &[u8], column: usize) -> f32 {
        f32::from_le_bytes(row.as_chunks().0[column])
    }
}

impl Weights for F16 {
    type Chunk = [u8; 2 * LANES];

    #[inline(always)]
    fn chunks(row: &[u8]) -> &[Self::Chunk] {
        row.as_chunks().0
    }

    #[inline(always)]
    fn vector<U: FloatUnit>(unit: U, chunk: &Self::Chunk) -> U::Vector {
        unit.f16(chunk)
    }

    #[inline(always)]
    fn float(row: &[u8], column: usize) -> f32 {
        f16::from_le_bytes(row.as_chunks().0[column]).to_f32()
    }
}

impl Weights for Bf16 {
    type Chunk = [u8; 2 * LANES];

    #[inline(always)]
    fn chunks(row: &[u8]) -> &[Self::Chunk] {
        row.as_chunks().0
    }

    #[inline(always)]
    fn vector<U: FloatUnit>(unit: U, chunk: &Self::Chunk) -> U::Vector {
        unit.bf16(chunk)
    }

    #[inline(always)]
    fn float(row: &[u8], column: usize) -> f32 {
        bf16::from_le_bytes(row.as_chunks().0[column]).to_f32()
    }
}

/// A product of some rows of weights with rows of activations.
pub(super) struct Job<'a> {
    pub(super) ty: QuantType,
    /// All weights, row after row.
    pub(super) weights: &'a [u8],
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// The first row of weights and the one after the last.
    pub(super) range: (usize, usize),
    /// Rows of `cols` elements.
    pub(super) x: &'a [f32],
    /// A row of `rows` elements for each row of `x`.
    pub(super) out: &'a mut [f32],
}

impl Product for Job<'_> {
    #[inline(always)]
    fn run<U: VectorUnit + FloatUnit>(self, unit: U) {
        match self.ty {
            QuantType::F32 => self.typed::<U, F32>(unit),
            QuantType::F16 => self.typed::<U, F16>(unit),
            QuantType::Bf16 => self.typed::<U, Bf16>(unit),
            _ => {}
        }
    }
}

impl Job<'_> {
    #[inline(always)]
    fn typed<U: FloatUnit, W: Weights>(mut self, unit: U) {
        let (mut row, end) = self.range;
        while row < end {
            row += match end - row {
                // One row after the other is read fastest from memory.
                _ if self.x.len() == self.cols => self.strip::<U, W, 1>(unit, row),
                4.. if U::MANY_REGISTERS => self.strip::<U, W, 4>(unit, row),
                2.. => self.strip::<U, W, 2>(unit, row),
                _ => self.strip::<U, W, 1>(unit, row),
            };
        }
    }

    /// `N` rows of weights with all rows of activations. Returns `N`.
    #[inline(always)]
    fn strip<U: FloatUnit, W: Weights, const N: usize>(&mut self, unit: U, row: usize) -> usize {
        let (mut start, count) = (0, self.x.len() / self.cols);
        while start < count {
            start += match count - start {
                4.. if U::MANY_REGISTERS => self.block::<U, W, N, 4>(unit, row, start),
                2.. => self.block::<U, W, N, 2>(unit, row, start),
                _ => self.block::<U, W, N, 1>(unit, row, start),
            };
        }
        N
    }

    /// `N` rows of weights with `R` rows of activations. Returns `R`.
    #[inline(always)]
    fn block<U: FloatUnit, W: Weights, const N: usize, const R: usize>(
        &mut self,
        unit: U,
        row: usize,
        start: usize,
    ) -> usize {
        let (cols, row_bytes, whole) = (self.cols, self.cols * self.ty.block_bytes(), self.cols / LANES);
        let (mut weights, mut x): ([&[u8]; N], [&[f32]; R]) = ([&[]; N], [&[]; R]);
        let mut weight_chunks: [&[W::Chunk]; N] = [&[]; N];
        let mut x_chunks: [&[[f32; LANES]]; R] = [&[]; R];
        for n in 0..N {
            weights[n] = &self.weights[(row + n) * row_bytes..(row + n + 1) * row_bytes];
            weight_chunks[n] = &W::chunks(weights[n])[..whole];
        }
        for r in 0..R {
            x[r] = &self.x[(start + r) * cols..(start + r + 1) * cols];
            x_chunks[r] = &x[r].as_chunks().0[..whole];
        }
        let mut sums = [[unit.zero(); R]; N];
        for place in 0..whole {
            let mut vectors = [unit.zero(); R];
            for r in 0..R {
                vectors[r] = unit.load(&x_chunks[r][place]);
            }
            for n in 0..N {
                let weights = W::vector(unit, &weight_chunks[n][place]);
                for r in 0..R {
                    sums[n][r] = unit.fused(weights, vectors[r], sums[n][r]);
                }
            }
        }
        for n in 0..N {
            for r in 0..R {
                let mut sum = unit.sum(sums[n][r]);
                for place in whole * LANES..cols {
                    sum += W::float(weights[n], place) * x[r][place];
                }
                self.out[(start + r) * self.rows + row + n] = sum;
            }
        }
        R
    }
}
