//! Builds and calls operators of ai.onnx from inside other operators, which are composed of them.

use crate::compute::context::ExecContext;
use crate::format::messages::{AttributeProto, NodeProto};
use crate::ops::basic;
use crate::ops::node::{Args, Node, OpFn, Shared};
use crate::ops::operator::Operator;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// Builds what `build` makes of an operator of ai.onnx and of a node with these attributes.
fn built<T, E: From<Error>>(
    name: &str,
    opset: i64,
    attribute: Vec<AttributeProto>,
    build: impl FnOnce(&Operator, &Node<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let operator = basic::find(name, opset)?;
    // Four inputs are the most that a delegated operator takes.
    let input = (0..4).map(|index| index.to_string()).collect();
    let proto = NodeProto { input, output: vec!["y".to_owned()], attribute, ..NodeProto::default() };
    let shared = Shared::new(usize::MAX);
    let node = Node::new(&proto, opset, vec![None; 4], Vec::new(), &shared);
    let result = build(operator, &node)?;
    node.all_read()?;
    Ok(result)
}

/// Builds an operator of ai.onnx with these attributes.
pub(super) fn onnx_operator(name: &str, opset: i64, attribute: Vec<AttributeProto>) -> Result<OpFn, Error> {
    built(name, opset, attribute, |operator, node| (operator.build)(node))
}

/// Builds the device form of an operator of ai.onnx with these attributes.
#[cfg(feature = "candle")]
pub(super) fn onnx_form(
    name: &str,
    opset: i64,
    attribute: Vec<AttributeProto>,
) -> Result<crate::device::args::DeviceForm, crate::device::args::Stop> {
    built(name, opset, attribute, |operator, node| match operator.form {
        Some(build) => build(node),
        None => Err(crate::device::args::Stop::HostOnly),
    })
}

/// The operator that is the activation of a fused one: its name, its opset, and its attributes, of which up to two are
/// parameters.
pub(super) fn activation(name: &str, parameters: &[f32]) -> Result<(&'static str, i64, Vec<AttributeProto>), Error> {
    let (name, opset, names): (_, _, &[&str]) = match name {
        "Relu" => ("Relu", 13, &[]),
        "Tanh" => ("Tanh", 13, &[]),
        "Sigmoid" => ("Sigmoid", 13, &[]),
        "LeakyRelu" => ("LeakyRelu", 16, &["alpha"]),
        "HardSigmoid" => ("HardSigmoid", 13, &["alpha", "beta"]),
        "Clip" => ("Clip", 6, &["min", "max"]),
        _ => {
            let why = "the activation is not one of Relu, LeakyRelu, HardSigmoid, Clip, Tanh and Sigmoid";
            return Err(Error::unsupported(why));
        }
    };
    Ok((name, opset, names.iter().zip(parameters).map(|(name, &value)| float(name, value)).collect()))
}

/// Calls an operator and returns its first output; an omitted input is `None`.
pub(super) fn call_optional(
    op: &OpFn,
    inputs: impl IntoIterator<Item = Option<Value>>,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let outputs = op(Args::new(inputs), cx)?;
    outputs.into_iter().next().ok_or_else(|| Error::runtime_error("an operator returned no output"))
}

/// Calls an operator with all of its inputs and returns its first output.
pub(super) fn call<const N: usize>(op: &OpFn, inputs: [Value; N], cx: &ExecContext<'_>) -> Result<Value, Error> {
    call_optional(op, inputs.map(Some), cx)
}

/// An integer attribute.
pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), i: Some(value), r#type: Some(2), ..AttributeProto::default() }
}

/// A float attribute.
pub(super) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), f: Some(value), r#type: Some(1), ..AttributeProto::default() }
}

/// A string attribute.
pub(super) fn string(name: &str, value: &str) -> AttributeProto {
    let s = Some(value.as_bytes().to_vec());
    AttributeProto { name: Some(name.to_owned()), s, r#type: Some(3), ..AttributeProto::default() }
}
