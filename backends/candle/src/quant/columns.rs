//! The products of 32 or 16 columns of a tile with levels of activations, in integers.

use super::tile::{Line, Unit};
use super::vector::VectorUnit;

/// The products of 32 columns.
pub(super) trait Columns {
    const UNIT: Unit;

    /// Adds the products of a unit with the levels of `R` rows, 32 each.
    fn add<V: VectorUnit, const R: usize>(
        v: V,
        lines: &[Line],
        levels: [&[[i8; 4]; 8]; R],
        sums: &mut [V::Ints; R],
        part: usize,
    );
}

/// The words of 32 levels.
#[inline(always)]
pub(super) fn words(levels: &[i8]) -> &[[i8; 4]; 8] {
    match levels.as_chunks::<4>().0.first_chunk::<8>() {
        Some(words) => words,
        None => &[[0; 4]; 8],
    }
}

/// [`VectorUnit::begin`] for each of `sums`.
#[inline(always)]
pub(super) fn begin<V: VectorUnit, const R: usize>(v: V, sums: &[V::Ints; R]) -> [V::Partial; R] {
    let mut partial = [v.begin(v.int(0)); R];
    for r in 0..R {
        partial[r] = v.begin(sums[r]);
    }
    partial
}

pub(super) struct Nibbles;

impl Columns for Nibbles {
    const UNIT: Unit = Unit::Nibbles;

    #[inline(always)]
    fn add<V: VectorUnit, const R: usize>(
        v: V,
        lines: &[Line],
        levels: [&[[i8; 4]; 8]; R],
        sums: &mut [V::Ints; R],
        part: usize,
    ) {
        let mut partial = begin(v, sums);
        for h in 0..4 {
            let pairs = v.line(&lines[h], part);
            let (low, high) = (v.low(pairs), v.high(pairs));
            for r in 0..R {
                partial[r] = v.add(partial[r], low, v.word(levels[r][h]));
                partial[r] = v.add(partial[r], high, v.word(levels[r][4 + h]));
            }
        }
        for r in 0..R {
            sums[r] = v.end(sums[r], partial[r]);
        }
    }
}

pub(super) struct Fives;

impl Columns for Fives {
    const UNIT: Unit = Unit::Fives;

    #[inline(always)]
    fn add<V: VectorUnit, const R: usize>(
        v: V,
        lines: &[Line],
        levels: [&[[i8; 4]; 8]; R],
        sums: &mut [V::Ints; R],
        part: usize,
    ) {
        let plane = v.line(&lines[4], part);
        for half in 0..2 {
            let mut partial = begin(v, sums);
            for h in [2 * half, 2 * half + 1] {
                let pairs = v.line(&lines[h], part);
                let (low, high) = (v.low(pairs), v.high(pairs));
                let (low, high) = match h {
                    0 => (v.merge::<4, 0, 16>(low, plane), v.merge::<0, 0, 16>(high, plane)),
                    1 => (v.merge::<3, 0, 16>(low, plane), v.merge::<0, 1, 16>(high, plane)),
                    2 => (v.merge::<2, 0, 16>(low, plane), v.merge::<0, 2, 16>(high, plane)),
                    _ => (v.merge::<1, 0, 16>(low, plane), v.merge::<0, 3, 16>(high, plane)),
                };
                for r in 0..R {
                    partial[r] = v.add(partial[r], low, v.word(levels[r][h]));
                    partial[r] = v.add(partial[r], high, v.word(levels[r][4 + h]));
                }
            }
            for r in 0..R {
                sums[r] = v.end(sums[r], partial[r]);
            }
        }
    }
}

pub(super) struct Bytes;

impl Columns for Bytes {
    const UNIT: Unit = Unit::Bytes;

    #[inline(always)]
    fn add<V: VectorUnit, const R: usize>(
        v: V,
        lines: &[Line],
        levels: [&[[i8; 4]; 8]; R],
        sums: &mut [V::Ints; R],
        part: usize,
    ) {
        for g in 0..8 {
            let line = v.line(&lines[g], part);
            for r in 0..R {
                let partial = v.add_bytes(v.begin(sums[r]), line, v.word(levels[r][g]));
                sums[r] = v.end(sums[r], partial);
            }
        }
    }
}

/// The levels of 16 columns.
pub(super) trait Sixteen {
    const UNIT: Unit;
    /// The columns, in fours, that can be added without an [`VectorUnit::end`].
    const RUN: usize;

    /// The levels of columns `4h + i`, or `16 + 4h + i` if `high`.
    fn levels<V: VectorUnit>(v: V, lines: &[Line], h: usize, high: bool, part: usize) -> V::Bytes;
}

pub(super) struct Sixes;

impl Sixteen for Sixes {
    const UNIT: Unit = Unit::Sixes;
    const RUN: usize = 2;

    #[inline(always)]
    fn levels<V: VectorUnit>(v: V, lines: &[Line], h: usize, high: bool, part: usize) -> V::Bytes {
        let (pairs, plane) = (v.line(&lines[h], part), v.line(&lines[4 + usize::from(high)], part));
        let low = if high { v.high(pairs) } else { v.low(pairs) };
        match h {
            0 => v.merge::<4, 0, 48>(low, plane),
            1 => v.merge::<2, 0, 48>(low, plane),
            2 => v.merge::<0, 0, 48>(low, plane),
            _ => v.merge::<0, 2, 48>(low, plane),
        }
    }
}

pub(super) struct Twos;

impl Sixteen for Twos {
    const UNIT: Unit = Unit::Twos;
    const RUN: usize = 4;

    #[inline(always)]
    fn levels<V: VectorUnit>(v: V, lines: &[Line], h: usize, high: bool, part: usize) -> V::Bytes {
        let (zero, plane) = (v.word([0; 4]), v.line(&lines[usize::from(high)], part));
        match h {
            0 => v.merge::<0, 0, 3>(zero, plane),
            1 => v.merge::<0, 2, 3>(zero, plane),
            2 => v.merge::<0, 4, 3>(zero, plane),
            _ => v.merge::<0, 6, 3>(zero, plane),
        }
    }
}

pub(super) struct Threes;

impl Sixteen for Threes {
    const UNIT: Unit = Unit::Threes;
    const RUN: usize = 4;

    #[inline(always)]
    fn levels<V: VectorUnit>(v: V, lines: &[Line], h: usize, high: bool, part: usize) -> V::Bytes {
        let (low, plane) = (Twos::levels(v, lines, h, high, part), v.line(&lines[2], part));
        match (h, high) {
            (0, false) => v.merge::<2, 0, 4>(low, plane),
            (1, false) => v.merge::<1, 0, 4>(low, plane),
            (2, false) => v.merge::<0, 0, 4>(low, plane),
            (_, false) => v.merge::<0, 1, 4>(low, plane),
            (0, true) => v.merge::<0, 2, 4>(low, plane),
            (1, true) => v.merge::<0, 3, 4>(low, plane),
            (2, true) => v.merge::<0, 4, 4>(low, plane),
            (_, true) => v.merge::<0, 5, 4>(low, plane),
        }
    }
}
