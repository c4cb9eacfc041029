//! Every model that fuzzing found a fault with, run again: `fuzz/onnx/regressions`, and the digits model in pieces.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use crate::tests::hostile::attack;
use crate::{CandleBackend, Port};
use graphpool::backend::{ComputeControl, Error, MESSAGE_BYTES};

mod inputs;

/// What the fuzzer does with a model.
fn replay(bytes: &[u8]) -> Result<(), Error> {
    const MEMORY: usize = 1 << 26;
    let graph = CandleBackend::new().load_graph(bytes, MEMORY)?;
    let Some(inputs) = inputs::inputs(bytes, graph.input_ports()) else { return Ok(()) };
    let deadline = Some(Instant::now() + Duration::from_millis(500));
    graph.run(inputs, &ComputeControl::default().with_memory_limit(MEMORY).with_deadline(deadline)).map(drop)
}

#[test]
fn what_fuzzing_found_is_refused_or_runs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/onnx/regressions");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut models = entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    models.retain(|file| file.extension().is_some_and(|extension| extension == "onnx"));
    assert!(!models.is_empty(), "{} has no models", folder.display());
    for file in models {
        if let Err(error) = replay(&std::fs::read(&file).unwrap()) {
            assert!(error.message().len() <= MESSAGE_BYTES, "{}", file.display());
        }
    }
}

/// The committed model.
const DIGITS: &[u8] = include_bytes!("../../../../examples/models/digits/digits.onnx");

/// An error with a short message, or as many outputs as the model has, of its types, each with as much data as its
/// dimensions say.
fn sound(bytes: &[u8], what: impl Fn() -> String) {
    let outputs = match attack(bytes) {
        Ok(outputs) => outputs,
        Err(error) => return assert!(error.message().len() <= MESSAGE_BYTES, "{}", what()),
    };
    let graph = CandleBackend::new().load_graph(bytes, 1 << 24).unwrap();
    assert_eq!(outputs.len(), graph.output_ports().len(), "{}", what());
    for (port, value) in graph.output_ports().iter().zip(&outputs) {
        assert_eq!(value.ty(), port.ty, "{}", what());
        let elements: usize = value.dims().iter().product();
        assert_eq!(value.to_bytes().len(), elements * port.ty.size(), "{}", what());
        assert!(elements < 1 << 20, "{}", what());
    }
}

#[test]
fn the_digits_model_cut_at_any_byte_is_refused_or_runs() {
    for end in 0..DIGITS.len() {
        sound(&DIGITS[..end], || format!("cut at {end}"));
    }
}

#[test]
fn the_digits_model_with_any_byte_changed_is_refused_or_runs() {
    let mut bytes = DIGITS.to_vec();
    for place in 0..bytes.len() {
        let old = bytes[place];
        for change in [0xff, 0x01, 0x80] {
            bytes[place] = old ^ change;
            sound(&bytes, || format!("byte {place} changed by {change:#x}"));
        }
        bytes[place] = old;
    }
}
