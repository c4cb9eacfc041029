//! Cases in which runtimes silently give wrong results: defaults that changed between opsets, and corner cases of
//! shapes.
//!
//! Expected numbers with more than two decimals are those of onnxruntime 1.23; the others are computed by hand.

use crate::tests::builder::{BOOL, F32, I64, Model, close, counting, float, int, ints, one, string, tensor};

#[test]
fn reduce_mean_takes_its_axes_from_an_input_as_of_opset_18() {
    let model = one(18, "ReduceMean", "axes", &[int("keepdims", 0)]).integers("axes", &[1], &[-1]);
    assert_eq!(model.floats(vec![counting(&[2, 4])]), (vec![2], vec![1.5, 5.5]));
    // Before, they are an attribute.
    let model = one(17, "ReduceMean", "", &[ints("axes", &[0])]);
    assert_eq!(model.floats(vec![counting(&[2, 2])]), (vec![1, 2], vec![1.0, 2.0]));
    // An attribute that this opset lacks is refused, not ignored.
    assert!(one(18, "ReduceMean", "", &[ints("axes", &[0])]).load().is_err());
}

#[test]
fn a_reduction_without_axes_is_over_all_of_them() {
    for opset in [11, 13, 20] {
        assert_eq!(one(opset, "ReduceSum", "", &[]).floats(vec![counting(&[2, 3])]), (vec![1, 1], vec![15.0]));
        let scalar = one(opset, "ReduceMax", "", &[int("keepdims", 0)]);
        assert_eq!(scalar.floats(vec![counting(&[2, 3])]), (vec![], vec![5.0]));
    }
    let nothing = one(13, "ReduceSum", "axes", &[int("noop_with_empty_axes", 1)]).integers("axes", &[0], &[]);
    assert_eq!(nothing.floats(vec![counting(&[2])]), (vec![2], vec![0.0, 1.0]));
}

#[test]
fn reductions_over_leading_trailing_and_middle_axes_agree() {
    for (axes, dims, wanted) in [
        (vec![0], vec![1, 2, 2], vec![4.0, 6.0, 8.0, 10.0]),
        (vec![1], vec![2, 1, 2], vec![2.0, 4.0, 10.0, 12.0]),
        (vec![2], vec![2, 2, 1], vec![1.0, 5.0, 9.0, 13.0]),
        (vec![0, 2], vec![1, 2, 1], vec![10.0, 18.0]),
    ] {
        let model = one(11, "ReduceSum", "", &[ints("axes", &axes)]);
        assert_eq!(model.floats(vec![counting(&[2, 2, 2])]), (dims, wanted));
    }
}

#[test]
fn a_pool_steps_by_one_unless_told_otherwise() {
    let model = one(12, "MaxPool", "", &[ints("kernel_shape", &[2, 2])]);
    assert_eq!(model.floats(vec![counting(&[1, 1, 3, 3])]), (vec![1, 1, 2, 2], vec![4.0, 5.0, 7.0, 8.0]));
    let model = one(12, "AveragePool", "", &[ints("kernel_shape", &[2])]);
    assert_eq!(model.floats(vec![counting(&[1, 1, 3])]), (vec![1, 1, 2], vec![0.5, 1.5]));
}

#[test]
fn ceil_mode_rounds_up_and_averages_over_what_is_there() {
    let attributes = [ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), int("ceil_mode", 1)];
    let (dims, top) = one(12, "MaxPool", "", &attributes).floats(vec![counting(&[1, 1, 4, 4])]);
    assert_eq!((dims, top), (vec![1, 1, 2, 2], vec![10.0, 11.0, 14.0, 15.0]));
    let (_, average) = one(12, "AveragePool", "", &attributes).floats(vec![counting(&[1, 1, 4, 4])]);
    assert_eq!(average, [5.0, 6.5, 11.0, 12.5]);
}

#[test]
fn pads_count_in_an_average_only_if_asked_for() {
    let kernel = [ints("kernel_shape", &[2, 2]), ints("pads", &[1, 1, 0, 0])];
    let (_, without) = one(12, "AveragePool", "", &kernel).floats(vec![counting(&[1, 1, 3, 3])]);
    assert_eq!(without, [0.0, 0.5, 1.5, 1.5, 2.0, 3.0, 4.5, 5.0, 6.0]);
    let with = [kernel.as_slice(), &[int("count_include_pad", 1)]].concat();
    let (_, with) = one(12, "AveragePool", "", &with).floats(vec![counting(&[1, 1, 3, 3])]);
    assert_eq!(with, [0.0, 0.25, 0.75, 0.75, 2.0, 3.0, 2.25, 5.0, 6.0]);
}

#[test]
fn softmax_flattens_from_axis_1_before_opset_13_and_is_along_the_last_after() {
    let (_, old) = one(12, "Softmax", "", &[]).floats(vec![counting(&[1, 2, 2])]);
    close(&old, &[0.032_058_6, 0.087_144_32, 0.236_882_8, 0.643_914_3]);
    let (_, new) = one(13, "Softmax", "", &[]).floats(vec![counting(&[1, 2, 2])]);
    close(&new, &[0.268_941_4, 0.731_058_6, 0.268_941_4, 0.731_058_6]);
    // Along the first of two dimensions.
    let (_, first) = one(13, "Softmax", "", &[int("axis", 0)]).floats(vec![counting(&[2, 2])]);
    close(&first, &[0.119_202_9, 0.119_202_9, 0.880_797_1, 0.880_797_1]);
    let (_, log) = one(11, "LogSoftmax", "", &[int("axis", 0)]).floats(vec![counting(&[2, 2])]);
    close(&log, &[-3.440_19, -2.440_19, -1.440_19, -0.440_189_7]);
}

#[test]
fn flatten_counts_a_negative_axis_from_the_end() {
    for (axis, dims) in [(-1, vec![6, 4]), (-2, vec![2, 12]), (0, vec![1, 24]), (3, vec![24, 1]), (1, vec![2, 12])] {
        assert_eq!(one(13, "Flatten", "", &[int("axis", axis)]).floats(vec![counting(&[2, 3, 4])]).0, dims);
    }
}

#[test]
fn transpose_reverses_all_dimensions_by_default() {
    let (dims, elements) = one(13, "Transpose", "", &[]).floats(vec![counting(&[2, 1, 3])]);
    assert_eq!((dims, elements), (vec![3, 1, 2], vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
}

#[test]
fn split_gives_the_last_part_what_is_left() {
    let model = Model::new(18).input("x", F32, &[-1]).output("a", F32).output("b", F32).output("c", F32);
    let model = model.node("Split", "x", "a b c", &[int("num_outputs", 3)]);
    let parts = model.run(vec![counting(&[7])]).unwrap();
    assert_eq!(parts.iter().map(|part| part.dims()[0]).collect::<Vec<_>>(), [3, 3, 1]);
    assert_eq!(parts[2].elements::<f32>().unwrap(), [6.0]);
    // Sizes are an attribute before opset 13 and an input since. A wrong sum is an error.
    let by = |opset, attributes: &[_], rest: &str, sizes: &[i64]| {
        let model = Model::new(opset).input("x", F32, &[-1]).output("a", F32).output("b", F32);
        model.node("Split", &format!("x {rest}"), "a b", attributes).integers("sizes", &[2], sizes)
    };
    let parts = by(11, &[ints("split", &[1, 3])], "", &[0, 0]).run(vec![counting(&[4])]).unwrap();
    assert_eq!(parts[1].elements::<f32>().unwrap(), [1.0, 2.0, 3.0]);
    let parts = by(13, &[], "sizes", &[1, 3]).run(vec![counting(&[4])]).unwrap();
    assert_eq!(parts[1].elements::<f32>().unwrap(), [1.0, 2.0, 3.0]);
    assert!(by(13, &[], "sizes", &[1, 2]).run(vec![counting(&[4])]).is_err());
    assert!(by(13, &[], "sizes", &[-1, 5]).run(vec![counting(&[4])]).is_err());
}

#[test]
fn clip_has_attributes_at_opset_6_and_inputs_at_11() {
    let x = || vec![tensor(&[3], &[-5.0, 0.5, 5.0])];
    let old = one(6, "Clip", "", &[float("min", -1.0), float("max", 1.0)]);
    assert_eq!(old.floats(x()).1, [-1.0, 0.5, 1.0]);
    let new = one(11, "Clip", "low high", &[]).weights("low", &[], &[-2.0]).weights("high", &[], &[2.0]);
    assert_eq!(new.floats(x()).1, [-2.0, 0.5, 2.0]);
    let high_alone = one(11, "Clip", "_ high", &[]).weights("high", &[], &[0.0]);
    assert_eq!(high_alone.floats(x()).1, [-5.0, 0.0, 0.0]);
    assert!(one(11, "Clip", "", &[float("min", -1.0)]).load().is_err());
}

#[test]
fn gelu_is_exact_or_by_tanh() {
    let x = || vec![tensor(&[7], &[-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0])];
    let (_, exact) = one(20, "Gelu", "", &[]).floats(x());
    close(&exact, &[-0.004_049_689, -0.158_655_3, -0.154_268_8, 0.0, 0.345_731_2, 0.841_344_7, 2.995_95]);
    let (_, tanh) = one(20, "Gelu", "", &[string("approximate", "tanh")]).floats(x());
    close(&tanh, &[-0.003_637_522, -0.158_808, -0.154_286, 0.0, 0.345_714, 0.841_192, 2.996_363]);
}

#[test]
fn shape_has_a_start_and_an_end() {
    let shape = |attributes: &[_]| {
        let model = Model::new(15).input("x", F32, &[-1, -1, -1]).output("y", I64);
        model.node("Shape", "x", "y", attributes).longs(vec![counting(&[2, 3, 4])]).1
    };
    assert_eq!(shape(&[]), [2, 3, 4]);
    assert_eq!(shape(&[int("start", 1)]), [3, 4]);
    assert_eq!(shape(&[int("end", -1)]), [2, 3]);
    assert_eq!(shape(&[int("start", -2), int("end", 2)]), [3]);
    assert_eq!(shape(&[int("start", 9), int("end", 1)]), [] as [i64; 0]);
    assert_eq!(shape(&[int("start", i64::MIN), int("end", i64::MAX)]), [2, 3, 4]);
}

#[test]
fn comparisons_give_booleans_and_where_chooses() {
    let model = Model::new(13)
        .input("x", F32, &[-1])
        .output("y", F32)
        .output("less", BOOL)
        .weights("zero", &[], &[0.0])
        .node("Less", "x zero", "less", &[])
        .node("Where", "less zero x", "y", &[]);
    let outputs = model.run(vec![tensor(&[3], &[-1.0, 0.0, 2.0])]).unwrap();
    assert_eq!(outputs[0].elements::<f32>().unwrap(), [0.0, 0.0, 2.0]);
    assert_eq!(outputs[1].elements::<bool>().unwrap(), [true, false, false]);
}
