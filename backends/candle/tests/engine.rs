//! Runs graphpool's engine with the candle backend, and the checks that graphpool has for backends.

#![allow(missing_docs, reason = "a test")]

use graphpool::nn::conformance::Sample;
use graphpool::nn::{Encoding, Engine, ErrorKind, Limits, ModelSource, Target, Tensor};
use graphpool_candle::CandleBackend;

/// A length-delimited field of a protobuf message.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(value.len()).unwrap()], value].concat()
}

/// An ONNX model: `y = x + x` for vectors of two f32.
fn doubling() -> Vec<u8> {
    let shape = field(2, &field(1, &[1 << 3, 2]));
    let vector = field(2, &field(1, &[vec![1 << 3, 1], shape].concat()));
    let value = |name: &[u8]| [field(1, name), vector.clone()].concat();
    let node = [field(1, b"x"), field(1, b"x"), field(2, b"y"), field(4, b"Add")].concat();
    let graph = [field(1, &node), field(2, b"doubling"), field(11, &value(b"x")), field(12, &value(b"y"))].concat();
    let (version, opset) = ([1 << 3, 8], [2 << 3, 13]);
    [version.to_vec(), field(7, &graph), field(8, &opset)].concat()
}

#[test]
fn an_engine_with_the_backend_runs_onnx() {
    let engine = Engine::new(CandleBackend::new());
    engine.register_model("doubling", ModelSource::bytes(doubling()), Encoding::Onnx, Target::Cpu).unwrap();
    let guest = engine.guest();
    for graph in [
        guest.load_by_name("doubling"),
        guest.load(&[&doubling()], Encoding::Onnx, Target::Cpu),
        guest.load(&[&doubling()], Encoding::Autodetect, Target::Cpu),
    ] {
        let graph = graph.unwrap();
        assert_eq!(guest.inputs(graph).unwrap()[0].dimensions, Some(vec![Some(2)]));
        let context = guest.init_execution_context(graph).unwrap();
        assert_eq!(guest.compute(context).unwrap_err().kind(), ErrorKind::InvalidArgument);
        guest.set_input(context, "x", Tensor::from_f32(vec![2], &[1.5, -4.0]).unwrap().view()).unwrap();
        guest.compute(context).unwrap();
        assert_eq!(guest.output(context, "y").unwrap().to_f32(), Some(vec![3.0, -8.0]));
    }
}

#[test]
fn the_candle_backend_passes_the_checks_for_backends() {
    let vector = |elements: &[f32]| Tensor::from_f32(vec![2], elements).unwrap();
    let sample = Sample::new(doubling(), Encoding::Onnx, Target::Cpu, vec![vector(&[1.5, -4.0])]);
    let report = sample.with_outputs(vec![vector(&[3.0, -8.0])]).run(&CandleBackend::new());
    report.assert();
    assert_eq!(report.checks(), 13);

    // A larger model with weights, convolutions and two outputs.
    let digits = include_bytes!("../../../examples/models/digits/digits.onnx");
    let pixels: Vec<f32> = (0..64).map(|pixel| (pixel % 17) as f32 / 16.0).collect();
    let image = Tensor::from_f32(vec![1, 1, 8, 8], &pixels).unwrap();
    Sample::new(digits.to_vec(), Encoding::Onnx, Target::Cpu, vec![image]).run(&CandleBackend::new()).assert();
}

#[test]
fn a_context_is_counted_with_what_it_keeps() {
    let engine = Engine::new(CandleBackend::new());
    let guest = engine.guest();
    let graph = guest.load(&[&doubling()], Encoding::Onnx, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    guest.set_input(context, "x", Tensor::from_f32(vec![2], &[1.5, -4.0]).unwrap().view()).unwrap();
    guest.compute(context).unwrap();
    // 16 bytes are the input and the output.
    assert!((32..1 << 12).contains(&engine.stats().context_bytes), "{}", engine.stats().context_bytes);
}

#[test]
fn a_context_is_counted_with_its_inputs_and_outputs() {
    let engine = Engine::new(CandleBackend::new());
    // So little that a context keeps nothing for its next compute.
    let guest = engine.guest_with(Limits::default().with_max_context_bytes(64));
    let graph = guest.load(&[&doubling()], Encoding::Onnx, Target::Cpu).unwrap();
    let context = guest.init_execution_context(graph).unwrap();
    let context_bytes = || engine.stats().context_bytes;
    assert_eq!(context_bytes(), 0);
    guest.set_input(context, "x", Tensor::from_f32(vec![2], &[1.5, -4.0]).unwrap().view()).unwrap();
    assert_eq!(context_bytes(), 8);
    for _ in 0..2 {
        guest.compute(context).unwrap();
        assert_eq!(context_bytes(), 16);
    }
    // An inference moves its outputs out.
    let input = Tensor::from_f32(vec![2], &[2.0, 0.5]).unwrap();
    let outputs = guest.infer(context, [("x", &input)]).unwrap();
    assert_eq!((outputs[0].to_f32(), context_bytes()), (Some(vec![4.0, 1.0]), 8));
    guest.clear_inputs(context).unwrap();
    assert_eq!(context_bytes(), 0);
    guest.compute(context).unwrap_err();
    guest.set_input(context, "x", &input).unwrap();
    guest.drop_context(context).unwrap();
    assert_eq!(context_bytes(), 0);
}

#[test]
fn an_engine_with_this_backend_alone_loads_only_onnx() {
    let guest = Engine::new(CandleBackend::new()).guest();
    let load = |encoding| guest.load(&[b"junk"], encoding, Target::Cpu).unwrap_err().kind();
    assert_eq!(load(Encoding::Onnx), ErrorKind::InvalidEncoding);
    assert_eq!(load(Encoding::Autodetect), ErrorKind::InvalidEncoding);
    assert_eq!(load(Encoding::PyTorch), ErrorKind::UnsupportedOperation);
}
