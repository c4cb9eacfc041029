//! Valid models, changed: another number in a list of dimensions, another operator, another input.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| graphpool_fuzz_onnx::attack(&graphpool_fuzz_onnx::structure::model(bytes)));
