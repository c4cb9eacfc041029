//! Models on candle's CPU as a device, in an engine.

#![allow(missing_docs, reason = "a test")]

use candle_core::Device;
use graphpool::backend::Placement;
use graphpool::nn::conformance::Sample;
use graphpool::nn::{Encoding, Engine, ErrorKind, Limits, Target, Tensor};
use graphpool_candle::CandleBackend;

const DIGITS: &[u8] = include_bytes!("../../../examples/models/digits/digits.onnx");

fn image() -> Tensor {
    let pixels: Vec<f32> = (0..64).map(|pixel| (pixel % 17) as f32 / 16.0).collect();
    Tensor::from_f32(vec![1, 1, 8, 8], &pixels).unwrap()
}

/// The digits model's output for the image.
fn scores(engine: &Engine) -> Vec<f32> {
    let guest = engine.guest();
    let graph = guest.load(&[DIGITS], Encoding::Onnx, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    guest.set_input(context, 0, image().view()).unwrap();
    guest.compute(context).unwrap();
    guest.output(context, 0).unwrap().to_f32().unwrap()
}

#[test]
fn a_device_passes_the_checks_for_backends() {
    let backend = CandleBackend::with_device(Device::Cpu);
    Sample::new(DIGITS.to_vec(), Encoding::Onnx, Target::Cpu, vec![image()]).run(&backend).assert();
}

#[test]
fn an_engine_tells_where_the_steps_of_a_model_run() {
    let engine = Engine::new(CandleBackend::with_device(Device::Cpu));
    let guest = engine.guest();
    let graph = guest.load(&[DIGITS], Encoding::Onnx, Target::Cpu).unwrap();
    let [listed] = engine.list_graphs().try_into().unwrap();
    // The one transfer is the image.
    assert_eq!(listed.placement, Some(Placement::new(9, 0, 1)));
    // The weights are on the host and on the device.
    let on_host = Engine::new(CandleBackend::new());
    let other = on_host.guest();
    other.load(&[DIGITS], Encoding::Onnx, Target::Cpu).unwrap();
    let [host] = on_host.list_graphs().try_into().unwrap();
    assert_eq!(host.placement, None);
    let weights = host.bytes.min(DIGITS.len());
    assert!(listed.bytes > weights * 3 / 2, "{} bytes, and {} on the host alone", listed.bytes, host.bytes);
    guest.unload(graph).unwrap();
}

#[test]
fn host_and_device_give_equal_scores() {
    let host = scores(&Engine::new(CandleBackend::new()));
    let device = scores(&Engine::new(CandleBackend::with_device(Device::Cpu)));
    for (host, device) in host.iter().zip(&device) {
        assert!((host - device).abs() < 1e-5, "{device} on the device, {host} on the host");
    }
}

#[test]
fn memory_on_the_device_counts_towards_the_limits() {
    let backend = CandleBackend::with_device(Device::Cpu);
    // The weights, which are nearly all of the file, are on the host and on the device.
    let on_device = memory(&backend.load_graph(DIGITS, usize::MAX).unwrap());
    let file = DIGITS.len();
    assert!(on_device > 2 * file, "{on_device} bytes with the device, of a file of {file}");
    let error = backend.load_graph(DIGITS, on_device - on_device / 8).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");

    let limits = Limits::default().with_max_compute_bytes(1 << 10);
    let engine = Engine::new(backend);
    let guest = engine.guest_with(limits);
    let graph = guest.load(&[DIGITS], Encoding::Onnx, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    guest.set_input(context, 0, image().view()).unwrap();
    assert_eq!(guest.compute(context).unwrap_err().kind(), ErrorKind::TooLarge);
    // The refusal has lost nothing.
    assert_eq!(engine.list_graphs().len(), 1);
}

fn memory(graph: &graphpool_candle::CandleGraph) -> usize {
    graphpool::backend::BackendGraph::memory(graph)
}
