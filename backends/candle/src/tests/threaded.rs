//! A compute on several threads gives the same result as on one.

use std::num::NonZeroUsize;

use crate::CandleBackend;
use crate::tensor::value::Value;
use crate::tests::builder::{F32, Model, counting, int, ints};
use graphpool::backend::{ComputeControl, ErrorKind};

/// Checks that a model gives the same on one, two and three threads.
fn alike(model: &Model, inputs: &[Value]) {
    let run = |threads: usize| {
        let backend = CandleBackend::with_threads(NonZeroUsize::new(threads).unwrap()).unwrap();
        let graph = backend.load_graph(&model.bytes(), usize::MAX).unwrap();
        let outputs = graph.run(inputs.to_vec(), &ComputeControl::default()).unwrap();
        // Products of inputs may sum in another order for another number of rows, with other rounding.
        let round = |&x: &f32| (x * 64.0).round();
        (outputs[0].dims().to_vec(), outputs[0].elements::<f32>().unwrap().iter().map(round).collect::<Vec<_>>())
    };
    let alone = run(1);
    assert!(alone.1.iter().any(|&x| (x - alone.1[0]).abs() > 1.0));
    for threads in [2, 3] {
        assert!(run(threads) == alone, "{threads} threads");
    }
}

fn some(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|index| ((index * 7 + index / 13 + seed) % 9) as f32 / 8.0 - 0.5).collect()
}

fn value(dims: &[usize], seed: usize) -> Value {
    Value::new(dims.to_vec(), some(dims.iter().product(), seed)).unwrap()
}

fn convolution(filters: i64, depth: i64, groups: i64) -> Model {
    let dims = [filters, depth, 3, 3];
    let count = dims.iter().product::<i64>() as usize;
    Model::new(13)
        .input("x", F32, &[-1, -1, -1, -1])
        .weights("w", &dims, &some(count, 3))
        .weights("b", &[filters], &some(filters as usize, 4))
        .node("Conv", "x w b", "c", &[ints("pads", &[1; 4]), int("group", groups)])
        .node("Relu", "c", "y", &[])
        .output("y", F32)
}

#[test]
fn convolutions_are_split_along_their_filters() {
    // 61 filters are seven blocks of eight rows and five more rows.
    alike(&convolution(61, 20, 1), &[value(&[2, 20, 21, 19], 1)]);
    alike(&convolution(80, 20, 2), &[value(&[1, 40, 23, 29], 1)]);
    alike(&convolution(16, 32, 1), &[value(&[9, 32, 16, 3], 1)]);
}

#[test]
fn depthwise_convolutions_are_split_along_their_channels() {
    alike(&convolution(50, 1, 50), &[value(&[3, 50, 55, 53], 1)]);
    alike(&convolution(50, 1, 25), &[value(&[2, 25, 71, 53], 1)]);
}

#[test]
fn products_by_weights_are_split_along_their_rows() {
    let model = Model::new(13)
        .input("x", F32, &[-1, 300])
        .weights("w", &[300, 70], &some(300 * 70, 2))
        .weights("b", &[70], &some(70, 5))
        .node("MatMul", "x w", "m", &[])
        .node("Add", "m b", "s", &[])
        .node("Sigmoid", "s", "y", &[])
        .output("y", F32);
    for rows in [100, 203, 513] {
        alike(&model, &[value(&[rows, 300], 1)]);
    }
}

#[test]
fn products_of_inputs_are_split_along_rows_or_batches() {
    let model = |dims: [&[i64]; 2]| {
        let model = Model::new(13).input("x", F32, dims[0]).input("z", F32, dims[1]);
        model.node("MatMul", "x z", "y", &[]).output("y", F32)
    };
    alike(&model([&[-1; 2], &[-1; 2]]), &[value(&[150, 200], 1), value(&[200, 130], 2)]);
    alike(&model([&[-1; 3], &[-1; 3]]), &[value(&[7, 64, 64], 1), value(&[7, 64, 80], 2)]);
    alike(&model([&[-1; 3], &[-1; 3]]), &[value(&[3, 180, 180], 1), value(&[3, 180, 180], 2)]);
}

#[test]
fn threads_check_the_cancel_token_and_the_budget() {
    let backend = CandleBackend::with_threads(NonZeroUsize::new(2).unwrap()).unwrap();
    let graph = backend.load_graph(&convolution(61, 20, 1).bytes(), usize::MAX).unwrap();
    let run = |control: &ComputeControl| graph.run(vec![counting(&[2, 20, 21, 19])], control).map_err(|e| e.kind());
    assert!(run(&ComputeControl::default()).is_ok());
    let control = ComputeControl::default().with_memory_limit(61 * 2 * 21 * 19 * 4);
    assert_eq!(run(&control).unwrap_err(), ErrorKind::TooLarge);
    let control = ComputeControl::default();
    control.cancel.cancel();
    assert_eq!(run(&control).unwrap_err(), ErrorKind::RuntimeError);
}
