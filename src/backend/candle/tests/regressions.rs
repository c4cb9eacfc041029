//! Every model that fuzzing found a fault with, run again: `fuzz/onnx/regressions`, and the digits model in pieces.

use std::path::Path;

use super::hostile::attack;
use crate::nn::MESSAGE_BYTES;

#[test]
fn what_fuzzing_found_is_refused_or_runs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/onnx/regressions");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "onnx")) {
        if let Err(error) = attack(&std::fs::read(&file).unwrap()) {
            assert!(error.message().len() <= MESSAGE_BYTES, "{}", file.display());
        }
    }
}

/// The committed model.
const DIGITS: &[u8] = include_bytes!("../../../../examples/models/digits/digits.onnx");

/// An error with a short message, or the one output in its shape.
fn sound(bytes: &[u8], what: impl Fn() -> String) {
    match attack(bytes) {
        Ok(outputs) => assert!(outputs.iter().all(|value| value.len() < 1 << 20), "{}", what()),
        Err(error) => assert!(error.message().len() <= MESSAGE_BYTES, "{}", what()),
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
