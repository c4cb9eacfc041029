//! Each vector unit gives the products of the reference.

use graphpool::backend::ComputeControl;
use half::f16;

use super::reference;
use super::samples::{BLOCK_TYPES, Random, blocks, plain_scale, tiles_of, weights};
use crate::quant::activations::Activations;
use crate::quant::processor::Processor;
use crate::quant::tile::Tiles;
use crate::quant::types::QuantType;

pub(super) fn run(processor: Processor, tiles: &Tiles, x: &[f32]) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len() / tiles.cols() * tiles.rows()];
    let control = ComputeControl::default();
    processor.product(tiles, x, &mut out, &mut Activations::default(), &control).unwrap();
    out
}

pub(super) fn bits(floats: &[f32]) -> Vec<u32> {
    floats.iter().map(|float| if float.is_nan() { f32::NAN.to_bits() } else { float.to_bits() }).collect()
}

/// The sum of the absolute products: what the error of a sum of floats is measured by.
pub(super) fn magnitudes(weights: &[f32], x: &[f32], cols: usize) -> Vec<f32> {
    products(weights, x, cols, |w, x| (w * x).abs())
}

/// The sum of a function of each pair of factors.
fn products(weights: &[f32], x: &[f32], cols: usize, product: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    let mut out = Vec::new();
    for x in x.chunks_exact(cols) {
        out.extend(weights.chunks_exact(cols).map(|w| w.iter().zip(x).map(|(&w, &x)| product(w, x)).sum::<f32>()));
    }
    out
}

#[track_caller]
pub(super) fn assert_near(found: &[f32], wanted: &[f32], magnitudes: &[f32], factor: f32, context: &str) {
    assert_eq!(found.len(), wanted.len());
    for (index, ((found, wanted), magnitude)) in found.iter().zip(wanted).zip(magnitudes).enumerate() {
        let near = (found - wanted).abs() <= magnitude * factor + f32::MIN_POSITIVE;
        assert!(
            near || found.is_nan() && wanted.is_nan() || found.to_bits() == wanted.to_bits(),
            "{context} at {index}: {found} {wanted}"
        );
    }
}

/// Shapes: rows below, at and above whole tiles; one block and several; numbers of activations of every chunk size.
pub(super) fn shapes(ty: QuantType) -> impl Iterator<Item = (usize, usize, usize)> {
    let len = ty.block_len();
    let rows = [1, 16, 35];
    rows.into_iter().flat_map(move |rows| {
        [1, 3].into_iter().flat_map(move |blocks| [1, 2, 5, 15].into_iter().map(move |n| (rows, blocks * len, n)))
    })
}

#[test]
fn every_form_gives_the_reference_products() {
    for ty in BLOCK_TYPES {
        let mut random = Random(2);
        for (rows, cols, n) in shapes(ty) {
            let bytes = blocks(ty, rows * cols / ty.block_len(), &mut random, plain_scale);
            let x = random.floats(n * cols);
            let tiles = tiles_of(ty, rows, cols, &bytes);
            let wanted = reference::product(&tiles, &x);
            let magnitudes = magnitudes(&weights(ty, &bytes), &x, cols);
            for processor in Processor::available() {
                let found = run(processor, &tiles, &x);
                // Blocks are multiplied exactly; their sums differ by the rounding of few additions.
                let context = format!("{ty:?} {rows} × {cols}, {n} rows, {processor:?}");
                assert_near(&found, &wanted, &magnitudes, 2e-6, &context);
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_whatever_is_computed_beside_it() {
    for ty in BLOCK_TYPES {
        let mut random = Random(3);
        let (rows, cols, n) = (35, 2 * 256, 23);
        let bytes = blocks(ty, rows * cols / ty.block_len(), &mut random, plain_scale);
        let x = random.floats(n * cols);
        let tiles = tiles_of(ty, rows, cols, &bytes);
        for processor in Processor::available() {
            let together = run(processor, &tiles, &x);
            for (x, together) in x.chunks_exact(cols).zip(together.chunks_exact(rows)) {
                assert_eq!(bits(&run(processor, &tiles, x)), bits(together), "{ty:?} {processor:?}");
            }
        }
    }
}

#[test]
fn extreme_levels_are_multiplied_exactly() {
    // All levels at an end, and activations whose levels are all 127 or -127: the largest sums of integers.
    for ty in BLOCK_TYPES {
        let (rows, cols) = (17, 512);
        for fill in [0x00, 0xff, 0x7f, 0x80, 0x0f, 0xf0, 0x55] {
            let mut bytes = vec![fill; rows * cols / ty.block_len() * ty.block_bytes()];
            let one = blocks(ty, 1, &mut Random(0), |_| f16::ONE.to_bits());
            let zero = blocks(ty, 1, &mut Random(0), |_| 0);
            // The scales are where the two blocks differ.
            for block in bytes.chunks_exact_mut(ty.block_bytes()) {
                for (byte, (one, zero)) in block.iter_mut().zip(one.iter().zip(&zero)) {
                    if one != zero {
                        *byte = *one;
                    }
                }
                // The low byte of an f16 1 is 0, as that of a 0 is.
                if let Some(high) = one.iter().zip(&zero).position(|(one, zero)| one != zero) {
                    block[high - 1] = 0;
                }
            }
            for sign in [1.0, -1.0] {
                let tiles = tiles_of(ty, rows, cols, &bytes);
                let x: Vec<f32> = (0..9 * cols).map(|index| if index % 7 == 0 { -sign } else { sign }).collect();
                let wanted = reference::product(&tiles, &x);
                let magnitudes = magnitudes(&weights(ty, &bytes), &x, cols);
                for processor in Processor::available() {
                    let context = format!("{ty:?} {fill:x} {processor:?}");
                    assert_near(&run(processor, &tiles, &x), &wanted, &magnitudes, 2e-6, &context);
                }
            }
        }
    }
}

#[test]
fn scales_may_be_anything() {
    for ty in BLOCK_TYPES {
        let mut random = Random(4);
        for scale in [0x7e00, 0xfe00, 0x7c00, 0xfc00, 0x0001, 0x8001, 0x03ff, 0x0400, 0x7bff, 0xfbff, 0x0000, 0x8000] {
            let (rows, cols) = (18, 256);
            let bytes = blocks(ty, rows * cols / ty.block_len(), &mut random, |_| scale);
            let x = random.floats(3 * cols);
            let tiles = tiles_of(ty, rows, cols, &bytes);
            let wanted = reference::product(&tiles, &x);
            let magnitudes = magnitudes(&weights(ty, &bytes), &x, cols);
            for processor in Processor::available() {
                let found = run(processor, &tiles, &x);
                let context = format!("{ty:?} {scale:x} {processor:?}");
                if f16::from_bits(scale).is_finite() {
                    assert_near(&found, &wanted, &magnitudes, 2e-6, &context);
                } else {
                    let same = found.iter().zip(&wanted).all(|(found, wanted)| found.is_finite() == wanted.is_finite());
                    assert!(same, "{context}: {found:?} {wanted:?}");
                }
            }
        }
    }
}

#[test]
fn activations_that_are_not_finite_make_products_that_are_not() {
    for ty in BLOCK_TYPES {
        let mut random = Random(5);
        let (rows, cols) = (16, 512);
        let bytes = blocks(ty, rows * cols / ty.block_len(), &mut random, plain_scale);
        let tiles = tiles_of(ty, rows, cols, &bytes);
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for processor in Processor::available() {
                let mut x = random.floats(3 * cols);
                x[cols + 300] = wrong;
                let found = run(processor, &tiles, &x);
                let finite = found.chunks_exact(rows).map(|row| row.iter().all(|y| y.is_finite()));
                assert_eq!(finite.collect::<Vec<_>>(), [true, false, true], "{ty:?} {processor:?}");
                assert!(found[rows..2 * rows].iter().all(|y| !y.is_finite()), "{ty:?} {processor:?}");
            }
        }
    }
}

#[test]
fn tiny_and_huge_activations_are_scaled() {
    for ty in BLOCK_TYPES {
        let mut random = Random(6);
        let (rows, cols) = (16, 512);
        let bytes = blocks(ty, rows * cols / ty.block_len(), &mut random, plain_scale);
        let tiles = tiles_of(ty, rows, cols, &bytes);
        let weights = weights(ty, &bytes);
        let plain = random.floats(5 * cols);
        for scale in [0.0, f32::MIN_POSITIVE / 8.0, 1e-30, 1e-3, 1e6] {
            let x: Vec<f32> = plain.iter().map(|x| x * scale).collect();
            let magnitudes = magnitudes(&weights, &x, cols);
            let wanted = products(&weights, &x, cols, |w, x| w * x);
            for processor in Processor::available() {
                let found = run(processor, &tiles, &x);
                assert!(found.iter().all(|found| found.is_finite()));
                // Scales of blocks of 32 are f16: below 2^-25 they are 0. Those of blocks of 256 are 0 if their inverse
                // is no f32.
                let zero = scale < 1e-6 && ty.block_len() == 32 || scale < 1e-36;
                let factor = if zero { 1.0 } else { 2e-2 };
                assert_near(&found, &wanted, &magnitudes, factor, &format!("{ty:?} {scale} {processor:?}"));
            }
        }
    }
}

#[test]
fn a_cancelled_product_ends() {
    let mut random = Random(7);
    let bytes = blocks(QuantType::Q8_0, 16, &mut random, plain_scale);
    let tiles = tiles_of(QuantType::Q8_0, 16, 32, &bytes);
    let (control, mut out) = (ComputeControl::default(), [7.0; 16]);
    control.cancel.cancel();
    for processor in Processor::available() {
        let error = processor.product(&tiles, &[1.0; 32], &mut out, &mut Activations::default(), &control).unwrap_err();
        assert_eq!((error.message(), out), ("cancelled", [7.0; 16]));
    }
}
