//! What both benchmarks of this host use.

#[path = "../../tests/witx/executor.rs"]
mod executor;

pub use executor::block_on;

/// The model of handwritten digits.
pub const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/models/digits/digits.onnx");

pub const ROUNDS: usize = 15;

/// How the functions are added to the linker.
#[derive(Clone, Copy, PartialEq)]
pub enum Way {
    Blocking,
    Async,
}

pub fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
