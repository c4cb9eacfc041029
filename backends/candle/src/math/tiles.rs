//! Transposes a strip of a matrix in tiles, which the processor moves in vectors.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]

use crate::math::simd::{Loop, wide_loop};

/// Rows and columns of a tile.
pub(crate) const TILE: usize = 16;

/// At most [`TILE`] rows of the result. Column `c` of them is at `c * from` in the source, row `r` at `r * to` in the
/// target.
pub(crate) struct Strip<'a, T> {
    pub(crate) source: &'a [T],
    pub(crate) target: &'a mut [T],
    pub(crate) count: usize,
    pub(crate) width: usize,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

impl<T: Copy + Default> Strip<'_, T> {
    /// Moves the elements.
    pub(crate) fn transpose(self) {
        wide_loop(self);
    }
}

impl<T: Copy + Default> Loop for Strip<'_, T> {
    #[inline(always)]
    fn run(mut self) {
        match (self.count, self.width) {
            (_, 2) if self.to == 2 => self.interleave::<2>(),
            (_, 3) if self.to == 3 => self.interleave::<3>(),
            (_, 4) if self.to == 4 => self.interleave::<4>(),
            (2, _) if self.from == 2 => self.separate::<2>(),
            (3, _) if self.from == 3 => self.separate::<3>(),
            (4, _) if self.from == 4 => self.separate::<4>(),
            (TILE, _) => self.tiles(),
            _ => self.rest(0),
        }
    }
}

impl<T: Copy + Default> Strip<'_, T> {
    /// Whole tiles, and the columns after them.
    #[inline(always)]
    fn tiles(&mut self) {
        let mut left = 0;
        while left + TILE <= self.width {
            let mut tile = [[T::default(); TILE]; TILE];
            for (column, tile) in tile.iter_mut().enumerate() {
                tile.copy_from_slice(&self.source[(left + column) * self.from..][..TILE]);
            }
            for row in 0..TILE {
                let target = &mut self.target[row * self.to + left..][..TILE];
                for (target, column) in target.iter_mut().zip(&tile) {
                    *target = column[row];
                }
            }
            left += TILE;
        }
        self.rest(left);
    }

    /// The columns from `left` on.
    #[inline(always)]
    fn rest(&mut self, left: usize) {
        for row in 0..self.count {
            let target = &mut self.target[row * self.to..][..self.width];
            for (column, target) in target.iter_mut().enumerate().skip(left) {
                *target = self.source[column * self.from + row];
            }
        }
    }

    /// Rows of `N` elements, one after the other.
    #[inline(always)]
    fn interleave<const N: usize>(&mut self) {
        let columns: [&[T]; N] = std::array::from_fn(|column| &self.source[column * self.from..][..self.count]);
        for (row, target) in self.target.as_chunks_mut::<N>().0.iter_mut().take(self.count).enumerate() {
            for (target, column) in target.iter_mut().zip(&columns) {
                *target = column[row];
            }
        }
    }

    /// Columns of `N` elements, one after the other.
    #[inline(always)]
    fn separate<const N: usize>(&mut self) {
        let columns = &self.source.as_chunks::<N>().0[..self.width];
        for row in 0..N {
            for (target, column) in self.target[row * self.to..].iter_mut().zip(columns) {
                *target = column[row];
            }
        }
    }
}
