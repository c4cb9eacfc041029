//! Loads to a GPU: refused where there is none, right where there is one.
//!
//! With the variable `GRAPHPOOL_GPU` set, a refusal fails the tests: there must be a GPU.

#![allow(missing_docs, reason = "a test")]

use graphpool::nn::{Encoding, Engine, ErrorKind, Guest, Target, Tensor};
use graphpool_candle::CandleBackend;

const DIGITS: &[u8] = include_bytes!("../../../examples/models/digits/digits.onnx");
const IMAGES: &[u8] = include_bytes!("../../../examples/models/digits/images.bin");
const EXPECTED: &[u8] = include_bytes!("../../../examples/models/digits/expected.bin");

/// An engine with a backend for each target.
fn engine() -> Engine {
    let engine = Engine::new(CandleBackend::new());
    engine.register_backend(CandleBackend::with_gpu(0)).unwrap();
    engine
}

/// Loads the digits to a target, and compares the outputs for some images with those that onnxruntime had.
fn check(guest: &Guest, target: Target) -> Result<(), graphpool::nn::Error> {
    let graph = guest.load(&[DIGITS], Encoding::Onnx, target)?;
    let context = guest.init_execution_context(graph)?;
    let rows = IMAGES.chunks(64).zip(EXPECTED.chunks(40)).step_by(15);
    for (index, (image, expected)) in rows.enumerate() {
        let pixels: Vec<f32> = image.iter().map(|&pixel| f32::from(pixel) / 16.0).collect();
        let image = Tensor::from_f32(vec![1, 1, 8, 8], &pixels).unwrap();
        let outputs = guest.infer(context, [("image", &image)])?;
        let found = outputs[0].to_f32().unwrap();
        assert_eq!(found.len(), 10);
        for (found, expected) in found.iter().zip(expected.chunks(4)) {
            let expected = f32::from_le_bytes(expected.try_into().unwrap());
            assert!((found - expected).abs() < 1e-4, "image {index} on {target}: {found} and not {expected}");
        }
    }
    Ok(())
}

#[test]
fn a_gpu_runs_a_model_or_is_refused_and_the_cpu_runs_it_anyway() {
    let guest = engine().guest();
    // A refusal is not kept, and the next load tries again.
    for _ in 0..2 {
        if let Err(error) = check(&guest, Target::Gpu) {
            println!("{error}");
            assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
            assert!(error.message().contains("GPU 0 can't be used: "), "{error}");
            assert!(!error.message().contains('\n'), "{error}");
            assert!(std::env::var_os("GRAPHPOOL_GPU").is_none(), "there must be a GPU");
        }
        check(&guest, Target::Cpu).unwrap();
    }
}

#[test]
fn threads_share_a_model_on_a_gpu() {
    let guest = engine().guest();
    let load = |target| guest.load(&[DIGITS], Encoding::Onnx, target).is_ok();
    let target = if load(Target::Gpu) { Target::Gpu } else { Target::Cpu };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..4).for_each(|_| check(&guest, target).unwrap()));
        }
    });
}

#[test]
fn a_gpu_that_is_not_there_is_refused() {
    let engine = Engine::new(CandleBackend::with_gpu(1000));
    let guest = engine.guest();
    let error = guest.load(&[DIGITS], Encoding::Onnx, Target::Gpu).unwrap_err();
    println!("{error}");
    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
    assert!(error.message().contains("GPU 1000 can't be used: "), "{error}");
    // This backend is for no other target.
    assert_eq!(guest.load(&[DIGITS], Encoding::Onnx, Target::Cpu).unwrap_err().kind(), ErrorKind::UnsupportedOperation);
}
