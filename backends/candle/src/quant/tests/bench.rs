//! Times of products, beside candle's `from_float` and `vec_dot` on the same thread. Run by hand:
//!
//! ```text
//! cargo test --release -p graphpool-candle --features candle,ggml --lib products_are_timed -- --ignored --nocapture
//! ```

use std::hint::black_box;
use std::time::{Duration, Instant};

use candle_core::quantized::GgmlType;
use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0,
};
use graphpool::backend::ComputeControl;

use super::candle::{Block, multiply, read};
use super::samples::{Random, blocks, floats_of, plain_scale, tiles_of};
use crate::quant::activations::Activations;
use crate::quant::processor::Processor;
use crate::quant::types::QuantType;

/// The time of the fastest of some runs, which take `limit` together.
fn fastest(limit: Duration, mut run: impl FnMut()) -> f64 {
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while begin.elapsed() < limit {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

fn compare<T: Block>(ty: QuantType, rows: usize, cols: usize, n: usize) {
    let mut random = Random(1);
    let cols = cols.next_multiple_of(ty.block_len());
    let bytes = blocks(ty, rows * cols / ty.block_len(), &mut random, plain_scale);
    let x = random.floats(n * cols);
    let mut out = vec![0.0; n * rows];
    let start = Instant::now();
    let tiles = tiles_of(ty, rows, cols, &bytes);
    let load = start.elapsed().as_secs_f64();
    let theirs: Vec<T> = read(&bytes);
    let mut levels = vec![T::VecDotType::zeros(); n * cols / ty.block_len()];
    let (mut activations, control) = (Activations::default(), ComputeControl::default());
    let limit = Duration::from_millis(if rows > 10_000 { 60 } else { 15 });
    let mut ours = vec![f64::INFINITY; Processor::available().count()];
    let mut candle = f64::INFINITY;
    for _ in 0..3 {
        for (time, processor) in ours.iter_mut().zip(Processor::available()) {
            if matches!(processor, Processor::Plain) && rows * n > 1_000_000 {
                continue;
            }
            *time = time.min(fastest(limit, || {
                processor.product(&tiles, &x, black_box(&mut out), &mut activations, &control).unwrap();
            }));
        }
        if rows * n <= 1_000_000 {
            candle = candle.min(fastest(limit, || {
                T::VecDotType::from_float(&x, &mut levels);
                multiply(&theirs, &levels, black_box(&mut out), cols);
            }));
        }
    }
    print!("{:5} {rows:6} x {cols:5} {n:4}", ty.name());
    for (time, processor) in ours.iter().zip(Processor::available()) {
        let name = format!("{processor:?}");
        let name = name.split(['(', ' ']).next().unwrap_or_default();
        print!(
            " | {name} {:9.1} us {:6.1} GB/s {:6.1} G/s {:6.2}",
            time * 1e6,
            bytes.len() as f64 / time / 1e9,
            (rows * cols * n) as f64 / time / 1e9,
            candle / time,
        );
    }
    println!(" | candle {:9.1} us | load {:.2} GB/s", candle * 1e6, bytes.len() as f64 / load / 1e9);
}

fn floats(ty: QuantType, rows: usize, cols: usize, n: usize) {
    let mut random = Random(1);
    let bytes = vec![0x30; rows * cols * ty.block_bytes()];
    let x = random.floats(n * cols);
    let mut out = vec![0.0; n * rows];
    let floats = floats_of(ty, rows, cols, &bytes);
    print!("{:5} {rows:6} x {cols:5} {n:4}", ty.name());
    for processor in Processor::available() {
        let time = fastest(Duration::from_millis(60), || {
            floats.product(processor, &x, black_box(&mut out), &ComputeControl::default()).unwrap();
        });
        let name = format!("{processor:?}");
        let name = name.split(['(', ' ']).next().unwrap_or_default();
        print!(
            " | {name} {:9.1} us {:6.1} GB/s {:6.1} G/s -",
            time * 1e6,
            bytes.len() as f64 / time / 1e9,
            (rows * cols * n) as f64 / time / 1e9,
        );
    }
    println!();
}

#[test]
#[ignore = "prints times and asserts nothing"]
fn products_are_timed() {
    let memory: Vec<u64> = (0..32 << 20).collect();
    let time = fastest(Duration::from_millis(500), || {
        black_box(memory.iter().fold(0, |sum: u64, &x| sum.wrapping_add(x)));
    });
    println!("memory: {:.1} GB/s", (memory.len() * 8) as f64 / time / 1e9);
    drop(memory);
    let only = std::env::var("TYPES").unwrap_or_default();
    for (rows, cols) in [(576, 576), (1536, 576), (576, 1536), (49152, 576)] {
        for n in [1, 8, 128] {
            for ty in QuantType::ALL.into_iter().filter(|ty| only.is_empty() || only.split(',').any(|x| x == ty.name()))
            {
                match ty {
                    QuantType::Q4_0 => compare::<BlockQ4_0>(ty, rows, cols, n),
                    QuantType::Q4_1 => compare::<BlockQ4_1>(ty, rows, cols, n),
                    QuantType::Q5_0 => compare::<BlockQ5_0>(ty, rows, cols, n),
                    QuantType::Q5_1 => compare::<BlockQ5_1>(ty, rows, cols, n),
                    QuantType::Q8_0 => compare::<BlockQ8_0>(ty, rows, cols, n),
                    QuantType::Q4K => compare::<BlockQ4K>(ty, rows, cols, n),
                    QuantType::Q5K => compare::<BlockQ5K>(ty, rows, cols, n),
                    QuantType::Q6K => compare::<BlockQ6K>(ty, rows, cols, n),
                    QuantType::Q2K => compare::<BlockQ2K>(ty, rows, cols, n),
                    QuantType::Q3K => compare::<BlockQ3K>(ty, rows, cols, n),
                    QuantType::F32 | QuantType::F16 | QuantType::Bf16 => floats(ty, rows, cols, n),
                }
            }
        }
    }
}
