//! A model computes in a component as it does in the engine.

use graphpool::nn::{Encoding, Engine, ModelSource, Target};
use graphpool_candle::CandleBackend;

use crate::puppet::{MODES, Puppet, ty};

const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/models/digits/");

fn engine() -> Engine {
    let engine = Engine::new(CandleBackend::new());
    let model = ModelSource::path(format!("{DIGITS}digits.onnx"));
    engine.register_model("digits", model, Encoding::Onnx, Target::Cpu).unwrap();
    engine
}

fn floats(data: &[u8]) -> impl Iterator<Item = f32> {
    data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}

#[test]
fn the_digits_model_computes_in_a_component_as_it_does_in_the_engine() {
    let engine = engine();
    let images = std::fs::read(format!("{DIGITS}images.bin")).unwrap();
    let expected = std::fs::read(format!("{DIGITS}expected.bin")).unwrap();
    for mode in MODES {
        let mut puppet = Puppet::new(mode, engine.guest());
        let graph = puppet.load_by_name("digits").unwrap();
        let context = puppet.context(graph).unwrap();
        for (image, expected) in images.chunks(64).zip(expected.chunks(40)).take(20) {
            let pixels: Vec<u8> = image.iter().flat_map(|pixel| (f32::from(*pixel) / 16.0).to_le_bytes()).collect();
            let input = puppet.tensor(&[1, 1, 8, 8], ty::FP32, &pixels);
            let outputs = puppet.compute(context, &[("image", input)]).unwrap();
            assert_eq!(outputs.len(), 1);
            assert_eq!(outputs[0].0, "probabilities");
            let (dimensions, number, data) = puppet.parts(outputs[0].1);
            assert_eq!((dimensions, number, data.len()), (vec![1, 10], ty::FP32, 40));
            for (computed, expected) in floats(&data).zip(floats(expected)) {
                assert!((computed - expected).abs() < 1e-4, "{computed} is not {expected}");
            }
        }
    }
    assert_eq!(engine.stats().guests, 0);
}
