//! Functions that a model defines itself.

use prost::Message as _;

use crate::format::messages::{AttributeProto, FunctionProto, ModelProto, NodeProto, OperatorSetIdProto};
use crate::tensor::value::Value;
use crate::tests::builder::{BOOL, F32, Model, float, floats, graph, int, node, tensor};
use crate::{CandleBackend, CandleGraph};
use graphpool::backend::{ComputeControl, Error, ErrorKind};

/// A call of a function of the domain `own`.
fn call(name: &str, inputs: &str, outputs: &str, attributes: &[AttributeProto]) -> NodeProto {
    NodeProto { domain: Some("own".to_owned()), ..node(name, inputs, outputs, attributes) }
}

/// A function of the domain `own`.
fn function(name: &str, inputs: &str, outputs: &str, nodes: Vec<NodeProto>) -> FunctionProto {
    let names = |list: &str| list.split_whitespace().map(str::to_owned).collect();
    FunctionProto {
        name: Some(name.to_owned()),
        domain: Some("own".to_owned()),
        input: names(inputs),
        output: names(outputs),
        node: nodes,
        opset_import: vec![opset("", 17), opset("own", 1)],
        ..FunctionProto::default()
    }
}

fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: Some(domain.to_owned()), version: Some(version) }
}

/// An attribute whose value is that of the enclosing function's attribute `to`.
fn refers(name: &str, number: i32, to: &str) -> AttributeProto {
    let (name, to) = (Some(name.to_owned()), Some(to.to_owned()));
    AttributeProto { name, r#type: Some(number), ref_attr_name: to, ..AttributeProto::default() }
}

fn load_within(model: &Model, functions: Vec<FunctionProto>, limit: usize) -> Result<CandleGraph, Error> {
    let mut proto = ModelProto::decode(model.bytes().as_slice()).unwrap();
    proto.opset_import.push(opset("own", 1));
    proto.functions = functions;
    CandleBackend::new().load_graph(&proto.encode_to_vec(), limit)
}

fn load(model: &Model, functions: Vec<FunctionProto>) -> Result<CandleGraph, Error> {
    load_within(model, functions, 1 << 26)
}

/// A model from `x` to `y`.
fn model(nodes: Vec<NodeProto>) -> Model {
    let mut model = Model::new(17).input("x", F32, &[-1]).output("y", F32);
    model.graph.node = nodes;
    model
}

#[track_caller]
fn gives(model: &Model, functions: Vec<FunctionProto>, inputs: Vec<Value>, wanted: &[f32]) {
    let outputs = load(model, functions).unwrap().run(inputs, &ComputeControl::default()).unwrap();
    assert_eq!(outputs[0].elements::<f32>().unwrap(), wanted);
}

#[track_caller]
fn refused(model: &Model, functions: Vec<FunctionProto>, kind: ErrorKind, why: &str) {
    let error = load(model, functions).unwrap_err();
    assert!(error.kind() == kind && error.message().contains(why), "{error} instead of {why}");
}

#[test]
fn each_call_has_its_own_names() {
    // `t`, `x` and `y` are names in the model too.
    let twice_and_one = function("F", "x", "t", vec![node("Add", "x x", "y", &[]), node("Mul", "y y", "t", &[])]);
    let outer = function("G", "a", "x", vec![call("F", "a", "t", &[]), call("F", "t", "x", &[])]);
    let uses = model(vec![call("G", "x", "t", &[]), call("F", "x", "f", &[]), node("Add", "t f", "y", &[])]);
    // F is 4x², G is 4(4x²)².
    gives(&uses, vec![twice_and_one, outer], vec![tensor(&[2], &[1.0, 0.5])], &[68.0, 5.0]);
}

#[test]
fn attributes_are_those_of_the_use_or_the_defaults() {
    let mut leaky = function("L", "x", "y", vec![node("LeakyRelu", "x", "y", &[refers("alpha", 1, "slope")])]);
    leaky.attribute_proto = vec![float("slope", 0.5)];
    // An attribute without a value and without a default is left out, so the operator's default applies.
    let mut plain = function("P", "x", "y", vec![node("LeakyRelu", "x", "y", &[refers("alpha", 1, "slope")])]);
    plain.attribute = vec!["slope".to_owned()];
    // A call inside a function passes an attribute of that function on.
    let mut through = function("T", "x", "y", vec![call("L", "x", "y", &[refers("slope", 1, "given")])]);
    through.attribute = vec!["given".to_owned()];
    let x = || vec![tensor(&[1], &[-8.0])];
    let functions = || vec![leaky.clone(), plain.clone(), through.clone()];
    gives(&model(vec![call("L", "x", "y", &[])]), functions(), x(), &[-4.0]);
    gives(&model(vec![call("L", "x", "y", &[float("slope", 0.25)])]), functions(), x(), &[-2.0]);
    gives(&model(vec![call("T", "x", "y", &[float("given", 0.125)])]), functions(), x(), &[-1.0]);
    gives(&model(vec![call("T", "x", "y", &[])]), functions(), x(), &[-4.0]);
    gives(&model(vec![call("P", "x", "y", &[])]), functions(), x(), &[-8.0 * 0.01]);
    let other = model(vec![call("L", "x", "y", &[float("alpha", 0.25)])]);
    refused(&other, functions(), ErrorKind::UnsupportedOperation, "attribute 'alpha'");
    let wrong = model(vec![call("L", "x", "y", &[int("slope", 1)])]);
    refused(&wrong, functions(), ErrorKind::InvalidEncoding, "wrong type");
    // A reference is an error outside of a function.
    let loose = model(vec![node("LeakyRelu", "x", "y", &[refers("alpha", 1, "slope")])]);
    refused(&loose, vec![], ErrorKind::InvalidEncoding, "refers to a function's");
}

#[test]
fn a_branch_inside_of_a_function_has_the_functions_names_and_attributes() {
    let branch = |op: &str, attributes: &[AttributeProto]| {
        Model::new(17).node(op, "x", "out", attributes).output("out", F32).graph
    };
    let yes = graph("then_branch", branch("LeakyRelu", &[refers("alpha", 1, "slope")]));
    let no = graph("else_branch", branch("Neg", &[]));
    let mut chosen = function("C", "c x", "y", vec![node("If", "c", "y", &[yes, no])]);
    chosen.attribute = vec!["slope".to_owned()];
    let mut model = Model::new(17).input("c", BOOL, &[]).input("z", F32, &[-1]).output("y", F32);
    model.graph.node = vec![call("C", "c z", "y", &[float("slope", 0.5)])];
    let z = tensor(&[1], &[-2.0]);
    gives(&model, vec![chosen.clone()], vec![Value::scalar(true).unwrap(), z.clone()], &[-1.0]);
    gives(&model, vec![chosen], vec![Value::scalar(false).unwrap(), z], &[2.0]);
}

#[test]
fn inputs_and_outputs_may_be_left_out() {
    let clipped =
        function("C", "x low high", "y z", vec![node("Clip", "x low high", "y", &[]), node("Neg", "x", "z", &[])]);
    let bounded = |inputs: &str, outputs: &str| {
        let model = model(vec![call("C", inputs, outputs, &[])]);
        model.weights("one", &[], &[1.0])
    };
    let x = || vec![tensor(&[2], &[0.0, 2.0])];
    gives(&bounded("x", "y"), vec![clipped.clone()], x(), &[0.0, 2.0]);
    gives(&bounded("x _ one", "y"), vec![clipped.clone()], x(), &[0.0, 1.0]);
    gives(&bounded("x one", "y"), vec![clipped.clone()], x(), &[1.0, 2.0]);
    gives(&bounded("x", "_ y"), vec![clipped.clone()], x(), &[0.0, -2.0]);
    refused(&bounded("x one one one", "y"), vec![clipped.clone()], ErrorKind::InvalidEncoding, "4 inputs");
    refused(&bounded("x", "a b y"), vec![clipped.clone()], ErrorKind::InvalidEncoding, "3 outputs");
    // A required input of an operator that the call leaves out is an error.
    let added = function("A", "a b", "y", vec![node("Add", "a b", "y", &[])]);
    refused(&model(vec![call("A", "x", "y", &[])]), vec![added], ErrorKind::InvalidEncoding, "left out");
}

#[test]
fn a_function_has_operator_sets_of_its_own() {
    // Before opset 13, Softmax flattens the dimensions from its axis on.
    let mut old = function("S", "x", "y", vec![node("Softmax", "x", "y", &[int("axis", 0)])]);
    old.opset_import = vec![opset("", 11)];
    let mut model = Model::new(17).input("x", F32, &[-1, -1]).output("y", F32);
    model.graph.node = vec![call("S", "x", "y", &[])];
    gives(&model, vec![old], vec![tensor(&[2, 2], &[1.0; 4])], &[0.25; 4]);
    model.graph.node = vec![node("Softmax", "x", "y", &[int("axis", 0)])];
    gives(&model, vec![], vec![tensor(&[2, 2], &[1.0; 4])], &[0.5; 4]);
}

#[test]
fn functions_are_told_apart_by_domain_and_overload() {
    let mut one = function("F", "x", "y", vec![node("Neg", "x", "y", &[])]);
    let mut two = function("F", "x", "y", vec![node("Add", "x x", "y", &[])]);
    two.overload = Some("two".to_owned());
    let mut call = call("F", "x", "y", &[]);
    let x = || vec![tensor(&[1], &[3.0])];
    gives(&model(vec![call.clone()]), vec![one.clone(), two.clone()], x(), &[-3.0]);
    call.overload = Some("two".to_owned());
    gives(&model(vec![call.clone()]), vec![one.clone(), two.clone()], x(), &[6.0]);
    one.overload = Some("two".to_owned());
    refused(&model(vec![call.clone()]), vec![one.clone(), two], ErrorKind::InvalidEncoding, "defined twice");
    call.overload = None;
    refused(&model(vec![call]), vec![one], ErrorKind::UnsupportedOperation, "F of 'own'");
}

#[test]
fn a_function_that_uses_itself_is_refused() {
    let own = function("F", "x", "y", vec![call("F", "x", "y", &[])]);
    let uses = model(vec![call("F", "x", "y", &[])]);
    refused(&uses, vec![own], ErrorKind::TooLarge, "nested more than 40 deep");
    let one = function("F", "x", "y", vec![call("G", "x", "y", &[])]);
    let two = function("G", "x", "y", vec![call("F", "x", "y", &[])]);
    refused(&uses, vec![one, two], ErrorKind::TooLarge, "nested more than 40 deep");
    let cycle = function("F", "x", "y", vec![node("Add", "x y", "z", &[]), node("Neg", "z", "y", &[])]);
    refused(&uses, vec![cycle], ErrorKind::InvalidEncoding, "cycle");
    let nowhere = function("F", "x", "y", vec![node("Neg", "x", "z", &[])]);
    refused(&uses, vec![nowhere], ErrorKind::InvalidEncoding, "'y' has no producer");
    // A function can't read the names of the model.
    let outside = function("F", "a", "y", vec![node("Add", "a x", "y", &[])]);
    refused(&uses, vec![outside], ErrorKind::InvalidEncoding, "'x' has no producer");
}

/// `levels` functions, each of which calls the next one `width` times.
fn bomb(levels: usize, width: usize) -> Vec<FunctionProto> {
    let level = |level: usize| {
        let name = |at: usize| if at == 0 { "x".to_owned() } else { format!("t{at}") };
        let uses = (0..width).map(|at| {
            if level + 1 == levels {
                node("Neg", &name(at), &name(at + 1), &[])
            } else {
                call(&format!("F{}", level + 1), &name(at), &name(at + 1), &[])
            }
        });
        function(&format!("F{level}"), "x", &name(width), uses.collect())
    };
    (0..levels).map(level).collect()
}

#[test]
fn the_expansion_of_functions_is_bounded() {
    let uses = model(vec![call("F0", "x", "y", &[])]);
    refused(&uses, bomb(39, 2), ErrorKind::TooLarge, "more than 131072 nodes");
    refused(&uses, bomb(6, 64), ErrorKind::TooLarge, "more than 131072 nodes");
    gives(&uses, bomb(4, 4), vec![tensor(&[1], &[2.0])], &[2.0]);
    // A thousand calls of a function with a kilobyte of weights.
    let value = AttributeProto { t: Some(floats("", &[256], &[1.0; 256])), r#type: Some(4), ..refers("value", 4, "") };
    let held = function("H", "x", "y", vec![node("Constant", "", "c", &[value]), node("Add", "x c", "y", &[])]);
    let chain = (0..1000).map(|at| call("H", &format!("t{at}"), &format!("t{}", at + 1), &[]));
    let mut uses = model(chain.collect());
    uses.graph.node[0].input[0] = "x".to_owned();
    uses.graph.node[999].output[0] = "y".to_owned();
    assert!(load_within(&uses, vec![held.clone()], 1 << 24).is_ok());
    let error = load_within(&uses, vec![held], 1 << 20).unwrap_err();
    assert!(error.kind() == ErrorKind::TooLarge && error.message().contains("1048576"), "{error}");
}
