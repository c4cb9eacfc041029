//! Models that are attacks: each gives an error or an answer of the right shape, never a panic, never an abort.
//!
//! Nothing here catches a panic: one would fail the test.

use proptest::prelude::*;
use prost::Message;

use crate::format::messages::{GraphProto, TensorProto};
use crate::tensor::value::Value;
use crate::tests::builder::{
    BOOL, F32, I64, Model, counting, float, floats, graph, info, int, integers, ints, node, one, tensor,
};
use crate::tests::first::small;
use crate::{CandleBackend, CandleGraph};
use graphpool::backend::{BackendContext, ComputeControl, Error, ErrorKind, MESSAGE_BYTES, Tensor};

/// Loads the bytes and, where that works, runs the graph on inputs that fit, within 16 MiB.
pub fn attack(bytes: &[u8]) -> Result<Vec<Value>, Error> {
    let graph = CandleBackend::new().load_graph(bytes, 1 << 24)?;
    drive(&graph)
}

fn drive(graph: &CandleGraph) -> Result<Vec<Value>, Error> {
    let mut inputs = Vec::new();
    for port in graph.input_ports() {
        let dims: Vec<usize> = port.dims.iter().flatten().map(|dim| dim.unwrap_or(1)).collect();
        let count =
            dims.iter().try_fold(1_usize, |count, &dim| count.checked_mul(dim)).filter(|&count| count < 1 << 20);
        let Some(count) = count else { return Err(Error::too_large("an input too large to try")) };
        inputs.push(Value::from_bytes(dims, port.ty, &vec![0; count * port.ty.size()])?);
    }
    let control = ComputeControl::default().with_memory_limit(1 << 24);
    graph.run(inputs, &control)
}

/// A model with something of everything: attributes of all kinds, a subgraph, integers, floats, shapes.
fn varied() -> Vec<u8> {
    let branch = |op: &str| {
        let model = Model::new(13).node(op, "m m", "branch", &[]).output("branch", F32);
        GraphProto { name: Some(op.to_owned()), ..model.graph }
    };
    let mut model = small().integers("shape", &[2], &[-1, 3]).weights("low", &[], &[0.5]).weights("zero", &[], &[0.0]);
    model.graph.output.clear();
    model = model
        .node("Reshape", "y shape", "z", &[])
        .node("Softmax", "z", "s", &[int("axis", -1)])
        .node("Clip", "s low", "k", &[])
        .node("ReduceSum", "k", "sum", &[int("keepdims", 0)])
        .node("Greater", "sum zero", "c2", &[])
        .node("MaxPool", "x", "pooled", &[ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])])
        .node("LeakyRelu", "pooled", "leaky", &[float("alpha", 0.1)])
        .output("k", F32)
        .output("leaky", F32)
        .output("chosen", F32);
    let branches = [graph("then_branch", branch("Mul")), graph("else_branch", branch("Sub"))];
    model.graph.node.push(node("If", "c2", "chosen", &branches));
    model.bytes()
}

#[test]
fn a_model_cut_anywhere_is_refused_or_runs() {
    let bytes = varied();
    attack(&bytes).unwrap();
    for end in 0..bytes.len() {
        if let Err(error) = attack(&bytes[..end]) {
            assert!(error.message().len() <= MESSAGE_BYTES);
        }
    }
}

#[test]
fn a_model_with_any_byte_changed_is_refused_or_runs() {
    let bytes = varied();
    for place in 0..bytes.len() {
        for change in [0x01, 0x80, 0xff, 0x10] {
            let mut bytes = bytes.clone();
            bytes[place] ^= change;
            if let Err(error) = attack(&bytes) {
                assert!(error.message().len() <= MESSAGE_BYTES);
            }
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(attack(&bytes).is_err());
    }

    #[test]
    fn random_changes_are_refused_or_run(changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8)) {
        let mut bytes = varied();
        for (place, byte) in changes {
            let place = place % bytes.len();
            bytes[place] = byte;
        }
        let _ = attack(&bytes);
    }
}

#[test]
fn other_formats_are_refused_by_name() {
    let safetensors = b"\x40\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\"}}";
    for (bytes, name) in [(&b"GGUF\x03\0\0\0"[..], "GGUF"), (safetensors, "safetensors"), (b"PK\x03\x04rest", "ZIP")] {
        let error = attack(bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidEncoding);
        assert!(error.message().contains(name), "{error}");
    }
    assert_eq!(attack(b"").unwrap_err().kind(), ErrorKind::InvalidEncoding);
}

#[test]
fn dimensions_that_multiply_to_nothing_are_refused() {
    // 2 × i64::MIN is 0 in 64 bits: what passes for no data, and would be read past its end.
    let model = Model::new(13)
        .output("y", F32)
        .initializer(floats("a", &[2, i64::MIN], &[]))
        .initializer(floats("b", &[i64::MIN, 2], &[]))
        .node("MatMul", "a b", "y", &[]);
    let error = model.load().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidEncoding);
    for dims in [vec![1 << 33, 1 << 33], vec![1 << 62, 4], vec![0, i64::MAX, i64::MAX], vec![-1], vec![1; 1000]] {
        let model = one(13, "Add", "a", &[]).initializer(floats("a", &dims, &[]));
        assert!(model.load().is_err(), "{dims:?}");
    }
}

#[test]
fn data_of_another_length_or_elsewhere_is_refused() {
    let model = |tensor: TensorProto| one(13, "Add", "a", &[]).initializer(tensor).load().unwrap_err().kind();
    assert_eq!(model(floats("a", &[3], &[1.0, 2.0])), ErrorKind::InvalidEncoding);
    let raw = TensorProto { raw_data: Some(vec![0; 7]), float_data: vec![], ..floats("a", &[2], &[]) };
    assert_eq!(model(raw), ErrorKind::InvalidEncoding);
    let outside = TensorProto { data_location: Some(1), ..floats("a", &[0], &[]) };
    assert_eq!(model(outside), ErrorKind::UnsupportedOperation);
    let complex = TensorProto { data_type: Some(14), ..floats("a", &[0], &[]) };
    assert_eq!(model(complex), ErrorKind::UnsupportedOperation);
}

#[test]
fn an_unknown_operator_is_refused_by_name_and_opset() {
    let error = one(13, "Frobnicate", "", &[]).load().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
    assert!(error.message().contains("Frobnicate") && error.message().contains("opset 13"), "{error}");
    // Gelu came with opset 20.
    assert!(one(19, "Gelu", "", &[]).load().unwrap_err().message().contains("opset 19"));
    let error = one(13, &"x".repeat(100_000), "", &[]).load().unwrap_err();
    assert!(error.message().len() <= MESSAGE_BYTES);
    assert!(Model::new(i64::MAX).load().is_err());
}

#[test]
fn names_are_defined_once_and_nothing_goes_in_circles() {
    let twice = one(13, "Relu", "", &[]).node("Relu", "x", "y", &[]);
    assert!(twice.load().unwrap_err().message().contains("twice"));
    let circle =
        Model::new(13).input("x", F32, &[1]).output("a", F32).node("Add", "x b", "a", &[]).node("Relu", "a", "b", &[]);
    assert!(circle.load().unwrap_err().message().contains("cycle"));
    assert!(one(13, "Relu", "", &[]).node("Relu", "nowhere", "z", &[]).load().is_err());
    let backwards =
        Model::new(13).input("x", F32, &[1]).output("b", F32).node("Relu", "a", "b", &[]).node("Neg", "x", "a", &[]);
    assert_eq!(backwards.floats(vec![tensor(&[1], &[-2.0])]).1, [2.0]);
}

#[test]
fn graphs_nested_without_end_are_refused() {
    let mut inner = Model::new(13).node("Relu", "x", "y", &[]).output("y", F32).graph;
    for _ in 0..200 {
        let branches = [graph("then_branch", inner)];
        let node = node("If", "c", "y", &branches);
        inner = GraphProto { node: vec![node], output: vec![info("y", F32, None)], ..GraphProto::default() };
    }
    let mut model = Model::new(13).input("x", F32, &[1]);
    model.graph.node = inner.node;
    assert_eq!(model.load().unwrap_err().kind(), ErrorKind::InvalidEncoding);
}

#[test]
fn a_million_nodes_cost_no_more_than_the_limit() {
    // Two bytes each: an empty node.
    let mut graph = Vec::new();
    graph.extend([0x0a, 0x00].repeat(1_000_000));
    let mut bytes = vec![0x3a];
    prost::encode_length_delimiter(graph.len(), &mut bytes).unwrap();
    bytes.extend(graph);
    assert_eq!(attack(&bytes).unwrap_err().kind(), ErrorKind::TooLarge);
    // A chain of many, each reading the one before: loaded and run without recursion.
    let mut model = Model::new(13).input("x", F32, &[1]).output("n50000", F32).node("Relu", "x", "n0", &[]);
    for index in 0..50_000 {
        model = model.node("Neg", &format!("n{index}"), &format!("n{}", index + 1), &[]);
    }
    assert_eq!(model.floats(vec![tensor(&[1], &[2.0])]).1, [2.0]);
}

/// Models of a few bytes that ask for more memory than any machine has.
fn greedy() -> Vec<Model> {
    let huge = [1 << 20, 1 << 20];
    let shaped = |op: &str, shape: &[i64]| one(13, op, "s", &[]).integers("s", &[shape.len() as i64], shape);
    vec![
        shaped("Expand", &huge),
        shaped("Expand", &[i64::MAX]),
        shaped("Expand", &[1 << 40, 1 << 40]),
        shaped("Tile", &[i64::MAX]),
        shaped("Tile", &[1 << 50]),
        shaped("Pad", &[0, 1 << 40]),
        shaped("Pad", &[i64::MAX, i64::MAX]),
        shaped("Pad", &[i64::MIN, i64::MAX]),
        one(13, "Resize", "_ s", &[]).weights("s", &[1], &[1e30]),
        one(13, "Resize", "_ s", &[]).weights("s", &[1], &[f32::NAN]),
        Model::new(13)
            .input("x", F32, &[-1])
            .integers("s", &[2], &huge)
            .node("ConstantOfShape", "s", "y", &[])
            .output("y", F32),
        Model::new(13)
            .input("x", F32, &[-1])
            .integers("a", &[], &[i64::MIN])
            .integers("b", &[], &[i64::MAX])
            .integers("d", &[], &[1])
            .node("Range", "a b d", "y", &[])
            .output("y", I64),
        // An outer product of what is computed from the input.
        Model::new(13)
            .input("x", F32, &[-1])
            .integers("s", &[1], &[1 << 20])
            .integers("row", &[2], &[1, -1])
            .integers("column", &[2], &[-1, 1])
            .node("Expand", "x s", "e", &[])
            .node("Reshape", "e row", "r", &[])
            .node("Reshape", "e column", "c", &[])
            .node("MatMul", "c r", "y", &[])
            .output("y", F32),
    ]
}

#[test]
fn no_operator_allocates_beyond_the_budget() {
    for (index, model) in greedy().into_iter().enumerate() {
        let error = match model.load() {
            Err(error) => error,
            Ok(graph) => drive(&graph).unwrap_err(),
        };
        assert!(matches!(error.kind(), ErrorKind::TooLarge | ErrorKind::InvalidArgument), "{index}: {error}");
    }
}

#[test]
fn the_budget_is_of_what_is_alive_at_one_time() {
    // A hundred tensors of 1 MiB, two alive at a time, within 4 MiB; not within 1.
    let mut model = Model::new(13).input("x", F32, &[-1]).output("n100", F32).node("Neg", "x", "n0", &[]);
    for index in 0..100 {
        model = model.node("Sqrt", &format!("n{index}"), &format!("n{}", index + 1), &[]);
    }
    let graph = model.load().unwrap();
    // The caller keeps a clone: what nobody else holds would be overwritten and cost nothing.
    let kept = counting(&[1 << 18]);
    let x = || vec![kept.clone()];
    let mut control = ComputeControl::default().with_memory_limit(4 << 20);
    graph.run(x(), &control).unwrap();
    control.memory_limit = 1 << 19;
    assert_eq!(graph.run(x(), &control).unwrap_err().kind(), ErrorKind::TooLarge);
    control.memory_limit = usize::MAX;
    control.cancel.cancel();
    assert_eq!(graph.run(x(), &control).unwrap_err().kind(), ErrorKind::RuntimeError);
}

#[test]
fn integers_at_the_ends_of_their_range_are_no_trap() {
    let binary = |op: &str, a: i64, b: i64| {
        let model = Model::new(13).input("a", I64, &[-1]).input("b", I64, &[-1]).output("y", I64);
        let value = |number| Value::new(vec![1], vec![number]).unwrap();
        model
            .node(op, "a b", "y", &[])
            .run(vec![value(a), value(b)])
            .map(|outputs| outputs[0].elements::<i64>().unwrap()[0])
    };
    assert_eq!(binary("Div", i64::MIN, -1).unwrap(), i64::MIN);
    assert_eq!(binary("Mod", i64::MIN, -1).unwrap(), 0);
    assert_eq!(binary("Add", i64::MAX, 1).unwrap(), i64::MIN);
    assert_eq!(binary("Pow", 3, -1).unwrap(), 0);
    for op in ["Div", "Mod"] {
        assert_eq!(binary(op, 1, 0).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn attributes_out_of_range_are_errors() {
    let extremes = [i64::MIN, -100, -1, 0, 1, 100, i64::MAX];
    for value in extremes {
        for (op, name) in [("Softmax", "axis"), ("Flatten", "axis"), ("Concat", "axis"), ("ArgMax", "axis")] {
            let _ = one(13, op, "", &[int(name, value)])
                .load()
                .map(|graph| graph.run(vec![counting(&[2, 2])], &ComputeControl::default()));
        }
        for name in ["kernel_shape", "strides", "dilations", "pads"] {
            let attributes = match name {
                "kernel_shape" => vec![ints(name, &[value, value])],
                "pads" => vec![ints("kernel_shape", &[2, 2]), ints(name, &[value; 4])],
                _ => vec![ints("kernel_shape", &[2, 2]), ints(name, &[value, value])],
            };
            for op in ["MaxPool", "AveragePool"] {
                let _ = one(12, op, "", &attributes).run(vec![counting(&[1, 1, 4, 4])]);
            }
            let conv = one(12, "Conv", "w", &attributes).weights("w", &[1, 1, 2, 2], &[1.0; 4]);
            let _ = conv.run(vec![counting(&[1, 1, 4, 4])]);
            let conv = one(12, "ConvTranspose", "w", &attributes).weights("w", &[1, 1, 2, 2], &[1.0; 4]);
            let _ = conv.run(vec![counting(&[1, 1, 4, 4])]);
        }
        let _ = one(13, "Transpose", "", &[ints("perm", &[value, 0])]).run(vec![counting(&[2, 2])]);
        let _ = one(12, "Squeeze", "", &[ints("axes", &[value])]).run(vec![counting(&[1, 1])]);
        let _ = one(12, "Unsqueeze", "", &[ints("axes", &[value])]).run(vec![counting(&[2])]);
        let _ = one(13, "DepthToSpace", "", &[int("blocksize", value)]).run(vec![counting(&[1, 4, 1, 1])]);
        for step in extremes {
            let slice = one(13, "Slice", "a b axes steps", &[])
                .integers("a", &[1], &[value])
                .integers("b", &[1], &[step])
                .integers("axes", &[1], &[0])
                .integers("steps", &[1], &[step]);
            let _ = slice.run(vec![counting(&[5])]);
            let _ = slice.run(vec![counting(&[0])]);
        }
        let gather = one(13, "Gather", "i", &[]).initializer(integers("i", &[1], &[value]));
        let in_range = (-2..2).contains(&value);
        assert_eq!(gather.run(vec![counting(&[2])]).is_ok(), in_range);
    }
}

#[test]
fn every_operator_meets_empty_and_strange_tensors_without_a_panic() {
    let shapes: [&[usize]; 8] = [&[], &[0], &[1], &[3], &[0, 3], &[2, 2], &[1, 2, 0, 3], &[2, 2, 3, 3]];
    for operator in crate::operators() {
        for first in shapes {
            for second in shapes {
                for opset in [operator.since, operator.until] {
                    let inputs = operator.inputs.0.max(1);
                    let names: Vec<String> = (0..inputs).map(|index| format!("i{index}")).collect();
                    let mut model = Model::new(opset).output("y", F32).node(operator.name, &names.join(" "), "y", &[]);
                    model = model.of_domain(operator.domain, opset);
                    let dims = |index: usize| if index == 0 { first } else { second };
                    for (index, name) in names.iter().enumerate() {
                        model.graph.input.push(info(name, F32, None));
                        let _ = index;
                    }
                    let _ = model.run((0..inputs).map(|index| counting(dims(index))).collect());
                    // The same with integers behind the first.
                    for input in model.graph.input.iter_mut().skip(1) {
                        *input = info(input.name.as_deref().unwrap(), I64, None);
                    }
                    let integers = |index: usize| {
                        let count: usize = dims(index).iter().product();
                        Value::new(dims(index).to_vec(), (0..count).map(|number| number as i64 - 1).collect()).unwrap()
                    };
                    let values = (0..inputs).map(|index| if index == 0 { counting(first) } else { integers(index) });
                    let _ = model.run(values.collect());
                }
            }
        }
    }
}

#[test]
fn a_tensor_of_its_own_file_is_checked_like_any_other() {
    assert!(crate::decode_tensor(&floats("a", &[2], &[1.0, 2.0]).encode_to_vec()).is_ok());
    assert!(crate::decode_tensor(&floats("a", &[3], &[1.0, 2.0]).encode_to_vec()).is_err());
}

/// A context copies each output out, so that one value under many names takes as much memory as many values.
#[test]
fn one_value_that_is_many_outputs_is_charged_for_each() {
    let outputs = |count: usize| {
        let model = Model::new(13).input("x", F32, &[256]);
        let mut model = (0..count).fold(model, |model, index| {
            let name = format!("y{index}");
            model.node("Identity", "x", &name, &[]).output(&name, F32)
        });
        model.graph.name = Some("copies".to_owned());
        let graph = CandleBackend::new().load_graph(&model.bytes(), usize::MAX).unwrap();
        let mut context = graph.context();
        context.set_input(0, Tensor::from_f32(vec![256], &[0.5; 256]).unwrap().view()).unwrap();
        let control = ComputeControl::default().with_memory_limit(8 << 10);
        let computed = context.compute(&control).map_err(|error| error.kind());
        (computed, context.memory())
    };
    // A KiB each, and one for the input.
    assert_eq!(outputs(8), (Ok(()), 9 << 10));
    assert_eq!(outputs(9), (Err(ErrorKind::TooLarge), 1 << 10));
}

#[test]
fn weights_in_a_branch_are_counted() {
    use graphpool::backend::BackendGraph as _;
    let branch = |name: &str| {
        let model = Model::new(13).weights("w", &[64, 64], &[0.5; 4096]).node("MatMul", "x w", name, &[]);
        let mut branch = model.output(name, F32).graph;
        branch.name = Some(name.to_owned());
        branch
    };
    let branches = [graph("then_branch", branch("a")), graph("else_branch", branch("b"))];
    let mut model = Model::new(13).input("x", F32, &[1, 64]).input("c", BOOL, &[]).output("y", F32);
    model.graph.node.push(node("If", "c", "y", &branches));
    assert!(model.load().unwrap().memory() >= 2 * 4096 * 4);
}

#[test]
fn a_window_of_one_over_one_has_its_pads() {
    let attributes = [ints("kernel_shape", &[1, 1, 2]), ints("pads", &[1, 0, 0, 1, 0, 0])];
    let (dims, elements) = one(13, "MaxPool", "", &attributes).floats(vec![tensor(&[1, 1, 1, 1, 3], &[1.0, 3.0, 2.0])]);
    assert_eq!(dims, [1, 1, 3, 1, 2]);
    let none = f32::NEG_INFINITY;
    assert_eq!(elements, [none, none, 3.0, 3.0, none, none]);
}

#[test]
fn a_convolution_of_two_types_is_refused_however_its_weights_come() {
    use half::f16;
    let image = || Value::new(vec![1, 1, 2, 2], vec![f16::ONE; 4]).unwrap();
    let model = |model: Model| {
        let mut model = model.node("Conv", "x w", "y", &[]).output("y", 10);
        model.graph.input.insert(0, info("x", 10, None));
        model
    };
    let weights = tensor(&[1, 1, 1, 1], &[2.0]);
    let constant = model(Model::new(13).weights("w", &[1, 1, 1, 1], &[2.0])).run(vec![image()]);
    let given = model(Model::new(13).input("w", F32, &[1, 1, 1, 1])).run(vec![image(), weights]);
    for refused in [constant, given] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    let half = Value::new(vec![1, 1, 1, 1], vec![f16::from_f32(2.0)]).unwrap();
    let outputs = model(Model::new(13).input("w", 10, &[1, 1, 1, 1])).run(vec![image(), half]).unwrap();
    assert_eq!(outputs[0].elements::<f16>().unwrap(), [f16::from_f32(2.0); 4]);
}

#[test]
fn what_kernels_may_hold_refuses_no_model() {
    // Lines of 17 are laid out as lines of 32 or 24.
    let mut model = Model::new(13).input("x", F32, &[1, 1024]).weights("w", &[1024, 17], &vec![0.5; 1024 * 17]);
    for index in 0..8 {
        model = model.node("MatMul", "x w", &format!("y{index}"), &[]).output(&format!("y{index}"), F32);
    }
    let own = 8 * 1024 * 17 * 4;
    for limit in [own, own + (1 << 18)] {
        let graph = CandleBackend::new().load_graph(&model.bytes(), limit).unwrap();
        let outputs = graph.run(vec![tensor(&[1, 1024], &[1.0; 1024])], &ComputeControl::default()).unwrap();
        assert!(outputs.iter().all(|value| value.elements::<f32>().unwrap() == [512.0; 17]));
    }
}

#[test]
fn pads_that_cancel_each_other_out_are_refused_where_no_index_holds_them() {
    for mode in ["constant", "reflect", "edge", "wrap"] {
        let model = one(19, "Pad", "pads", &[crate::tests::builder::string("mode", mode)]).input("pads", I64, &[2]);
        let pads = |before: i64, after: i64| {
            let pads = Value::new(vec![2], vec![before, after]).unwrap();
            model.run(vec![tensor(&[3], &[1.0, 2.0, 3.0]), pads]).map_err(|error| error.kind())
        };
        assert_eq!(pads(-1, 1).unwrap()[0].len(), 3);
        for (before, after) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (i64::MIN + 1, i64::MAX)] {
            assert_eq!(pads(before, after).unwrap_err(), ErrorKind::InvalidArgument, "{mode} {before} {after}");
        }
    }
}
