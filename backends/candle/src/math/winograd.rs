//! Winograd's transformations for convolutions by 3×3 filters with a stride of 1: F(4×4, 3×3) of Lavin and Gray, "Fast
//! Algorithms for Convolutional Neural Networks" (2015).
//!
//! A tile of 6×6 inputs gives 4×4 outputs by 36 multiplications for each pair of channels, where the definition has 144.
//! The three transformations are `Bᵀ d B` of inputs, `G g Gᵀ` of filters and `Aᵀ m A` of products. Channels are the last
//! dimension, so each is done for a vector of channels at once.
//!
//! The sums are other ones than those of the definition: for inputs and weights of like sizes the results differ by a
//! few 10⁻⁶ of the largest one. An infinite input makes results NaN that would be infinite.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]
#![expect(clippy::many_single_char_names, reason = "the elements of a line, of which there are six")]

use pulp::{Arch, Simd, WithSimd};

/// The rows and columns of a tile of outputs.
pub(crate) const OUTPUTS: usize = 4;

/// The rows and columns of a tile of inputs.
pub(crate) const INPUTS: usize = 6;

/// The elements of a transformed tile.
pub(crate) const POINTS: usize = INPUTS * INPUTS;

/// `G g Gᵀ` for the filter of 3×3 elements that `tap` gives.
pub(crate) fn filter(tap: impl Fn(usize, usize) -> f32) -> [[f32; INPUTS]; INPUTS] {
    let along = |g: [f32; 3]| {
        let [a, b, c] = g.map(f64::from);
        let (even, odd) = (a + 4.0 * c, 2.0 * b);
        [a / 4.0, -(a + b + c) / 6.0, (b - a - c) / 6.0, (even + odd) / 24.0, (even - odd) / 24.0, c]
    };
    let rows: [[f64; INPUTS]; 3] = std::array::from_fn(|y| along(std::array::from_fn(|x| tap(y, x))));
    let mut out = [[0.0; INPUTS]; INPUTS];
    for x in 0..INPUTS {
        let column = [rows[0][x], rows[1][x], rows[2][x]];
        let [a, b, c] = column;
        let (even, odd) = (a + 4.0 * c, 2.0 * b);
        let column = [a / 4.0, -(a + b + c) / 6.0, (b - a - c) / 6.0, (even + odd) / 24.0, (even - odd) / 24.0, c];
        for (row, value) in out.iter_mut().zip(column) {
            row[x] = value as f32;
        }
    }
    out
}

/// The transformation of one tile of inputs, whose channels are whole vectors, as are all distances.
pub(crate) struct Input<'a> {
    /// The image from the tile's first element on.
    pub(crate) image: &'a [f32],
    /// Elements of the image from one line to the next.
    pub(crate) line: usize,
    pub(crate) channels: usize,
    /// The transformed elements: that of point `i` is `pitch * i` elements from the first, for each channel.
    pub(crate) out: &'a mut [f32],
    pub(crate) pitch: usize,
}

impl WithSimd for Input<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (image, out) = (S::as_simd_f32s(self.image).0, S::as_mut_simd_f32s(self.out).0);
        let [line, channels, pitch] = [self.line, self.channels, self.pitch].map(|size| size / S::F32_LANES);
        for at in 0..channels {
            let half = [
                input_line(simd, inputs(simd, image, at, line)),
                input_line(simd, inputs(simd, image, at + channels, line)),
                input_line(simd, inputs(simd, image, at + 2 * channels, line)),
                input_line(simd, inputs(simd, image, at + 3 * channels, line)),
                input_line(simd, inputs(simd, image, at + 4 * channels, line)),
                input_line(simd, inputs(simd, image, at + 5 * channels, line)),
            ];
            for y in 0..INPUTS {
                let [a, b, c, d, e, f] = half;
                let line = input_line(simd, [a[y], b[y], c[y], d[y], e[y], f[y]]);
                for (x, value) in line.into_iter().enumerate() {
                    if let Some(out) = out.get_mut((y * INPUTS + x) * pitch + at) {
                        *out = value;
                    }
                }
            }
        }
    }
}

/// The vectors that begin at `at` and are `step` vectors apart. Those past the end are zero: as no way leads out of a
/// loop, values stay in registers.
#[inline(always)]
fn inputs<S: Simd>(simd: S, vectors: &[S::f32s], at: usize, step: usize) -> [S::f32s; INPUTS] {
    [
        vector(simd, vectors, at),
        vector(simd, vectors, at + step),
        vector(simd, vectors, at + 2 * step),
        vector(simd, vectors, at + 3 * step),
        vector(simd, vectors, at + 4 * step),
        vector(simd, vectors, at + 5 * step),
    ]
}

#[inline(always)]
fn vector<S: Simd>(simd: S, vectors: &[S::f32s], at: usize) -> S::f32s {
    match vectors.get(at) {
        Some(&vector) => vector,
        None => simd.splat_f32s(0.0),
    }
}

/// `Bᵀ d`.
#[inline(always)]
fn input_line<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::f32s; INPUTS]) -> [S::f32s; INPUTS] {
    let (two, four) = (simd.splat_f32s(2.0), simd.splat_f32s(4.0));
    let (minus_four, minus_five) = (simd.splat_f32s(-4.0), simd.splat_f32s(-5.0));
    let (even, odd) = (simd.mul_add_e_f32s(minus_four, c, e), simd.mul_add_e_f32s(minus_four, b, d));
    let (near, far) = (simd.sub_f32s(e, c), simd.mul_f32s(two, simd.sub_f32s(d, b)));
    [
        simd.mul_add_e_f32s(four, a, simd.mul_add_e_f32s(minus_five, c, e)),
        simd.add_f32s(even, odd),
        simd.sub_f32s(even, odd),
        simd.add_f32s(near, far),
        simd.sub_f32s(near, far),
        simd.mul_add_e_f32s(four, b, simd.mul_add_e_f32s(minus_five, d, f)),
    ]
}

/// The transformation of one tile of products, of which filters and all distances are whole vectors.
pub(crate) struct Output<'a> {
    /// The products: that of point `i` is `pitch * i` elements from the first, for each filter.
    pub(crate) products: &'a [f32],
    pub(crate) pitch: usize,
    /// The filters, and the bias of each.
    pub(crate) filters: usize,
    pub(crate) bias: Option<&'a [f32]>,
    /// The output from the tile's first element on.
    pub(crate) out: &'a mut [f32],
    /// Elements of the output from one line to the next, and from one column to the next.
    pub(crate) strides: [usize; 2],
    /// The rows and columns that are inside of the output.
    pub(crate) inside: [usize; 2],
}

impl WithSimd for Output<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (products, out) = (S::as_simd_f32s(self.products).0, S::as_mut_simd_f32s(self.out).0);
        let bias = S::as_simd_f32s(self.bias.unwrap_or_default()).0;
        let [filters, pitch, lines, columns] =
            [self.filters, self.pitch, self.strides[0], self.strides[1]].map(|size| size / S::F32_LANES);
        for at in 0..filters {
            let step = INPUTS * pitch;
            let half = [
                output_line(simd, inputs(simd, products, at, step)),
                output_line(simd, inputs(simd, products, at + pitch, step)),
                output_line(simd, inputs(simd, products, at + 2 * pitch, step)),
                output_line(simd, inputs(simd, products, at + 3 * pitch, step)),
                output_line(simd, inputs(simd, products, at + 4 * pitch, step)),
                output_line(simd, inputs(simd, products, at + 5 * pitch, step)),
            ];
            let bias = vector(simd, bias, at);
            for y in 0..OUTPUTS {
                let [a, b, c, d, e, f] = half;
                let line = output_line(simd, [a[y], b[y], c[y], d[y], e[y], f[y]]);
                for (x, value) in line.into_iter().enumerate() {
                    if y < self.inside[0]
                        && x < self.inside[1]
                        && let Some(out) = out.get_mut(y * lines + x * columns + at)
                    {
                        *out = simd.add_f32s(value, bias);
                    }
                }
            }
        }
    }
}

/// `Aᵀ m`.
#[inline(always)]
fn output_line<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::f32s; INPUTS]) -> [S::f32s; OUTPUTS] {
    let (two, four, eight) = (simd.splat_f32s(2.0), simd.splat_f32s(4.0), simd.splat_f32s(8.0));
    let (sum, difference) = (simd.add_f32s(b, c), simd.sub_f32s(b, c));
    let (far_sum, far_difference) = (simd.add_f32s(d, e), simd.sub_f32s(d, e));
    [
        simd.add_f32s(a, simd.add_f32s(sum, far_sum)),
        simd.mul_add_e_f32s(two, far_difference, difference),
        simd.mul_add_e_f32s(four, far_sum, sum),
        simd.add_f32s(f, simd.mul_add_e_f32s(eight, far_difference, difference)),
    ]
}

/// Transforms one tile of inputs.
pub(crate) fn transform_input(input: Input<'_>) {
    Arch::new().dispatch(input);
}

/// Transforms one tile of products.
pub(crate) fn transform_output(output: Output<'_>) {
    Arch::new().dispatch(output);
}
