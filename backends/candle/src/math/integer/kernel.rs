//! The product of some rows of the left operand and one panel of the right one.

use super::unit::{MOST_COLUMNS, MOST_ROWS, Unit, WORD};

/// Some rows by one panel.
pub(super) struct Job<'a> {
    /// Rows of words, one after the other.
    pub(super) left: &'a [[u8; WORD]],
    /// Words from one row to the next.
    pub(super) pitch: usize,
    /// The words that are multiplied of each row.
    pub(super) words: (usize, usize),
    /// The lines of the panel that belong to those words.
    pub(super) panel: &'a [u8],
    /// The sums; the first is that of the first row and the panel's first column.
    pub(super) out: &'a mut [i32],
    /// Sums from one row to the next.
    pub(super) out_pitch: usize,
    pub(super) rows: usize,
    /// The panel's columns.
    pub(super) columns: usize,
    /// Whether the sums are added to those in `out`.
    pub(super) add: bool,
    /// Whether the left operand's bytes are the unsigned ones.
    pub(super) left_unsigned: bool,
}

impl Job<'_> {
    #[inline(always)]
    pub(super) fn run<U: Unit>(self, unit: U) {
        match (self.columns.div_ceil(U::LANES), self.left_unsigned) {
            (1, true) => self.panel::<U, 1, true>(unit),
            (2, true) => self.panel::<U, 2, true>(unit),
            (_, true) => self.panel::<U, 3, true>(unit),
            (1, false) => self.panel::<U, 1, false>(unit),
            (2, false) => self.panel::<U, 2, false>(unit),
            (_, false) => self.panel::<U, 3, false>(unit),
        }
    }

    /// The product by a panel of `V` vectors.
    #[inline(always)]
    fn panel<U: Unit, const V: usize, const LEFT: bool>(mut self, unit: U) {
        let mut row = 0;
        while row < self.rows {
            row += match (U::ROWS, self.rows - row) {
                (8, 8..) => self.tile::<U, 8, V, LEFT>(unit, row),
                (_, 4..) => self.tile::<U, 4, V, LEFT>(unit, row),
                (_, 2..) => self.tile::<U, 2, V, LEFT>(unit, row),
                _ => self.tile::<U, 1, V, LEFT>(unit, row),
            };
        }
    }

    /// `R` rows from `row` on. Returns `R`.
    #[inline(always)]
    fn tile<U: Unit, const R: usize, const V: usize, const LEFT: bool>(&mut self, unit: U, row: usize) -> usize {
        let (from, to) = self.words;
        let words = to - from;
        let left: [&[[u8; WORD]]; R] =
            std::array::from_fn(|index| &self.left[(row + index) * self.pitch + from..][..words]);
        let mut sums = [[unit.zero(); V]; R];
        let lines = &U::lines(self.panel).as_chunks::<V>().0[..words];
        for place in 0..words {
            let lines = &lines[place];
            let mut right = [unit.load::<LEFT>(&lines[0]); V];
            for (right, line) in right.iter_mut().zip(lines) {
                *right = unit.load::<LEFT>(line);
            }
            for (sums, left) in sums.iter_mut().zip(&left) {
                for (sum, &right) in sums.iter_mut().zip(&right) {
                    *sum = unit.add::<LEFT>(*sum, left[place], right);
                }
            }
        }
        if self.columns == V * U::LANES && !self.add {
            for (index, sums) in sums.iter().enumerate() {
                let out = &mut self.out[(row + index) * self.out_pitch..][..V * U::LANES];
                for (out, &sum) in out.chunks_exact_mut(U::LANES).zip(sums) {
                    unit.store(sum, out);
                }
            }
            return R;
        }
        let mut tile = [[0_i32; MOST_COLUMNS]; MOST_ROWS];
        for (tile, sums) in tile.iter_mut().zip(&sums) {
            for (tile, &sum) in tile.chunks_exact_mut(U::LANES).zip(sums) {
                unit.store(sum, tile);
            }
        }
        for (index, tile) in tile.iter().take(R).enumerate() {
            let out = &mut self.out[(row + index) * self.out_pitch..][..self.columns];
            if self.add {
                out.iter_mut().zip(tile).for_each(|(out, &sum)| *out = out.wrapping_add(sum));
            } else {
                out.copy_from_slice(&tile[..self.columns]);
            }
        }
        R
    }
}
