//! The digits model, from its bytes and by its name: every image's answer is onnxruntime's.

use graphpool::nn::{Encoding, Engine, Guest, ModelSource, Target};
use graphpool_candle::CandleBackend;
use graphpool_wasmtime::WasiNnCtx;

use crate::layout::{CPU, DIMENSIONS, F32, NAME, ONNX, OUT, PARTS, TENSOR};
use crate::puppet::{Mode, Puppet, SHARED, UNSHARED};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/models/digits");
const MODEL: u32 = 0x8000;
const IMAGE: u32 = 0x1000;
const ANSWER: u32 = 0x2000;

fn file(name: &str) -> Vec<u8> {
    std::fs::read(format!("{FOLDER}/{name}")).unwrap()
}

fn recognize(guest: Guest, memory: &str, mode: Mode, by_name: bool) {
    let mut puppet = Puppet::new(WasiNnCtx::new(guest), memory, mode);
    let graph = if by_name {
        puppet.write(NAME, b"digits");
        puppet.made("load_by_name", &[NAME, 6, OUT])
    } else {
        let model = file("digits.onnx");
        puppet.write(MODEL, &model);
        puppet.write_words(PARTS, &[MODEL, model.len() as u32]);
        puppet.made("load", &[PARTS, 1, ONNX, CPU, OUT])
    };
    let context = puppet.made("init_execution_context", &[graph, OUT]);
    puppet.write_words(TENSOR, &[DIMENSIONS, 4, F32, IMAGE, 256]);
    puppet.write_words(DIMENSIONS, &[1, 1, 8, 8]);
    let (images, expected) = (file("images.bin"), file("expected.bin"));
    for (image, expected) in images.chunks(64).zip(expected.chunks(40)) {
        let pixels: Vec<u8> = image.iter().flat_map(|pixel| (f32::from(*pixel) / 16.0).to_le_bytes()).collect();
        puppet.write(IMAGE, &pixels);
        assert_eq!(puppet.call("set_input", &[context, 0, TENSOR]), 0);
        assert_eq!(puppet.call("compute", &[context]), 0);
        assert_eq!(puppet.made("get_output", &[context, 0, ANSWER, 64, OUT]), 40);
        let expected = expected.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        for (answer, expected) in puppet.floats(ANSWER, 10).into_iter().zip(expected) {
            assert!((answer - expected).abs() < 1e-5, "{answer} {expected}");
        }
    }
}

#[test]
fn digits_are_recognized_as_by_onnxruntime() {
    let engine = Engine::new(CandleBackend::new());
    let model = ModelSource::path(format!("{FOLDER}/digits.onnx"));
    engine.register_model_now("digits", model, Encoding::Onnx, Target::Cpu).unwrap();
    for memory in [UNSHARED, SHARED] {
        for mode in [Mode::Blocking, Mode::Async] {
            for by_name in [false, true] {
                recognize(engine.guest(), memory, mode, by_name);
            }
        }
    }
    assert_eq!(engine.stats().guests, 0);
    assert_eq!(engine.stats().builds, 1);
}
