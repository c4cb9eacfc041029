//! The products of tiles in the plainest Rust, for the forms to be compared with: from the unpacked levels of each row,
//! without what [`Activations`] sums up for the kernels.

use half::f16;

use crate::quant::activations::Activations;
use crate::quant::levels::{Levels, offset};
use crate::quant::processor::Processor;
use crate::quant::tile::{TILE, Tiles};
use crate::quant::types::QuantType;

/// The product of the rows of `x` with the rows of a matrix.
pub(super) fn product(tiles: &Tiles, x: &[f32]) -> Vec<f32> {
    let (ty, rows, cols) = (tiles.ty(), tiles.rows(), tiles.cols());
    let mut activations = Activations::default();
    let mut out = vec![0.0; x.len() / cols * rows];
    for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(rows)) {
        Processor::Plain.run(activations.quantization(ty, x, cols, 1, 0));
        for (row, out) in out.iter_mut().enumerate() {
            for (place, weights) in tiles.blocks(row / TILE).enumerate() {
                *out += dot(ty, &tiles.levels(weights, row % TILE), &activations, place);
            }
        }
    }
    out
}

/// The product of two blocks.
fn dot(ty: QuantType, weights: &Levels, activations: &Activations, place: usize) -> f32 {
    let (len, offset) = (ty.block_len(), offset(ty));
    let x = &activations.levels[place * len..(place + 1) * len];
    let (mut total, mut mins) = (0, 0);
    for (index, (x, levels)) in x.as_chunks::<16>().0.iter().zip(weights.values.as_chunks::<16>().0).enumerate() {
        let pairs = x.iter().zip(levels);
        let sum: i32 = pairs.map(|(&x, &level)| i32::from(x) * (i32::from(level) - offset)).sum();
        let x: i32 = x.iter().map(|&x| i32::from(x)).sum();
        let scale = match ty {
            QuantType::Q2K => {
                mins += i32::from(weights.mins[index]) * x;
                i32::from(weights.scales[index])
            }
            QuantType::Q4K | QuantType::Q5K => {
                mins += i32::from(weights.mins[index / 2]) * x;
                i32::from(weights.scales[index / 2])
            }
            QuantType::Q3K | QuantType::Q6K => i32::from(weights.scales[index].cast_signed()),
            _ => 1,
        };
        total += scale * sum;
    }
    let (scale, m) = (f16::from_bits(weights.d).to_f32(), f16::from_bits(weights.m).to_f32());
    let d = activations.d[place];
    let product = total as f32 * (scale * d);
    match ty {
        QuantType::Q4_1 | QuantType::Q5_1 => product + m * activations.totals[place],
        QuantType::Q2K | QuantType::Q4K | QuantType::Q5K => product - mins as f32 * (m * d),
        _ => product,
    }
}
