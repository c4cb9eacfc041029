//! Matrices of every type: their rows, their products, their sizes, and what is refused.

use graphpool::backend::{ComputeControl, ErrorKind};
use half::{bf16, f16};

use super::samples::{Random, blocks, floats_of, plain_scale, weights};
use crate::quant::floats::Widen;
use crate::quant::processor::Processor;
use crate::quant::{QuantMatrix, QuantType, Scratch};

/// The bytes of a file for a matrix, and its weights.
fn matrix(ty: QuantType, count: usize, random: &mut Random) -> (Vec<u8>, Vec<f32>) {
    let floats = random.floats(count);
    match ty {
        QuantType::F32 => (floats.iter().flat_map(|x| x.to_le_bytes()).collect(), floats),
        QuantType::F16 => {
            let narrow: Vec<f16> = floats.iter().map(|&x| f16::from_f32(x)).collect();
            (narrow.iter().flat_map(|x| x.to_le_bytes()).collect(), narrow.iter().map(|x| x.to_f32()).collect())
        }
        QuantType::Bf16 => {
            let narrow: Vec<bf16> = floats.iter().map(|&x| bf16::from_f32(x)).collect();
            (narrow.iter().flat_map(|x| x.to_le_bytes()).collect(), narrow.iter().map(|x| x.to_f32()).collect())
        }
        _ => {
            let bytes = blocks(ty, count / ty.block_len(), random, plain_scale);
            let weights = weights(ty, &bytes);
            (bytes, weights)
        }
    }
}

#[test]
fn rows_are_the_weights_at_any_address() {
    for ty in QuantType::ALL {
        let (rows, cols) = (37, 512);
        let (bytes, weights) = matrix(ty, rows * cols, &mut Random(1));
        // At an odd address.
        let shifted: Vec<u8> = std::iter::once(0).chain(bytes.iter().copied()).collect();
        let matrix = QuantMatrix::new(ty, rows, cols, &shifted[1..]).unwrap();
        let mut row = vec![f32::NAN; cols];
        for (index, wanted) in weights.chunks_exact(cols).enumerate() {
            matrix.row(index, &mut row).unwrap();
            assert_eq!(row, wanted, "{ty:?} {index}");
        }
        assert!(matrix.row(rows, &mut row).is_err());
        assert!(matrix.row(0, &mut row[1..]).is_err());
    }
}

#[test]
fn products_are_those_of_the_weights() {
    for ty in QuantType::ALL {
        let mut random = Random(2);
        for (rows, cols, n) in [(1, 256, 1), (37, 512, 1), (16, 256, 9), (50, 768, 40), (5, 256, 300)] {
            let (bytes, weights) = matrix(ty, rows * cols, &mut random);
            let matrix = QuantMatrix::new(ty, rows, cols, &bytes).unwrap();
            let x = random.floats(n * cols);
            let (mut out, mut scratch) = (vec![f32::NAN; n * rows], Scratch::default());
            matrix.product(&x, n, &mut out, &mut scratch, &ComputeControl::default()).unwrap();
            for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact(rows)) {
                for (w, found) in weights.chunks_exact(cols).zip(out) {
                    let wanted: f64 = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                    let norm: f64 = w.iter().zip(x).map(|(&w, &x)| (f64::from(w) * f64::from(x)).powi(2)).sum();
                    // Levels of activations are 1/127 apart; their errors are independent.
                    assert!((f64::from(*found) - wanted).abs() < 0.04 * norm.sqrt() + 1e-6, "{ty:?} {found} {wanted}");
                }
            }
            assert!(
                scratch.bytes() <= matrix.scratch_bytes(n),
                "{ty:?} {} {}",
                scratch.bytes(),
                matrix.scratch_bytes(n)
            );
        }
    }
}

#[test]
fn one_scratch_serves_matrices_of_every_type() {
    let (mut random, mut scratch) = (Random(3), Scratch::default());
    for ty in QuantType::ALL.into_iter().chain(QuantType::ALL.into_iter().rev()) {
        let cols = 256 * (1 + random.next() as usize % 3);
        let (bytes, _) = matrix(ty, 20 * cols, &mut random);
        let matrix = QuantMatrix::new(ty, 20, cols, &bytes).unwrap();
        let x = random.floats(3 * cols);
        let (mut out, mut wanted) = (vec![0.0; 60], vec![1.0; 60]);
        matrix.product(&x, 3, &mut out, &mut scratch, &ComputeControl::default()).unwrap();
        matrix.product(&x, 3, &mut wanted, &mut Scratch::default(), &ComputeControl::default()).unwrap();
        assert_eq!(out, wanted, "{ty:?}");
    }
}

#[test]
fn products_with_several_matrices_are_those_with_each() {
    let (mut random, cols, control) = (Random(7), 256, ComputeControl::default());
    for (index, ty) in QuantType::ALL.into_iter().enumerate() {
        let other = QuantType::ALL[(index + 1) % QuantType::ALL.len()];
        // More rows than are quantized together.
        for n in [1, 5, 300] {
            let matrices = [(ty, 20), (ty, 7), (other, 33), (ty, 16)]
                .map(|(ty, rows)| QuantMatrix::new(ty, rows, cols, &matrix(ty, rows * cols, &mut random).0).unwrap());
            let x = random.floats(n * cols);
            let mut outs = matrices.each_ref().map(|matrix| vec![f32::NAN; n * matrix.rows()]);
            let mut all = outs.iter_mut();
            let products = matrices.each_ref().map(|matrix| (matrix, all.next().unwrap().as_mut_slice()));
            QuantMatrix::products(products, &x, n, &mut Scratch::default(), &control).unwrap();
            for (matrix, found) in matrices.iter().zip(&outs) {
                let mut wanted = vec![0.0; n * matrix.rows()];
                matrix.product(&x, n, &mut wanted, &mut Scratch::default(), &control).unwrap();
                assert_eq!(*found, wanted, "{ty:?} {other:?} {n}");
            }
        }
    }
}

#[test]
fn every_half_is_widened_by_every_unit() {
    let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
    for processor in Processor::available() {
        for len in [halves.len(), halves.len() - 1, 5, 0] {
            let mut out = vec![0.0; len];
            processor.run(Widen(&halves[..len], &mut out));
            for (half, found) in halves.iter().zip(&out) {
                let same = half.to_f32().to_bits() == found.to_bits() || half.is_nan() && found.is_nan();
                assert!(same, "{half:?} {found} {processor:?}");
            }
        }
    }
}

#[test]
fn a_matrix_is_little_more_than_its_bytes_in_the_file() {
    for ty in QuantType::ALL {
        let (bytes, _) = matrix(ty, 64 * 512, &mut Random(4));
        let resident = QuantMatrix::resident_bytes(ty, 64, 512).unwrap();
        assert!(resident >= bytes.len(), "{ty:?}");
        assert!(resident as f64 <= bytes.len() as f64 * 1.04, "{ty:?} {resident} {}", bytes.len());
    }
}

#[test]
fn what_is_no_matrix_is_refused() {
    for ty in QuantType::ALL {
        let len = ty.block_len();
        let bytes = vec![0; 2 * ty.block_bytes()];
        QuantMatrix::new(ty, 2, len, &bytes).unwrap();
        QuantMatrix::new(ty, 1, 2 * len, &bytes).unwrap();
        let huge = usize::MAX / len * len;
        for (rows, cols) in [(0, len), (1, 0), (1, len), (3, len), (huge, len), (1, huge), (huge, huge)] {
            let error = QuantMatrix::new(ty, rows, cols, &bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidEncoding, "{ty:?} {rows} {cols}");
        }
        if len > 1 {
            let error = QuantMatrix::new(ty, 2, len - 1, &bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidEncoding);
        }
        assert!(QuantMatrix::new(ty, 2, len, &bytes[1..]).is_err());
    }
}

#[test]
fn slices_of_another_length_are_refused() {
    for ty in QuantType::ALL {
        let (bytes, _) = matrix(ty, 2 * 256, &mut Random(5));
        let matrix = QuantMatrix::new(ty, 2, 256, &bytes).unwrap();
        let (x, mut out, mut scratch) = (vec![0.0; 512], vec![0.0; 4], Scratch::default());
        let control = ComputeControl::default();
        matrix.product(&x, 2, &mut out, &mut scratch, &control).unwrap();
        matrix.product(&[], 0, &mut [], &mut scratch, &control).unwrap();
        for n in [0, 1, 3, usize::MAX] {
            let error = matrix.product(&x, n, &mut out, &mut scratch, &control).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::RuntimeError);
        }
        assert!(matrix.product(&x, 2, &mut out[1..], &mut scratch, &control).is_err());
        assert!(matrix.product(&x[1..], 2, &mut out, &mut scratch, &control).is_err());
    }
}

#[test]
fn floats_are_multiplied_in_the_same_order_by_every_unit() {
    for ty in [QuantType::F32, QuantType::F16, QuantType::Bf16] {
        let mut random = Random(6);
        for cols in [1, 5, 15, 16, 17, 40, 100] {
            for rows in [1, 2, 3, 4, 5, 7, 9] {
                let (bytes, weights) = matrix(ty, rows * cols, &mut random);
                let floats = floats_of(ty, rows, cols, &bytes);
                let x = random.floats(9 * cols);
                let mut units: Option<Vec<f32>> = None;
                for processor in Processor::available() {
                    let run = |x: &[f32]| {
                        let mut out = vec![f32::NAN; x.len() / cols * rows];
                        floats.product(processor, x, &mut out, &ComputeControl::default()).unwrap();
                        out
                    };
                    let all = run(&x);
                    for (index, found) in all.iter().enumerate() {
                        let (x, w) = (&x[index / rows * cols..][..cols], &weights[index % rows * cols..][..cols]);
                        let wanted: f64 = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                        assert!((f64::from(*found) - wanted).abs() < 1e-5, "{ty:?} {rows} × {cols} {processor:?}");
                    }
                    for n in [1, 2, 3, 5, 8] {
                        assert_eq!(run(&x[..n * cols]), all[..n * rows], "{ty:?} {rows} × {cols} {n} {processor:?}");
                    }
                    if !matches!(processor, Processor::Plain) {
                        assert_eq!(*units.get_or_insert_with(|| all.clone()), all, "{ty:?} {rows} × {cols}");
                    }
                }
            }
        }
    }
}
