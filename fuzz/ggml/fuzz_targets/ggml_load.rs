//! Language models in GGUF files: any bytes that begin as one do, or a small valid file with changed fields.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let attempt = graphpool_fuzz_ggml::attempt(bytes);
    graphpool_fuzz_ggml::keep(&attempt.file);
    graphpool_fuzz_ggml::attack(&attempt);
});
