//! A context that has computed with the same shapes before computes without an allocation, counted by an allocator.
//!
//! The allocations of the test's own thread are counted, on which its computes run.

#![allow(missing_docs, reason = "a test")]

mod counting;
#[path = "../../../examples/guests/record.rs"]
#[expect(dead_code, reason = "used by the guests example only")]
mod record;

use std::hint::black_box;

use counting::allocations_of;
use graphpool::backend::{BackendContext as _, ComputeControl};
use graphpool_candle::messages::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use graphpool_candle::{CandleBackend, CandleContext};
use prost::Message as _;
use record::{Record, Row};

/// Computes before the first one that is counted.
const WARM: usize = 5;

/// A chain of as many steps, Identity, Add and Relu in turn, on `elements` elements.
fn chain(steps: usize) -> Vec<u8> {
    let info = |name: String| {
        let tensor_type = Some(TensorTypeProto { elem_type: Some(1), shape: None });
        ValueInfoProto { name: Some(name), r#type: Some(TypeProto { tensor_type }) }
    };
    let node = |index: usize| {
        let mut input = vec![format!("v{index}")];
        let op = match index % 3 {
            0 => "Identity",
            1 => {
                input.push("w".to_owned());
                "Add"
            }
            _ => "Relu",
        };
        let output = vec![format!("v{}", index + 1)];
        NodeProto { input, output, op_type: Some(op.to_owned()), ..NodeProto::default() }
    };
    let weight = TensorProto {
        name: Some("w".to_owned()),
        dims: vec![4],
        data_type: Some(1),
        raw_data: Some([0.5_f32; 4].iter().flat_map(|x| x.to_le_bytes()).collect()),
        ..TensorProto::default()
    };
    let graph = GraphProto {
        node: (0..steps).map(node).collect(),
        input: vec![info("v0".to_owned())],
        output: vec![info(format!("v{steps}"))],
        initializer: vec![weight],
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { domain: None, version: Some(13) };
    ModelProto { ir_version: Some(8), graph: Some(graph), opset_import: vec![opset], ..ModelProto::default() }
        .encode_to_vec()
}

fn set(context: &mut CandleContext, row: &Row) {
    for (index, tensor) in &row.inputs {
        context.set_input(*index as usize, tensor.view()).unwrap();
    }
}

#[test]
fn a_compute_like_the_last_one_allocates_nothing() {
    let control = ComputeControl::default();
    for name in ["digits", "mlp", "minilm", "squeezenet"] {
        let record = match Record::open(name) {
            Ok(record) => record,
            Err(why) => {
                println!("skipped: {why}");
                continue;
            }
        };
        let mut context = CandleBackend::new().load_graph(&record.model, usize::MAX).unwrap().context();
        for _ in 0..WARM {
            set(&mut context, &record.rows[0]);
            context.compute(&control).unwrap();
        }
        for row in record.rows.iter().take(3) {
            let ((), in_inputs) = allocations_of(|| set(&mut context, row));
            let (result, in_compute) = allocations_of(|| context.compute(&control));
            result.unwrap();
            println!(
                "{name}: {in_inputs} allocations for the inputs, {in_compute} in the compute, {} bytes kept",
                context.memory()
            );
            assert_eq!((in_inputs, in_compute), (0, 0), "{name}");
        }
    }
}

/// Computes of a graph whose steps do next to nothing, for a count of instructions.
#[test]
#[ignore = "a measurement: COMPUTES=1000 STEPS=200, and the difference to fewer of them"]
fn small_steps() {
    let number = |name: &str| std::env::var(name).unwrap().parse::<usize>().unwrap();
    let model = chain(number("STEPS"));
    let mut context = CandleBackend::new().load_graph(&model, usize::MAX).unwrap().context();
    let input = graphpool::backend::Tensor::from_slice([4], &[1.0_f32, -2.0, 3.0, 0.0]).unwrap();
    let mut control = ComputeControl::default();
    if std::env::var("DEADLINE").is_ok() {
        control = control.with_deadline(std::time::Instant::now() + std::time::Duration::from_secs(1000));
    }
    let start = std::time::Instant::now();
    for _ in 0..number("COMPUTES") {
        context.set_input(0, input.view()).unwrap();
        context.compute(&control).unwrap();
        black_box(context.output(0).unwrap());
    }
    println!("{:?} in all", start.elapsed());
}
