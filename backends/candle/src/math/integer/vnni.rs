//! The unit of processors with AVX-512 VNNI: `vpdpbusd` multiplies 64 pairs of bytes and adds them to 16 sums.
//!
//! That instruction is called directly, because the crate pulp has no function for it. All else is pulp's and safe.

use std::arch::x86_64::{__m128i, __m512i, _mm512_dpbusd_epi32};

use pulp::{NullaryFnOnce, cast};

use super::unit::{Task, Unit, WORD};

pulp::simd_type! {
    /// The instructions that are used. A value is a proof that the processor has them.
    pub(crate) struct Vnni {
        sse2: "sse2",
        avx2: "avx2",
        avx512f: "avx512f",
        avx512bw: "avx512bw",
        avx512vnni: "avx512vnni",
    }
}

impl Vnni {
    /// Runs a task with these instructions.
    pub(super) fn run(self, task: impl Task) {
        struct Run<T>(Vnni, T);
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

impl Unit for Vnni {
    type Line = [u8; 64];
    type Right = __m512i;
    type Ints = __m512i;

    const LANES: usize = 16;
    const GROUP: usize = 4;
    const ROWS: usize = 8;
    const VECTORS: usize = 3;
    const BOTH_SIGNED: bool = false;

    #[inline(always)]
    fn lines(bytes: &[u8]) -> &[[u8; 64]] {
        bytes.as_chunks().0
    }

    #[inline(always)]
    fn zero(self) -> __m512i {
        self.avx512f._mm512_setzero_si512()
    }

    #[inline(always)]
    fn load<const LEFT: bool>(self, line: &[u8; 64]) -> __m512i {
        cast(*line)
    }

    #[inline(always)]
    fn add<const LEFT: bool>(self, sums: __m512i, word: [u8; WORD], right: __m512i) -> __m512i {
        let left = self.avx512f._mm512_set1_epi32(cast(word));
        let (unsigned, signed) = if LEFT { (left, right) } else { (right, left) };
        // SAFETY: `self` proves that the processor has AVX-512F and VNNI.
        unsafe { _mm512_dpbusd_epi32(sums, unsigned, signed) }
    }

    #[inline(always)]
    fn store(self, sums: __m512i, out: &mut [i32]) {
        let lanes: [i32; 16] = cast(sums);
        out.copy_from_slice(&lanes[..out.len()]);
    }

    #[inline(always)]
    fn interleave(self, rows: &[&[u8]], flip: u8, out: &mut [u8]) {
        let &[a, b, c, d] = rows else { return super::pack::interleave(rows, flip, Self::GROUP, out) };
        let sse = self.sse2;
        let flip = sse._mm_set1_epi8(flip as i8);
        let columns = a.len();
        let [(a, ta), (b, tb), (c, tc), (d, td)] = [a, b, c, d].map(|row| row.as_chunks::<16>());
        let (lines, rest) = out.split_at_mut(columns / 16 * 64);
        let quads = a.iter().zip(b).zip(c).zip(d);
        for ((((&a, &b), &c), &d), out) in quads.zip(lines.as_chunks_mut::<64>().0) {
            let [a, b, c, d]: [__m128i; 4] = [a, b, c, d].map(|row| sse._mm_xor_si128(cast(row), flip));
            let (low, high) = (sse._mm_unpacklo_epi8(a, b), sse._mm_unpackhi_epi8(a, b));
            let (lower, higher) = (sse._mm_unpacklo_epi8(c, d), sse._mm_unpackhi_epi8(c, d));
            *out = cast([
                sse._mm_unpacklo_epi16(low, lower),
                sse._mm_unpackhi_epi16(low, lower),
                sse._mm_unpacklo_epi16(high, higher),
                sse._mm_unpackhi_epi16(high, higher),
            ]);
        }
        super::pack::interleave(&[ta, tb, tc, td], cast::<_, [u8; 16]>(flip)[0], Self::GROUP, rest);
    }
}
