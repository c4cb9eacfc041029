//! The operators of com.microsoft, which onnxruntime adds, compared with the results of onnxruntime 1.32.

mod attention;
mod fused;
mod quantized;

use crate::CandleBackend;
use crate::format::messages::{AttributeProto, ModelProto, OperatorSetIdProto, TensorProto};
use crate::tensor::element::{Element, ElementType};
use crate::tensor::value::Value;
use crate::tests::builder::{Model, info, names, node, onnx_number, value};
use graphpool::backend::{ComputeControl, Error};
use prost::Message as _;

/// f32 elements from -1.25 to 1.25 in steps of 0.25: -1.25, 0.5, -0.5, 1.25 and so on.
fn floats(dims: &[usize]) -> Value {
    let count: usize = dims.iter().product();
    value(dims, &(0..count).map(|at| (at * 7 % 11) as f32 / 4.0 - 1.25).collect::<Vec<_>>())
}

/// The elements of [`floats`], times two.
fn doubled(dims: &[usize]) -> Value {
    value(dims, &floats(dims).elements::<f32>().unwrap().iter().map(|x| 2.0 * x).collect::<Vec<_>>())
}

/// Elements of I8 from -127 on, in steps of 37 with wrapping.
fn signed(dims: &[usize]) -> Value {
    let count: usize = dims.iter().product();
    value(dims, &(0..count).map(|at| ((at * 37 % 255) as i16 - 127) as i8).collect::<Vec<_>>())
}

/// Elements of U8 from 0 on, in steps of 37 with wrapping.
fn unsigned(dims: &[usize]) -> Value {
    let count: usize = dims.iter().product();
    value(dims, &(0..count).map(|at| (at * 37 % 256) as u8).collect::<Vec<_>>())
}

fn scalar<T: Element>(element: T) -> Value {
    Value::scalar(element).unwrap()
}

/// The numbers from 1 to 8, divided by `by`.
fn rising(by: f32) -> Value {
    value(&[1, 8], &(1..=8).map(|x| x as f32 / by).collect::<Vec<_>>())
}

/// Inputs of which none is left out.
fn given<const N: usize>(inputs: [Value; N]) -> Vec<Option<Value>> {
    inputs.map(Some).to_vec()
}

/// Runs a model of one operator of com.microsoft. All inputs but the first are constants of the model if `constant`.
fn run(
    op: &str,
    attributes: &[AttributeProto],
    inputs: &[Option<Value>],
    outputs: usize,
    constant: bool,
) -> Result<Vec<Value>, Error> {
    let of_input = |(at, input): (usize, &Option<Value>)| input.as_ref().map_or("_".to_owned(), |_| format!("x{at}"));
    let read: Vec<String> = inputs.iter().enumerate().map(of_input).collect();
    let mut model = Model::new(17);
    let mut made = node(op, &read.join(" "), &names('y', outputs), attributes);
    made.domain = Some("com.microsoft".to_owned());
    model.graph.node.push(made);
    let mut given = Vec::new();
    for (at, input) in inputs.iter().enumerate() {
        let Some(input) = input else { continue };
        if constant && at > 0 {
            model.graph.initializer.push(TensorProto {
                name: Some(format!("x{at}")),
                dims: input.dims().iter().map(|&dim| dim as i64).collect(),
                data_type: Some(onnx_number(input)),
                raw_data: Some(input.to_bytes()),
                ..TensorProto::default()
            });
        } else {
            model.graph.input.push(info(&format!("x{at}"), onnx_number(input), None));
            given.push(input.clone());
        }
    }
    let integer = op.starts_with("QLinear");
    for at in 0..outputs {
        let ty = if integer {
            2
        } else if op == "EmbedLayerNormalization" && at == 1 {
            6
        } else {
            1
        };
        model.graph.output.push(info(&format!("y{at}"), ty, None));
    }
    let mut proto = ModelProto::decode(model.bytes().as_slice()).unwrap();
    proto.opset_import.push(OperatorSetIdProto { domain: Some("com.microsoft".to_owned()), version: Some(1) });
    let control = ComputeControl::default().with_memory_limit(1 << 24);
    CandleBackend::new().load_graph(&proto.encode_to_vec(), 1 << 24)?.run(given, &control)
}

/// Checks the results of an operator, with its inputs given to the run and with constants.
#[track_caller]
fn check(op: &str, attributes: &[AttributeProto], inputs: &[Option<Value>], wanted: &[&[f32]]) {
    for constant in [false, true] {
        let found = run(op, attributes, inputs, wanted.len(), constant).unwrap();
        for (found, wanted) in found.iter().zip(wanted) {
            let found: Vec<f32> = match found.ty() {
                ElementType::I32 => found.elements::<i32>().unwrap().iter().map(|&x| x as f32).collect(),
                _ => found.elements::<f32>().unwrap().to_vec(),
            };
            assert_eq!(found.len(), wanted.len(), "{op}");
            for (found, wanted) in found.iter().zip(*wanted) {
                assert!((found - wanted).abs() <= 2e-4 * (1.0 + wanted.abs()), "{op}: {found} instead of {wanted}");
            }
        }
    }
}

/// Checks a result of U8. One element can be off by one: numbers halfway between two integers are rounded either way.
#[track_caller]
fn bytes(op: &str, attributes: &[AttributeProto], inputs: &[Option<Value>], wanted: &[u8]) {
    let found = run(op, attributes, inputs, 1, false).unwrap();
    let found = found[0].elements::<u8>().unwrap();
    assert_eq!(found.len(), wanted.len(), "{op}");
    assert!(found.iter().zip(wanted).all(|(a, b)| a.abs_diff(*b) <= 1), "{op}: {found:?} instead of {wanted:?}");
    assert!(found.iter().zip(wanted).filter(|(a, b)| a != b).count() <= 1, "{op}: {found:?} instead of {wanted:?}");
}
