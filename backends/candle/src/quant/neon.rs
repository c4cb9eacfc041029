//! The vector unit of 64-bit Arm processors with dot products of bytes (optional from Armv8.2 on, in all from Armv8.4
//! on): four lanes, four parts for a tile.
//!
//! Two instructions are called directly, because the crate pulp has no functions for them: `fcvtl` converts 4 f16, and
//! `sdot` multiplies 16 pairs of bytes and adds them to 4 sums. The standard library's function for `sdot` is unstable,
//! so it is written in assembly. All else is pulp's and safe. Other Arm processors have [`Plain`](super::plain::Plain),
//! of which the compiler makes NEON's other instructions.

use std::arch::aarch64::{
    float32x4_t, int8x16_t, int16x8_t, int32x4_t, uint8x16_t, vcvt_f32_f16, vreinterpret_f16_u16,
};
use std::arch::asm;

use pulp::{NullaryFnOnce, cast};

use super::tile::{Half, Line, TILE};
use super::vector::{self, FloatUnit, Product, VectorUnit};

pulp::simd_type! {
    /// The instructions that are used. A value is a proof that the processor has them.
    #[allow(clippy::struct_field_names, reason = "the fields have the names of instruction sets")]
    pub(super) struct Neon {
        neon: "neon",
        dotprod: "dotprod",
    }
}

/// The lanes of a vector.
const LANES: usize = 4;

impl Neon {
    /// Computes a product.
    pub(super) fn run(self, product: impl Product) {
        struct Run<P>(Neon, P);
        impl<P: Product> NullaryFnOnce for Run<P> {
            type Output = ();
            #[inline(always)]
            fn call(self) {
                self.1.run(self.0);
            }
        }
        self.vectorize(Run(self, product));
    }

    /// Converts four f16.
    #[inline(always)]
    #[expect(clippy::unused_self, reason = "it is the proof that the processor has the instruction")]
    fn four(self, bytes: [u8; 8]) -> float32x4_t {
        // SAFETY: `self` proves that the processor has NEON.
        unsafe { vcvt_f32_f16(vreinterpret_f16_u16(cast(bytes))) }
    }

    #[inline(always)]
    #[expect(clippy::unused_self, reason = "it is the proof that the processor has the instruction")]
    fn dot(self, sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
        let mut out = sums;
        // SAFETY: `self` proves that the processor has dot products. The instruction reads and writes the named
        // registers only.
        unsafe {
            asm!(
                // The assembler may be set to a processor without them where this function is not inlined.
                ".arch_extension dotprod",
                "sdot {out:v}.4s, {a:v}.16b, {b:v}.16b",
                out = inout(vreg) out,
                a = in(vreg) a,
                b = in(vreg) b,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        out
    }
}

impl VectorUnit for Neon {
    type Bytes = uint8x16_t;
    type Ints = int32x4_t;
    type Floats = float32x4_t;
    type Partial = int32x4_t;

    const LANES: usize = LANES;
    const WIDTH: usize = 4;
    const BYTES_OFFSET: i32 = 0;

    #[inline(always)]
    fn line(self, line: &Line, part: usize) -> uint8x16_t {
        cast(line.0.as_chunks::<16>().0[part])
    }

    #[inline(always)]
    fn word(self, bytes: [i8; 4]) -> uint8x16_t {
        cast(self.neon.vdupq_n_s32(cast(bytes)))
    }

    #[inline(always)]
    fn low(self, bytes: uint8x16_t) -> uint8x16_t {
        self.neon.vandq_u8(bytes, self.neon.vdupq_n_u8(15))
    }

    #[inline(always)]
    fn high(self, bytes: uint8x16_t) -> uint8x16_t {
        self.neon.vshrq_n_u8::<4>(bytes)
    }

    #[inline(always)]
    fn merge<const LEFT: u32, const RIGHT: u32, const MASK: u8>(
        self,
        low: uint8x16_t,
        plane: uint8x16_t,
    ) -> uint8x16_t {
        // A negative shift is one to the right.
        let plane = self.neon.vshlq_u8(plane, self.neon.vdupq_n_s8(LEFT as i8 - RIGHT as i8));
        self.neon.vorrq_u8(low, self.neon.vandq_u8(plane, self.neon.vdupq_n_u8(MASK)))
    }

    #[inline(always)]
    fn begin(self, sums: int32x4_t) -> int32x4_t {
        sums
    }

    #[inline(always)]
    fn add(self, partial: int32x4_t, unsigned: uint8x16_t, signed: uint8x16_t) -> int32x4_t {
        // The unsigned bytes have at most 6 bits, so they are the same with a sign.
        self.dot(partial, cast(unsigned), cast(signed))
    }

    #[inline(always)]
    fn add_bytes(self, partial: int32x4_t, levels: uint8x16_t, signed: uint8x16_t) -> int32x4_t {
        self.dot(partial, cast(self.neon.veorq_u8(levels, self.neon.vdupq_n_u8(0x80))), cast(signed))
    }

    #[inline(always)]
    fn end(self, _: int32x4_t, partial: int32x4_t) -> int32x4_t {
        partial
    }

    #[inline(always)]
    fn int(self, number: i32) -> int32x4_t {
        self.neon.vdupq_n_s32(number)
    }

    #[inline(always)]
    fn unsigned(self, half: &Half, index: usize, part: usize) -> int32x4_t {
        let wide = self.neon.vmovl_u8(cast(quarter(half, index, part)));
        cast(self.neon.vmovl_u16(self.neon.vget_low_u16(wide)))
    }

    #[inline(always)]
    fn signed(self, half: &Half, index: usize, part: usize) -> int32x4_t {
        let wide = self.neon.vmovl_s8(cast(quarter(half, index, part)));
        self.neon.vmovl_s16(self.neon.vget_low_s16(wide))
    }

    #[inline(always)]
    fn scale_and_min(self, half: &Half, index: usize, part: usize) -> (int32x4_t, int32x4_t) {
        let both = cast(self.unsigned(half, index, part));
        let low = self.neon.vandq_u32(both, self.neon.vdupq_n_u32(15));
        (cast(low), cast(self.neon.vshrq_n_u32::<4>(both)))
    }

    #[inline(always)]
    fn add_product(self, sums: int32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        self.neon.vmlaq_s32(sums, a, b)
    }

    #[inline(always)]
    fn add_pairs(self, sums: int32x4_t, half: &Half, part: usize, pair: i32) -> int32x4_t {
        let bytes: [[u8; 8]; 4] = cast(half.0);
        let pairs: int16x8_t = cast(self.neon.vmovl_u8(cast(bytes[part])));
        let pair: int16x8_t = cast(self.neon.vdupq_n_s32(pair));
        let low = self.neon.vmull_s16(self.neon.vget_low_s16(pairs), self.neon.vget_low_s16(pair));
        let high = self.neon.vmull_high_s16(pairs, pair);
        self.neon.vaddq_s32(sums, self.neon.vpaddq_s32(low, high))
    }

    #[inline(always)]
    fn float(self, number: f32) -> float32x4_t {
        self.neon.vdupq_n_f32(number)
    }

    #[inline(always)]
    fn floats(self, half: &Half, part: usize) -> float32x4_t {
        let floats: [[u8; 8]; 4] = cast(half.0);
        self.four(floats[part])
    }

    #[inline(always)]
    fn convert(self, ints: int32x4_t) -> float32x4_t {
        self.neon.vcvtq_f32_s32(ints)
    }

    #[inline(always)]
    fn multiply(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        self.neon.vmulq_f32(a, b)
    }

    #[inline(always)]
    fn fused(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        self.neon.vfmaq_f32(c, a, b)
    }

    #[inline(always)]
    fn fused_negative(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        self.neon.vfmsq_f32(c, a, b)
    }

    #[inline(always)]
    fn store(self, floats: float32x4_t, out: &mut [f32; TILE], part: usize) {
        out.as_chunks_mut::<LANES>().0[part] = cast(floats);
    }
}

impl FloatUnit for Neon {
    type Vector = [float32x4_t; 4];

    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    fn zero(self) -> [float32x4_t; 4] {
        [self.neon.vdupq_n_f32(0.0); 4]
    }

    #[inline(always)]
    fn load(self, floats: &[f32; vector::LANES]) -> [float32x4_t; 4] {
        cast(*floats)
    }

    #[inline(always)]
    fn f32(self, bytes: &[u8; 4 * vector::LANES]) -> [float32x4_t; 4] {
        cast(*bytes)
    }

    #[inline(always)]
    fn f16(self, bytes: &[u8; 2 * vector::LANES]) -> [float32x4_t; 4] {
        let [a, b, c, d]: [[u8; 8]; 4] = cast(*bytes);
        [self.four(a), self.four(b), self.four(c), self.four(d)]
    }

    #[inline(always)]
    fn bf16(self, bytes: &[u8; 2 * vector::LANES]) -> [float32x4_t; 4] {
        let [a, b, c, d]: [[u8; 8]; 4] = cast(*bytes);
        let wide = |bytes: [u8; 8]| cast(self.neon.vshlq_n_u32::<16>(self.neon.vmovl_u16(cast(bytes))));
        [wide(a), wide(b), wide(c), wide(d)]
    }

    #[inline(always)]
    fn fused(self, a: [float32x4_t; 4], b: [float32x4_t; 4], c: [float32x4_t; 4]) -> [float32x4_t; 4] {
        let mut out = c;
        for index in 0..4 {
            out[index] = self.neon.vfmaq_f32(c[index], a[index], b[index]);
        }
        out
    }

    #[inline(always)]
    fn sum(self, vector: [float32x4_t; 4]) -> f32 {
        let [a, b, c, d] = vector;
        let four = self.neon.vaddq_f32(self.neon.vaddq_f32(a, c), self.neon.vaddq_f32(b, d));
        let [a, b, c, d]: [f32; 4] = cast(four);
        (a + c) + (b + d)
    }
}

/// The bytes of four lanes in the first or second 16 bytes of a half.
#[inline(always)]
fn quarter(half: &Half, index: usize, part: usize) -> [u8; 8] {
    let quarters: [[u8; 4]; 8] = cast(half.0);
    let [a, b, c, d] = quarters[index * 4 + part];
    [a, b, c, d, 0, 0, 0, 0]
}
