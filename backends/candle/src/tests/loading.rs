//! Loads: configurations, imports of operator sets, and the shapes of bodies that run zero times.

use prost::Message;

use crate::CandleBackend;
use crate::format::messages::{GraphProto, ModelProto, OperatorSetIdProto};
use crate::tests::builder::{BOOL, F32, I64, Model, graph, info, int, tensor};
use graphpool::backend::{Backend, Encoding, ErrorKind, LoadRequest, Target};

fn negation() -> Model {
    Model::new(13).input("x", F32, &[2]).output("y", F32).node("Neg", "x", "y", &[])
}

#[test]
fn a_setting_is_refused_by_name() {
    let bytes = negation().bytes();
    let parts: &[&[u8]] = &[&bytes];
    let load = |config| {
        let request = LoadRequest::new(parts, Encoding::Onnx, Target::Cpu).with_config(config);
        CandleBackend::new().load(&request).map(drop)
    };
    for config in [None, Some(""), Some(" \n")] {
        load(config).unwrap();
    }
    for config in ["target=gpu", "threads=4", "x"] {
        let error = load(Some(config)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains(config), "{}", error.message());
    }
    let error = load(Some(&"long\n".repeat(100_000))).unwrap_err();
    assert!(error.message().len() < 200 && !error.message().contains('\n'));
}

#[test]
fn an_operator_set_may_be_imported_again_with_the_same_version() {
    let load = |imports: &[(Option<&str>, i64)]| {
        let set = |&(domain, version): &(Option<&str>, i64)| OperatorSetIdProto {
            domain: domain.map(str::to_owned),
            version: Some(version),
        };
        let opset_import = imports.iter().map(set).collect();
        let model =
            ModelProto { ir_version: Some(8), graph: Some(negation().graph), opset_import, ..ModelProto::default() };
        CandleBackend::new().load_graph(&model.encode_to_vec(), usize::MAX).map(drop)
    };
    load(&[(None, 17), (None, 17)]).unwrap();
    load(&[(None, 17), (Some(""), 17), (Some("ai.onnx"), 17)]).unwrap();
    load(&[(None, 17), (Some("x"), 1), (Some("x"), 1)]).unwrap();
    for twice in [[(None, 17), (None, 16)], [(Some("ai.onnx"), 13), (Some(""), 17)]] {
        let error = load(&twice).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidEncoding);
        assert!(error.message().contains("17"), "{}", error.message());
    }
}

/// A loop body that returns and emits its state, which is declared as `dims`.
fn body(ty: i32, dims: Option<&[i64]>) -> GraphProto {
    let body = Model::new(16).node("Identity", "go", "gone", &[]).node("Identity", "v", "w", &[]);
    let body = body.node("Identity", "v", "kept", &[]).graph;
    GraphProto {
        input: vec![info("i", I64, Some(&[])), info("go", BOOL, Some(&[])), info("v", ty, dims)],
        output: vec![info("gone", BOOL, Some(&[])), info("w", ty, dims), info("kept", ty, dims)],
        ..body
    }
}

#[test]
fn a_loop_without_iterations_emits_nothing_in_the_declared_shape() {
    for (ty, dims, wanted) in [
        (1, Some(&[2][..]), &[0, 2][..]),
        (1, Some(&[]), &[0]),
        (1, Some(&[3, -1, 4]), &[0, 3, 0, 4]),
        (7, Some(&[2]), &[0, 2]),
        (10, Some(&[5]), &[0, 5]),
        (9, Some(&[2, 2]), &[0, 2, 2]),
        (1, None, &[0]),
    ] {
        let mut model = Model::new(16).input("n", I64, &[]).output("v", ty).output("s", ty);
        model.graph.input.push(info("v0", ty, None));
        let model = model.node("Loop", "n _ v0", "v s", &[graph("body", body(ty, dims))]);
        let zeros = crate::tensor::element::ElementType::from_onnx(ty).unwrap();
        let carried = crate::tensor::value::Value::from_bytes(vec![2], zeros, &vec![0; 2 * zeros.size()]).unwrap();
        let none = crate::tensor::value::Value::scalar(0_i64).unwrap();
        let outputs = model.run(vec![none, carried]).unwrap();
        assert_eq!((outputs[0].dims(), outputs[1].dims()), (&[2][..], wanted), "{ty} {dims:?}");
        assert_eq!(outputs[1].ty(), zeros);
    }
}

#[test]
fn a_scan_over_nothing_emits_nothing_in_the_declared_shape() {
    let inner = Model::new(16).node("Identity", "v", "w", &[]).node("Add", "v e", "kept", &[]).graph;
    let inner = GraphProto {
        input: vec![info("v", F32, Some(&[2])), info("e", F32, Some(&[2]))],
        output: vec![info("w", F32, Some(&[2])), info("kept", F32, Some(&[2]))],
        ..inner
    };
    for (at, wanted) in [(0, [0, 2]), (1, [2, 0])] {
        let attributes = [
            graph("body", inner.clone()),
            int("num_scan_inputs", 1),
            crate::tests::builder::ints("scan_output_axes", &[at]),
        ];
        let model = Model::new(16).input("v0", F32, &[2]).input("es", F32, &[-1, 2]).output("v", F32).output("s", F32);
        let model = model.node("Scan", "v0 es", "v s", &attributes);
        let outputs = model.run(vec![tensor(&[2], &[1.0, 2.0]), tensor(&[0, 2], &[])]).unwrap();
        assert_eq!((outputs[0].dims(), outputs[1].dims()), (&[2][..], &wanted[..]));
    }
}
