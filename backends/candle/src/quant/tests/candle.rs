//! candle's blocks and functions for every type, and the comparison with them.

use candle_core::quantized::GgmlType;
use candle_core::quantized::k_quants::{BlockQ2K, BlockQ3K};
use candle_core::quantized::k_quants::{
    BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0,
};

use super::forms::{assert_near, bits, magnitudes, run, shapes};
use super::samples::{BLOCK_TYPES, Random, blocks, plain_scale, tiles_of};
use crate::quant::QuantMatrix;
use crate::quant::processor::Processor;
use crate::quant::types::QuantType;

/// A type of candle's that any bytes are a value of.
///
/// # Safety
///
/// The type is `repr(C)`, has no padding, and every bit pattern of its fields is a value.
pub(super) unsafe trait Block: GgmlType {}

// SAFETY: candle declares each of them `repr(C)`, of `f16` (a `repr(transparent)` u16) and arrays of u8 or i8, and
// asserts at compile time that its size is the sum of the sizes of its fields.
unsafe impl Block for BlockQ4_0 {}
// SAFETY: as above.
unsafe impl Block for BlockQ2K {}
// SAFETY: as above.
unsafe impl Block for BlockQ3K {}
// SAFETY: as above.
unsafe impl Block for BlockQ4_1 {}
// SAFETY: as above.
unsafe impl Block for BlockQ5_0 {}
// SAFETY: as above.
unsafe impl Block for BlockQ5_1 {}
// SAFETY: as above.
unsafe impl Block for BlockQ8_0 {}
// SAFETY: as above.
unsafe impl Block for BlockQ4K {}
// SAFETY: as above.
unsafe impl Block for BlockQ5K {}
// SAFETY: as above.
unsafe impl Block for BlockQ6K {}

/// The blocks of bytes, of which a rest that is no whole block is left out.
pub(super) fn read<T: Block>(bytes: &[u8]) -> Vec<T> {
    let count = bytes.len() / size_of::<T>();
    let mut blocks = vec![T::zeros(); count];
    // SAFETY: the vector has `count` blocks, which are not more bytes than `bytes` has, and is new, so they do not
    // overlap. Bytes have no alignment to keep. Any bytes are a value of a `Block`.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), blocks.as_mut_ptr().cast::<u8>(), count * size_of::<T>());
    }
    blocks
}

macro_rules! with_block {
    ($ty:expr, $function:ident($($argument:expr),*)) => {
        match $ty {
            QuantType::Q4_0 => $function::<BlockQ4_0>($($argument),*),
            QuantType::Q4_1 => $function::<BlockQ4_1>($($argument),*),
            QuantType::Q5_0 => $function::<BlockQ5_0>($($argument),*),
            QuantType::Q5_1 => $function::<BlockQ5_1>($($argument),*),
            QuantType::Q8_0 => $function::<BlockQ8_0>($($argument),*),
            QuantType::Q2K => $function::<BlockQ2K>($($argument),*),
            QuantType::Q3K => $function::<BlockQ3K>($($argument),*),
            QuantType::Q4K => $function::<BlockQ4K>($($argument),*),
            QuantType::Q5K => $function::<BlockQ5K>($($argument),*),
            QuantType::Q6K => $function::<BlockQ6K>($($argument),*),
            QuantType::F32 | QuantType::F16 | QuantType::Bf16 => panic!("no blocks"),
        }
    };
}

/// The weights of a file's bytes, by candle's `to_float`.
pub(super) fn weights(ty: QuantType, bytes: &[u8]) -> Vec<f32> {
    fn weights<T: Block>(bytes: &[u8]) -> Vec<f32> {
        let blocks = read::<T>(bytes);
        let mut out = vec![0.0; blocks.len() * T::BLCK_SIZE];
        T::to_float(&blocks, &mut out);
        out
    }
    with_block!(ty, weights(bytes))
}

/// A product by candle's `from_float` and `vec_dot`.
pub(super) fn product(ty: QuantType, bytes: &[u8], x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    fn product<T: Block>(bytes: &[u8], x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
        let blocks = read::<T>(bytes);
        let mut activations = vec![T::VecDotType::zeros(); x.len() / T::BLCK_SIZE];
        T::VecDotType::from_float(x, &mut activations);
        let mut out = vec![0.0; x.len() / cols * rows];
        multiply(&blocks, &activations, &mut out, cols);
        out
    }
    with_block!(ty, product(bytes, x, rows, cols))
}

/// The part of [`product`] that is timed.
pub(super) fn multiply<T: GgmlType>(blocks: &[T], activations: &[T::VecDotType], out: &mut [f32], cols: usize) {
    let per_row = cols / T::BLCK_SIZE;
    let rows = blocks.len() / per_row;
    // Some of candle's functions assert that the length is a multiple of two blocks, and use it for nothing else.
    let len = if T::BLCK_SIZE == 32 && T::VecDotType::BLCK_SIZE == 32 { cols.next_multiple_of(64) } else { cols };
    for (index, weights) in blocks.chunks_exact(per_row).enumerate() {
        for (x, out) in activations.chunks_exact(per_row).zip(out.chunks_exact_mut(rows)) {
            out[index] = T::vec_dot(len, weights, x);
        }
    }
}

#[test]
fn every_form_gives_candles_products_of_random_blocks() {
    for ty in BLOCK_TYPES {
        let mut random = Random(1);
        for (rows, cols, n) in shapes(ty) {
            let bytes = blocks(ty, rows * cols / ty.block_len(), &mut random, plain_scale);
            let x = random.floats(n * cols);
            let tiles = tiles_of(ty, rows, cols, &bytes);
            let wanted = product(ty, &bytes, &x, rows, cols);
            let scale = magnitudes(&weights(ty, &bytes), &x, cols);
            let mut vectors: Option<Vec<u32>> = None;
            for processor in Processor::available() {
                let found = run(processor, &tiles, &x);
                let context = format!("{ty:?} {rows} × {cols}, {n} rows, {processor:?}");
                // The levels of the activations can differ by one where a value is halfway between two, in candle's
                // rounding. For Q4_1 and Q5_1, candle also rounds the sum of a block to 16 bits.
                assert_near(&found, &wanted, &scale, 2e-3, &context);
                if !matches!(processor, Processor::Plain) {
                    assert_eq!(*vectors.get_or_insert_with(|| bits(&found)), bits(&found), "{context}");
                }
            }
        }
    }
}

#[test]
fn rows_are_candles_rows() {
    for ty in BLOCK_TYPES {
        let (rows, cols) = (37, 512);
        let bytes = blocks(ty, rows * cols / ty.block_len(), &mut Random(1), plain_scale);
        let matrix = QuantMatrix::new(ty, rows, cols, &bytes).unwrap();
        let mut row = vec![f32::NAN; cols];
        for (index, wanted) in weights(ty, &bytes).chunks_exact(cols).enumerate() {
            matrix.row(index, &mut row).unwrap();
            assert_eq!(row, wanted, "{ty:?} {index}");
        }
    }
}
