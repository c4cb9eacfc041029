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
                1 => block.sums::<S, 1, V>(simd, patches, out),
                2 => block.sums::<S, 2, V>(simd, patches, out),
                3 => block.sums::<S, 3, V>(simd, patches, out),
                4 => block.sums::<S, 4, V>(simd, patches, out),
                5 => block.sums::<S, 5, V>(simd, patches, out),
                6 => block.sums::<S, 6, V>(simd, patches, out),
                7 => block.sums::<S, 7, V>(simd, patches, out),
                _ => block.sums::<S, ROWS_WIDE, V>(simd, patches, out),
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

impl Block<'_> {
    /// The micro-kernel: computes `R` rows of `V` vectors of sums in registers.
    #[inline(always)]
    fn sums<S: Simd, const R: usize, const V: usize>(self, simd: S, patches: &[usize], out: &mut [f32]) {
        let Self { image, runs, panel, columns, start, pitch } = self;
        let Some(patches) = patches.first_chunk::<R>() else { return };
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        match start {
            Start::Zero => {}
            Start::Bias(bias) => {
                let (bias, _) = S::as_simd_f32s(&bias[..V * S::F32_LANES]);
                for sums in &mut sums {
                    sums.copy_from_slice(&bias[..V]);
                }
            }
            Start::Output => {
                for (row, sums) in sums.iter_mut().enumerate() {
                    for (sum, out) in sums.iter_mut().zip(out[row * pitch..][..columns].chunks(S::F32_LANES)) {
                        *sum = simd.partial_load_f32s(out);
                    }
                }
            }
        }
        let (panel, _) = S::as_simd_f32s(panel);
        let mut panel = panel.as_chunks::<V>().0;
        for &Run { offset, len } in runs {
            let rows = patches.map(|patch| &image[patch + offset..][..len]);
            let (of_run, rest) = panel.split_at(len);
            panel = rest;
            add_products::<S, R, V>(simd, &mut sums, rows, of_run);
        }
        for (row, sums) in sums.iter().enumerate() {
            let out = &mut out[row * pitch..][..columns];
            if columns == V * S::F32_LANES {
                let (out, _) = S::as_mut_simd_f32s(out);
                out.copy_from_slice(sums);
            } else {
                for (&sum, out) in sums.iter().zip(out.chunks_mut(S::F32_LANES)) {
                    simd.partial_store_f32s(out, sum);
                }
            }
        }
    }
}

/// Adds the products of some rows and a panel to `sums`, for rows that have a name each.
///
/// The rows are zipped: so their common length is found before the loop. An index would be checked within it, and a way
/// out of the loop takes the sums out of the registers.
macro_rules! add_zipped {
    ($simd:ident, $sums:ident, $panel:ident, $rows:ident: $($row:ident)+) => {{
        let (mut own, mut rows) = (*$sums, $rows.into_iter());
        add_zipped!($simd, own, rows, ($panel.iter()), vectors vectors, []; $($row)+);
        *$sums = own;
    }};
    ($simd:ident, $sums:ident, $rows:ident, ($zipped:expr), $vectors:ident $pattern:pat, [$($done:ident)*];
        $row:ident $($rest:ident)*) => {
        add_zipped!(
            $simd, $sums, $rows, ($zipped.zip($rows.next().unwrap_or_default())), $vectors ($pattern, $row),
            [$($done)* $row]; $($rest)*
        );
    };
    ($simd:ident, $sums:ident, $rows:ident, ($zipped:expr), $vectors:ident $pattern:pat, [$($row:ident)*];) => {
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

/// Adds to each row of `sums` the sum of the products of the row's elements and the rows of the panel.
#[inline(always)]
fn add_products<S: Simd, const R: usize, const V: usize>(
    simd: S,
    sums: &mut [[S::f32s; V]; R],
    rows: [&[f32]; R],
    panel: &[[S::f32s; V]],
) {
    match R {
        1 => add_zipped!(simd, sums, panel, rows: a),
        2 => add_zipped!(simd, sums, panel, rows: a b),
        3 => add_zipped!(simd, sums, panel, rows: a b c),
        4 => add_zipped!(simd, sums, panel, rows: a b c d),
        5 => add_zipped!(simd, sums, panel, rows: a b c d e),
        6 => add_zipped!(simd, sums, panel, rows: a b c d e f),
        7 => add_zipped!(simd, sums, panel, rows: a b c d e f g),
        _ => add_zipped!(simd, sums, panel, rows: a b c d e f g h),
    }
}

/// A depthwise convolution of one line of outputs, with channels last: each channel has its own taps.
pub(crate) struct Depthwise<'a> {
    pub(crate) image: &'a [f32],
    /// The index in the image of each tap of the first output.
    pub(crate) taps: &'a [usize],
    /// The weights of each tap, one for each channel.
    pub(crate) weights: &'a [f32],
    pub(crate) bias: Option<&'a [f32]>,
    /// Elements of the image from one output to the next.
    pub(crate) stride: usize,
    pub(crate) channels: usize,
    pub(crate) out: &'a mut [f32],
}

/// Outputs of a line that are computed at once, which read each weight once.
const OUTPUTS: usize = 4;

/// Vectors of channels that are computed at once.
const VECTORS: usize = 2;

impl Depthwise<'_> {
    /// Computes the line.
    pub(crate) fn run(self) {
        if self.channels > 0 {
            Arch::new().dispatch(self);
        }
    }

    /// `X` outputs, of which `out` has the rows, from output `first` on.
    #[inline(always)]
    fn outputs<S: Simd, const X: usize>(&self, simd: S, first: usize, out: &mut [f32]) {
        let (channels, lanes) = (self.channels, S::F32_LANES);
        // The last block begins where it ends with the last channel. So it may compute some channels again.
        if channels >= VECTORS * lanes {
            for from in (0..channels).step_by(VECTORS * lanes) {
                self.sums::<S, X, VECTORS>(simd, first, from.min(channels - VECTORS * lanes), VECTORS * lanes, out);
            }
        } else if channels >= lanes {
            for from in (0..channels).step_by(lanes) {
                self.sums::<S, X, 1>(simd, first, from.min(channels - lanes), lanes, out);
            }
        } else {
            self.sums::<S, X, 1>(simd, first, 0, channels, out);
        }
    }

    /// `len` channels of `X` outputs, in `V` vectors.
    #[inline(always)]
    fn sums<S: Simd, const X: usize, const V: usize>(
        &self,
        simd: S,
        first: usize,
        from: usize,
        len: usize,
        out: &mut [f32],
    ) {
        let start = self.bias.map_or([simd.splat_f32s(0.0); V], |bias| vectors::<S, V>(simd, &bias[from..], len));
        let mut sums = [start; X];
        for (&tap, weights) in self.taps.iter().zip(self.weights.chunks_exact(self.channels)) {
            let weights = vectors::<S, V>(simd, weights.get(from..).unwrap_or_default(), len);
            let image = self.image.get(tap + first * self.stride + from..).unwrap_or_default();
            for (output, sums) in sums.iter_mut().enumerate() {
                let x = vectors::<S, V>(simd, image.get(output * self.stride..).unwrap_or_default(), len);
                for ((sum, x), weight) in sums.iter_mut().zip(x).zip(weights) {
                    *sum = simd.mul_add_e_f32s(x, weight, *sum);
                }
            }
        }
        for (output, sums) in sums.iter().enumerate() {
            let out = &mut out[output * self.channels + from..][..len];
            for (&sum, out) in sums.iter().zip(out.chunks_mut(S::F32_LANES)) {
                simd.partial_store_f32s(out, sum);
            }
        }
    }
}

/// The first `len` elements of a slice in `V` vectors. A slice that is too short gives zeros: as no way leads out of a
/// loop, sums stay in registers.
#[inline(always)]
fn vectors<S: Simd, const V: usize>(simd: S, slice: &[f32], len: usize) -> [S::f32s; V] {
    let zero = simd.splat_f32s(0.0);
    if len == V * S::F32_LANES {
        // Each vector has a choice of its own: a choice between arrays would pass through memory.
        let whole = S::as_simd_f32s(slice).0;
        return std::array::from_fn(|index| if let Some(&vector) = whole.get(index) { vector } else { zero });
    }
    let mut vectors = [zero; V];
    let slice = slice.get(..len).unwrap_or_default();
    vectors
        .iter_mut()
        .zip(slice.chunks(S::F32_LANES))
        .for_each(|(vector, part)| *vector = simd.partial_load_f32s(part));
    vectors
}

impl WithSimd for Depthwise<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let out = std::mem::take(&mut self.out);
        for (index, out) in out.chunks_mut(OUTPUTS * self.channels).enumerate() {
            let first = index * OUTPUTS;
            match out.len() / self.channels {
                1 => self.outputs::<S, 1>(simd, first, out),
                2 => self.outputs::<S, 2>(simd, first, out),
                3 => self.outputs::<S, 3>(simd, first, out),
                _ => self.outputs::<S, OUTPUTS>(simd, first, out),
            }
        }
    }
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

    #[test]
    fn depthwise_lines_are_those_of_the_definition() {
        for channels in [1, 3, 8, 16, 19, 48, 50] {
            for outputs in [1, 2, 5, 6, 7, 13] {
                for bias in [false, true] {
                    let (stride, taps) = (2 * channels, [0, channels, 9 * channels]);
                    let (image, weights) = (numbers(40 * channels, 1), numbers(3 * channels, 2));
                    let biases = numbers(channels, 3);
                    let bias = bias.then_some(&biases[..]);
                    let mut out = vec![f32::NAN; outputs * channels];
                    let (image, taps, weights) = (&image[..], &taps[..], &weights[..]);
                    Depthwise { image, taps, weights, bias, stride, channels, out: &mut out }.run();
                    for (index, found) in out.iter().enumerate() {
                        let (output, channel) = (index / channels, index % channels);
                        let summand = |tap: usize| {
                            image[taps[tap] + output * stride + channel] * weights[tap * channels + channel]
                        };
                        let wanted = bias.map_or(0.0, |bias| bias[channel]) + (0..3).map(summand).sum::<f32>();
                        assert!((found - wanted).abs() < 1e-6, "{channels} {outputs}: {index}");
                    }
                }
            }
        }
    }
}
