//! The backend with the library that graphpool gives to WAMR: the engine of the test, the interface in C, and the
//! engine in the library.
#![cfg(target_os = "linux")]

use std::path::PathBuf;
use std::thread;

use graphpool::nn::conformance::Sample;
use graphpool::nn::{Encoding, Engine, ErrorKind, Target, Tensor, TensorDescription, TensorType};
use graphpool_dylib::{DylibBackend, DylibSettings, Serialized};

/// A model, inputs of it in sixteenths, and the outputs that onnxruntime computes from them.
const DIGITS: &[u8] = include_bytes!("../../../examples/models/digits/digits.onnx");
const IMAGES: &[u8] = include_bytes!("../../../examples/models/digits/images.bin");
const EXPECTED: &[u8] = include_bytes!("../../../examples/models/digits/expected.bin");

/// Cargo puts the library of a dev-dependency beside the tests.
fn library() -> PathBuf {
    std::env::current_exe().unwrap().with_file_name("libwasi_nn_onnx.so")
}

fn backend(settings: DylibSettings) -> DylibBackend {
    // SAFETY: the library has WAMR's interface, and is not replaced during the tests.
    unsafe { DylibBackend::open(library(), settings) }.unwrap()
}

fn settings() -> DylibSettings {
    DylibSettings::new([Encoding::Onnx, Encoding::Autodetect])
}

fn image(row: usize) -> Tensor {
    let pixels: Vec<f32> = IMAGES[row * 64..][..64].iter().map(|pixel| f32::from(*pixel) / 16.0).collect();
    Tensor::from_f32([1, 1, 8, 8], &pixels).unwrap()
}

#[test]
fn the_checks_for_backends_pass_through_both_ends() {
    let sample = Sample::new(DIGITS.to_vec(), Encoding::Onnx, Target::Cpu, vec![image(0)]);
    for settings in [
        settings(),
        settings().with_contexts_per_load(4),
        settings().with_serialized(Serialized::Library),
        settings()
            .with_inputs([TensorDescription::new("image", TensorType::F32, None)])
            .with_outputs([TensorDescription::new("probabilities", TensorType::F32, Some(vec![Some(1), Some(10)]))]),
    ] {
        sample.run(&backend(settings)).assert();
    }
}

#[test]
fn guests_of_both_ends_get_the_right_outputs_on_several_threads() {
    let engine = Engine::new(backend(settings()));
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
    };
    thread::scope(|scope| {
        for number in 0..4 {
            let engine = &engine;
            scope.spawn(move || {
                let guest = engine.guest();
                for encoding in [Encoding::Onnx, Encoding::Autodetect] {
                    let graph = guest.load(&[DIGITS], encoding, Target::Cpu).unwrap();
                    let context = guest.init_execution_context(graph).unwrap();
                    for row in number * 10..number * 10 + 10 {
                        let outputs = guest.infer(context, [(0, &image(row))]).unwrap();
                        let (got, expected) = (floats(outputs[0].data()), floats(&EXPECTED[row * 40..][..40]));
                        let close = got.iter().zip(&expected).all(|(got, expected)| (got - expected).abs() < 1e-4);
                        assert!(outputs.len() == 1 && got.len() == 10 && close, "{got:?}, not {expected:?}");
                    }
                    // Not the input of the inference before.
                    let error = guest.infer::<u32, &Tensor>(context, []).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
                    guest.unload(graph).unwrap();
                    guest.drop_context(context).unwrap();
                }
                let error = guest.load(&[b"no model"], Encoding::Onnx, Target::Cpu).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidEncoding);
            });
        }
    });
}
