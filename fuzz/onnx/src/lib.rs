//! What the fuzz targets do with a model's bytes.
//!
//! ```sh
//! ci/fuzz.sh 1800 onnx_bytes onnx_structure
//! ```
//!
//! Loads the bytes and, where that works, runs the graph on inputs that fit, under a budget of 64 MiB and a deadline of
//! half a second. A panic, an abort, a hang of five seconds or 2 GiB of memory is a finding.

pub mod structure;

use std::time::{Duration, Instant};

use graphpool::backend::ComputeControl;
use graphpool::backend::candle::CandleBackend;
use graphpool::backend::candle::value::{ElementType, Value};
use graphpool::nn::MESSAGE_BYTES;

/// Bytes that a model and its compute may take.
const MEMORY: usize = 1 << 26;

/// Elements that an input is given at the most.
const INPUT: usize = 1 << 16;

/// Writes a model to the file that the variable `MODEL_OUT` names, where there is one: what a target made of an input is
/// kept in that way, to be run again without the fuzzer.
///
/// # Panics
///
/// Where the file can't be written.
pub fn keep(model: &[u8]) {
    if let Some(path) = std::env::var_os("MODEL_OUT") {
        std::fs::write(path, model).expect("the file that MODEL_OUT names can be written");
    }
}

/// Loads and runs a model; whatever is wrong with it must come back as an error with a short message.
pub fn attack(bytes: &[u8]) {
    let graph = match CandleBackend::new().load_graph(bytes, MEMORY) {
        Ok(graph) => graph,
        Err(error) => return assert!(error.message().len() <= MESSAGE_BYTES),
    };
    // The inputs depend on the model's bytes alone, so that a finding is found again.
    let mut state = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut inputs = Vec::new();
    for port in graph.input_ports() {
        let open = |dim: &Option<usize>| dim.unwrap_or(3);
        let dims: Vec<usize> = port.dims.iter().flatten().map(open).collect();
        let count = dims.iter().try_fold(1_usize, |count, &dim| count.checked_mul(dim));
        let Some(count) = count.filter(|&count| count <= INPUT) else { return };
        let data: Vec<u8> = (0..count).flat_map(|_| element(port.ty, random())).collect();
        let Ok(value) = Value::from_bytes(dims, port.ty, &data) else { return };
        inputs.push(value);
    }
    let mut control = ComputeControl::default();
    control.memory_limit = MEMORY;
    control.deadline = Some(Instant::now() + Duration::from_millis(500));
    if let Err(error) = graph.run(inputs, &control) {
        assert!(error.message().len() <= MESSAGE_BYTES);
    }
}

/// A small number most of the time, and one at the end of the range now and then.
fn element(ty: ElementType, random: u64) -> Vec<u8> {
    let small = (random % 11) as i64 - 5;
    let wide = match random % 97 {
        0 => i64::MAX,
        1 => i64::MIN,
        2 => i64::MAX - 1,
        _ => small,
    };
    match ty {
        ElementType::Bool => vec![u8::from(random % 2 == 0)],
        ElementType::F32 => match random % 97 {
            0 => f32::NAN,
            1 => f32::INFINITY,
            2 => 1e30,
            _ => small as f32 / 2.0,
        }
        .to_le_bytes()
        .to_vec(),
        ElementType::F64 => (small as f64 / 2.0).to_le_bytes().to_vec(),
        _ => wide.to_le_bytes()[..ty.size()].to_vec(),
    }
}
