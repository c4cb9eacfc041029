//! The operators of ai.onnx.ml, compared with the results of onnxruntime 1.32, and hostile models of them.

mod features;
mod labels;
mod strings;
mod trees;
mod vectors;

use crate::format::messages::AttributeProto;
use crate::tensor::value::Value;
use crate::tests::builder::{F32, I64, Model, STRING, close, info, names, node, tensor};
use crate::{CandleBackend, CandleGraph};
use graphpool::backend::{ComputeControl, Error};

/// The bytes of a model of one operator with inputs and outputs of the given element types.
fn bytes(version: i64, op: &str, inputs: &[i32], outputs: &[i32], attributes: &[AttributeProto]) -> Vec<u8> {
    let mut model = Model::new(15);
    let mut made = node(op, &names('x', inputs.len()), &names('y', outputs.len()), attributes);
    made.domain = Some("ai.onnx.ml".to_owned());
    model.graph.node.push(made);
    model.graph.input = inputs.iter().enumerate().map(|(at, &ty)| info(&format!("x{at}"), ty, None)).collect();
    model.graph.output = outputs.iter().enumerate().map(|(at, &ty)| info(&format!("y{at}"), ty, None)).collect();
    imported(&model, version)
}

/// The bytes of a model that imports a version of ai.onnx.ml.
fn imported(model: &Model, version: i64) -> Vec<u8> {
    Model { imports: vec![("ai.onnx.ml", version)], ..model.clone() }.bytes()
}

fn load(bytes: &[u8]) -> Result<CandleGraph, Error> {
    CandleBackend::new().load_graph(bytes, 1 << 24)
}

fn control() -> ComputeControl {
    ComputeControl::default().with_memory_limit(1 << 24)
}

/// Four rows of two features.
fn rows() -> Value {
    tensor(&[4, 2], &[1.0, 2.0, -1.0, -3.0, 0.0, 0.0, 0.25, 0.0])
}

/// The same rows and one with a NaN.
fn rows_and_nan() -> Value {
    tensor(&[5, 2], &[1.0, 2.0, -1.0, -3.0, 0.0, 0.0, 0.25, 0.0, f32::NAN, 1.0])
}

/// Checks the f32 output of an operator on f32 or i64 inputs.
#[track_caller]
fn gives(op: &str, attributes: &[AttributeProto], inputs: Vec<Value>, wanted: &[f32]) {
    let types: Vec<i32> = inputs.iter().map(|value| if value.elements::<f32>().is_ok() { F32 } else { I64 }).collect();
    let outputs = load(&bytes(3, op, &types, &[F32], attributes)).unwrap().run(inputs, &control()).unwrap();
    close(outputs[0].elements().unwrap(), wanted);
}

/// Checks the labels and scores of a classifier whose labels are integers.
#[track_caller]
fn classifies(op: &str, attributes: &[AttributeProto], rows: Value, labels: &[i64], scores: &[f32]) {
    let outputs = load(&bytes(3, op, &[F32], &[I64, F32], attributes)).unwrap().run(vec![rows], &control()).unwrap();
    assert_eq!(outputs[0].elements::<i64>().unwrap(), labels, "{op}");
    close(outputs[1].elements().unwrap(), scores);
}

/// Checks the labels and scores of a classifier whose labels are strings.
#[track_caller]
fn classifies_strings(op: &str, attributes: &[AttributeProto], rows: Value, labels: &[&str], scores: &[f32]) {
    let graph = load(&bytes(3, op, &[F32], &[STRING, F32], attributes)).unwrap();
    let outputs = graph.run(vec![rows], &control()).unwrap();
    assert_eq!(graph.strings_of(&outputs[0]).unwrap(), labels, "{op}");
    close(outputs[1].elements().unwrap(), scores);
}

/// The attributes of `base` and `more`; those of `more` replace those of the same name.
fn with(base: &[AttributeProto], more: &[AttributeProto]) -> Vec<AttributeProto> {
    let replaced = |attribute: &AttributeProto| more.iter().any(|other| other.name == attribute.name);
    base.iter().filter(|attribute| !replaced(attribute)).chain(more).cloned().collect()
}

/// Checks that a load refuses an operator, with `why` in the message.
#[track_caller]
fn refused(version: i64, op: &str, attributes: &[AttributeProto], outputs: &[i32], why: &str) {
    let error = load(&bytes(version, op, &[F32], outputs, attributes)).unwrap_err();
    assert!(error.message().contains(why), "{error} instead of {why}");
}
