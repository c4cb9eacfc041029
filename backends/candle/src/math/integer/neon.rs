//! The unit of 64-bit Arm processors with dot products of bytes (optional from Armv8.2 on, in all from Armv8.4 on).
//!
//! `sdot` multiplies 16 pairs of signed bytes and adds them to 4 sums. The standard library's function for it is
//! unstable, so it is written in assembly. All else is pulp's and safe.

use std::arch::aarch64::{int8x16_t, int32x4_t};
use std::arch::asm;

use pulp::{NullaryFnOnce, cast};

use super::unit::{Task, Unit, WORD};

pulp::simd_type! {
    /// The instructions that are used. A value is a proof that the processor has them.
    pub(crate) struct Neon {
        neon: "neon",
        dotprod: "dotprod",
    }
}

impl Neon {
    /// Runs a task with these instructions.
    pub(super) fn run(self, task: impl Task) {
        struct Run<T>(Neon, T);
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

impl Unit for Neon {
    type Line = [u8; 16];
    type Right = int8x16_t;
    type Ints = int32x4_t;

    const LANES: usize = 4;
    const GROUP: usize = 4;
    const ROWS: usize = 8;
    const VECTORS: usize = 3;
    const BOTH_SIGNED: bool = true;

    #[inline(always)]
    fn lines(bytes: &[u8]) -> &[[u8; 16]] {
        bytes.as_chunks().0
    }

    #[inline(always)]
    fn zero(self) -> int32x4_t {
        self.neon.vdupq_n_s32(0)
    }

    #[inline(always)]
    fn load<const LEFT: bool>(self, line: &[u8; 16]) -> int8x16_t {
        cast(*line)
    }

    #[inline(always)]
    fn add<const LEFT: bool>(self, sums: int32x4_t, word: [u8; WORD], right: int8x16_t) -> int32x4_t {
        let left: int8x16_t = cast(self.neon.vdupq_n_s32(cast(word)));
        let mut out = sums;
        // SAFETY: `self` proves that the processor has dot products. The instruction reads and writes the named
        // registers only.
        unsafe {
            asm!(
                // The assembler may be set to a processor without them where this function is not inlined.
                ".arch_extension dotprod",
                "sdot {out:v}.4s, {a:v}.16b, {b:v}.16b",
                out = inout(vreg) out,
                a = in(vreg) left,
                b = in(vreg) right,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        out
    }

    #[inline(always)]
    fn store(self, sums: int32x4_t, out: &mut [i32]) {
        let lanes: [i32; 4] = cast(sums);
        out.copy_from_slice(&lanes[..out.len()]);
    }

    #[inline(always)]
    fn interleave(self, rows: &[&[u8]], flip: u8, out: &mut [u8]) {
        super::pack::interleave(rows, flip, Self::GROUP, out);
    }
}
