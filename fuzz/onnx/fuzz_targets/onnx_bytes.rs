//! Any bytes as a model: decode, compile, run.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| graphpool_fuzz_onnx::attack(bytes));
