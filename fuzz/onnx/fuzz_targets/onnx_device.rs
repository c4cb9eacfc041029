//! The models of `onnx_structure`, run through the device forms of the operators on candle's CPU.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let model = graphpool_fuzz_onnx::structure::model(bytes);
    graphpool_fuzz_onnx::keep(&model);
    graphpool_fuzz_onnx::attack_on_device(&model);
});
