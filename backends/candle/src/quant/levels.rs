//! One block of a row of quantized weights, unpacked: its levels, which are integers, and what turns them into weights.
//!
//! The layouts of the file's blocks are those of `block_q4_0` to `block_q6_K` in ggml's `ggml-common.h`, with the
//! scales as its `ggml-quants.c` reads them.

use half::f16;

use super::types::QuantType;

/// A block, unpacked. A weight is `d * scale * (level - offset) + m`; the fields that a type lacks are unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Levels {
    /// A level for each weight of the block, from 0 up.
    pub(super) values: [u8; 256],
    /// Q4_K, Q5_K: a scale for each 32 weights. Q2_K: one for each 16. Q3_K, Q6_K: the same, an i8 in two's complement.
    pub(super) scales: [u8; 16],
    /// For each scale of Q2_K, Q4_K and Q5_K a minimum, which is multiplied by `m` and subtracted.
    pub(super) mins: [u8; 16],
    /// The bits of the block's scale, an f16.
    pub(super) d: u16,
    /// The bits of an f16: what is added to each weight of Q4_1 and Q5_1, and the scale of `mins`.
    pub(super) m: u16,
}

impl Levels {
    pub(super) const ZERO: Self = Self { values: [0; 256], scales: [0; 16], mins: [0; 16], d: 0, m: 0 };

    /// Unpacks a block of a file, which has as many bytes as a block of that type. A type without levels gives zeros.
    #[inline(always)]
    pub(super) fn read(ty: QuantType, block: &[u8]) -> Self {
        let mut out = Self::ZERO;
        match ty {
            QuantType::Q4_0 | QuantType::Q4_1 | QuantType::Q5_0 | QuantType::Q5_1 => out.read_32(ty, block),
            QuantType::Q8_0 => {
                let Some((d, levels)) = block.split_first_chunk::<2>() else { return out };
                out.d = u16::from_le_bytes(*d);
                for (out, level) in out.values.iter_mut().zip(levels) {
                    *out = level ^ 0x80;
                }
            }
            QuantType::Q4K | QuantType::Q5K => out.read_k(ty, block),
            QuantType::Q2K => out.read_2k(block),
            QuantType::Q3K => out.read_3k(block),
            QuantType::Q6K => out.read_6k(block),
            QuantType::F32 | QuantType::F16 | QuantType::Bf16 => {}
        }
        out
    }

    /// Blocks of 32: `d`, then `m` (types _1), then the highest bits (Q5), then two levels a byte: `i` and `i + 16`.
    #[inline(always)]
    fn read_32(&mut self, ty: QuantType, block: &[u8]) {
        let Some((d, mut rest)) = block.split_first_chunk::<2>() else { return };
        self.d = u16::from_le_bytes(*d);
        if matches!(ty, QuantType::Q4_1 | QuantType::Q5_1) {
            let Some((m, after)) = rest.split_first_chunk::<2>() else { return };
            (self.m, rest) = (u16::from_le_bytes(*m), after);
        }
        let mut bits = 0;
        if matches!(ty, QuantType::Q5_0 | QuantType::Q5_1) {
            let Some((high, after)) = rest.split_first_chunk::<4>() else { return };
            (bits, rest) = (u32::from_le_bytes(*high), after);
        }
        let Some(pairs) = rest.first_chunk::<16>() else { return };
        for (index, pair) in pairs.iter().enumerate() {
            self.values[index] = pair & 15 | ((bits >> index & 1) << 4) as u8;
            self.values[index + 16] = pair >> 4 | ((bits >> (index + 16) & 1) << 4) as u8;
        }
    }

    /// Q2_K: 16 bytes of scales and minima, 64 of levels, `d`, `m`.
    #[inline(always)]
    fn read_2k(&mut self, block: &[u8]) {
        let Some((scales, rest)) = block.split_first_chunk::<16>() else { return };
        let Some((levels, rest)) = rest.split_first_chunk::<64>() else { return };
        let Some(floats) = rest.first_chunk::<4>() else { return };
        self.d = u16::from_le_bytes([floats[0], floats[1]]);
        self.m = u16::from_le_bytes([floats[2], floats[3]]);
        self.scales = scales.map(|scale| scale & 15);
        self.mins = scales.map(|scale| scale >> 4);
        self.read_pairs_of_bits(levels);
    }

    /// Q3_K: 32 bytes of highest bits, 64 of low bits, 12 of scales, `d`.
    #[inline(always)]
    fn read_3k(&mut self, block: &[u8]) {
        let Some((high, rest)) = block.split_first_chunk::<32>() else { return };
        let Some((low, rest)) = rest.split_first_chunk::<64>() else { return };
        let Some((scales, rest)) = rest.split_first_chunk::<12>() else { return };
        let Some(d) = rest.first_chunk::<2>() else { return };
        self.d = u16::from_le_bytes(*d);
        self.read_pairs_of_bits(low);
        for (group, levels) in self.values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (level, high) in levels.iter_mut().zip(high) {
                *level |= (high >> group & 1) << 2;
            }
        }
        // Six bits each, from 0 to 63 for -32 to 31: four low bits in the first 8 bytes, two high ones in the last 4.
        for (index, scale) in self.scales.iter_mut().enumerate() {
            let low = scales[index % 8] >> (index / 8 * 4) & 15;
            let high = scales[8 + index % 4] >> (index / 4 * 2) & 3;
            *scale = (low | high << 4).wrapping_sub(32);
        }
    }

    /// Levels of two bits: four levels a byte, 32 columns apart.
    #[inline(always)]
    fn read_pairs_of_bits(&mut self, bytes: &[u8; 64]) {
        for (group, levels) in self.values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let bytes = &bytes[group / 4 * 32..group / 4 * 32 + 32];
            for (level, byte) in levels.iter_mut().zip(bytes) {
                *level = byte >> (group % 4 * 2) & 3;
            }
        }
    }

    /// Q4_K and Q5_K: `d`, `m`, 12 bytes of scales and minima, 32 bytes of highest bits (Q5_K), two levels a byte.
    #[inline(always)]
    fn read_k(&mut self, ty: QuantType, block: &[u8]) {
        let Some((head, mut rest)) = block.split_first_chunk::<16>() else { return };
        self.d = u16::from_le_bytes([head[0], head[1]]);
        self.m = u16::from_le_bytes([head[2], head[3]]);
        let packed = &head[4..];
        // Six bits each. The first four are in bytes of their own; their two highest bits hold those of the last four.
        for index in 0..4 {
            self.scales[index] = packed[index] & 63;
            self.mins[index] = packed[index + 4] & 63;
            self.scales[index + 4] = packed[index + 8] & 15 | packed[index] >> 6 << 4;
            self.mins[index + 4] = packed[index + 8] >> 4 | packed[index + 4] >> 6 << 4;
        }
        let mut bits = &[0; 32];
        if ty == QuantType::Q5K {
            let Some((high, after)) = rest.split_first_chunk::<32>() else { return };
            (bits, rest) = (high, after);
        }
        for (chunk, pairs) in rest.as_chunks::<32>().0.iter().take(4).enumerate() {
            for (index, (pair, bits)) in pairs.iter().zip(bits).enumerate() {
                self.values[chunk * 64 + index] = pair & 15 | (bits >> (2 * chunk) & 1) << 4;
                self.values[chunk * 64 + 32 + index] = pair >> 4 | (bits >> (2 * chunk + 1) & 1) << 4;
            }
        }
    }

    /// Q6_K: the four low bits of each level, the two high ones, 16 scales, `d`.
    #[inline(always)]
    fn read_6k(&mut self, block: &[u8]) {
        let Some((low, rest)) = block.split_first_chunk::<128>() else { return };
        let Some((high, rest)) = rest.split_first_chunk::<64>() else { return };
        let Some((scales, rest)) = rest.split_first_chunk::<16>() else { return };
        let Some(d) = rest.first_chunk::<2>() else { return };
        (self.scales, self.d) = (*scales, u16::from_le_bytes(*d));
        for half in 0..2 {
            let (low, high) = (&low[half * 64..half * 64 + 64], &high[half * 32..half * 32 + 32]);
            let levels = &mut self.values[half * 128..half * 128 + 128];
            for index in 0..32 {
                levels[index] = low[index] & 15 | (high[index] & 3) << 4;
                levels[index + 32] = low[index + 32] & 15 | (high[index] >> 2 & 3) << 4;
                levels[index + 64] = low[index] >> 4 | (high[index] >> 4 & 3) << 4;
                levels[index + 96] = low[index + 32] >> 4 | (high[index] >> 6) << 4;
            }
        }
    }

    /// Writes the block's weights, of which there are as many as `out` has elements.
    pub(super) fn weights(&self, ty: QuantType, out: &mut [f32]) {
        let (d, m) = (f16::from_bits(self.d).to_f32(), f16::from_bits(self.m).to_f32());
        let offset = offset(ty);
        for (group, (out, levels)) in out.chunks_mut(16).zip(self.values.chunks(16)).enumerate() {
            let (scale, add) = match ty {
                QuantType::Q4K | QuantType::Q5K => {
                    (d * f32::from(self.scales[group / 2]), -(m * f32::from(self.mins[group / 2])))
                }
                QuantType::Q2K => (d * f32::from(self.scales[group]), -(m * f32::from(self.mins[group]))),
                QuantType::Q3K | QuantType::Q6K => (d * f32::from(self.scales[group].cast_signed()), 0.0),
                _ => (d, m),
            };
            for (out, &level) in out.iter_mut().zip(levels) {
                *out = scale * (i32::from(level) - offset) as f32 + add;
            }
        }
    }
}

/// What is subtracted from each level of a type.
pub(super) const fn offset(ty: QuantType) -> i32 {
    match ty {
        QuantType::Q3K => 4,
        QuantType::Q4_0 => 8,
        QuantType::Q5_0 => 16,
        QuantType::Q6K => 32,
        QuantType::Q8_0 => 128,
        _ => 0,
    }
}
