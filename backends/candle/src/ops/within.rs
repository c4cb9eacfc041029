//! Operators of ai.onnx as parts of others.

use crate::compute::context::ExecContext;
use crate::format::messages::{AttributeProto, NodeProto};
use crate::ops::basic;
use crate::ops::node::{Args, Node, OpFn, Shared};
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// What runs an operator of ai.onnx with these attributes.
pub(super) fn standard(name: &str, opset: i64, attribute: Vec<AttributeProto>) -> Result<OpFn, Error> {
    let operator = basic::find(name, opset)?;
    // As many inputs as the operators here take at most, and one output.
    let input = (0..4).map(|index| index.to_string()).collect();
    let proto = NodeProto { input, output: vec!["y".to_owned()], attribute, ..NodeProto::default() };
    let shared = Shared::new(usize::MAX);
    let node = Node::new(&proto, opset, vec![None; 4], Vec::new(), &shared);
    let kernel = (operator.build)(&node)?;
    node.all_read()?;
    Ok(kernel)
}

/// The first output of an operator.
pub(super) fn apply(
    kernel: &OpFn,
    inputs: impl IntoIterator<Item = Option<Value>>,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let outputs = kernel(Args::new(inputs.into_iter().collect()), cx)?;
    outputs.into_iter().next().ok_or_else(|| Error::runtime_error("an operator returned no output"))
}

/// The first output of an operator whose inputs are all there.
pub(super) fn of<const N: usize>(kernel: &OpFn, inputs: [Value; N], cx: &ExecContext<'_>) -> Result<Value, Error> {
    apply(kernel, inputs.map(Some), cx)
}

/// An attribute that is an integer.
pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), i: Some(value), r#type: Some(2), ..AttributeProto::default() }
}

/// An attribute that is a float.
pub(super) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), f: Some(value), r#type: Some(1), ..AttributeProto::default() }
}

/// An attribute that is a string.
pub(super) fn string(name: &str, value: &str) -> AttributeProto {
    let s = Some(value.as_bytes().to_vec());
    AttributeProto { name: Some(name.to_owned()), s, r#type: Some(3), ..AttributeProto::default() }
}
