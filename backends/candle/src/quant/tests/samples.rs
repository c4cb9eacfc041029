//! Random and extreme blocks.

use crate::quant::floats::Floats;
use crate::quant::levels::Levels;
use crate::quant::rows::RowsOf;
use crate::quant::tile::Tiles;
use crate::quant::types::QuantType;

/// The types that have blocks.
pub(super) const BLOCK_TYPES: [QuantType; 10] = [
    QuantType::Q4_0,
    QuantType::Q4_1,
    QuantType::Q5_0,
    QuantType::Q5_1,
    QuantType::Q8_0,
    QuantType::Q2K,
    QuantType::Q3K,
    QuantType::Q4K,
    QuantType::Q5K,
    QuantType::Q6K,
];

/// A matrix in tiles, from the bytes of all rows.
pub(super) fn tiles_of(ty: QuantType, rows: usize, cols: usize, bytes: &[u8]) -> Tiles {
    Tiles::read(ty, rows, cols, &mut RowsOf(bytes, bytes.len() / rows)).unwrap().unwrap()
}

/// A matrix of floats, from the bytes of all rows.
pub(super) fn floats_of(ty: QuantType, rows: usize, cols: usize, bytes: &[u8]) -> Floats {
    Floats::read(ty, rows, cols, &mut RowsOf(bytes, bytes.len() / rows)).unwrap().unwrap()
}

/// Pseudo-random numbers: SplitMix64.
#[derive(Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From -1 to 1.
    pub(super) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(super) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

/// The places of a block's f16: scale, and minimum if there is one.
fn scales(ty: QuantType) -> &'static [usize] {
    match ty {
        QuantType::Q4_0 | QuantType::Q5_0 | QuantType::Q8_0 => &[0],
        QuantType::Q4_1 | QuantType::Q5_1 | QuantType::Q4K | QuantType::Q5K => &[0, 2],
        QuantType::Q6K => &[208],
        QuantType::Q2K => &[80, 82],
        QuantType::Q3K => &[108],
        QuantType::F32 | QuantType::F16 | QuantType::Bf16 => &[],
    }
}

/// Blocks of random bytes, whose scales are bits of an f16 that `scale` gives.
pub(super) fn blocks(
    ty: QuantType,
    count: usize,
    random: &mut Random,
    mut scale: impl FnMut(&mut Random) -> u16,
) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..count * ty.block_bytes()).map(|_| random.next() as u8).collect();
    for block in bytes.chunks_exact_mut(ty.block_bytes()) {
        for &place in scales(ty) {
            block[place..place + 2].copy_from_slice(&scale(random).to_le_bytes());
        }
    }
    bytes
}

/// Bits of a finite f16 from 2^-6 to 1, with a random sign.
pub(super) fn plain_scale(random: &mut Random) -> u16 {
    let bits = random.next() as u16;
    bits & 0x8000 | (0x2400 + bits % 0x1800)
}

/// The weights of a file's blocks.
pub(super) fn weights(ty: QuantType, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; bytes.len() / ty.block_bytes() * ty.block_len()];
    for (out, block) in out.chunks_exact_mut(ty.block_len()).zip(bytes.chunks_exact(ty.block_bytes())) {
        Levels::read(ty, block).weights(ty, out);
    }
    out
}
