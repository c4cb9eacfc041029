//! What tests share: a builder of ONNX models, attributes, tensors and values, and single operators without a plan.

use prost::Message;

use crate::compute::context::ExecContext;
use crate::format::messages::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use crate::ops::node::{Args, Node, OpFn, Shared};
use crate::tensor::budget::ComputeBudget;
use crate::tensor::element::{Element, ElementType};
use crate::tensor::value::{Value, Values};
use crate::{CandleBackend, CandleGraph, ops};
use graphpool::backend::{ComputeControl, Error};

/// ONNX's numbers of element types.
pub const F32: i32 = 1;
pub const I64: i32 = 7;
pub const STRING: i32 = 8;
pub const BOOL: i32 = 9;
pub const F64: i32 = 11;

/// A model under construction.
#[derive(Clone)]
pub struct Model {
    pub graph: GraphProto,
    pub opset: i64,
    /// Domains other than ai.onnx, with their versions.
    pub imports: Vec<(&'static str, i64)>,
}

impl Model {
    pub fn new(opset: i64) -> Self {
        Self { graph: GraphProto::default(), opset, imports: Vec::new() }
    }

    /// An input; -1 is an open size.
    pub fn input(mut self, name: &str, ty: i32, dims: &[i64]) -> Self {
        self.graph.input.push(info(name, ty, Some(dims)));
        self
    }

    /// An output of any shape.
    pub fn output(mut self, name: &str, ty: i32) -> Self {
        self.graph.output.push(info(name, ty, None));
        self
    }

    pub fn weights(mut self, name: &str, dims: &[i64], elements: &[f32]) -> Self {
        self.graph.initializer.push(floats(name, dims, elements));
        self
    }

    pub fn integers(mut self, name: &str, dims: &[i64], elements: &[i64]) -> Self {
        self.graph.initializer.push(integers(name, dims, elements));
        self
    }

    pub fn initializer(mut self, tensor: TensorProto) -> Self {
        self.graph.initializer.push(tensor);
        self
    }

    /// A node; inputs and outputs are separated by blanks, and `_` stands for one that is left out.
    pub fn node(mut self, op: &str, inputs: &str, outputs: &str, attributes: &[AttributeProto]) -> Self {
        self.graph.node.push(node(op, inputs, outputs, attributes));
        self
    }

    /// The model with its nodes in another domain.
    pub fn of_domain(mut self, domain: &'static str, version: i64) -> Self {
        if !domain.is_empty() {
            self.imports.push((domain, version));
            // No node is of ai.onnx, so any supported version will do.
            self.opset = 17;
            self.graph.node.iter_mut().for_each(|node| node.domain = Some(domain.to_owned()));
        }
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let import =
            |domain: &str, version| OperatorSetIdProto { domain: Some(domain.to_owned()), version: Some(version) };
        let others = self.imports.iter().map(|&(domain, version)| import(domain, version));
        let opset_import = std::iter::once(import("", self.opset)).chain(others).collect();
        let graph = Some(self.graph.clone());
        ModelProto { ir_version: Some(8), graph, opset_import, ..ModelProto::default() }.encode_to_vec()
    }

    pub fn load(&self) -> Result<CandleGraph, Error> {
        CandleBackend::new().load_graph(&self.bytes(), usize::MAX)
    }

    /// Loads the model and runs it with a memory limit of 64 MiB.
    pub fn run(&self, inputs: Vec<Value>) -> Result<Vec<Value>, Error> {
        let control = ComputeControl::default().with_memory_limit(1 << 26);
        self.load()?.run(inputs, &control)
    }

    /// Dimensions and elements of the one f32 output.
    pub fn floats(&self, inputs: Vec<Value>) -> (Vec<usize>, Vec<f32>) {
        let outputs = self.run(inputs).unwrap();
        (outputs[0].dims().to_vec(), outputs[0].elements::<f32>().unwrap().to_vec())
    }

    /// Dimensions and elements of the one i64 output.
    pub fn longs(&self, inputs: Vec<Value>) -> (Vec<usize>, Vec<i64>) {
        let outputs = self.run(inputs).unwrap();
        (outputs[0].dims().to_vec(), outputs[0].elements::<i64>().unwrap().to_vec())
    }
}

/// A model of one node. Its inputs are `x`, which is f32, and `rest`; its output `y` is f32.
pub fn one(opset: i64, op: &str, rest: &str, attributes: &[AttributeProto]) -> Model {
    let mut model = Model::new(opset).node(op, &format!("x {rest}"), "y", attributes).output("y", F32);
    model.graph.input.push(info("x", F32, None));
    model
}

/// A node; `inputs` and `outputs` are as in [`Model::node`].
pub fn node(op: &str, inputs: &str, outputs: &str, attributes: &[AttributeProto]) -> NodeProto {
    let names = |list: &str| {
        list.split_whitespace().map(|name| if name == "_" { String::new() } else { name.to_owned() }).collect()
    };
    NodeProto {
        input: names(inputs),
        output: names(outputs),
        op_type: Some(op.to_owned()),
        attribute: attributes.to_vec(),
        ..NodeProto::default()
    }
}

/// An input or output of an element type; -1 is an open size, and `None` an open rank.
pub fn info(name: &str, ty: i32, dims: Option<&[i64]>) -> ValueInfoProto {
    let dim = |&dim: &i64| DimensionProto { dim_value: Some(dim) };
    let shape = dims.map(|dims| TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor_type = Some(TensorTypeProto { elem_type: Some(ty), shape });
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(TypeProto { tensor_type }) }
}

pub fn floats(name: &str, dims: &[i64], elements: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(F32),
        float_data: elements.to_vec(),
        ..TensorProto::default()
    }
}

pub fn integers(name: &str, dims: &[i64], elements: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(I64),
        raw_data: Some(elements.iter().flat_map(|element| element.to_le_bytes()).collect()),
        ..TensorProto::default()
    }
}

fn attribute(name: &str, number: i32) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(number), ..AttributeProto::default() }
}

pub fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, 1) }
}

pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, 2) }
}

pub fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.as_bytes().to_vec()), ..attribute(name, 3) }
}

pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, 7) }
}

pub fn float_list(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto { floats: values.to_vec(), ..attribute(name, 6) }
}

pub fn string_list(name: &str, values: &[&str]) -> AttributeProto {
    let strings = values.iter().map(|string| string.as_bytes().to_vec()).collect();
    AttributeProto { strings, ..attribute(name, 8) }
}

pub fn tensor_attribute(name: &str, tensor: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(tensor), ..attribute(name, 4) }
}

pub fn graph(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto { g: Some(graph), ..attribute(name, 5) }
}

/// A value of any type.
pub fn value<T: Element>(dims: &[usize], elements: &[T]) -> Value {
    Value::new(dims.to_vec(), elements.to_vec()).unwrap()
}

/// A value of copies of one element.
pub fn filled<T: Element>(dims: &[usize], element: T) -> Value {
    value(dims, &vec![element; dims.iter().product()])
}

/// A value of f32.
pub fn tensor(dims: &[usize], elements: &[f32]) -> Value {
    value(dims, elements)
}

/// ONNX's number of a value's element type.
pub fn onnx_number(value: &Value) -> i32 {
    (1..27).find(|&number| ElementType::from_onnx(number) == Some(value.ty())).unwrap()
}

/// The names of `count` values, such as `x0 x1`.
pub fn names(letter: char, count: usize) -> String {
    (0..count).map(|index| format!("{letter}{index}")).collect::<Vec<_>>().join(" ")
}

/// The kernel of a node, none of whose inputs is constant.
pub fn kernel(
    (domain, opset): (&str, i64),
    op: &str,
    inputs: usize,
    outputs: usize,
    attributes: &[AttributeProto],
) -> OpFn {
    let proto = node(op, &names('x', inputs), &names('y', outputs), attributes);
    let shared = Shared::new(usize::MAX);
    let node = Node::new(&proto, opset, vec![None; inputs], Vec::new(), &shared);
    (ops::find(domain, op, opset).unwrap().build)(&node).unwrap()
}

/// Runs a kernel as a plan does, but without the plan's check of deadline and cancel token before it.
///
/// It can overwrite inputs of which the caller keeps no clone.
pub fn run_kernel(kernel: &OpFn, inputs: Vec<Value>, control: &ComputeControl) -> Result<Vec<Value>, Error> {
    let budget = ComputeBudget::new(control.memory_limit);
    kernel(Args::new(inputs.into_iter().map(Some)), &ExecContext::new(control, &budget)).map(Values::into_vec)
}

/// The error of a kernel that runs after its compute was cancelled. It fails if the kernel never checks the cancel
/// token.
#[track_caller]
pub fn cancelled(kernel: &OpFn, inputs: Vec<Value>) -> Error {
    let control = ComputeControl::default();
    control.cancel.cancel();
    run_kernel(kernel, inputs, &control).map(drop).unwrap_err()
}

/// The value of f32 whose elements count from 0.
pub fn counting(dims: &[usize]) -> Value {
    let count: usize = dims.iter().product();
    Value::new(dims.to_vec(), (0..count).map(|index| index as f32).collect()).unwrap()
}

/// Checks that elements are equal up to rounding.
#[track_caller]
pub fn close(found: &[f32], wanted: &[f32]) {
    assert_eq!(found.len(), wanted.len(), "{found:?} {wanted:?}");
    for (index, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let fine = (found - wanted).abs() <= 1e-5 + 1e-5 * wanted.abs();
        assert!(fine || found.to_bits() == wanted.to_bits(), "element {index}: {found} instead of {wanted}");
    }
}
