//! Rows of activations, quantized to 8 bits.
//!
//! A block of `x` becomes levels from -127 to 127 and a scale `d`: the largest absolute value is 127 steps. Its length
//! is that of the weights' blocks. As in llama.cpp, `d` and totals are rounded to 16 bits for blocks of 32, and levels
//! are rounded to the nearest, ties to even. A block with a NaN or an infinity has that as its scale, so that the
//! products with it are NaN or infinite.
//!
//! Rows are stored in chunks of up to 8 rows that a kernel multiplies together: the blocks of a chunk's first columns,
//! one of each row, then those of the next columns. A kernel reads them in order.

use half::f16;

use super::levels::offset;
use super::types::QuantType;
use super::vector::{FloatUnit, Product, VectorUnit};

/// Quantized rows.
#[derive(Debug, Default)]
pub(super) struct Activations {
    /// `block_len` for each block.
    pub(super) levels: Vec<i8>,
    /// The scale of each block.
    pub(super) d: Vec<f32>,
    /// What corrects a sum of products for the weights' offset; see [`sums`].
    pub(super) sums: Vec<i32>,
    /// For Q4_1 and Q5_1: the sum of each block.
    pub(super) totals: Vec<f32>,
}

/// The numbers in [`Activations::sums`] for each block of activations for weights of a type.
///
/// * Blocks of 32, and Q3_K and Q6_K for each 16 columns: the sum of the levels times the weights' offset, negative.
/// * Q2_K for each 16 columns: the sum of the levels.
/// * Q4_K and Q5_K for each 64 columns: the sum of the levels of 32 columns in the low 16 bits, of the next 32 in the
///   high 16 bits.
pub(super) const fn sums(ty: QuantType) -> usize {
    match ty {
        QuantType::Q4K | QuantType::Q5K => 4,
        QuantType::Q2K | QuantType::Q3K | QuantType::Q6K => 16,
        _ => 1,
    }
}

/// The chunks of `n` rows: the first row of each and their number, `width` or a smaller power of two.
pub(super) fn chunks(n: usize, width: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = n - start;
        let size = if rest >= width { width } else { 1 << rest.checked_ilog2()? };
        start += size;
        Some((start - size, size))
    })
}

impl Activations {
    /// The bytes that are allocated.
    pub(super) fn bytes(&self) -> usize {
        self.levels.capacity() + 4 * (self.d.capacity() + self.sums.capacity() + self.totals.capacity())
    }

    /// What quantizes the rows of `x`, of `cols` elements each, for weights of a type, in chunks of up to `width` rows.
    ///
    /// `bytes_offset` is the offset of the levels of Q8_0 in the kernel that is used.
    pub(super) fn quantization<'a>(
        &'a mut self,
        ty: QuantType,
        x: &'a [f32],
        cols: usize,
        width: usize,
        bytes_offset: i32,
    ) -> impl Product + 'a {
        let blocks = x.len() / ty.block_len();
        fit(&mut self.levels, x.len());
        fit(&mut self.d, blocks);
        fit(&mut self.sums, blocks * sums(ty));
        fit(&mut self.totals, blocks);
        let offset = if ty == QuantType::Q8_0 { bytes_offset } else { offset(ty) };
        Quantize { ty, x, cols, width, offset, out: self }
    }
}

/// Makes a vector at least `len` long, without spare memory. What is longer than needed is not used.
fn fit<T: Clone + Default>(vector: &mut Vec<T>, len: usize) {
    if let Some(more) = len.checked_sub(vector.len()) {
        vector.reserve_exact(more);
        vector.resize(len, T::default());
    }
}

struct Quantize<'a> {
    ty: QuantType,
    x: &'a [f32],
    cols: usize,
    width: usize,
    offset: i32,
    out: &'a mut Activations,
}

impl Product for Quantize<'_> {
    #[inline(always)]
    fn run<V: VectorUnit + FloatUnit>(self, v: V) {
        if self.ty.block_len() == 32 { self.rows::<V, 32>(v) } else { self.rows::<V, 256>(v) }
    }
}

impl Quantize<'_> {
    #[inline(always)]
    fn rows<V: VectorUnit, const LEN: usize>(self, v: V) {
        let Self { ty, x, cols, width, offset, out } = self;
        let (per_row, per_block) = (cols / LEN, sums(ty));
        let levels = out.levels.as_chunks_mut::<LEN>().0;
        for (start, size) in chunks(x.len() / cols, width) {
            for row in 0..size {
                let x = x[(start + row) * cols..(start + row + 1) * cols].as_chunks::<LEN>().0;
                for (block, x) in x.iter().enumerate() {
                    let place = start * per_row + block * size + row;
                    let levels = &mut levels[place];
                    let (exact, totals) = quantize(v, x, levels);
                    out.d[place] = if LEN == 32 { rounded(exact) } else { exact };
                    let sums = &mut out.sums[place * per_block..(place + 1) * per_block];
                    match ty {
                        QuantType::Q4K | QuantType::Q5K => {
                            for (sum, [a, b, c, d]) in sums.iter_mut().zip(totals.as_chunks().0) {
                                let (low, high) = (a + b, c + d);
                                *sum = low & 0xffff | high << 16;
                            }
                        }
                        QuantType::Q2K | QuantType::Q3K | QuantType::Q6K => {
                            let factor = if ty == QuantType::Q2K { 1 } else { -offset };
                            for (sum, total) in sums.iter_mut().zip(totals) {
                                *sum = factor * total;
                            }
                        }
                        _ => {
                            let total = totals[0] + totals[1];
                            sums[0] = -offset * total;
                            if matches!(ty, QuantType::Q4_1 | QuantType::Q5_1) {
                                let (total, most) = (exact * total as f32, f16::MAX.to_f32());
                                // llama.cpp has an infinity for what is past f16.
                                out.totals[place] = if total.abs() > most { total } else { rounded(total) };
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The nearest number of 16 bits, ties to even, as [`f16::from_f32`] has it; that is a call, and not of vectors.
#[inline(always)]
fn rounded(x: f32) -> f32 {
    let (bits, magnitude) = (x.to_bits(), x.abs());
    let nearest = f32::from_bits(bits.wrapping_add(0x0fff + (bits >> 13 & 1)) & !0x1fff);
    if magnitude < f16::MIN_POSITIVE.to_f32() {
        // A multiple of 2^-24, which is the last bit of numbers from 1/2 to 1.
        (magnitude + 0.75 - 0.75).copysign(x)
    } else if magnitude < 65520.0 {
        nearest
    } else if x.is_nan() {
        x
    } else {
        f32::INFINITY.copysign(x)
    }
}

/// Quantizes a block. Returns its scale, which is not rounded, and the sums of each 16 levels.
#[inline(always)]
fn quantize<V: VectorUnit, const LEN: usize>(v: V, x: &[f32; LEN], levels: &mut [i8; LEN]) -> (f32, [i32; 16]) {
    let x = x.as_chunks().0;
    let largest = v.largest(x);
    let inverse = if largest == 0.0 { 0.0 } else { 127.0 / largest };
    let mut totals = [0; 16];
    for ((levels, total), x) in levels.as_chunks_mut().0.iter_mut().zip(&mut totals).zip(x) {
        (*levels, *total) = v.levels(x, inverse);
    }
    let scale = match LEN {
        32 => largest / 127.0,
        _ if inverse == 0.0 => largest,
        _ => 1.0 / inverse,
    };
    (scale, totals)
}

#[cfg(test)]
mod tests {
    use super::{f16, rounded};

    #[test]
    fn numbers_are_rounded_to_the_nearest_of_16_bits() {
        let same = |x: f32| {
            let (found, wanted) = (rounded(x), f16::from_f32(x).to_f32());
            assert!(found.to_bits() == wanted.to_bits() || found.is_nan() && wanted.is_nan(), "{x} {found} {wanted}");
        };
        // Each number of 16 bits, the middle between it and the next, and what is just beside them.
        for bits in 0..=u16::MAX {
            let (x, next) = (f16::from_bits(bits).to_f32(), f16::from_bits(bits.wrapping_add(1)).to_f32());
            for x in [x, f32::midpoint(x, next)] {
                [x, x.next_up(), x.next_down()].into_iter().for_each(same);
            }
        }
        for x in
            [65519.0, 65520.0, 65536.0, f32::MAX, f32::MIN_POSITIVE, 1e-45, f32::INFINITY, f32::from_bits(u32::MAX)]
        {
            same(x);
            same(-x);
        }
    }
}
