//! Packs both operands for a unit.

use crate::math::simd::{Loop, wide_loop};

use super::unit::{Task, Unit, WORD};

/// How bytes are turned into those of the sign that a unit wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Flip {
    /// They have it.
    None,
    /// Signed bytes that become unsigned: 128 is added.
    Up,
    /// Unsigned bytes that become signed: 128 is subtracted.
    Down,
}

impl Flip {
    pub(super) const fn new(signed: bool, to_signed: bool) -> Self {
        match (signed, to_signed) {
            (true, false) => Self::Up,
            (false, true) => Self::Down,
            _ => Self::None,
        }
    }

    /// What a byte is combined with by exclusive or.
    pub(crate) const fn mask(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Up | Self::Down => 0x80,
        }
    }

    /// The zero point of the turned bytes.
    pub(crate) const fn zero_point(self, zero_point: i32) -> i32 {
        match self {
            Self::None => zero_point,
            Self::Up => zero_point + 128,
            Self::Down => zero_point - 128,
        }
    }
}

/// Appends a row of the left operand as words. The bytes that are missing in the last word are 0.
pub(super) fn pack_row(row: &[u8], mask: u8, group: usize, unsigned: bool, out: &mut Vec<u8>) {
    if group == WORD {
        out.extend(row.iter().map(|byte| byte ^ mask));
    } else {
        let start = out.len();
        out.resize(start + 2 * row.len(), 0);
        for (out, byte) in out[start..].as_chunks_mut::<2>().0.iter_mut().zip(row) {
            let byte = byte ^ mask;
            *out = if unsigned { i16::from(byte) } else { i16::from(byte.cast_signed()) }.to_le_bytes();
        }
    }
    out.resize(out.len().next_multiple_of(WORD), 0);
}

/// Writes a group of rows as lines: for each column a byte of each row. Bytes of rows and columns that are missing are
/// 0.
pub(super) fn interleave(rows: &[&[u8]], mask: u8, group: usize, out: &mut [u8]) {
    let columns = rows.first().map_or(0, |row| row.len());
    for (column, out) in out.chunks_exact_mut(group).enumerate() {
        for (place, out) in out.iter_mut().enumerate() {
            let row = rows.get(place).filter(|_| column < columns);
            *out = row.map_or(0, |row| row[column] ^ mask);
        }
    }
}

/// Packs panels from rows of bytes.
pub(super) struct PackRows<'a> {
    /// The first row's first byte, and so on.
    pub(super) elements: &'a [u8],
    /// Where each row of the group begins in the elements.
    pub(super) starts: &'a [usize],
    pub(super) columns: usize,
    pub(super) mask: u8,
    /// The panels.
    pub(super) out: &'a mut [u8],
    /// The number of this group of rows, and how many there are.
    pub(super) place: (usize, usize),
}

impl Task for PackRows<'_> {
    #[inline(always)]
    fn run<U: Unit>(self, unit: U) {
        let Self { elements, starts, columns, mask, out, place: (place, words) } = self;
        let width = U::LANES * U::VECTORS;
        for first in (0..columns).step_by(width) {
            let here = width.min(columns - first);
            let bytes = here.next_multiple_of(U::LANES) * U::GROUP;
            let out = &mut out[first * words * U::GROUP + place * bytes..][..bytes];
            let mut rows: [&[u8]; WORD] = [&[]; WORD];
            for (row, start) in rows.iter_mut().zip(starts) {
                *row = &elements[start + first..][..here];
            }
            unit.interleave(&rows[..starts.len().min(WORD)], mask, out);
        }
    }
}

/// Adds up bytes, as unsigned ones or as signed ones.
pub(crate) fn add_bytes(bytes: &[u8], signed: bool) -> i32 {
    struct Add<'a>(&'a [u8], bool, &'a mut i32);
    impl Loop for Add<'_> {
        #[inline(always)]
        fn run(self) {
            for piece in self.0.chunks(1 << 16) {
                // Each is at most 255 · 65,536.
                let sum: i32 = if self.1 {
                    piece.iter().map(|&byte| i32::from(byte.cast_signed())).sum()
                } else {
                    piece.iter().map(|&byte| i32::from(byte)).sum()
                };
                *self.2 = self.2.wrapping_add(sum);
            }
        }
    }
    let mut sum = 0;
    wide_loop(Add(bytes, signed, &mut sum));
    sum
}
