//! Inputs that have a default: an initializer of the same name.

use prost::Message as _;

use crate::format::messages::ModelProto;
use crate::tests::builder::{F32, I64, Model, integers, tensor};
use crate::{CandleBackend, CandleGraph};
use graphpool::backend::{BackendContext as _, ComputeControl, Error, ErrorKind, Tensor, TensorType};

/// `x` times (`w` plus a constant). `w` is listed before `x`; its default is 2 and 3.
fn model() -> Model {
    Model::new(13)
        .input("w", F32, &[2])
        .input("x", F32, &[2])
        .weights("w", &[2], &[2.0, 3.0])
        .weights("c", &[], &[0.5])
        .node("Add", "w c", "v", &[])
        .node("Mul", "x v", "y", &[])
        .output("y", F32)
}

fn load(model: &Model, version: i64) -> Result<CandleGraph, Error> {
    let mut proto = ModelProto::decode(model.bytes().as_slice()).unwrap();
    proto.ir_version = Some(version);
    CandleBackend::new().load_graph(&proto.encode_to_vec(), 1 << 20)
}

#[test]
fn an_input_with_a_default_may_be_given_or_not() {
    let graph = load(&model(), 4).unwrap();
    // Inputs without a default come first, with the same indexes as in a file without the others.
    let names: Vec<&str> = graph.input_ports().iter().map(|port| port.name.as_str()).collect();
    assert_eq!(names, ["x", "w"]);
    let (x, w) = (tensor(&[2], &[1.0, 10.0]), tensor(&[2], &[4.0, 5.0]));
    let control = ComputeControl::default();
    let run = |inputs| graph.run(inputs, &control).map(|outputs| outputs[0].elements::<f32>().unwrap().to_vec());
    assert_eq!(run(vec![x.clone()]).unwrap(), [2.5, 35.0]);
    assert_eq!(run(vec![x.clone(), w.clone()]).unwrap(), [4.5, 55.0]);
    assert_eq!(run(vec![]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(run(vec![x.clone(), w, x]).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_guest_that_sets_a_default_keeps_it_to_its_context() {
    let graph = load(&model(), 8).unwrap();
    let mut context = graph.context();
    let bytes = |numbers: [f32; 2]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>();
    let given = |numbers| Tensor::new(vec![2], TensorType::F32, bytes(numbers)).unwrap();
    let control = ComputeControl::default();
    assert!(context.compute(&control).unwrap_err().message().contains("'x' is not set"));
    context.set_input(0, given([1.0, 10.0]).view()).unwrap();
    context.compute(&control).unwrap();
    assert_eq!(context.output(0).unwrap().data(), bytes([2.5, 35.0]));
    context.set_input(1, given([4.0, 5.0]).view()).unwrap();
    context.compute(&control).unwrap();
    assert_eq!(context.output(0).unwrap().data(), bytes([4.5, 55.0]));
    let mut other = graph.context();
    other.set_input(0, given([1.0, 10.0]).view()).unwrap();
    other.compute(&control).unwrap();
    assert_eq!(other.output(0).unwrap().data(), bytes([2.5, 35.0]));
}

#[test]
fn in_older_files_a_weight_that_is_listed_as_an_input_is_a_weight() {
    // Before IR version 4 each initializer had to be listed as an input. In onnxruntime they can't be set either.
    let graph = load(&model(), 3).unwrap();
    assert_eq!(graph.input_ports().len(), 1);
    let outputs = graph.run(vec![tensor(&[2], &[1.0, 10.0])], &ComputeControl::default()).unwrap();
    assert_eq!(outputs[0].elements::<f32>().unwrap(), [2.5, 35.0]);
}

#[test]
fn a_default_that_is_not_what_the_input_says_is_refused() {
    let mut other = model();
    other.graph.initializer[0] = integers("w", &[2], &[1, 2]);
    assert!(load(&other, 4).unwrap_err().message().contains("'w' is I64"));
    other.graph.initializer[0] = crate::tests::builder::floats("w", &[3], &[1.0, 2.0, 3.0]);
    assert!(load(&other, 4).unwrap_err().message().contains("3]"));
    let mut twice = model();
    twice.graph.initializer.push(crate::tests::builder::floats("c", &[], &[1.0]));
    assert!(load(&twice, 4).unwrap_err().message().contains("twice"));
    let shape = Model::new(13).input("x", F32, &[2]).input("s", I64, &[1]).integers("s", &[1], &[2]);
    let shape = shape.node("Reshape", "x s", "y", &[]).output("y", F32);
    let outputs = load(&shape, 4).unwrap().run(vec![tensor(&[2], &[1.0, 2.0])], &ComputeControl::default()).unwrap();
    assert_eq!(outputs[0].dims(), [2]);
}
