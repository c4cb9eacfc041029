//! What kernels need of a processor's vector instructions.
//!
//! A *line* is 64 bytes: four bytes for each of the 16 rows of a tile. A *half* is half a line: two bytes for each row,
//! such as a float of 16 bits, or twice 16 bytes, such as two scales for each row. (It is no `half::f16`.) A *plane* is a
//! line whose bits are above those of other lines: bit 4 of levels of 5 bits, and bits 4 and 5 of levels of 6 bits.

use super::tile::{Half, Line, TILE};

/// A product of any type of weights, or what prepares one, that is compiled for each vector unit.
pub(super) trait Product {
    /// Computes it with the unit's instructions.
    fn run<V: VectorUnit + FloatUnit>(self, v: V);
}

/// The vector instructions of a processor, with an i32, an f32 or four bytes in each lane. A lane is a row of a tile.
///
/// A value of the type is a proof that the processor has them.
pub(super) trait VectorUnit: Copy {
    /// Four bytes in each lane.
    type Bytes: Copy;
    /// An i32 in each lane.
    type Ints: Copy;
    /// An f32 in each lane.
    type Floats: Copy;
    /// Sums of products that are not widened to i32 yet.
    type Partial: Copy;

    /// The lanes of a vector: the tile is multiplied in `TILE / LANES` parts.
    const LANES: usize;
    /// The rows of activations that are multiplied together.
    const WIDTH: usize;
    /// What [`add_bytes`](Self::add_bytes) adds to each level of Q8_0.
    const BYTES_OFFSET: i32;

    /// A part of a line.
    fn line(self, line: &Line, part: usize) -> Self::Bytes;
    /// The same four bytes in each lane.
    fn word(self, bytes: [i8; 4]) -> Self::Bytes;
    /// The low four bits of each byte.
    fn low(self, bytes: Self::Bytes) -> Self::Bytes;
    /// The high four bits of each byte.
    fn high(self, bytes: Self::Bytes) -> Self::Bytes;
    /// `low` with the bits of `MASK` taken from `plane`, a line of further bits, shifted left by `LEFT` or right by `RIGHT`.
    fn merge<const LEFT: u32, const RIGHT: u32, const MASK: u8>(
        self,
        low: Self::Bytes,
        plane: Self::Bytes,
    ) -> Self::Bytes;

    /// `sums`, to which [`add`](Self::add) adds.
    fn begin(self, sums: Self::Ints) -> Self::Partial;
    /// Adds the products of unsigned bytes, of at most 6 bits, with signed bytes. At most 8 calls between a begin and
    /// an end for up to 4 bits, 4 for 5 bits, 2 for 6 bits.
    fn add(self, partial: Self::Partial, unsigned: Self::Bytes, signed: Self::Bytes) -> Self::Partial;
    /// Adds the products of levels of Q8_0 with signed bytes. One call between a begin and an end.
    fn add_bytes(self, partial: Self::Partial, levels: Self::Bytes, signed: Self::Bytes) -> Self::Partial;
    /// `sums` and what was added since [`begin`](Self::begin).
    fn end(self, sums: Self::Ints, partial: Self::Partial) -> Self::Ints;

    /// The largest number without its sign; NaN, if there is one, is the largest.
    #[inline(always)]
    fn largest(self, x: &[[f32; LANES]]) -> f32 {
        // The bits of floats without a sign are ordered as the floats are, with NaN above all others.
        let mut largest = [0_u32; LANES];
        for x in x {
            for (largest, x) in largest.iter_mut().zip(x) {
                *largest = (*largest).max(x.to_bits() & 0x7fff_ffff);
            }
        }
        f32::from_bits(largest.into_iter().fold(0, u32::max))
    }
    /// Numbers times `factor`, which are from -127 to 127, rounded to the nearest, ties to even. And their sum.
    #[inline(always)]
    fn levels(self, x: &[f32; LANES], factor: f32) -> ([i8; LANES], i32) {
        let levels = x.map(|x| (x * factor + ROUNDER).to_bits() as u8 as i8);
        (levels, levels.iter().map(|&level| i32::from(level)).sum())
    }

    /// The same number in each lane.
    fn int(self, number: i32) -> Self::Ints;
    /// The first (`index` 0) or second (1) 16 bytes of a half, as unsigned numbers.
    fn unsigned(self, half: &Half, index: usize, part: usize) -> Self::Ints;
    /// The first or second 16 bytes of a half, as signed numbers.
    fn signed(self, half: &Half, index: usize, part: usize) -> Self::Ints;
    /// The low four bits, and the high four bits, of each of the first or second 16 bytes of a half.
    fn scale_and_min(self, half: &Half, index: usize, part: usize) -> (Self::Ints, Self::Ints);
    /// Adds products of i32.
    fn add_product(self, sums: Self::Ints, a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// Adds for each lane the products of its two bytes, unsigned, with the two i16 of `pair`.
    fn add_pairs(self, sums: Self::Ints, half: &Half, part: usize, pair: i32) -> Self::Ints;

    /// The same number in each lane.
    fn float(self, number: f32) -> Self::Floats;
    /// A half as f16.
    fn floats(self, half: &Half, part: usize) -> Self::Floats;
    /// The nearest f32 of each i32.
    fn convert(self, ints: Self::Ints) -> Self::Floats;
    fn multiply(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + c`, rounded once where the processor can.
    fn fused(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// `c - a * b`, rounded once where the processor can.
    fn fused_negative(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// Writes a part of the results of a tile.
    fn store(self, floats: Self::Floats, out: &mut [f32; TILE], part: usize);
}

/// Floats of a [`FloatUnit::Vector`].
pub(super) const LANES: usize = 16;

/// 1.5 · 2^23. The sum of it and a number up to 2^22 has that number, rounded, in its lowest bits.
pub(super) const ROUNDER: f32 = 12_582_912.0;

/// The float instructions of a processor.
///
/// A value of the type is a proof that the processor has them.
pub(super) trait FloatUnit: Copy {
    /// Sixteen f32.
    type Vector: Copy;

    /// Whether there are registers for 16 sums.
    const MANY_REGISTERS: bool;

    fn zero(self) -> Self::Vector;
    fn load(self, floats: &[f32; LANES]) -> Self::Vector;
    /// Converts little-endian f32.
    fn f32(self, bytes: &[u8; 4 * LANES]) -> Self::Vector;
    /// Converts little-endian f16.
    fn f16(self, bytes: &[u8; 2 * LANES]) -> Self::Vector;
    /// Converts little-endian bf16.
    fn bf16(self, bytes: &[u8; 2 * LANES]) -> Self::Vector;
    /// `a * b + c`, rounded once where the processor can.
    fn fused(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// The sum of the lanes: of both halves, of theirs, and so on.
    fn sum(self, vector: Self::Vector) -> f32;
}
