//! Quantized weights in tiles of 16 rows, arranged for vector instructions that multiply four bytes in each lane.
//!
//! A tile has the blocks of its rows side by side. Each 32 columns of a tile are a unit of 2 to 8 lines of 64 bytes. In
//! a line, byte `4 * lane + i` belongs to row `lane`:
//!
//! ```text
//!  type         lines of a unit
//!  Q8_0         8 of levels: line g has the columns 4g + i
//!  Q2_K         2 of levels of 2 bits: in the first, bits 2h and 2h + 1 are column 4h + i; in the second, column
//!               16 + 4h + i
//!  Q3_K         2 of low bits, as in Q2_K; 1 of highest bits, as in Q5
//!  all others   4 of pairs of levels: line h has the columns 4h + i in its low 4 bits, 16 + 4h + i in its high 4 bits
//!  Q5           1 more of highest bits: bit h is that of column 4h + i, bit 4 + h that of column 16 + 4h + i
//!  Q6_K         2 more of highest bits, as in Q2_K
//! ```
//!
//! What a block has beside its levels is in halves of 32 bytes:
//!
//! ```text
//!  type             halves of a block
//!  blocks of 32     1 or 2: `d` of each lane, then `m` of each lane for Q4_1 and Q5_1
//!  Q4_K, Q5_K       4 of scales, each with 16 bytes for 32 columns and 16 for the next; 4 of minima, each with 2
//!                   bytes a lane, for 32 columns and the next; `d`; `m`
//!  Q2_K, Q3_K, Q6_K 8 of scales, each with 16 bytes for 16 columns and 16 for the next; `d`; `m` for Q2_K, whose
//!                   scales have a minimum in their high 4 bits
//! ```
//!
//! It is as many bytes as in the file, but for Q3_K, Q4_K and Q5_K, whose scales are 4 bytes a block larger. A last
//! tile with less than 16 rows is filled up with zeros.

use std::array::from_fn;

use graphpool::backend::Error;

use super::levels::Levels;
use super::rows::RowSource;
use super::types::QuantType;

/// Rows of a tile.
pub(super) const TILE: usize = 16;

/// Four bytes for each row of a tile: one vector register of AVX-512, two of AVX2, four of NEON.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u8; 64]);

/// Half a line: two bytes for each row of a tile, or one byte for each row and then another one.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub(super) struct Half(pub(super) [u8; 32]);

/// How the levels of 32 columns are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// 2 bits.
    Twos,
    /// 3 bits.
    Threes,
    /// 4 bits.
    Nibbles,
    /// 5 bits.
    Fives,
    /// 6 bits.
    Sixes,
    /// 8 bits.
    Bytes,
}

impl Unit {
    /// The lines of 32 columns.
    pub(super) const fn lines(self) -> usize {
        match self {
            Self::Twos => 2,
            Self::Threes => 3,
            Self::Nibbles => 4,
            Self::Fives => 5,
            Self::Sixes => 6,
            Self::Bytes => 8,
        }
    }
}

/// The unit of a type; `None` if it has no tiles.
pub(super) const fn unit(ty: QuantType) -> Option<Unit> {
    Some(match ty {
        QuantType::Q4_0 | QuantType::Q4_1 | QuantType::Q4K => Unit::Nibbles,
        QuantType::Q5_0 | QuantType::Q5_1 | QuantType::Q5K => Unit::Fives,
        QuantType::Q6K => Unit::Sixes,
        QuantType::Q8_0 => Unit::Bytes,
        QuantType::Q2K => Unit::Twos,
        QuantType::Q3K => Unit::Threes,
        QuantType::F32 | QuantType::F16 | QuantType::Bf16 => return None,
    })
}

/// The halves of a block.
const fn halves(ty: QuantType) -> usize {
    match ty {
        QuantType::Q4_1 | QuantType::Q5_1 => 2,
        QuantType::Q2K | QuantType::Q4K | QuantType::Q5K => 10,
        QuantType::Q3K | QuantType::Q6K => 9,
        _ => 1,
    }
}

/// A matrix in tiles.
#[derive(Debug)]
pub(super) struct Tiles {
    ty: QuantType,
    unit: Unit,
    rows: usize,
    /// Blocks of a row.
    blocks: usize,
    lines: Vec<Line>,
    halves: Vec<Half>,
}

/// One block of the rows of a tile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) lines: &'a [Line],
    pub(super) halves: &'a [Half],
}

/// How many lines a processor is told to fetch before it needs them, where several rows are multiplied: so few that
/// they stay in its first cache, and enough for the time that memory takes.
pub(super) const AHEAD: usize = 48;

impl Tiles {
    /// The bytes that a matrix takes in tiles. `None` for a type without tiles, and for a number that is too large.
    pub(super) fn bytes(ty: QuantType, rows: usize, cols: usize) -> Option<usize> {
        let unit = unit(ty)?;
        let blocks = rows.div_ceil(TILE).checked_mul(cols / ty.block_len())?;
        blocks.checked_mul(unit.lines() * (ty.block_len() / 32) * size_of::<Line>() + halves(ty) * size_of::<Half>())
    }

    /// Arranges the blocks of a file's rows. `None` for a type without tiles.
    pub(super) fn read(
        ty: QuantType,
        rows: usize,
        cols: usize,
        source: &mut dyn RowSource,
    ) -> Result<Option<Self>, Error> {
        let Some(unit) = unit(ty) else { return Ok(None) };
        let blocks = cols / ty.block_len();
        let (per_block, row_bytes) = (unit.lines() * (ty.block_len() / 32), blocks * ty.block_bytes());
        let count = rows.div_ceil(TILE) * blocks;
        let mut out = Self { ty, unit, rows, blocks, lines: Vec::new(), halves: Vec::new() };
        let no_memory = |_| Error::too_large(format!("no memory for a matrix of {rows} × {cols} weights"));
        out.lines.try_reserve_exact(count * per_block).map_err(no_memory)?;
        out.halves.try_reserve_exact(count * halves(ty)).map_err(no_memory)?;
        out.lines.resize(count * per_block, Line([0; 64]));
        out.halves.resize(count * halves(ty), Half([0; 32]));
        let tiles =
            out.lines.chunks_exact_mut(per_block * blocks).zip(out.halves.chunks_exact_mut(halves(ty) * blocks));
        for (index, (lines, halves_of_tile)) in tiles.enumerate() {
            let row = index * TILE;
            let bytes = source.rows(row..rows.min(row + TILE))?;
            let places = lines.chunks_exact_mut(per_block).zip(halves_of_tile.chunks_exact_mut(halves(ty)));
            for (block, (lines, halves)) in places.enumerate() {
                for (lane, bytes) in bytes.chunks_exact(row_bytes).enumerate() {
                    let start = block * ty.block_bytes();
                    put_block(ty, &bytes[start..start + ty.block_bytes()], lines, halves, lane);
                }
            }
        }
        Ok(Some(out))
    }

    pub(super) const fn ty(&self) -> QuantType {
        self.ty
    }

    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    pub(super) const fn cols(&self) -> usize {
        self.blocks * self.ty.block_len()
    }

    /// The number of tiles.
    pub(super) const fn len(&self) -> usize {
        self.rows.div_ceil(TILE)
    }

    /// All lines and halves of a tile.
    #[inline(always)]
    pub(super) fn tile(&self, index: usize) -> Block<'_> {
        let lines = self.blocks * self.unit.lines() * (self.ty.block_len() / 32);
        let halves = self.blocks * halves(self.ty);
        Block {
            lines: &self.lines[index * lines..(index + 1) * lines],
            halves: &self.halves[index * halves..(index + 1) * halves],
        }
    }

    /// As many lines as a tile has, from [`AHEAD`] past the first of this one on. Those of the tile itself at the end.
    #[inline(always)]
    pub(super) fn ahead(&self, index: usize) -> &[Line] {
        let lines = self.tile(index).lines;
        let start = index * lines.len() + AHEAD;
        self.lines.get(start..start + lines.len()).unwrap_or(lines)
    }

    /// The blocks of a tile, from the first columns on.
    pub(super) fn blocks(&self, index: usize) -> impl Iterator<Item = Block<'_>> {
        let tile = self.tile(index);
        let lines = tile.lines.chunks_exact(self.unit.lines() * (self.ty.block_len() / 32));
        lines.zip(tile.halves.chunks_exact(halves(self.ty))).map(|(lines, halves)| Block { lines, halves })
    }

    /// Unpacks one lane of a block.
    pub(super) fn levels(&self, block: Block<'_>, lane: usize) -> Levels {
        get(self.ty, self.unit, block, lane)
    }

    /// Writes the weights of a row, which is as long as `out`.
    pub(super) fn row(&self, index: usize, out: &mut [f32]) {
        for (out, block) in out.chunks_exact_mut(self.ty.block_len()).zip(self.blocks(index / TILE)) {
            self.levels(block, index % TILE).weights(self.ty, out);
        }
    }
}

/// Two halves of 16 bytes in one.
fn put_scales(halves: &mut [Half], scales: &[u8], lane: usize) {
    for (half, scales) in halves.iter_mut().zip(scales.as_chunks::<2>().0) {
        half.0[lane] = scales[0];
        half.0[16 + lane] = scales[1];
    }
}

/// Writes a block of a file to a lane. There is code for each type, whose loops have constant lengths.
fn put_block(ty: QuantType, block: &[u8], lines: &mut [Line], halves: &mut [Half], lane: usize) {
    macro_rules! each {
        ($($ty:ident $unit:ident),*) => {
            match ty {
                $(QuantType::$ty => {
                    let levels = Levels::read(QuantType::$ty, block);
                    put(QuantType::$ty, Unit::$unit, &levels, lines, halves, lane);
                })*
                QuantType::F32 | QuantType::F16 | QuantType::Bf16 => {}
            }
        };
    }
    each!(
        Q4_0 Nibbles, Q4_1 Nibbles, Q4K Nibbles, Q5_0 Fives, Q5_1 Fives, Q5K Fives, Q8_0 Bytes, Q2K Twos, Q3K Threes,
        Q6K Sixes
    );
}

/// Writes the levels of 32 columns to a lane.
#[inline(always)]
fn put_unit(unit: Unit, levels: &[u8; 32], lines: &mut [Line], lane: usize) {
    let (low, high): (&[u8], &[u8]) = (&levels[..16], &levels[16..]);
    // Two bits of the columns 4h + i, from bit `shift` on.
    let twos = |levels: &[u8], shift: u32| {
        from_fn::<u8, 4, _>(|i| (0..4).fold(0, |byte, h| byte | (levels[4 * h + i] >> shift & 3) << (2 * h)))
    };
    // One bit of the columns 4h + i and 16 + 4h + i.
    let ones = |shift: u32| {
        from_fn::<u8, 4, _>(|i| {
            (0..4).fold(0, |byte, h| {
                byte | (low[4 * h + i] >> shift & 1) << h | (high[4 * h + i] >> shift & 1) << (4 + h)
            })
        })
    };
    let mut put = |line: usize, word: [u8; 4]| lines[line].0[lane * 4..lane * 4 + 4].copy_from_slice(&word);
    match unit {
        Unit::Bytes => {
            for (line, word) in levels.as_chunks::<4>().0.iter().enumerate() {
                put(line, *word);
            }
        }
        Unit::Twos | Unit::Threes => {
            put(0, twos(low, 0));
            put(1, twos(high, 0));
        }
        Unit::Nibbles | Unit::Fives | Unit::Sixes => {
            for h in 0..4 {
                put(h, from_fn(|i| low[4 * h + i] & 15 | high[4 * h + i] << 4));
            }
        }
    }
    match unit {
        Unit::Threes => put(2, ones(2)),
        Unit::Fives => put(4, ones(4)),
        Unit::Sixes => {
            put(4, twos(low, 4));
            put(5, twos(high, 4));
        }
        Unit::Twos | Unit::Nibbles | Unit::Bytes => {}
    }
}

/// Writes a block of one row to its lane.
#[inline(always)]
fn put(ty: QuantType, unit: Unit, from: &Levels, lines: &mut [Line], halves: &mut [Half], lane: usize) {
    for (lines, levels) in lines.chunks_exact_mut(unit.lines()).zip(from.values.as_chunks::<32>().0) {
        put_unit(unit, levels, lines, lane);
    }
    let mut put_float = |index: usize, bits: u16| {
        halves[index].0[lane * 2..lane * 2 + 2].copy_from_slice(&bits.to_le_bytes());
    };
    match ty {
        QuantType::Q4K | QuantType::Q5K => {
            put_float(8, from.d);
            put_float(9, from.m);
            put_scales(&mut halves[..4], &from.scales[..8], lane);
            for (half, mins) in halves[4..8].iter_mut().zip(from.mins[..8].as_chunks::<2>().0) {
                half.0[lane * 2..lane * 2 + 2].copy_from_slice(mins);
            }
        }
        QuantType::Q2K => {
            put_float(8, from.d);
            put_float(9, from.m);
            let packed: [u8; 16] = from_fn(|index| from.scales[index] | from.mins[index] << 4);
            put_scales(&mut halves[..8], &packed, lane);
        }
        QuantType::Q3K | QuantType::Q6K => {
            put_float(8, from.d);
            put_scales(&mut halves[..8], &from.scales, lane);
        }
        QuantType::Q4_1 | QuantType::Q5_1 => {
            put_float(0, from.d);
            put_float(1, from.m);
        }
        _ => put_float(0, from.d),
    }
}

/// The inverse of [`put`].
fn get(ty: QuantType, unit: Unit, from: Block<'_>, lane: usize) -> Levels {
    let mut out = Levels::ZERO;
    for (lines, levels) in from.lines.chunks_exact(unit.lines()).zip(out.values.as_chunks_mut::<32>().0) {
        for (column, level) in levels.iter_mut().enumerate() {
            let (group, i) = (column / 4, lane * 4 + column % 4);
            let (h, high) = (group % 4, group / 4);
            let pair = |line: &Line| line.0[i] >> (2 * h) & 3;
            let bit = |line: &Line| line.0[i] >> (4 * high + h) & 1;
            *level = match unit {
                Unit::Bytes => lines[group].0[i],
                Unit::Twos => pair(&lines[high]),
                Unit::Threes => pair(&lines[high]) | bit(&lines[2]) << 2,
                Unit::Nibbles => lines[h].0[i] >> (4 * high) & 15,
                Unit::Fives => lines[h].0[i] >> (4 * high) & 15 | bit(&lines[4]) << 4,
                Unit::Sixes => lines[h].0[i] >> (4 * high) & 15 | pair(&lines[4 + high]) << 4,
            };
        }
    }
    let float = |index: usize| {
        let half = &from.halves[index].0;
        u16::from_le_bytes([half[lane * 2], half[lane * 2 + 1]])
    };
    match ty {
        QuantType::Q4K | QuantType::Q5K => {
            (out.d, out.m) = (float(8), float(9));
            for (half, scales) in from.halves.iter().zip(out.scales[..8].as_chunks_mut::<2>().0) {
                *scales = [half.0[lane], half.0[16 + lane]];
            }
            for (half, mins) in from.halves[4..8].iter().zip(out.mins[..8].as_chunks_mut::<2>().0) {
                *mins = [half.0[lane * 2], half.0[lane * 2 + 1]];
            }
        }
        QuantType::Q2K | QuantType::Q3K | QuantType::Q6K => {
            out.d = float(8);
            for (half, scales) in from.halves.iter().zip(out.scales.as_chunks_mut::<2>().0) {
                *scales = [half.0[lane], half.0[16 + lane]];
            }
            if ty == QuantType::Q2K {
                out.m = float(9);
                out.mins = out.scales.map(|scale| scale >> 4);
                out.scales = out.scales.map(|scale| scale & 15);
            }
        }
        QuantType::Q4_1 | QuantType::Q5_1 => (out.d, out.m) = (float(0), float(1)),
        _ => out.d = float(0),
    }
    out
}
