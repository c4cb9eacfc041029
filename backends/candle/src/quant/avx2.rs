//! The vector unit of processors with AVX2, FMA and F16C: 8 lanes, two parts for a tile.
//!
//! One instruction is called directly, because the crate pulp has no function for it: `vcvtph2ps` converts 8 f16. All
//! else is pulp's and safe.

use std::arch::x86_64::{__m128, __m128i, __m256, __m256i, _mm256_cvtph_ps};

use pulp::{NullaryFnOnce, cast};

use super::tile::{Half, Line, TILE};
use super::vector::{FloatUnit, LANES, Product, VectorUnit};

pulp::simd_type! {
    /// The instructions that are used. A value is a proof that the processor has them.
    #[allow(clippy::struct_field_names, reason = "the fields have the names of instruction sets")]
    pub(super) struct Avx2 {
        sse: "sse",
        sse2: "sse2",
        avx: "avx",
        avx2: "avx2",
        fma: "fma",
        f16c: "f16c",
    }
}

impl Avx2 {
    /// Computes a product.
    pub(super) fn run(self, product: impl Product) {
        struct Run<P>(Avx2, P);
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

impl VectorUnit for Avx2 {
    type Bytes = __m256i;
    type Ints = __m256i;
    type Floats = __m256;
    /// Sixteen i16. Products of bytes are added in pairs to each: at most 8 × 2 × 15 × 127 = 30,480 for 4 bits, 31,496
    /// for 5 bits, 32,004 for 6 bits, and 2 × 128 × 127 = 32,512 for 8 bits with a sign.
    type Partial = __m256i;

    const LANES: usize = 8;
    const WIDTH: usize = 4;
    const BYTES_OFFSET: i32 = 0;

    #[inline(always)]
    fn line(self, line: &Line, part: usize) -> __m256i {
        let [first, second]: [__m256i; 2] = cast(line.0);
        if part == 0 { first } else { second }
    }

    #[inline(always)]
    fn word(self, bytes: [i8; 4]) -> __m256i {
        self.avx._mm256_set1_epi32(cast(bytes))
    }

    #[inline(always)]
    fn low(self, bytes: __m256i) -> __m256i {
        self.avx2._mm256_and_si256(bytes, self.avx._mm256_set1_epi8(15))
    }

    #[inline(always)]
    fn high(self, bytes: __m256i) -> __m256i {
        self.low(self.avx2._mm256_srli_epi16::<4>(bytes))
    }

    #[inline(always)]
    fn merge<const LEFT: u32, const RIGHT: u32, const MASK: u8>(self, low: __m256i, plane: __m256i) -> __m256i {
        // The compiler makes shifts by a constant of them, and removes that by 0.
        let plane = self.avx2._mm256_sll_epi16(plane, cast([u64::from(LEFT), 0]));
        let plane = self.avx2._mm256_srl_epi16(plane, cast([u64::from(RIGHT), 0]));
        let mask = self.avx._mm256_set1_epi8(MASK.cast_signed());
        self.avx2._mm256_or_si256(low, self.avx2._mm256_and_si256(plane, mask))
    }

    #[inline(always)]
    fn begin(self, _: __m256i) -> __m256i {
        self.avx._mm256_setzero_si256()
    }

    #[inline(always)]
    fn add(self, partial: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        self.avx2._mm256_add_epi16(partial, self.avx2._mm256_maddubs_epi16(unsigned, signed))
    }

    #[inline(always)]
    fn add_bytes(self, partial: __m256i, levels: __m256i, signed: __m256i) -> __m256i {
        // The instruction wants one operand without a sign: |w| · (x with the sign of w).
        let weights = self.avx2._mm256_xor_si256(levels, self.avx._mm256_set1_epi8(i8::MIN));
        let (magnitude, signed) = (self.avx2._mm256_abs_epi8(weights), self.avx2._mm256_sign_epi8(signed, weights));
        self.add(partial, magnitude, signed)
    }

    #[inline(always)]
    fn end(self, sums: __m256i, partial: __m256i) -> __m256i {
        let wide = self.avx2._mm256_madd_epi16(partial, self.avx._mm256_set1_epi16(1));
        self.avx2._mm256_add_epi32(sums, wide)
    }

    #[inline(always)]
    fn int(self, number: i32) -> __m256i {
        self.avx._mm256_set1_epi32(number)
    }

    #[inline(always)]
    fn unsigned(self, half: &Half, index: usize, part: usize) -> __m256i {
        self.avx2._mm256_cvtepu8_epi32(eight(half, index * 2 + part))
    }

    #[inline(always)]
    fn signed(self, half: &Half, index: usize, part: usize) -> __m256i {
        self.avx2._mm256_cvtepi8_epi32(eight(half, index * 2 + part))
    }

    #[inline(always)]
    fn scale_and_min(self, half: &Half, index: usize, part: usize) -> (__m256i, __m256i) {
        let both = self.unsigned(half, index, part);
        (self.avx2._mm256_and_si256(both, self.avx._mm256_set1_epi32(15)), self.avx2._mm256_srli_epi32::<4>(both))
    }

    #[inline(always)]
    fn add_product(self, sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
        self.avx2._mm256_add_epi32(sums, self.avx2._mm256_mullo_epi32(a, b))
    }

    #[inline(always)]
    fn add_pairs(self, sums: __m256i, half: &Half, part: usize, pair: i32) -> __m256i {
        let pairs = self.avx2._mm256_cvtepu8_epi16(sixteen(half, part));
        let products = self.avx2._mm256_madd_epi16(pairs, self.avx._mm256_set1_epi32(pair));
        self.avx2._mm256_add_epi32(sums, products)
    }

    #[inline(always)]
    fn float(self, number: f32) -> __m256 {
        self.avx._mm256_set1_ps(number)
    }

    #[inline(always)]
    fn floats(self, half: &Half, part: usize) -> __m256 {
        // SAFETY: `self` proves that the processor has F16C.
        unsafe { _mm256_cvtph_ps(sixteen(half, part)) }
    }

    #[inline(always)]
    fn convert(self, ints: __m256i) -> __m256 {
        self.avx._mm256_cvtepi32_ps(ints)
    }

    #[inline(always)]
    fn multiply(self, a: __m256, b: __m256) -> __m256 {
        self.avx._mm256_mul_ps(a, b)
    }

    #[inline(always)]
    fn fused(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        self.fma._mm256_fmadd_ps(a, b, c)
    }

    #[inline(always)]
    fn fused_negative(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        self.fma._mm256_fnmadd_ps(a, b, c)
    }

    #[inline(always)]
    fn store(self, floats: __m256, out: &mut [f32; TILE], part: usize) {
        out.as_chunks_mut::<8>().0[part] = cast(floats);
    }
}

impl FloatUnit for Avx2 {
    type Vector = [__m256; 2];

    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    fn zero(self) -> [__m256; 2] {
        [self.avx._mm256_setzero_ps(); 2]
    }

    #[inline(always)]
    fn load(self, floats: &[f32; LANES]) -> [__m256; 2] {
        cast(*floats)
    }

    #[inline(always)]
    fn f32(self, bytes: &[u8; 4 * LANES]) -> [__m256; 2] {
        cast(*bytes)
    }

    #[inline(always)]
    fn f16(self, bytes: &[u8; 2 * LANES]) -> [__m256; 2] {
        let half = Half(*bytes);
        [VectorUnit::floats(self, &half, 0), VectorUnit::floats(self, &half, 1)]
    }

    #[inline(always)]
    fn bf16(self, bytes: &[u8; 2 * LANES]) -> [__m256; 2] {
        let [first, second]: [__m128i; 2] = cast(*bytes);
        let (first, second) = (self.avx2._mm256_cvtepu16_epi32(first), self.avx2._mm256_cvtepu16_epi32(second));
        cast([self.avx2._mm256_slli_epi32::<16>(first), self.avx2._mm256_slli_epi32::<16>(second)])
    }

    #[inline(always)]
    fn fused(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        [self.fma._mm256_fmadd_ps(a[0], b[0], c[0]), self.fma._mm256_fmadd_ps(a[1], b[1], c[1])]
    }

    #[inline(always)]
    fn sum(self, vector: [__m256; 2]) -> f32 {
        let [low, high]: [__m128; 2] = cast(self.avx._mm256_add_ps(vector[0], vector[1]));
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

/// The first to fourth 8 bytes of a half, in the low lanes.
#[inline(always)]
fn eight(half: &Half, index: usize) -> __m128i {
    let quarters: [[u8; 8]; 4] = cast(half.0);
    cast([quarters[index], [0; 8]])
}
