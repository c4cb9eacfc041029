//! What the fuzz targets do with a model's bytes.
//!
//! ```sh
//! ci/fuzz.sh 1800 onnx_bytes onnx_structure
//! ```
//!
//! Loads the bytes and, where that works, runs the graph on inputs that fit, under a budget of 64 MiB and a deadline of
//! half a second. A panic, an abort, a hang of five seconds or 2 GiB of memory is a finding.

#[path = "../../../backends/candle/src/tests/regressions/inputs.rs"]
mod inputs;
pub mod structure;

use std::time::{Duration, Instant};

use graphpool::backend::ComputeControl;
use graphpool::nn::MESSAGE_BYTES;
use graphpool_candle::{CandleBackend, ElementType, Port, Value};

/// Bytes that a model and its compute may take.
const MEMORY: usize = 1 << 26;

/// Writes a model to the file that the variable `MODEL_OUT` names, where there is one: what a target made of an input
/// is kept in that way, to be run again without the fuzzer.
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
    outputs(&CandleBackend::new(), bytes);
}

/// As [`attack`], through the device forms. A model that runs there and on the host gives the same types and
/// dimensions.
///
/// # Panics
///
/// Where it gives others.
#[cfg(feature = "device")]
pub fn attack_on_device(bytes: &[u8]) {
    let Some(on_device) = outputs(&CandleBackend::with_device(candle_core::Device::Cpu), bytes) else { return };
    let Some(on_host) = outputs(&CandleBackend::new(), bytes) else { return };
    for (device, host) in on_device.iter().zip(&on_host) {
        assert_eq!((device.ty(), device.dims()), (host.ty(), host.dims()));
    }
}

/// The outputs of a model; `None` if it gave an error.
fn outputs(backend: &CandleBackend, bytes: &[u8]) -> Option<Vec<Value>> {
    let graph = match backend.load_graph(bytes, MEMORY) {
        Ok(graph) => graph,
        Err(error) => {
            assert!(error.message().len() <= MESSAGE_BYTES);
            return None;
        }
    };
    let inputs = inputs::inputs(bytes, graph.input_ports())?;
    let mut control = ComputeControl::default();
    control.memory_limit = MEMORY;
    control.deadline = Some(Instant::now() + Duration::from_millis(500));
    match graph.run(inputs, &control) {
        Ok(outputs) => Some(outputs),
        Err(error) => {
            assert!(error.message().len() <= MESSAGE_BYTES);
            None
        }
    }
}
