//! The unit of processors with AVX2: bytes are widened to i16, and `vpmaddwd` multiplies 16 pairs and adds them to
//! 8 sums. The instruction for bytes, `vpmaddubsw`, saturates, so it is not used.

use std::arch::x86_64::{__m128i, __m256i};

use pulp::{NullaryFnOnce, cast};

use super::unit::{Task, Unit, WORD};

pulp::simd_type! {
    /// The instructions that are used. A value is a proof that the processor has them.
    #[allow(clippy::struct_field_names, reason = "the fields have the names of instruction sets")]
    pub(crate) struct Avx2 {
        sse2: "sse2",
        avx: "avx",
        avx2: "avx2",
    }
}

impl Avx2 {
    /// Runs a task with these instructions.
    pub(super) fn run(self, task: impl Task) {
        struct Run<T>(Avx2, T);
        impl<T: Task> NullaryFnOnce for Run<T> {
            type Output = ();
            #[inline(always)]
            fn call(self) {
                self.1.run(self.0);
            }
        }
        self.vectorize(Run(self, task));
    }
}

impl Unit for Avx2 {
    type Line = [u8; 16];
    type Right = __m256i;
    type Ints = __m256i;

    const LANES: usize = 8;
    const GROUP: usize = 2;
    const ROWS: usize = 4;
    const VECTORS: usize = 2;
    const BOTH_SIGNED: bool = false;

    #[inline(always)]
    fn lines(bytes: &[u8]) -> &[[u8; 16]] {
        bytes.as_chunks().0
    }

    #[inline(always)]
    fn zero(self) -> __m256i {
        self.avx._mm256_setzero_si256()
    }

    #[inline(always)]
    fn load<const LEFT: bool>(self, line: &[u8; 16]) -> __m256i {
        if LEFT { self.avx2._mm256_cvtepi8_epi16(cast(*line)) } else { self.avx2._mm256_cvtepu8_epi16(cast(*line)) }
    }

    #[inline(always)]
    fn add<const LEFT: bool>(self, sums: __m256i, word: [u8; WORD], right: __m256i) -> __m256i {
        let left = self.avx._mm256_set1_epi32(cast(word));
        self.avx2._mm256_add_epi32(sums, self.avx2._mm256_madd_epi16(left, right))
    }

    #[inline(always)]
    fn store(self, sums: __m256i, out: &mut [i32]) {
        let lanes: [i32; 8] = cast(sums);
        out.copy_from_slice(&lanes[..out.len()]);
    }

    #[inline(always)]
    fn interleave(self, rows: &[&[u8]], flip: u8, out: &mut [u8]) {
        let &[a, b] = rows else { return super::pack::interleave(rows, flip, Self::GROUP, out) };
        let sse = self.sse2;
        let flip = sse._mm_set1_epi8(flip as i8);
        let columns = a.len();
        let [(a, ta), (b, tb)] = [a, b].map(|row| row.as_chunks::<16>());
        let (lines, rest) = out.split_at_mut(columns / 16 * 32);
        for ((&a, &b), out) in a.iter().zip(b).zip(lines.as_chunks_mut::<32>().0) {
            let [a, b]: [__m128i; 2] = [a, b].map(|row| sse._mm_xor_si128(cast(row), flip));
            *out = cast([sse._mm_unpacklo_epi8(a, b), sse._mm_unpackhi_epi8(a, b)]);
        }
        super::pack::interleave(&[ta, tb], cast::<_, [u8; 16]>(flip)[0], Self::GROUP, rest);
    }
}
