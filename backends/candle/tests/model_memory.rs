//! Measures a model's memory with a counting allocator.
//!
//! A graph reports the memory that it takes, and a load never takes more than its limit at any time. The file has one
//! test, so that nothing else allocates in its process.

#![allow(missing_docs, reason = "a test")]

mod counting;

use graphpool::backend::BackendGraph as _;
use graphpool_candle::CandleBackend;
use graphpool_candle::messages::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorTypeProto, TypeProto,
    ValueInfoProto,
};
use prost::Message as _;

use counting::{live, peak_of};

fn info(name: &str) -> ValueInfoProto {
    let tensor_type = Some(TensorTypeProto { elem_type: Some(1), shape: None });
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(TypeProto { tensor_type }) }
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: vec![output.to_owned()],
        op_type: Some(op.to_owned()),
        attribute: attributes,
        ..NodeProto::default()
    }
}

fn tensor(name: &str, dims: &[i64]) -> TensorProto {
    let count = dims.iter().product::<i64>() as usize;
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(1),
        raw_data: Some(vec![0; 4 * count]),
        ..TensorProto::default()
    }
}

fn attribute(name: &str, ty: i32) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(ty), ..AttributeProto::default() }
}

fn value(index: usize) -> String {
    format!("v{index}")
}

/// A chain of `count` nodes that starts at `v0`. `make` creates a node from its index, its input and its output.
fn chain(count: usize, make: impl Fn(usize, &str, &str) -> NodeProto) -> GraphProto {
    GraphProto {
        node: (0..count).map(|index| make(index, &value(index), &value(index + 1))).collect(),
        input: vec![info("v0")],
        output: vec![info(&value(count))],
        ..GraphProto::default()
    }
}

fn bytes(graph: GraphProto, opset: i64) -> Vec<u8> {
    let opset = OperatorSetIdProto { domain: None, version: Some(opset) };
    ModelProto { ir_version: Some(8), graph: Some(graph), opset_import: vec![opset], ..ModelProto::default() }
        .encode_to_vec()
}

/// Models whose memory is mostly of one kind, with the name of the kind.
fn models() -> Vec<(&'static str, Vec<u8>)> {
    let plain = chain(40_000, |_, from, to| node("Neg", &[from], to, vec![]));
    let long = "n".repeat(500);
    let named = chain(2_000, |index, from, to| NodeProto {
        name: Some(format!("{long}{index}")),
        ..node("Neg", &[from], to, vec![])
    });
    let lists = chain(8_000, |_, from, to| {
        let perm = AttributeProto { ints: (0..24).rev().collect(), ..attribute("perm", 7) };
        node("Transpose", &[from], to, vec![perm])
    });
    let floats = chain(8_000, |_, from, to| {
        node("LeakyRelu", &[from], to, vec![AttributeProto { f: Some(0.5), ..attribute("alpha", 1) }])
    });
    let mut constants = chain(10_000, |index, from, to| node("Add", &[from, &format!("w{index}")], to, vec![]));
    constants.initializer = (0..10_000).map(|index| tensor(&format!("w{index}"), &[4])).collect();
    let inside = chain(10_000, |index, from, to| {
        let constant = AttributeProto { t: Some(tensor("", &[4])), ..attribute("value", 4) };
        if index % 2 == 0 {
            node("Constant", &[], &format!("{to}c"), vec![constant])
        } else {
            node("Add", &[if index == 1 { "v0" } else { from }, &format!("{from}c")], &value(index + 2), vec![])
        }
    });
    let inside = GraphProto {
        node: inside
            .node
            .into_iter()
            .map(|mut node| {
                if let [from, _] = node.input.as_mut_slice()
                    && from != "v0"
                {
                    // The output of the addition before.
                    *from = format!("v{}", from[1..].parse::<usize>().unwrap());
                }
                node
            })
            .collect(),
        output: vec![info("v10001")],
        ..inside
    };
    let mut shared = chain(100, |_, from, to| node("Add", &[from, "w"], to, vec![]));
    shared.initializer = vec![tensor("w", &[512, 512])];
    let mut product = chain(100, |_, from, to| node("MatMul", &[from, "w"], to, vec![]));
    product.initializer = vec![tensor("w", &[512, 512])];
    let mut products = chain(20, |index, from, to| node("MatMul", &[from, &format!("w{index}")], to, vec![]));
    products.initializer = (0..20).map(|index| tensor(&format!("w{index}"), &[256, 256])).collect();
    let mut filters = chain(10, |index, from, to| node("Conv", &[from, &format!("w{index}")], to, vec![]));
    filters.initializer = (0..10).map(|index| tensor(&format!("w{index}"), &[64, 64, 3, 3])).collect();
    let branch = |op: &str| GraphProto {
        node: vec![node(op, &["v0"], "b0", vec![]), node("Abs", &["b0"], "b1", vec![])],
        output: vec![info("b1")],
        ..GraphProto::default()
    };
    let mut branches = chain(2_000, |_, _, to| {
        let graphs = [("then_branch", branch("Neg")), ("else_branch", branch("Exp"))];
        let graphs = graphs.map(|(name, graph)| AttributeProto { g: Some(graph), ..attribute(name, 5) });
        node("If", &["c"], to, graphs.to_vec())
    });
    branches.input.push(ValueInfoProto {
        name: Some("c".to_owned()),
        r#type: Some(TypeProto { tensor_type: Some(TensorTypeProto { elem_type: Some(9), shape: None }) }),
    });
    branches.output = (1..=2_000).map(|index| info(&value(index))).collect();
    let mut weights = chain(1, |_, from, to| node("Add", &[from, "w"], to, vec![]));
    weights.initializer = vec![tensor("w", &[4 << 20])];
    let constant = AttributeProto { t: Some(tensor("", &[4 << 20])), ..attribute("value", 4) };
    let mut large = chain(1, |_, from, to| node("Add", &[from, "w"], to, vec![]));
    large.node.insert(0, node("Constant", &[], "w", vec![constant]));
    vec![
        ("nodes", bytes(plain, 13)),
        ("names", bytes(named, 13)),
        ("lists", bytes(lists, 13)),
        ("numbers", bytes(floats, 13)),
        ("constants", bytes(constants, 13)),
        ("constants in nodes", bytes(inside, 13)),
        ("a shared weight", bytes(shared, 13)),
        ("a shared factor", bytes(product, 13)),
        ("factors", bytes(products, 13)),
        ("filters", bytes(filters, 13)),
        ("branches", bytes(branches, 13)),
        ("a large weight", bytes(weights, 13)),
        ("a large constant", bytes(large, 13)),
    ]
}

#[test]
fn a_graph_reports_its_memory_and_a_load_stays_within_its_limit() {
    /// The tolerance: tables of fixed size, and a few names.
    const TOLERANCE: usize = 64 << 10;
    let backend = CandleBackend::new();
    // The first load creates tables that live as long as the process.
    backend.load_graph(&bytes(chain(3, |_, from, to| node("Neg", &[from], to, vec![])), 13), usize::MAX).unwrap();
    for (name, model) in models() {
        let before = live();
        let graph = backend.load_graph(&model, usize::MAX).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (allocated, reported) = (live() - before, graph.memory());
        let difference = reported.abs_diff(allocated);
        assert!(difference <= allocated / 5 + TOLERANCE / 4, "{name}: {allocated} allocated, {reported} reported");
        drop(graph);
        assert!(live() <= before + 1024, "{name} leaks memory");
        // Printed here because the test harness allocates for its output.
        println!("{name}: a file of {} bytes, {allocated} bytes allocated, {reported} reported", model.len());

        let (mut limit, mut loaded) = (reported / 2, false);
        while !loaded {
            let (result, peak) = peak_of(|| backend.load_graph(&model, limit));
            assert!(peak <= limit + TOLERANCE, "{name}: {peak} bytes at a limit of {limit}");
            loaded = result.is_ok();
            if loaded {
                println!("{name}: loads with a limit of {limit} bytes and takes at most {peak}");
            }
            limit += limit / 8 + 1;
        }
    }
}
