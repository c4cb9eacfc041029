//! Valid models, changed: another number in a list of dimensions, another operator, another input.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let model = graphpool_fuzz_onnx::structure::model(bytes);
    graphpool_fuzz_onnx::keep(&model);
    graphpool_fuzz_onnx::attack(&model);
});
