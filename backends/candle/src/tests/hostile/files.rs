//! Malformed and misleading files: cut, changed, random, of other formats, with impossible dimensions and names.

use proptest::prelude::*;
use prost::Message;

use crate::format::messages::{GraphProto, TensorProto};
use crate::tests::builder::{F32, Model, float, floats, graph, info, int, ints, node, one, tensor};
use crate::tests::first::small;
use crate::tests::hostile::attack;
use graphpool::backend::{ErrorKind, MESSAGE_BYTES};

/// A model with attributes of all kinds, subgraphs, integers, floats and shapes.
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
    // 2 × i64::MIN is 0 in 64 bits. A tensor of 0 elements would need no data and be read out of bounds.
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
fn data_of_a_wrong_length_or_in_another_file_is_refused() {
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
fn a_tensor_of_its_own_file_is_checked_like_any_other() {
    assert!(crate::decode_tensor(&floats("a", &[2], &[1.0, 2.0]).encode_to_vec()).is_ok());
    assert!(crate::decode_tensor(&floats("a", &[3], &[1.0, 2.0]).encode_to_vec()).is_err());
}

#[test]
fn an_unknown_operator_is_refused_by_name_and_opset() {
    let error = one(13, "Frobnicate", "", &[]).load().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation);
    assert!(error.message().contains("Frobnicate") && error.message().contains("opset 13"), "{error}");
    // Gelu exists since opset 20.
    assert!(one(19, "Gelu", "", &[]).load().unwrap_err().message().contains("opset 19"));
    let error = one(13, &"x".repeat(100_000), "", &[]).load().unwrap_err();
    assert!(error.message().len() <= MESSAGE_BYTES);
    assert!(Model::new(i64::MAX).load().is_err());
}

#[test]
fn duplicate_names_and_cycles_are_refused() {
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
fn deeply_nested_graphs_are_refused() {
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
