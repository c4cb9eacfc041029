//! Transposes a strip of a matrix in tiles, which the processor moves in vectors.

#![expect(clippy::inline_always, reason = "a function that is not inlined is not compiled for wide vectors")]

use crate::math::simd::{Loop, wide_loop};

/// Rows and columns of a tile.
pub(crate) const TILE: usize = 16;

/// Rows and columns of a block, where there is no whole tile.
const BLOCK: usize = 4;

/// Some rows of the result: [`TILE`] of them are fastest, unless there are fewer columns. Column `c` of them is at `c * from` in the source, row `r` at `r * to` in the
/// target. What is between the rows of the target stays as it is.
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
            (TILE, TILE..) => self.tiles(),
            (BLOCK.., BLOCK..) => self.blocks(),
            _ => self.elements(),
        }
    }
}

/// Combines the rows of a matrix in pairs: the first halves of two rows become one row, in turns, and so do the last ones.
#[inline(always)]
fn riffled<T: Copy + Default, const N: usize>(matrix: &[[T; N]; N]) -> [[T; N]; N] {
    let mut riffled = [[T::default(); N]; N];
    for row in 0..N / 2 {
        let (even, odd) = (matrix[row], matrix[row + N / 2]);
        for column in 0..N / 2 {
            riffled[2 * row][2 * column] = even[column];
            riffled[2 * row][2 * column + 1] = odd[column];
            riffled[2 * row + 1][2 * column] = even[column + N / 2];
            riffled[2 * row + 1][2 * column + 1] = odd[column + N / 2];
        }
    }
    riffled
}

impl<T: Copy + Default> Strip<'_, T> {
    /// Whole tiles. The last one begins where it ends with the last column, so it may move some columns again.
    #[inline(always)]
    fn tiles(self) {
        let Self { source, target, width, from, to, .. } = self;
        for left in (0..width).step_by(TILE) {
            let left = left.min(width - TILE);
            let mut tile = [[T::default(); TILE]; TILE];
            for (column, tile) in tile.iter_mut().enumerate() {
                tile.copy_from_slice(&source[(left + column) * from..][..TILE]);
            }
            if size_of::<T>() <= 2 {
                // A row is at most one vector of AVX2, and this is faster than gathering columns.
                let rows = riffled(&riffled(&riffled(&riffled(&tile))));
                for (row, elements) in rows.iter().enumerate() {
                    target[row * to + left..][..TILE].copy_from_slice(elements);
                }
                continue;
            }
            for row in 0..TILE {
                let target = &mut target[row * to + left..][..TILE];
                for (target, column) in target.iter_mut().zip(&tile) {
                    *target = column[row];
                }
            }
        }
    }

    /// Blocks of [`BLOCK`] rows and columns. The last ones may move some elements again.
    #[inline(always)]
    fn blocks(self) {
        let Self { source, target, count, width, from, to } = self;
        for left in (0..width).step_by(BLOCK) {
            let left = left.min(width - BLOCK);
            let columns: [&[T]; BLOCK] = std::array::from_fn(|column| &source[(left + column) * from..][..count]);
            for first in (0..count).step_by(BLOCK) {
                let first = first.min(count - BLOCK);
                let mut block = [[T::default(); BLOCK]; BLOCK];
                for (block, column) in block.iter_mut().zip(&columns) {
                    block.copy_from_slice(&column[first..first + BLOCK]);
                }
                for (row, elements) in riffled(&riffled(&block)).iter().enumerate() {
                    target[(first + row) * to + left..][..BLOCK].copy_from_slice(elements);
                }
            }
        }
    }

    /// One element after the other.
    #[inline(always)]
    fn elements(self) {
        let Self { source, target, count, width, from, to } = self;
        for row in 0..count {
            for (column, target) in target[row * to..][..width].iter_mut().enumerate() {
                *target = source[column * from + row];
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Copy + Default + PartialEq + std::fmt::Debug>(number: impl Fn(usize) -> T) {
        for count in (1..=TILE + 1).chain([40]) {
            for width in [1, 2, 3, 4, 5, 11, 12, 15, 16, 17, 31, 33, 40] {
                for (from, to) in [(count, width), (count + 3, width), (count, width + 1), (50, 61)] {
                    let source: Vec<T> = (0..(width - 1) * from + count).map(&number).collect();
                    let mut target = vec![number(7777); (count - 1) * to + width + 5];
                    Strip { source: &source, target: &mut target, count, width, from, to }.transpose();
                    for (place, &found) in target.iter().enumerate() {
                        let (row, column) = (place / to, place % to);
                        let moved = row < count && column < width;
                        let wanted = if moved { source[column * from + row] } else { number(7777) };
                        assert_eq!(found, wanted, "{count} {width} {from} {to}: {place}");
                    }
                }
            }
        }
    }

    #[test]
    fn strips_of_every_shape_are_transposed_and_nothing_else_changes() {
        check(|index| (index % 251) as u8);
        check(|index| index as u16);
        check(|index| index as f32);
        check(|index| index as u64);
    }
}
