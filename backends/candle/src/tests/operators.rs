//! Operators that common models lack, compared with results computed by hand or by numpy.

use crate::tensor::value::Value;
use crate::tests::builder::{BOOL, F32, I64, Model, close, counting, graph, int, ints, node, one, string, tensor};
use graphpool::backend::{ComputeControl, ErrorKind};

/// A loop body that doubles its state, emits the iteration's number, and continues while `going`.
fn doubling(going: &str) -> Model {
    let mut model = Model::new(13)
        .input("turn", I64, &[])
        .input("condition", BOOL, &[])
        .input("x", F32, &[-1])
        .node("Add", "x x", "twice", &[])
        .node("Identity", "turn", "number", &[]);
    model = model.node("Identity", going, "on", &[]);
    model.output("on", BOOL).output("twice", F32).output("number", I64)
}

fn looped(turns: i64) -> Model {
    let mut model =
        Model::new(13).input("x", F32, &[-1]).integers("turns", &[], &[turns]).output("y", F32).output("numbers", I64);
    let body = graph("body", doubling("condition").graph);
    model.graph.node.push(node("Loop", "turns _ x", "y numbers", &[body]));
    model
}

#[test]
fn a_loop_carries_its_state_and_collects_its_scans() {
    let outputs = looped(4).run(vec![tensor(&[2], &[1.0, -3.0])]).unwrap();
    assert_eq!(outputs[0].elements::<f32>().unwrap(), [16.0, -48.0]);
    assert_eq!((outputs[1].dims(), outputs[1].elements::<i64>().unwrap()), (&[4][..], &[0_i64, 1, 2, 3][..]));
}

#[test]
fn an_endless_loop_ends_at_the_deadline_or_at_the_budget() {
    let graph = looped(i64::MAX).load().unwrap();
    let mut control = ComputeControl::default().with_memory_limit(1 << 30);
    control.deadline = Some(std::time::Instant::now() + std::time::Duration::from_millis(50));
    let error = graph.run(vec![tensor(&[1], &[1.0])], &control).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let control = ComputeControl::default().with_memory_limit(1 << 16);
    let error = graph.run(vec![tensor(&[1], &[1.0])], &control).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[test]
fn an_endless_loop_of_constants_does_not_stall_the_load() {
    let mut model = looped(i64::MAX).weights("w", &[1], &[1.0]);
    model.graph.input.clear();
    model.graph.node[0].input[2] = "w".to_owned();
    model.load().unwrap();
}

#[test]
fn equations_sum_products() {
    let two = |equation: &str| {
        Model::new(13)
            .input("a", F32, &[-1, -1])
            .input("b", F32, &[-1, -1])
            .node("Einsum", "a b", "y", &[string("equation", equation)])
            .output("y", F32)
    };
    let inputs = || vec![counting(&[2, 2]), counting(&[2, 2])];
    // [0 1; 2 3] times itself.
    assert_eq!(two("ij,jk->ik").floats(inputs()).1, [2.0, 3.0, 6.0, 11.0]);
    assert_eq!(two("ij,jk").floats(inputs()).1, [2.0, 3.0, 6.0, 11.0]);
    assert_eq!(two("ij,ij->").floats(inputs()).1, [14.0]);
    assert_eq!(two("ii,jk->j").floats(inputs()).1, [3.0, 15.0]);
    assert_eq!(two("ij,ik->kj").floats(inputs()).1, [4.0, 6.0, 6.0, 10.0]);
    assert!(two("ij,jk->iq").run(inputs()).is_err());
}

#[test]
fn the_largest_come_first_and_of_equals_the_first() {
    let model = Model::new(13)
        .input("x", F32, &[-1])
        .integers("k", &[1], &[3])
        .node("TopK", "x k", "y i", &[])
        .output("y", F32)
        .output("i", I64);
    let outputs = model.run(vec![tensor(&[5], &[1.0, 7.0, 3.0, 7.0, -1.0])]).unwrap();
    assert_eq!(outputs[0].elements::<f32>().unwrap(), [7.0, 7.0, 3.0]);
    assert_eq!(outputs[1].elements::<i64>().unwrap(), [1, 3, 2]);
    assert!(model.run(vec![tensor(&[2], &[1.0, 7.0])]).is_err());
}

#[test]
fn updates_go_where_their_indices_say() {
    let model = one(18, "ScatterND", "i u", &[string("reduction", "add")]).integers("i", &[3, 1], &[1, -1, 1]).weights(
        "u",
        &[3],
        &[10.0, 20.0, 30.0],
    );
    assert_eq!(model.floats(vec![counting(&[4])]).1, [0.0, 41.0, 2.0, 23.0]);
    let past = one(18, "ScatterND", "i u", &[]).integers("i", &[1, 1], &[4]).weights("u", &[1], &[1.0]);
    assert_eq!(past.run(vec![counting(&[4])]).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_stride_over_a_single_slab_changes_nothing() {
    let model = one(13, "Conv", "w", &[ints("strides", &[2, 1, 1])]).weights("w", &[2, 1, 1, 1, 1], &[2.0, 3.0]);
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let (dims, elements) = model.floats(vec![tensor(&[3, 1, 1, 1, 2], &x)]);
    assert_eq!(dims, [3, 2, 1, 1, 2]);
    close(&elements, &[2.0, 4.0, 3.0, 6.0, 6.0, 8.0, 9.0, 12.0, 10.0, 12.0, 15.0, 18.0]);
}

#[test]
fn a_volume_is_convolved_like_its_slabs() {
    // A kernel of depth 1 treats each slab like an image.
    let taps: Vec<f32> = (0..9).map(|index| index as f32 - 4.0).collect();
    let flat = one(11, "Conv", "w", &[]).weights("w", &[1, 1, 3, 3], &taps);
    let deep = one(11, "Conv", "w", &[]).weights("w", &[1, 1, 1, 3, 3], &taps);
    let (dims, elements) = deep.floats(vec![counting(&[1, 1, 2, 4, 5])]);
    assert_eq!(dims, [1, 1, 2, 2, 3]);
    let slabs = counting(&[40]).elements::<f32>().unwrap().to_vec();
    let slabs: Vec<f32> = slabs.chunks(20).flat_map(|slab| flat.floats(vec![tensor(&[1, 1, 4, 5], slab)]).1).collect();
    assert_eq!(elements, slabs);
}

#[test]
fn a_transform_of_any_length_is_the_definitions() {
    for len in [1_usize, 2, 5, 8, 12] {
        let model = one(17, "DFT", "", &[int("axis", 1)]);
        let x: Vec<f32> = (0..len).map(|index| (index * index % 7) as f32 - 2.0).collect();
        let (dims, found) = model.floats(vec![tensor(&[1, len, 1], &x)]);
        assert_eq!(dims, [1, len, 2]);
        for (k, found) in found.chunks(2).enumerate() {
            let angle = |n: usize| -2.0 * std::f64::consts::PI * (k * n) as f64 / len as f64;
            let sum = |f: fn(f64) -> f64| x.iter().enumerate().map(|(n, &x)| f64::from(x) * f(angle(n))).sum::<f64>();
            close(found, &[sum(f64::cos) as f32, sum(f64::sin) as f32].map(|x| if x.abs() < 1e-5 { 0.0 } else { x }));
        }
    }
}

#[test]
fn integers_of_a_product_are_exact() {
    let model = Model::new(13)
        .input("a", 2, &[-1, -1])
        .input("b", 2, &[-1, -1])
        .node("MatMulInteger", "a b", "y", &[])
        .output("y", 6);
    let long = 70_000;
    let ones = || Value::new(vec![1, long], vec![255_u8; long]).unwrap();
    let column = Value::new(vec![long, 1], vec![255_u8; long]).unwrap();
    let outputs = model.run(vec![ones(), column]).unwrap();
    assert_eq!(outputs[0].elements::<i32>().unwrap(), [(255_i64 * 255 * long as i64) as i32]);
}
