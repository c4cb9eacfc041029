//! The vector unit of all other processors: plain Rust on arrays of four lanes, which compilers make vector
//! instructions of, such as NEON's.

use std::array::from_fn;

use super::tile::{Half, Line, TILE};
use super::vector::{self, FloatUnit, Product, VectorUnit};
use crate::math::simd::{Loop, wide_loop};

/// The lanes of a vector.
const LANES: usize = 4;

/// The vector unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plain;

impl Plain {
    /// Computes a product.
    pub(super) fn run(product: impl Product) {
        struct Run<P>(P);
        impl<P: Product> Loop for Run<P> {
            #[inline(always)]
            fn run(self) {
                self.0.run(Plain);
            }
        }
        wide_loop(Run(product));
    }
}

impl VectorUnit for Plain {
    type Bytes = [u8; 16];
    type Ints = [i32; LANES];
    type Floats = [f32; LANES];
    /// A sum for each byte. It is at most 8 × 15 × 127 for 4 bits, 4 × 31 × 127 for 5 bits, 2 × 63 × 127 for 6 bits and
    /// 128 × 127 for 8 bits with a sign, each less than 2^14.
    type Partial = [i16; 16];

    const LANES: usize = LANES;
    const WIDTH: usize = 4;
    const BYTES_OFFSET: i32 = 0;

    #[inline(always)]
    fn line(self, line: &Line, part: usize) -> [u8; 16] {
        line.0.as_chunks::<16>().0[part]
    }

    #[inline(always)]
    fn word(self, bytes: [i8; 4]) -> [u8; 16] {
        from_fn(|index| bytes[index % 4].cast_unsigned())
    }

    #[inline(always)]
    fn low(self, bytes: [u8; 16]) -> [u8; 16] {
        bytes.map(|byte| byte & 15)
    }

    #[inline(always)]
    fn high(self, bytes: [u8; 16]) -> [u8; 16] {
        bytes.map(|byte| byte >> 4)
    }

    #[inline(always)]
    fn merge<const LEFT: u32, const RIGHT: u32, const MASK: u8>(self, low: [u8; 16], plane: [u8; 16]) -> [u8; 16] {
        from_fn(|index| low[index] | (plane[index] << LEFT >> RIGHT) & MASK)
    }

    #[inline(always)]
    fn begin(self, _: [i32; LANES]) -> [i16; 16] {
        [0; 16]
    }

    #[inline(always)]
    fn add(self, partial: [i16; 16], unsigned: [u8; 16], signed: [u8; 16]) -> [i16; 16] {
        // Wrapping: the levels of a block with an infinite scale can be -128, and their sums have no meaning.
        from_fn(|index| {
            let product = i16::from(unsigned[index]) * i16::from(signed[index].cast_signed());
            partial[index].wrapping_add(product)
        })
    }

    #[inline(always)]
    fn add_bytes(self, partial: [i16; 16], levels: [u8; 16], signed: [u8; 16]) -> [i16; 16] {
        from_fn(|index| {
            let level = (levels[index] ^ 0x80).cast_signed();
            partial[index].wrapping_add(i16::from(level) * i16::from(signed[index].cast_signed()))
        })
    }

    #[inline(always)]
    fn end(self, sums: [i32; LANES], partial: [i16; 16]) -> [i32; LANES] {
        from_fn(|lane| sums[lane] + partial[lane * 4..lane * 4 + 4].iter().map(|&sum| i32::from(sum)).sum::<i32>())
    }

    #[inline(always)]
    fn int(self, number: i32) -> [i32; LANES] {
        [number; LANES]
    }

    #[inline(always)]
    fn unsigned(self, half: &Half, index: usize, part: usize) -> [i32; LANES] {
        from_fn(|lane| i32::from(half.0[index * TILE + part * LANES + lane]))
    }

    #[inline(always)]
    fn signed(self, half: &Half, index: usize, part: usize) -> [i32; LANES] {
        from_fn(|lane| i32::from(half.0[index * TILE + part * LANES + lane].cast_signed()))
    }

    #[inline(always)]
    fn scale_and_min(self, half: &Half, index: usize, part: usize) -> ([i32; LANES], [i32; LANES]) {
        let both = self.unsigned(half, index, part);
        (both.map(|byte| byte & 15), both.map(|byte| byte >> 4))
    }

    #[inline(always)]
    fn add_product(self, sums: [i32; LANES], a: [i32; LANES], b: [i32; LANES]) -> [i32; LANES] {
        from_fn(|lane| sums[lane] + a[lane] * b[lane])
    }

    #[inline(always)]
    fn add_pairs(self, sums: [i32; LANES], half: &Half, part: usize, pair: i32) -> [i32; LANES] {
        let (low, high) = (i32::from(pair as i16), pair >> 16);
        from_fn(|lane| {
            let place = (part * LANES + lane) * 2;
            sums[lane] + i32::from(half.0[place]) * low + i32::from(half.0[place + 1]) * high
        })
    }

    #[inline(always)]
    fn float(self, number: f32) -> [f32; LANES] {
        [number; LANES]
    }

    #[inline(always)]
    fn floats(self, half: &Half, part: usize) -> [f32; LANES] {
        from_fn(|lane| {
            let place = (part * LANES + lane) * 2;
            float(u16::from_le_bytes([half.0[place], half.0[place + 1]]))
        })
    }

    #[inline(always)]
    fn convert(self, ints: [i32; LANES]) -> [f32; LANES] {
        ints.map(|int| int as f32)
    }

    #[inline(always)]
    fn multiply(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        from_fn(|lane| a[lane] * b[lane])
    }

    #[inline(always)]
    fn fused(self, a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        from_fn(|lane| multiply_add(a[lane], b[lane], c[lane]))
    }

    #[inline(always)]
    fn fused_negative(self, a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        from_fn(|lane| multiply_add(-a[lane], b[lane], c[lane]))
    }

    #[inline(always)]
    fn store(self, floats: [f32; LANES], out: &mut [f32; TILE], part: usize) {
        out.as_chunks_mut::<LANES>().0[part] = floats;
    }
}

impl FloatUnit for Plain {
    type Vector = [f32; vector::LANES];

    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    fn zero(self) -> [f32; vector::LANES] {
        [0.0; vector::LANES]
    }

    #[inline(always)]
    fn load(self, floats: &[f32; vector::LANES]) -> [f32; vector::LANES] {
        *floats
    }

    #[inline(always)]
    fn f32(self, bytes: &[u8; 4 * vector::LANES]) -> [f32; vector::LANES] {
        let floats = bytes.as_chunks::<4>().0;
        from_fn(|lane| f32::from_le_bytes(floats[lane]))
    }

    #[inline(always)]
    fn f16(self, bytes: &[u8; 2 * vector::LANES]) -> [f32; vector::LANES] {
        let floats = bytes.as_chunks::<2>().0;
        from_fn(|lane| float(u16::from_le_bytes(floats[lane])))
    }

    #[inline(always)]
    fn bf16(self, bytes: &[u8; 2 * vector::LANES]) -> [f32; vector::LANES] {
        let floats = bytes.as_chunks::<2>().0;
        from_fn(|lane| f32::from_bits(u32::from(u16::from_le_bytes(floats[lane])) << 16))
    }

    #[inline(always)]
    fn fused(self, a: [f32; vector::LANES], b: [f32; vector::LANES], c: [f32; vector::LANES]) -> [f32; vector::LANES] {
        from_fn(|lane| multiply_add(a[lane], b[lane], c[lane]))
    }

    #[inline(always)]
    fn sum(self, vector: [f32; vector::LANES]) -> f32 {
        let eight: [f32; 8] = from_fn(|lane| vector[lane] + vector[lane + 8]);
        let four: [f32; 4] = from_fn(|lane| eight[lane] + eight[lane + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
}

/// `a * b + c`, rounded once where the processor has an instruction for it. Elsewhere one rounding would take a
/// function call.
#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_arch = "aarch64", target_feature = "fma")) { a.mul_add(b, c) } else { a * b + c }
}

/// The number of an f16's bits, without a branch.
#[inline(always)]
fn float(bits: u16) -> f32 {
    // 2^112: the difference of the exponents' biases is 127 - 15.
    const SCALE: f32 = f32::from_bits((127 + 112) << 23);
    let (sign, magnitude) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7fff) << 13);
    let finite = (f32::from_bits(magnitude) * SCALE).to_bits();
    let infinite = magnitude | 0x7f80_0000;
    f32::from_bits(sign | if magnitude >= 0x7c00 << 13 { infinite } else { finite })
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn every_f16_is_converted() {
        for bits in 0..=u16::MAX {
            let (found, wanted) = (float(bits), f16::from_bits(bits).to_f32());
            assert!(
                found.to_bits() == wanted.to_bits() || found.is_nan() && wanted.is_nan(),
                "{bits:x} {found} {wanted}"
            );
        }
    }
}
