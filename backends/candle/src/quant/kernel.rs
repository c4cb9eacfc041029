//! The products of tiles of weights with chunks of activations, for any [`VectorUnit`].
//!
//! Levels are multiplied and summed in integers, exactly. The sums of each block are then scaled and added up in f32,
//! in the order of the blocks, with fused multiply-adds. So all vector units give the same bits, whatever the number of
//! rows. Only [`plain`](super::plain) rounds each product before it is added, if the compiler's target has no fused
//! multiply-add.

#![expect(clippy::needless_range_loop, reason = "an index is that of several arrays")]

use super::activations::{Activations, chunks};
use super::columns::{Bytes, Columns, Fives, Nibbles, Sixes, Sixteen, Threes, Twos, begin, words};
use super::fetch::fetch;
use super::tile::{Block, Half, Line, TILE, Tiles};
use super::types::QuantType;
use super::vector::{FloatUnit, Product, VectorUnit};

/// A product of some tiles with some rows of activations.
pub(super) struct Job<'a> {
    pub(super) tiles: &'a Tiles,
    /// The first tile and the one after the last.
    pub(super) range: (usize, usize),
    pub(super) activations: &'a Activations,
    /// The rows of activations.
    pub(super) n: usize,
    /// A row of `rows` elements for each row of activations.
    pub(super) out: &'a mut [f32],
}

impl Product for Job<'_> {
    #[inline(always)]
    fn run<V: VectorUnit + FloatUnit>(self, v: V) {
        match self.tiles.ty() {
            QuantType::Q4_0 => self.tiles::<V, Simple<Nibbles, false>>(v),
            QuantType::Q4_1 => self.tiles::<V, Simple<Nibbles, true>>(v),
            QuantType::Q5_0 => self.tiles::<V, Simple<Fives, false>>(v),
            QuantType::Q5_1 => self.tiles::<V, Simple<Fives, true>>(v),
            QuantType::Q8_0 => self.tiles::<V, Simple<Bytes, false>>(v),
            QuantType::Q4K => self.tiles::<V, Scaled<Nibbles>>(v),
            QuantType::Q5K => self.tiles::<V, Scaled<Fives>>(v),
            QuantType::Q2K => self.tiles::<V, ScaledBySixteen<Twos, true>>(v),
            QuantType::Q3K => self.tiles::<V, ScaledBySixteen<Threes, false>>(v),
            QuantType::Q6K => self.tiles::<V, ScaledBySixteen<Sixes, false>>(v),
            QuantType::F32 | QuantType::F16 | QuantType::Bf16 => {}
        }
    }
}

impl Job<'_> {
    #[inline(always)]
    fn tiles<V: VectorUnit, K: Kernel>(mut self, v: V) {
        for tile in self.range.0..self.range.1 {
            for (start, size) in chunks(self.n, V::WIDTH) {
                match size {
                    8 => self.chunk::<V, K, 8>(v, tile, start),
                    4 => self.chunk::<V, K, 4>(v, tile, start),
                    2 => self.chunk::<V, K, 2>(v, tile, start),
                    _ => self.chunk::<V, K, 1>(v, tile, start),
                }
            }
        }
    }

    #[inline(always)]
    fn chunk<V: VectorUnit, K: Kernel, const R: usize>(&mut self, v: V, tile: usize, start: usize) {
        let (rows, ty) = (self.tiles.rows(), self.tiles.ty());
        let blocks = self.tiles.cols() / ty.block_len();
        let (from, to) = (start * blocks, (start + R) * blocks);
        let Block { lines, halves } = self.tiles.tile(tile);
        let ahead = self.tiles.ahead(tile).chunks_exact(K::LINES);
        let weights = lines.chunks_exact(K::LINES).zip(halves.chunks_exact(K::HALVES)).zip(ahead);
        let levels = self.activations.levels[from * K::LEN..to * K::LEN].chunks_exact(K::LEN * R);
        let d = self.activations.d[from..to].as_chunks::<R>().0;
        let sums = self.activations.sums[from * K::SUMS..to * K::SUMS].chunks_exact(K::SUMS * R);
        let totals = self.activations.totals[from..to].as_chunks::<R>().0;
        let activations = levels.zip(d).zip(sums.zip(totals));
        let mut out = [[v.float(0.0); R]; MOST_PARTS];
        for (((lines, halves), ahead), ((levels, d), (sums, totals))) in weights.zip(activations) {
            let values = Values { levels, d, sums, totals, ahead };
            // All parts of a block, then those of the next: memory is read in order.
            for part in 0..TILE / V::LANES {
                K::add(v, Block { lines, halves }, &values, part, &mut out[part]);
            }
        }
        let (first, lanes) = (tile * TILE, TILE.min(rows - tile * TILE));
        for r in 0..R {
            let mut result = [0.0; TILE];
            for part in 0..TILE / V::LANES {
                v.store(out[part][r], &mut result, part);
            }
            let out = &mut self.out[(start + r) * rows + first..][..lanes];
            // Of a constant length, if it can be.
            match out.first_chunk_mut() {
                Some(out) => *out = result,
                None => out.copy_from_slice(&result[..lanes]),
            }
        }
    }
}

/// The most parts of a tile.
const MOST_PARTS: usize = 4;

/// A block of activations of each of `R` rows.
struct Values<'a, const R: usize> {
    levels: &'a [i8],
    d: &'a [f32; R],
    sums: &'a [i32],
    totals: &'a [f32; R],
    /// The lines that a later block needs, one for each line of this block.
    ahead: &'a [Line],
}

/// The product of a block of a tile with `R` blocks of activations.
trait Kernel {
    /// Columns of a block.
    const LEN: usize;
    /// Lines and halves of a block of weights.
    const LINES: usize;
    const HALVES: usize;
    /// Sums of a block of activations.
    const SUMS: usize;

    /// Adds the products to `out`.
    fn add<V: VectorUnit, const R: usize>(
        v: V,
        block: Block<'_>,
        values: &Values<'_, R>,
        part: usize,
        out: &mut [V::Floats; R],
    );
}

/// Blocks of 32 with a scale; with a minimum if `MIN`.
struct Simple<C, const MIN: bool>(C);

impl<C: Columns, const MIN: bool> Kernel for Simple<C, MIN> {
    const LEN: usize = 32;
    const LINES: usize = C::UNIT.lines();
    const HALVES: usize = if MIN { 2 } else { 1 };
    const SUMS: usize = 1;

    #[inline(always)]
    fn add<V: VectorUnit, const R: usize>(
        v: V,
        block: Block<'_>,
        values: &Values<'_, R>,
        part: usize,
        out: &mut [V::Floats; R],
    ) {
        let mut sums = [v.int(0); R];
        if !MIN {
            for r in 0..R {
                sums[r] = v.int(values.sums[r]);
            }
        }
        let levels = std::array::from_fn(|r| words(&values.levels[r * 32..r * 32 + 32]));
        if R > 2 && part == 0 {
            fetch(values.ahead);
        }
        C::add::<V, R>(v, block.lines, levels, &mut sums, part);
        let scale = v.floats(&block.halves[0], part);
        for r in 0..R {
            out[r] = v.fused(v.convert(sums[r]), v.multiply(scale, v.float(values.d[r])), out[r]);
        }
        if MIN {
            let min = v.floats(&block.halves[1], part);
            for r in 0..R {
                out[r] = v.fused(min, v.float(values.totals[r]), out[r]);
            }
        }
    }
}

/// Blocks of 256 with a scale and a minimum for each 32 columns: Q4_K and Q5_K.
struct Scaled<C>(C);

impl<C: Columns> Kernel for Scaled<C> {
    const LEN: usize = 256;
    const LINES: usize = 8 * C::UNIT.lines();
    const HALVES: usize = 10;
    const SUMS: usize = 4;

    #[inline(always)]
    fn add<V: VectorUnit, const R: usize>(
        v: V,
        block: Block<'_>,
        values: &Values<'_, R>,
        part: usize,
        out: &mut [V::Floats; R],
    ) {
        let (halves, d) = (block.halves, values.d);
        let mut total = [v.int(0); R];
        let units = block.lines.chunks_exact(C::UNIT.lines()).zip(values.ahead.chunks_exact(C::UNIT.lines()));
        for (index, (lines, ahead)) in units.enumerate() {
            if R > 2 && part == 0 {
                fetch(ahead);
            }
            let mut sums = [v.int(0); R];
            let levels = std::array::from_fn(|r| {
                let place = r * 256 + index * 32;
                words(&values.levels[place..place + 32])
            });
            C::add::<V, R>(v, lines, levels, &mut sums, part);
            let scale = v.unsigned(&halves[index / 2], index % 2, part);
            for r in 0..R {
                total[r] = v.add_product(total[r], sums[r], scale);
            }
        }
        let scale = v.floats(&halves[8], part);
        for r in 0..R {
            out[r] = v.fused(v.convert(total[r]), v.multiply(scale, v.float(d[r])), out[r]);
        }
        let scale = v.floats(&halves[9], part);
        for r in 0..R {
            let mut total = v.int(0);
            for (half, &pair) in halves[4..8].iter().zip(&values.sums[r * 4..r * 4 + 4]) {
                total = v.add_pairs(total, half, part, pair);
            }
            out[r] = v.fused_negative(v.convert(total), v.multiply(scale, v.float(d[r])), out[r]);
        }
    }
}

/// Blocks of 256 with a scale for each 16 columns: signed in Q3_K and Q6_K, unsigned with a minimum (`MIN`) in Q2_K.
struct ScaledBySixteen<S, const MIN: bool>(S);

/// 32 columns of a block of weights, and those of `R` blocks of activations.
struct UnitOf<'a, const R: usize> {
    lines: &'a [Line],
    scales: &'a Half,
    levels: [&'a [[i8; 4]; 8]; R],
    sums: [[i32; 2]; R],
}

impl<S: Sixteen, const MIN: bool> ScaledBySixteen<S, MIN> {
    /// Adds the products of the first, or if `high` of the last, 16 columns.
    #[inline(always)]
    fn half<V: VectorUnit, const R: usize>(
        v: V,
        unit: &UnitOf<'_, R>,
        high: bool,
        part: usize,
        total: &mut [V::Ints; R],
        mins: &mut [V::Ints; R],
    ) {
        let index = usize::from(high);
        let mut sums = [v.int(0); R];
        if !MIN {
            for r in 0..R {
                sums[r] = v.int(unit.sums[r][index]);
            }
        }
        for run in 0..4 / S::RUN {
            let mut partial = begin(v, &sums);
            for h in run * S::RUN..(run + 1) * S::RUN {
                let weights = S::levels(v, unit.lines, h, high, part);
                for r in 0..R {
                    partial[r] = v.add(partial[r], weights, v.word(unit.levels[r][4 * index + h]));
                }
            }
            for r in 0..R {
                sums[r] = v.end(sums[r], partial[r]);
            }
        }
        if MIN {
            let (scale, min) = v.scale_and_min(unit.scales, index, part);
            for r in 0..R {
                total[r] = v.add_product(total[r], sums[r], scale);
                mins[r] = v.add_product(mins[r], v.int(unit.sums[r][index]), min);
            }
        } else {
            let scale = v.signed(unit.scales, index, part);
            for r in 0..R {
                total[r] = v.add_product(total[r], sums[r], scale);
            }
        }
    }
}

impl<S: Sixteen, const MIN: bool> Kernel for ScaledBySixteen<S, MIN> {
    const LEN: usize = 256;
    const LINES: usize = 8 * S::UNIT.lines();
    const HALVES: usize = if MIN { 10 } else { 9 };
    const SUMS: usize = 16;

    #[inline(always)]
    fn add<V: VectorUnit, const R: usize>(
        v: V,
        block: Block<'_>,
        values: &Values<'_, R>,
        part: usize,
        out: &mut [V::Floats; R],
    ) {
        let (halves, d) = (block.halves, values.d);
        let (mut total, mut mins) = ([v.int(0); R], [v.int(0); R]);
        let units = block.lines.chunks_exact(S::UNIT.lines()).zip(values.ahead.chunks_exact(S::UNIT.lines()));
        for (index, (lines, ahead)) in units.enumerate() {
            if R > 2 && part == 0 {
                fetch(ahead);
            }
            let unit = UnitOf {
                lines,
                scales: &halves[index],
                levels: std::array::from_fn(|r| words(&values.levels[r * 256 + index * 32..][..32])),
                sums: std::array::from_fn(|r| [values.sums[r * 16 + 2 * index], values.sums[r * 16 + 2 * index + 1]]),
            };
            // Both in full, and no loop, which would not be unrolled.
            Self::half(v, &unit, false, part, &mut total, &mut mins);
            Self::half(v, &unit, true, part, &mut total, &mut mins);
        }
        let scale = v.floats(&halves[8], part);
        for r in 0..R {
            out[r] = v.fused(v.convert(total[r]), v.multiply(scale, v.float(d[r])), out[r]);
        }
        if MIN {
            let scale = v.floats(&halves[9], part);
            for r in 0..R {
                out[r] = v.fused_negative(v.convert(mins[r]), v.multiply(scale, v.float(d[r])), out[r]);
            }
        }
    }
}
