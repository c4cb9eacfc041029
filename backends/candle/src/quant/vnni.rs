//! The vector unit of processors with AVX-512 VNNI: 16 lanes, a part for a whole tile.
//!
//! Two instructions are called directly, because the crate pulp has no function for them: `vpdpbusd` multiplies 64
//! pairs of bytes and adds them to 16 sums, `vpdpwssd` does so for 32 pairs of i16. All else is pulp's and safe.

use std::arch::x86_64::{__m128, __m128i, __m256, __m256i, __m512, __m512i, _mm512_dpbusd_epi32, _mm512_dpwssd_epi32};

use pulp::{NullaryFnOnce, cast};

use super::tile::{Half, Line, TILE};
use super::vector::{FloatUnit, LANES, Product, ROUNDER, VectorUnit};

pulp::simd_type! {
    /// The instructions that are used. A value is a proof that the processor has them.
    pub(super) struct Vnni {
        sse: "sse",
        sse2: "sse2",
        avx: "avx",
        avx2: "avx2",
        fma: "fma",
        avx512f: "avx512f",
        avx512bw: "avx512bw",
        avx512vnni: "avx512vnni",
    }
}

impl Vnni {
    /// Computes a product.
    pub(super) fn run(self, product: impl Product) {
        struct Run<P>(Vnni, P);
        impl<P: Product> NullaryFnOnce for Run<P> {
            type Output = ();
            #[inline(always)]
            fn call(self) {
                self.1.run(self.0);
            }
        }
        self.vectorize(Run(self, product));
    }
}

impl VectorUnit for Vnni {
    type Bytes = __m512i;
    type Ints = __m512i;
    type Floats = __m512;
    type Partial = __m512i;

    const LANES: usize = TILE;
    const WIDTH: usize = 8;
    const BYTES_OFFSET: i32 = 128;

    #[inline(always)]
    fn line(self, line: &Line, _: usize) -> __m512i {
        cast(line.0)
    }

    #[inline(always)]
    fn word(self, bytes: [i8; 4]) -> __m512i {
        self.avx512f._mm512_set1_epi32(cast(bytes))
    }

    #[inline(always)]
    fn low(self, bytes: __m512i) -> __m512i {
        self.avx512f._mm512_and_si512(bytes, self.avx512f._mm512_set1_epi32(0x0f0f_0f0f))
    }

    #[inline(always)]
    fn high(self, bytes: __m512i) -> __m512i {
        self.low(self.avx512bw._mm512_srli_epi16::<4>(bytes))
    }

    #[inline(always)]
    fn merge<const LEFT: u32, const RIGHT: u32, const MASK: u8>(self, low: __m512i, plane: __m512i) -> __m512i {
        // One of them is a shift by 0, which the compiler removes.
        let plane = self.avx512bw._mm512_srli_epi16::<RIGHT>(self.avx512bw._mm512_slli_epi16::<LEFT>(plane));
        let mask = self.avx512f._mm512_set1_epi32(i32::from(MASK) * 0x0101_0101);
        // a | b & c.
        self.avx512f._mm512_ternarylogic_epi32::<0xf8>(low, plane, mask)
    }

    #[inline(always)]
    fn begin(self, sums: __m512i) -> __m512i {
        sums
    }

    #[inline(always)]
    fn add(self, partial: __m512i, unsigned: __m512i, signed: __m512i) -> __m512i {
        // SAFETY: `self` proves that the processor has AVX-512F and VNNI.
        unsafe { _mm512_dpbusd_epi32(partial, unsigned, signed) }
    }

    #[inline(always)]
    fn add_bytes(self, partial: __m512i, levels: __m512i, signed: __m512i) -> __m512i {
        self.add(partial, levels, signed)
    }

    #[inline(always)]
    fn end(self, _: __m512i, partial: __m512i) -> __m512i {
        partial
    }

    #[inline(always)]
    fn largest(self, x: &[[f32; LANES]]) -> f32 {
        let sign = self.avx512f._mm512_set1_epi32(i32::MAX);
        let largest = x.iter().fold(self.avx512f._mm512_setzero_si512(), |largest, &x| {
            self.avx512f._mm512_max_epu32(largest, self.avx512f._mm512_and_si512(cast(x), sign))
        });
        f32::from_bits(self.avx512f._mm512_reduce_max_epu32(largest))
    }

    #[inline(always)]
    fn levels(self, x: &[f32; LANES], factor: f32) -> ([i8; LANES], i32) {
        let v = self.avx512f;
        let rounder = v._mm512_set1_ps(ROUNDER);
        let sums: __m512i = cast(v._mm512_add_ps(v._mm512_mul_ps(cast(*x), v._mm512_set1_ps(factor)), rounder));
        let numbers = v._mm512_sub_epi32(sums, cast(rounder));
        // Of a NaN any number, which its scale makes NaN again.
        (cast(v._mm512_cvtepi32_epi8(sums)), i32::from(v._mm512_reduce_add_epi32(numbers) as i16))
    }

    #[inline(always)]
    fn int(self, number: i32) -> __m512i {
        self.avx512f._mm512_set1_epi32(number)
    }

    #[inline(always)]
    fn unsigned(self, half: &Half, index: usize, _: usize) -> __m512i {
        self.avx512f._mm512_cvtepu8_epi32(sixteen(half, index))
    }

    #[inline(always)]
    fn signed(self, half: &Half, index: usize, _: usize) -> __m512i {
        self.avx512f._mm512_cvtepi8_epi32(sixteen(half, index))
    }

    #[inline(always)]
    fn scale_and_min(self, half: &Half, index: usize, part: usize) -> (__m512i, __m512i) {
        let both = self.unsigned(half, index, part);
        let low = self.avx512f._mm512_and_si512(both, self.avx512f._mm512_set1_epi32(15));
        (low, self.avx512f._mm512_srli_epi32::<4>(both))
    }

    #[inline(always)]
    fn add_product(self, sums: __m512i, a: __m512i, b: __m512i) -> __m512i {
        self.avx512f._mm512_add_epi32(sums, self.avx512f._mm512_mullo_epi32(a, b))
    }

    #[inline(always)]
    fn add_pairs(self, sums: __m512i, half: &Half, _: usize, pair: i32) -> __m512i {
        let bytes: __m256i = cast(half.0);
        let pairs = self.avx512bw._mm512_cvtepu8_epi16(bytes);
        // SAFETY: `self` proves that the processor has AVX-512F and VNNI.
        unsafe { _mm512_dpwssd_epi32(sums, pairs, self.avx512f._mm512_set1_epi32(pair)) }
    }

    #[inline(always)]
    fn float(self, number: f32) -> __m512 {
        self.avx512f._mm512_set1_ps(number)
    }

    #[inline(always)]
    fn floats(self, half: &Half, _: usize) -> __m512 {
        self.avx512f._mm512_cvtph_ps(cast(half.0))
    }

    #[inline(always)]
    fn convert(self, ints: __m512i) -> __m512 {
        self.avx512f._mm512_cvtepi32_ps(ints)
    }

    #[inline(always)]
    fn multiply(self, a: __m512, b: __m512) -> __m512 {
        self.avx512f._mm512_mul_ps(a, b)
    }

    #[inline(always)]
    fn fused(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        self.avx512f._mm512_fmadd_ps(a, b, c)
    }

    #[inline(always)]
    fn fused_negative(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        self.avx512f._mm512_fnmadd_ps(a, b, c)
    }

    #[inline(always)]
    fn store(self, floats: __m512, out: &mut [f32; TILE], _: usize) {
        *out = cast(floats);
    }
}

impl FloatUnit for Vnni {
    type Vector = __m512;

    const MANY_REGISTERS: bool = true;

    #[inline(always)]
    fn zero(self) -> __m512 {
        self.avx512f._mm512_setzero_ps()
    }

    #[inline(always)]
    fn load(self, floats: &[f32; LANES]) -> __m512 {
        cast(*floats)
    }

    #[inline(always)]
    fn f32(self, bytes: &[u8; 4 * LANES]) -> __m512 {
        cast(*bytes)
    }

    #[inline(always)]
    fn f16(self, bytes: &[u8; 2 * LANES]) -> __m512 {
        self.avx512f._mm512_cvtph_ps(cast(*bytes))
    }

    #[inline(always)]
    fn bf16(self, bytes: &[u8; 2 * LANES]) -> __m512 {
        let wide = self.avx512f._mm512_cvtepu16_epi32(cast(*bytes));
        cast(self.avx512f._mm512_slli_epi32::<16>(wide))
    }

    #[inline(always)]
    fn fused(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        self.avx512f._mm512_fmadd_ps(a, b, c)
    }

    #[inline(always)]
    fn sum(self, vector: __m512) -> f32 {
        let [low, high]: [__m256; 2] = cast(vector);
        let [low, high]: [__m128; 2] = cast(self.avx._mm256_add_ps(low, high));
        let [a, b, c, d]: [f32; 4] = cast(self.sse._mm_add_ps(low, high));
        (a + c) + (b + d)
    }
}

/// The first or second 16 bytes of a half.
#[inline(always)]
fn sixteen(half: &Half, index: usize) -> __m128i {
    let [first, second]: [[u8; 16]; 2] = cast(half.0);
    cast(if index == 0 { first } else { second })
}
