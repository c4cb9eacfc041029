//! Packs matrices and multiplies packed matrices, in the scheme of BLIS (packed A, packed B, micro-kernel).
//!
//! The left-hand matrix A is packed into blocks of [`mr`] rows, interleaved; the right-hand matrix B into panels of
//! [`nr`] columns. So the micro-kernel reads both sequentially. Both are split into blocks of [`KC`] along the
//! dimension that is summed over, so that a panel stays in the cache.
//!
//! ```text
//!          KC                        nr   nr
//!      ┌────────┬──            ┌────┬────┬──
//!   mr │ block  │           KC │panel    │
//!      ├────────┤              │    │    │
//!   mr │ block  │              ├────┼────┼──
//!      ├────────┼──            │    │    │
//!          A                        B
//! ```
//!
//! Weights are packed once, when a model is loaded; the other operand is packed when it is needed.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]

use pulp::{Arch, Simd, WithSimd};

use crate::math::simd::lanes;

/// The summands of a block: so many products are added in registers before the sums are added to memory.
pub(crate) const KC: usize = 256;

/// The vectors in a row of a panel.
const NR_VECTORS: usize = 3;

/// The rows of a block with vectors of 16 lanes: such processors have 32 vector registers.
const MR_WIDE: usize = 8;

/// The rows of a block with narrower vectors: AVX2 has 16 vector registers.
const MR_NARROW: usize = 4;

const fn rows_of(lanes: usize) -> usize {
    if lanes >= 16 { MR_WIDE } else { MR_NARROW }
}

/// The columns of a panel.
pub(crate) fn nr() -> usize {
    NR_VECTORS * lanes()
}

/// The rows of a block.
pub(crate) fn mr() -> usize {
    rows_of(lanes())
}

/// A matrix that starts at a slice's first element, with the strides of its rows and columns in elements.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a> {
    pub(crate) elements: &'a [f32],
    pub(crate) row: usize,
    pub(crate) column: usize,
}

/// The blocks of a dimension of length `k` that is summed over: start and length of each.
pub(crate) fn depth_blocks(k: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..k).step_by(KC).map(move |from| (from, KC.min(k - from)))
}

/// Packs an m×k matrix as the left-hand side of a product and appends its `m * k` elements to `out`.
///
/// `step` is called before each few thousand elements, with their number; an error ends the packing.
pub(crate) fn pack_a<E>(
    a: Strided<'_>,
    m: usize,
    k: usize,
    out: &mut Vec<f32>,
    mut step: impl FnMut(usize) -> Result<(), E>,
) -> Result<(), E> {
    let height = mr();
    for (from, depth) in depth_blocks(k) {
        for first in (0..m).step_by(height) {
            let rows = height.min(m - first);
            step(rows * depth)?;
            pack_block(a, (first, rows), (from, depth), out);
        }
    }
    Ok(())
}

/// Appends the interleaved rows of one block.
fn pack_block(a: Strided<'_>, (first, rows): (usize, usize), (from, depth): (usize, usize), out: &mut Vec<f32>) {
    if a.column == 1 && rows == MR_WIDE {
        interleave::<MR_WIDE>(a, first, from, depth, out);
    } else {
        for place in from..from + depth {
            out.extend((first..first + rows).map(|row| a.elements[row * a.row + place * a.column]));
        }
    }
}

/// Appends `R` rows with contiguous elements, interleaved.
fn interleave<const R: usize>(a: Strided<'_>, first: usize, from: usize, depth: usize, out: &mut Vec<f32>) {
    let rows: [&[f32]; R] = std::array::from_fn(|row| &a.elements[(first + row) * a.row + from..][..depth]);
    for place in 0..depth {
        let mut lane = [0.0; R];
        for (x, row) in lane.iter_mut().zip(&rows) {
            *x = row[place];
        }
        out.extend_from_slice(&lane);
    }
}

/// Packs the filters of a convolution as left-hand sides, one group after the other. `step` is as in [`pack_a`].
pub(crate) fn pack_filters<E>(
    dims: &[usize],
    groups: usize,
    elements: &[f32],
    out: &mut Vec<f32>,
    mut step: impl FnMut(usize) -> Result<(), E>,
) -> Result<(), E> {
    let each = dims.first().map_or(0, |filters| filters / groups);
    let patch = dims.get(1..).unwrap_or_default().iter().product::<usize>();
    for group in elements.chunks_exact((each * patch).max(1)) {
        pack_a(Strided { elements: group, row: patch, column: 1 }, each, patch, out, &mut step)?;
    }
    Ok(())
}

/// The row length of a panel of `columns` columns: a whole number of vectors.
pub(crate) fn pitch(columns: usize) -> usize {
    columns.next_multiple_of(lanes())
}

/// The elements of a k×n matrix that is packed in panels, whose columns are padded to whole vectors; `None` on overflow.
pub(crate) fn packed_b_len(k: usize, n: usize) -> Option<usize> {
    k.checked_mul(n.checked_next_multiple_of(lanes())?)
}

/// Packs a k×n matrix as the right-hand side of a product and appends its [`packed_b_len`] elements to `out`.
pub(crate) fn pack_b(b: Strided<'_>, k: usize, n: usize, out: &mut Vec<f32>) {
    let width = nr();
    for (from, depth) in depth_blocks(k) {
        for first in (0..n).step_by(width) {
            let columns = width.min(n - first);
            let blank = pitch(columns) - columns;
            for place in from..from + depth {
                if b.column == 1 {
                    out.extend_from_slice(&b.elements[place * b.row + first..][..columns]);
                } else {
                    let row = &b.elements[place * b.row..];
                    out.extend((first..first + columns).map(|column| row[column * b.column]));
                }
                out.extend(std::iter::repeat_n(0.0, blank));
            }
        }
    }
}

/// A part of a result: `columns` columns from `first` on, of rows with a stride of `pitch` elements.
pub(crate) struct Target<'a> {
    pub(crate) out: &'a mut [f32],
    pub(crate) pitch: usize,
    pub(crate) first: usize,
    pub(crate) columns: usize,
}

/// Adds the product of all `m` rows of a packed left-hand matrix, in one block of `depth` summands, and one panel to
/// the target.
pub(crate) fn add_product(left: &[f32], panel: &[f32], m: usize, depth: usize, target: Target<'_>) {
    if m > 0 && depth > 0 && target.columns > 0 {
        Arch::new().dispatch(Product { left, panel, m, depth, target });
    }
}

struct Product<'a> {
    left: &'a [f32],
    panel: &'a [f32],
    m: usize,
    depth: usize,
    target: Target<'a>,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.target.columns.div_ceil(S::F32_LANES) {
            1 => self.run::<S, 1>(simd),
            2 => self.run::<S, 2>(simd),
            _ => self.run::<S, NR_VECTORS>(simd),
        }
    }
}

impl Product<'_> {
    /// The product by a panel of `V` vectors.
    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) {
        let Self { left, panel, m, depth, target } = self;
        let Target { out, pitch, first, columns } = target;
        let width = V * S::F32_LANES;
        let height = rows_of(S::F32_LANES);
        let panel = &panel[..depth * width];
        // A copy of the target's rows, padded to whole vectors. No vector has more than 16 lanes.
        let mut padded = [0.0_f32; MR_WIDE * NR_VECTORS * 16];
        for from in (0..m).step_by(height) {
            let rows = height.min(m - from);
            let left = &left[from * depth..(from + rows) * depth];
            let start = from * pitch + first;
            if columns == width {
                block::<S, V>(simd, rows, left, panel, &mut out[start..], pitch);
                continue;
            }
            for (row, padded) in padded.chunks_exact_mut(width).take(rows).enumerate() {
                padded[..columns].copy_from_slice(&out[start + row * pitch..][..columns]);
            }
            block::<S, V>(simd, rows, left, panel, &mut padded, width);
            for (row, padded) in padded.chunks_exact(width).take(rows).enumerate() {
                out[start + row * pitch..][..columns].copy_from_slice(&padded[..columns]);
            }
        }
    }
}

/// Chooses the micro-kernel for a number of rows.
#[inline(always)]
fn block<S: Simd, const V: usize>(simd: S, rows: usize, left: &[f32], panel: &[f32], out: &mut [f32], pitch: usize) {
    match rows {
        1 => sums::<S, 1, V>(simd, left, panel, out, pitch),
        2 => sums::<S, 2, V>(simd, left, panel, out, pitch),
        3 => sums::<S, 3, V>(simd, left, panel, out, pitch),
        4 => sums::<S, 4, V>(simd, left, panel, out, pitch),
        5 => sums::<S, 5, V>(simd, left, panel, out, pitch),
        6 => sums::<S, 6, V>(simd, left, panel, out, pitch),
        7 => sums::<S, 7, V>(simd, left, panel, out, pitch),
        _ => sums::<S, MR_WIDE, V>(simd, left, panel, out, pitch),
    }
}

/// The micro-kernel: computes `R` rows of `V` vectors of sums in registers and adds them to `out`.
#[inline(always)]
fn sums<S: Simd, const R: usize, const V: usize>(simd: S, left: &[f32], panel: &[f32], out: &mut [f32], pitch: usize) {
    let (vectors, _) = S::as_simd_f32s(panel);
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    for (x, y) in left.as_chunks::<R>().0.iter().zip(vectors.as_chunks::<V>().0) {
        for (sums, &x) in sums.iter_mut().zip(x) {
            let x = simd.splat_f32s(x);
            for (sum, &y) in sums.iter_mut().zip(y) {
                *sum = simd.mul_add_e_f32s(x, y, *sum);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        let (out, _) = S::as_mut_simd_f32s(&mut out[row * pitch..][..V * S::F32_LANES]);
        for (out, &sum) in out.iter_mut().zip(sums) {
            *out = simd.add_f32s(*out, sum);
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
        for m in [1, 2, 3, 4, 5, 6, 7, 8, 9, 21] {
            for n in [1, 11, 12, 24, 47, 48, 49, 100] {
                for k in [1, 2, 31, KC, KC + 3] {
                    for transposed in [false, true] {
                        check(m, n, k, transposed);
                    }
                }
            }
        }
    }

    #[expect(clippy::many_single_char_names, reason = "the usual names of matrices and their sizes")]
    fn check(m: usize, n: usize, k: usize, transposed: bool) {
        let (x, y) = (numbers(m * k, 1), numbers(k * n, 2));
        let by = |rows: usize, columns: usize| if transposed { (1, rows) } else { (columns, 1) };
        let ((row_a, column_a), (row_b, column_b)) = (by(m, k), by(k, n));
        let (mut lefts, mut rights) = (Vec::new(), Vec::new());
        let mut announced = 0;
        let step = |work: usize| {
            announced += work;
            Ok::<_, std::convert::Infallible>(())
        };
        let Ok(()) = pack_a(Strided { elements: &x, row: row_a, column: column_a }, m, k, &mut lefts, step);
        assert_eq!(announced, m * k);
        pack_b(Strided { elements: &y, row: row_b, column: column_b }, k, n, &mut rights);
        assert_eq!((lefts.len(), Some(rights.len())), (m * k, packed_b_len(k, n)));
        let mut out = vec![1.0; m * n];
        let padded = pitch(n);
        for (from, depth) in depth_blocks(k) {
            for first in (0..n).step_by(nr()) {
                let panel = &rights[from * padded + first * depth..];
                let target = Target { out: &mut out, pitch: n, first, columns: nr().min(n - first) };
                add_product(&lefts[from * m..(from + depth) * m], panel, m, depth, target);
            }
        }
        for row in 0..m {
            for column in 0..n {
                let product = |place: usize| x[row * row_a + place * column_a] * y[place * row_b + column * column_b];
                let wanted = 1.0 + (0..k).map(product).sum::<f32>();
                assert!((out[row * n + column] - wanted).abs() < 1e-6, "{m} {n} {k} {transposed}");
            }
        }
    }
}
