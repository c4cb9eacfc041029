//! The maximum and the minimum of elements with a NaN are NaN, and the index is that of the first NaN.

use crate::format::messages::AttributeProto;
use crate::tests::builder::{F32, I64, Model, int, ints, string, string_list, tensor};

/// f32, f16, f64 and bf16.
const FLOATS: [i32; 4] = [1, 10, 11, 16];

/// Rows of three with NaNs at various indexes, and the index of the first NaN.
const ROWS: [([f32; 3], usize); 5] = [
    ([f32::NAN, 1.5, 0.5], 0),
    ([1.5, f32::NAN, 0.5], 1),
    ([f32::INFINITY, f32::NAN, 1.5], 1),
    ([1.5, f32::NEG_INFINITY, f32::NAN], 2),
    ([1.5, f32::NAN, f32::NAN], 1),
];

/// The output, as f32, of an operator on a row of element type `ty`.
fn of(
    ty: i32,
    opset: i64,
    op: &str,
    rest: &str,
    dims: &[usize],
    row: &[f32],
    attributes: &[AttributeProto],
) -> Vec<f32> {
    Model::new(opset)
        .input("x", F32, &vec![-1; dims.len()])
        .output("y", F32)
        .integers("one", &[1], &[1])
        .node("Cast", "x", "a", &[int("to", i64::from(ty))])
        .node(op, &format!("a {rest}"), "b", attributes)
        .node("Cast", "b", "y", &[int("to", 1)])
        .floats(vec![tensor(dims, row)])
        .1
}

#[test]
fn the_extreme_of_what_has_a_nan_is_nan() {
    let kernel = ints("kernel_shape", &[3]);
    let square = ints("kernel_shape", &[1, 3]);
    for ty in FLOATS {
        for (row, _) in ROWS {
            for (op, dims, attributes) in [
                ("GlobalMaxPool", &[1, 1, 3][..], vec![]),
                ("MaxPool", &[1, 1, 3], vec![kernel.clone()]),
                ("MaxPool", &[1, 1, 1, 3], vec![square.clone()]),
                ("MaxPool", &[1, 1, 3, 1], vec![ints("kernel_shape", &[3, 1])]),
                ("MaxPool", &[1, 1, 3, 1, 1], vec![ints("kernel_shape", &[3, 1, 1])]),
                ("LpPool", &[1, 1, 3], vec![kernel.clone()]),
                ("AveragePool", &[1, 1, 3], vec![kernel.clone()]),
                ("ReduceMax", &[3], vec![]),
                ("ReduceMin", &[3], vec![]),
                ("ReduceMax", &[3, 1], vec![ints("axes", &[0])]),
                ("ReduceSum", &[3], vec![]),
                ("ReduceLogSumExp", &[3], vec![]),
            ] {
                let found = of(ty, 12, op, "", dims, &row, &attributes);
                assert!(found.len() == 1 && found[0].is_nan(), "{op} of {ty} {dims:?} {row:?}: {found:?}");
            }
        }
    }
}

#[test]
fn elementwise_extremes_keep_a_nan_on_either_side() {
    for ty in FLOATS {
        for op in ["Max", "Min"] {
            for pair in [[f32::NAN, 1.0], [1.0, f32::NAN]] {
                let model = Model::new(13)
                    .input("p", F32, &[1])
                    .input("q", F32, &[1])
                    .output("y", F32)
                    .node("Cast", "p", "a", &[int("to", i64::from(ty))])
                    .node("Cast", "q", "b", &[int("to", i64::from(ty))])
                    .node(op, "a b", "c", &[])
                    .node("Cast", "c", "y", &[int("to", 1)]);
                let found = model.floats(pair.map(|x| tensor(&[1], &[x])).to_vec()).1;
                assert!(found[0].is_nan(), "{op} of {ty} {pair:?}: {found:?}");
            }
        }
        for (op, attributes) in [("Relu", vec![]), ("Clip", vec![crate::tests::builder::float("min", 0.0)])] {
            assert!(of(ty, 10, op, "", &[1], &[f32::NAN], &attributes)[0].is_nan(), "{op} of {ty}");
        }
    }
}

#[test]
fn the_index_of_the_extreme_is_that_of_the_first_nan() {
    for ty in FLOATS {
        for (row, first) in ROWS {
            for op in ["ArgMax", "ArgMin"] {
                let found = of(ty, 13, op, "", &[3], &row, &[]);
                assert_eq!(found, [first as f32], "{op} of {ty} {row:?}");
                let last = row.iter().rposition(|x| x.is_nan()).unwrap();
                let found = of(ty, 13, op, "", &[3], &row, &[int("select_last_index", 1)]);
                assert_eq!(found, [last as f32], "the last {op} of {ty} {row:?}");
            }
            let hard = of(ty, 13, "Hardmax", "", &[1, 3], &row, &[]);
            assert_eq!(hard.iter().position(|&x| x > 0.5), Some(first), "Hardmax of {ty} {row:?}: {hard:?}");
            let top = of(ty, 13, "TopK", "one", &[3], &row, &[]);
            assert!(top[0].is_nan(), "TopK of {ty} {row:?}: {top:?}");
            for order in [0, 1] {
                let attributes = [ints("kernel_shape", &[3]), int("storage_order", order)];
                let model = Model::new(12)
                    .input("x", F32, &[1, 1, 3])
                    .output("i", I64)
                    .node("Cast", "x", "a", &[int("to", i64::from(ty))])
                    .node("MaxPool", "a", "t i", &attributes);
                let found = model.longs(vec![tensor(&[1, 1, 3], &row)]).1;
                assert_eq!(found, [first as i64], "MaxPool of {ty} {row:?}");
            }
        }
    }
}

#[test]
fn a_region_and_a_scatter_keep_a_nan() {
    let model = Model::new(16)
        .input("x", F32, &[1, 1, 1, 3])
        .output("y", F32)
        .weights("r", &[1, 4], &[0.0, 0.0, 3.0, 1.0])
        .integers("b", &[1], &[0])
        .node("RoiAlign", "x r b", "y", &[string("mode", "max"), int("sampling_ratio", 3)]);
    for (row, _) in ROWS {
        let found = model.floats(vec![tensor(&[1, 1, 1, 3], &row)]).1;
        assert!(found[0].is_nan(), "{row:?}: {found:?}");
    }
    for reduction in ["max", "min"] {
        let model = Model::new(18)
            .input("x", F32, &[1])
            .input("u", F32, &[3])
            .output("y", F32)
            .integers("i", &[3], &[0, 0, 0])
            .node("ScatterElements", "x i u", "y", &[string("reduction", reduction)]);
        for (row, _) in ROWS {
            assert!(model.floats(vec![tensor(&[1], &[1.0]), tensor(&[3], &row)]).1[0].is_nan(), "{row:?}");
        }
    }
}

#[test]
fn a_recurrence_by_relu_keeps_a_nan() {
    let weights = |model: Model| model.weights("w", &[1, 1, 1], &[1.0]).weights("r", &[1, 1, 1], &[0.0]);
    let attribute = string_list("activations", &["Relu"]);
    let model = weights(Model::new(14).input("x", F32, &[1, 1, 1]).output("y", F32));
    let model = model.node("RNN", "x w r", "y", &[attribute, int("hidden_size", 1)]);
    assert!(model.floats(vec![tensor(&[1, 1, 1], &[f32::NAN])]).1[0].is_nan());
}
