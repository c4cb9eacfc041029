//! Products of rows that are gathered from an image and packed weights: the inner loops of a convolution whose channels
//! are the last dimension.
//!
//! A row of the left-hand matrix is the patch under one output. With channels last, the elements of a patch are a few
//! runs of adjacent elements, which are at the same offsets from the patch's first element for every output. So the
//! micro-kernel reads patches where they are, and no patch is copied. The right-hand matrix, the weights, is packed into
//! panels of [`nr`](super::pack::nr) columns when a model is loaded.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]

use pulp::{Arch, Simd, WithSimd};

use crate::math::pack::{nr, pitch};

/// The most rows that are computed at once with vectors of 16 lanes, of which there are 32 registers.
const ROWS_WIDE: usize = 8;

/// The same with narrower vectors: AVX2 has 16 registers.
const ROWS_NARROW: usize = 4;

/// The summands of one call for a row, at most: a panel of so many stays in the cache.
pub(crate) const DEPTH: usize = 2048;

/// Adjacent elements of a patch: the offset of the first from the patch's first element, and their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

/// Packs weights as panels of columns, and appends them to `out`: `k` rows for `n` columns, where `weight(row, column)`
/// is an element. They are [`packed_b_len`](super::pack::packed_b_len) elements.
pub(crate) fn pack_panels(k: usize, n: usize, weight: impl Fn(usize, usize) -> f32, out: &mut Vec<f32>) {
    for first in (0..n).step_by(nr()) {
        let columns = nr().min(n - first);
        for row in 0..k {
            out.extend((first..first + columns).map(|column| weight(row, column)));
            out.extend(std::iter::repeat_n(0.0, pitch(columns) - columns));
        }
    }
}

/// What the sums of a product begin with.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    Zero,
    /// A bias for each column of the panel, padded to whole vectors.
    Bias(&'a [f32]),
    /// What is in the output.
    Output,
}

/// The product of some rows and one panel.
pub(crate) struct Gathered<'a> {
    pub(crate) image: &'a [f32],
    /// The index of the first element of each row's patch.
    pub(crate) patches: &'a [usize],
    pub(crate) runs: &'a [Run],
    /// The panel's rows for these runs.
    pub(crate) panel: &'a [f32],
    /// The columns of the panel.
    pub(crate) columns: usize,
    pub(crate) start: Start<'a>,
    /// The output's rows, `pitch` elements apart, from the panel's first column on.
    pub(crate) out: &'a mut [f32],
    pub(crate) pitch: usize,
}

impl Gathered<'_> {
    /// Computes the product.
    pub(crate) fn run(self) {
        if !self.patches.is_empty() && self.columns > 0 {
            Arch::new().dispatch(self);
        }
    }

    #[inline(always)]
    fn vectors<S: Simd, const V: usize>(self, simd: S) {
        let height = if S::F32_LANES >= 16 { ROWS_WIDE } else { ROWS_NARROW };
        let Self { image, patches, runs, panel, columns, start, out, pitch } = self;
        for (index, patches) in patches.chunks(height).enumerate() {
            let out = &mut out[index * height * pitch..];
            let block = Block { image, runs, panel, columns, start, pitch };
            match patches.len() {
                1 => block.rows_1::<S, V>(simd, patches, out),
                2 => block.rows_2::<S, V>(simd, patches, out),
                3 => block.rows_3::<S, V>(simd, patches, out),
                4 => block.rows_4::<S, V>(simd, patches, out),
                5 => block.rows_5::<S, V>(simd, patches, out),
                6 => block.rows_6::<S, V>(simd, patches, out),
                7 => block.rows_7::<S, V>(simd, patches, out),
                _ => block.rows_8::<S, V>(simd, patches, out),
            }
        }
    }
}

impl WithSimd for Gathered<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.columns.div_ceil(S::F32_LANES) {
            1 => self.vectors::<S, 1>(simd),
            2 => self.vectors::<S, 2>(simd),
            _ => self.vectors::<S, 3>(simd),
        }
    }
}

/// What the blocks of rows of a product share.
#[derive(Clone, Copy)]
struct Block<'a> {
    image: &'a [f32],
    runs: &'a [Run],
    panel: &'a [f32],
    columns: usize,
    start: Start<'a>,
    pitch: usize,
}

impl<'a> Block<'a> {
    /// The elements of a run of the patch at `patch`.
    #[inline(always)]
    fn row(&self, patch: usize, run: Run) -> &'a [f32] {
        self.image.get(patch + run.offset..).and_then(|row| row.get(..run.len)).unwrap_or_default()
    }

    /// What each row of sums begins with, unless it is in the output.
    #[inline(always)]
    fn first_sums<S: Simd, const V: usize>(&self, simd: S) -> [S::f32s; V] {
        let bias = if let Start::Bias(bias) = self.start { bias } else { &[] };
        S::as_simd_f32s(bias).0.first_chunk().copied().unwrap_or([simd.splat_f32s(0.0); V])
    }

    /// What is in the output.
    #[inline(always)]
    fn output_sums<S: Simd, const R: usize, const V: usize>(&self, simd: S, out: &[f32]) -> [[S::f32s; V]; R] {
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        for (sums, out) in sums.iter_mut().zip(out.chunks(self.pitch)) {
            let out = out.get(..self.columns).unwrap_or_default().chunks(S::F32_LANES);
            sums.iter_mut().zip(out).for_each(|(sum, out)| *sum = simd.partial_load_f32s(out));
        }
        sums
    }

    /// Writes rows of sums that don't fill `V` vectors.
    #[inline(always)]
    fn store_parts<S: Simd, const V: usize>(&self, simd: S, sums: &[[S::f32s; V]], out: &mut [f32]) {
        for (sums, out) in sums.iter().zip(out.chunks_mut(self.pitch)) {
            let (whole, rest) = S::as_mut_simd_f32s(out.get_mut(..self.columns).unwrap_or_default());
            let mut sums = sums.iter();
            whole.iter_mut().zip(&mut sums).for_each(|(out, &sum)| *out = sum);
            if let Some(&sum) = sums.next() {
                simd.partial_store_f32s(rest, sum);
            }
        }
    }
}

/// The micro-kernel for rows that have a name each: computes the rows with `V` vectors of sums in registers.
///
/// All loops over rows are written out, since an array that is indexed in a loop is kept in memory. The rows of a run
/// are zipped: so their common length is found before the loop. An index would be checked within it, and a way out of
/// the loop takes the sums out of the registers.
macro_rules! micro_kernel {
    ($name:ident: $($row:ident)+) => {
        #[inline(always)]
        fn $name<S: Simd, const V: usize>(self, simd: S, patches: &[usize], out: &mut [f32]) {
            let Some(&[$($row),+]) = patches.first_chunk() else { return };
            let mut sums = [$({ let _: usize = $row; self.first_sums::<S, V>(simd) }),+];
            if let Start::Output = self.start {
                sums = self.output_sums(simd, out);
            }
            let mut panel = S::as_simd_f32s(self.panel).0.as_chunks::<V>().0;
            for &run in self.runs {
                let (of_run, rest) = panel.split_at_checked(run.len).unwrap_or_default();
                panel = rest;
                $(let $row = self.row($row, run);)+
                micro_kernel!(@zip simd, sums, (of_run.iter()), vectors vectors, []; $($row)+);
            }
            let [$($row),+] = sums;
            if self.columns == V * S::F32_LANES {
                let mut lines = out.chunks_mut(self.pitch);
                $(if let Some(out) = lines.next().and_then(|out| S::as_mut_simd_f32s(out).0.first_chunk_mut()) {
                    *out = $row;
                })+
            } else {
                self.store_parts(simd, &[$($row),+], out);
            }
        }
    };
    (@zip $simd:ident, $sums:ident, ($zipped:expr), $vectors:ident $pattern:pat, [$($done:ident)*];
        $row:ident $($rest:ident)*) => {
        micro_kernel!(@zip $simd, $sums, ($zipped.zip($row)), $vectors ($pattern, $row), [$($done)* $row];
            $($rest)*)
    };
    (@zip $simd:ident, $sums:ident, ($zipped:expr), $vectors:ident $pattern:pat, [$($row:ident)*];) => {
        for $pattern in $zipped {
            for (sums, &x) in $sums.iter_mut().zip([$($row),*]) {
                let x = $simd.splat_f32s(x);
                for (sum, &y) in sums.iter_mut().zip($vectors) {
                    *sum = $simd.mul_add_e_f32s(x, y, *sum);
                }
            }
        }
    };
}

impl Block<'_> {
    micro_kernel!(rows_1: a);
    micro_kernel!(rows_2: a b);
    micro_kernel!(rows_3: a b c);
    micro_kernel!(rows_4: a b c d);
    micro_kernel!(rows_5: a b c d e);
    micro_kernel!(rows_6: a b c d e f);
    micro_kernel!(rows_7: a b c d e f g);
    micro_kernel!(rows_8: a b c d e f g h);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::pack::packed_b_len;

    /// Small integers, so that every order of additions gives the same sum.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|index| ((index * 7 + seed * 13) % 11) as f32 - 5.0).collect()
    }

    #[test]
    fn products_of_gathered_rows_are_those_of_the_definition() {
        let runs = [Run { offset: 0, len: 3 }, Run { offset: 40, len: 2 }, Run { offset: 7, len: 4 }];
        let places: Vec<usize> = runs.iter().flat_map(|run| run.offset..run.offset + run.len).collect();
        let (k, image) = (places.len(), numbers(200, 1));
        for rows in [1, 2, 3, 5, 8, 9, 21] {
            for n in [1, 11, 16, 24, 47, 48, 49, 100] {
                let patches: Vec<usize> = (0..rows).map(|row| row * 5 % 37).collect();
                let weights = numbers(k * n, 2);
                let mut packed = Vec::new();
                pack_panels(k, n, |row, column| weights[column * k + row], &mut packed);
                assert_eq!(Some(packed.len()), packed_b_len(k, n));
                let bias: Vec<f32> = numbers(pitch(n), 3);
                for start in 0..3 {
                    let mut out = vec![2.0; rows * n];
                    for first in (0..n).step_by(nr()) {
                        let columns = nr().min(n - first);
                        let panel = &packed[first * k..][..k * pitch(columns)];
                        let start = [Start::Zero, Start::Bias(&bias[first..]), Start::Output][start];
                        let out = &mut out[first..];
                        let (image, patches, runs) = (&image[..], &patches[..], &runs[..]);
                        Gathered { image, patches, runs, panel, columns, start, out, pitch: n }.run();
                    }
                    for (index, found) in out.iter().enumerate() {
                        let (row, column) = (index / n, index % n);
                        let summands = places.iter().enumerate();
                        let summands =
                            summands.map(|(at, place)| image[patches[row] + place] * weights[column * k + at]);
                        let wanted = [0.0, bias[column], 2.0][start] + summands.sum::<f32>();
                        assert!((found - wanted).abs() < 1e-6, "{rows} {n} {start}: {index}");
                    }
                }
            }
        }
    }
}
