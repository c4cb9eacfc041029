//! The unit of any other processor: loops that the compiler vectorizes.

use super::unit::{Task, Unit, WORD};

/// No instructions of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain;

impl Plain {
    /// Runs a task.
    pub(super) fn run(task: impl Task) {
        task.run(Self);
    }
}

impl Unit for Plain {
    type Line = [u8; 16];
    type Right = [i16; 16];
    type Ints = [i32; 8];

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
    fn zero(self) -> [i32; 8] {
        [0; 8]
    }

    #[inline(always)]
    fn load<const LEFT: bool>(self, line: &[u8; 16]) -> [i16; 16] {
        line.map(|byte| if LEFT { i16::from(byte.cast_signed()) } else { i16::from(byte) })
    }

    #[inline(always)]
    fn add<const LEFT: bool>(self, mut sums: [i32; 8], word: [u8; WORD], right: [i16; 16]) -> [i32; 8] {
        let [a, b, c, d] = word;
        let (first, second) = (i32::from(i16::from_le_bytes([a, b])), i32::from(i16::from_le_bytes([c, d])));
        for (sum, pair) in sums.iter_mut().zip(right.as_chunks::<2>().0) {
            *sum = sum.wrapping_add(first * i32::from(pair[0]) + second * i32::from(pair[1]));
        }
        sums
    }

    #[inline(always)]
    fn store(self, sums: [i32; 8], out: &mut [i32]) {
        out.copy_from_slice(&sums[..out.len()]);
    }

    #[inline(always)]
    fn interleave(self, rows: &[&[u8]], flip: u8, out: &mut [u8]) {
        super::pack::interleave(rows, flip, Self::GROUP, out);
    }
}
