//! Depthwise convolutions of values whose channels are the last dimension: each channel has its own taps.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]

use pulp::{Arch, Simd, WithSimd};

/// A depthwise convolution of one line of outputs.
#[derive(Clone, Copy)]
pub(crate) struct Depthwise<'a> {
    pub(crate) image: &'a [f32],
    /// The index in the image of each tap of the first output.
    pub(crate) taps: &'a [usize],
    /// The taps of a line of the window if they are on adjacent columns, else 1.
    pub(crate) adjacent: usize,
    /// The weights of each tap, one for each channel.
    pub(crate) weights: &'a [f32],
    pub(crate) bias: Option<&'a [f32]>,
    /// Columns of the image from one output to the next.
    pub(crate) stride: usize,
    pub(crate) channels: usize,
}

/// A vector of channels of some adjacent outputs.
#[derive(Clone, Copy)]
struct Place {
    /// The first output.
    output: usize,
    /// The first channel.
    channel: usize,
}

/// Functions that compute a vector of channels of some outputs, of a window whose lines have the `taps`.
///
/// The vectors of an image under a line of taps are loaded once for all outputs. All loops over them are written out,
/// since an array that is indexed in a loop is kept in memory.
macro_rules! adjacent_taps {
    ($($name:ident: stride $stride:literal, taps $($tap:literal)+, outputs $outputs:tt, columns $($column:literal)+;)+) => {
        $(#[inline(always)]
        fn $name<S: Simd>(&self, simd: S, place: Place, out: &mut [f32]) {
            let channels = self.channels;
            let (lines, weights) = (self.lines(place), self.weights.chunks_exact([$($tap),+].len() * channels));
            let mut sums = self.start(simd, place, $outputs);
            for (image, weights) in lines.step_by([$($tap),+].len()).zip(weights) {
                let columns = [$(vector(simd, image, $column * channels)),+];
                $({
                    let weight = vector(simd, weights, $tap * channels + place.channel);
                    adjacent_taps!(simd, sums, columns, weight, $stride, $tap, $outputs);
                })+
            }
            self.store::<S>(&sums, place, out);
        })+
    };
    ($simd:ident, $sums:ident, $columns:ident, $weight:ident, $stride:literal, $tap:literal, [$($output:literal),+]) => {
        $($sums[$output] = $simd.mul_add_e_f32s($columns[$output * $stride + $tap], $weight, $sums[$output]);)+
    };
}

impl Depthwise<'_> {
    /// Computes the line: as many outputs as `out` has room for.
    pub(crate) fn run(&self, out: &mut [f32]) {
        if self.channels == 0 {
            return;
        }
        let line = Line { of: self, out };
        // Few channels don't fill a wide vector.
        #[cfg(target_arch = "x86_64")]
        if self.channels <= 8
            && let Some(simd) = pulp::x86::V3::try_new()
        {
            return Simd::vectorize(simd, line);
        }
        Arch::new().dispatch(line);
    }

    /// The image from each tap on.
    #[inline(always)]
    fn lines(&self, place: Place) -> impl Iterator<Item = &[f32]> {
        let from = place.output * self.stride * self.channels + place.channel;
        self.taps.iter().map(move |tap| self.image.get(tap + from..).unwrap_or_default())
    }

    /// What the sums of some outputs begin with.
    #[inline(always)]
    fn start<S: Simd, const X: usize>(&self, simd: S, place: Place, _: [usize; X]) -> [S::f32s; X] {
        [self.bias.map_or(simd.splat_f32s(0.0), |bias| vector(simd, bias, place.channel)); X]
    }

    #[inline(always)]
    fn store<S: Simd>(&self, sums: &[S::f32s], place: Place, out: &mut [f32]) {
        for (&sum, out) in sums.iter().zip(out.chunks_exact_mut(self.channels)) {
            if let Some(out) = S::as_mut_simd_f32s(out.get_mut(place.channel..).unwrap_or_default()).0.first_mut() {
                *out = sum;
            }
        }
    }

    adjacent_taps! {
        three: stride 1, taps 0 1 2, outputs [0, 1, 2, 3, 4, 5, 6, 7], columns 0 1 2 3 4 5 6 7 8 9;
        three_apart: stride 2, taps 0 1 2, outputs [0, 1, 2, 3], columns 0 1 2 3 4 5 6 7 8;
        five: stride 1, taps 0 1 2 3 4, outputs [0, 1, 2, 3, 4, 5, 6, 7], columns 0 1 2 3 4 5 6 7 8 9 10 11;
        five_apart: stride 2, taps 0 1 2 3 4, outputs [0, 1, 2, 3], columns 0 1 2 3 4 5 6 7 8 9 10;
        three_narrow: stride 1, taps 0 1 2, outputs [0, 1, 2, 3], columns 0 1 2 3 4 5;
        five_narrow: stride 1, taps 0 1 2 3 4, outputs [0, 1, 2, 3], columns 0 1 2 3 4 5 6 7;
    }

    /// A vector of channels of one output, of any window.
    #[inline(always)]
    fn one<S: Simd>(&self, simd: S, place: Place, out: &mut [f32]) {
        let [mut sum] = self.start(simd, place, [0]);
        for (image, weights) in self.lines(place).zip(self.weights.chunks_exact(self.channels)) {
            sum = simd.mul_add_e_f32s(vector(simd, image, 0), vector(simd, weights, place.channel), sum);
        }
        self.store::<S>(&[sum], place, out);
    }

    /// All channels of one output, fewer than a vector has.
    #[inline(always)]
    fn part<S: Simd>(&self, simd: S, output: usize, out: &mut [f32]) {
        let load = |slice: &[f32]| simd.partial_load_f32s(slice.get(..self.channels).unwrap_or_default());
        let mut sum = self.bias.map_or(simd.splat_f32s(0.0), load);
        let lines = self.lines(Place { output, channel: 0 });
        for (image, weights) in lines.zip(self.weights.chunks_exact(self.channels)) {
            sum = simd.mul_add_e_f32s(load(image), load(weights), sum);
        }
        simd.partial_store_f32s(out, sum);
    }
}

/// The first vector of a slice from element `at` on. A slice that is too short gives zeros: as no way leads out of a
/// loop, sums stay in registers.
#[inline(always)]
fn vector<S: Simd>(simd: S, slice: &[f32], at: usize) -> S::f32s {
    match S::as_simd_f32s(slice.get(at..).unwrap_or_default()).0.first() {
        Some(&vector) => vector,
        None => simd.splat_f32s(0.0),
    }
}

/// The starts of blocks of `len` in `0..end`. The last block begins where it ends with `end`. So it may compute some
/// results again.
fn blocks(end: usize, len: usize) -> impl Iterator<Item = usize> {
    (0..end).step_by(len).map(move |first| first.min(end - len))
}

/// A line to be computed.
struct Line<'a> {
    of: &'a Depthwise<'a>,
    out: &'a mut [f32],
}

impl Line<'_> {
    /// Calls `block` for each vector of channels of each `outputs` adjacent outputs.
    #[inline(always)]
    fn blocks<S: Simd>(self, outputs: usize, block: impl Fn(&Depthwise<'_>, Place, &mut [f32])) {
        let Self { of, out } = self;
        for output in blocks(out.len() / of.channels, outputs) {
            for channel in blocks(of.channels, S::F32_LANES) {
                block(of, Place { output, channel }, &mut out[output * of.channels..]);
            }
        }
    }
}

impl WithSimd for Line<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Depthwise { adjacent, stride, channels, .. } = *self.of;
        if channels < S::F32_LANES {
            let lines = self.out.chunks_exact_mut(channels).enumerate();
            return lines.for_each(|(output, out)| self.of.part(simd, output, out));
        }
        let outputs = self.out.len() / channels;
        // Eight outputs need more registers than there are of narrower vectors.
        match (adjacent, stride, if S::F32_LANES >= 16 { outputs } else { outputs.min(7) }) {
            (3, 1, 8..) => self.blocks::<S>(8, |of, place, out| of.three(simd, place, out)),
            (3, 1, 4..) => self.blocks::<S>(4, |of, place, out| of.three_narrow(simd, place, out)),
            (3, 2, 4..) => self.blocks::<S>(4, |of, place, out| of.three_apart(simd, place, out)),
            (5, 1, 8..) => self.blocks::<S>(8, |of, place, out| of.five(simd, place, out)),
            (5, 1, 4..) => self.blocks::<S>(4, |of, place, out| of.five_narrow(simd, place, out)),
            (5, 2, 4..) => self.blocks::<S>(4, |of, place, out| of.five_apart(simd, place, out)),
            _ => self.blocks::<S>(1, |of, place, out| of.one(simd, place, out)),
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
    fn lines_are_those_of_the_definition() {
        for channels in [1, 3, 7, 8, 16, 19, 48, 50] {
            for outputs in [1, 2, 5, 6, 7, 8, 13] {
                for (adjacent, stride) in [(1, 1), (1, 2), (2, 1), (3, 1), (3, 2), (3, 3), (5, 1), (5, 2)] {
                    for bias in [false, true] {
                        let taps: Vec<usize> = [0, 50, 97]
                            .iter()
                            .flat_map(|from| (0..adjacent).map(move |tap| (from + tap) * channels))
                            .collect();
                        let (image, weights) = (numbers(150 * channels, 1), numbers(taps.len() * channels, 2));
                        let biases = numbers(channels, 3);
                        let bias = bias.then_some(&biases[..]);
                        let mut out = vec![f32::NAN; outputs * channels];
                        let (image, taps, weights) = (&image[..], &taps[..], &weights[..]);
                        Depthwise { image, taps, adjacent, weights, bias, stride, channels }.run(&mut out);
                        for (index, found) in out.iter().enumerate() {
                            let (output, channel) = (index / channels, index % channels);
                            let summand = |tap: usize| {
                                let column = taps[tap] + output * stride * channels;
                                image[column + channel] * weights[tap * channels + channel]
                            };
                            let sum = (0..taps.len()).map(summand).sum::<f32>();
                            let wanted = bias.map_or(0.0, |bias| bias[channel]) + sum;
                            assert!((found - wanted).abs() < 1e-6, "{channels} {outputs} {adjacent} {stride}: {index}");
                        }
                    }
                }
            }
        }
    }
}
