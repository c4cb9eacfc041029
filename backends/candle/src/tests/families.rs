//! Operators of each family, compared with the results of onnxruntime 1.23.

use crate::tensor::value::Value;
use crate::tests::builder::{F32, I64, Model, close, counting, graph, int, ints, node, one, string, tensor};

fn scaled(dims: &[usize], scale: f32, shift: f32) -> Vec<f32> {
    (0..dims.iter().product()).map(|index: usize| (index as f32 + shift) / scale).collect()
}

#[test]
fn convolutions_have_groups_strides_and_uneven_pads() {
    let attributes = [int("group", 2), ints("pads", &[1, 0, 0, 1]), ints("strides", &[2, 1])];
    let model = one(11, "Conv", "w", &attributes).weights("w", &[2, 1, 2, 2], &scaled(&[2, 1, 2, 2], 1.0, 0.0));
    let (dims, elements) = model.floats(vec![counting(&[1, 2, 3, 3])]);
    assert_eq!(dims, [1, 2, 2, 3]);
    assert_eq!(elements, [3.0, 8.0, 4.0, 37.0, 43.0, 16.0, 124.0, 137.0, 66.0, 315.0, 337.0, 158.0]);
}

#[test]
fn convolutions_have_one_dimension_and_dilations() {
    let model = one(11, "Conv", "w b", &[ints("dilations", &[2]), ints("pads", &[1, 0])])
        .weights("w", &[1, 1, 3], &[1.0, 2.0, 3.0])
        .weights("b", &[1], &[10.0]);
    assert_eq!(model.floats(vec![counting(&[1, 1, 6])]), (vec![1, 1, 3], vec![21.0, 26.0, 32.0]));
}

#[test]
fn a_batch_is_convolved_like_each_of_its_images() {
    let model = one(11, "Conv", "w", &[string("auto_pad", "SAME_LOWER"), ints("strides", &[2, 2])]).weights(
        "w",
        &[1, 1, 3, 3],
        &[1.0; 9],
    );
    let (dims, elements) = model.floats(vec![counting(&[1, 1, 4, 4])]);
    assert_eq!((dims, elements), (vec![1, 1, 2, 2], vec![10.0, 24.0, 51.0, 90.0]));
    let twice = [scaled(&[16], 1.0, 0.0), scaled(&[16], 1.0, 0.0)].concat();
    let (dims, elements) = model.floats(vec![tensor(&[2, 1, 4, 4], &twice)]);
    assert_eq!((dims, elements), (vec![2, 1, 2, 2], vec![10.0, 24.0, 51.0, 90.0, 10.0, 24.0, 51.0, 90.0]));
}

#[test]
fn a_transposed_convolution_spreads() {
    let attributes = [ints("strides", &[2, 2]), ints("pads", &[0, 1, 1, 0]), ints("output_padding", &[1, 0])];
    let model = one(11, "ConvTranspose", "w", &attributes).weights("w", &[1, 2, 2, 2], &scaled(&[8], 1.0, 0.0));
    let (dims, elements) = model.floats(vec![counting(&[1, 1, 2, 2])]);
    assert_eq!(dims, [1, 2, 4, 3]);
    let first = [0.0, 0.0, 1.0, 0.0, 2.0, 3.0, 2.0, 0.0, 3.0, 6.0, 6.0, 9.0];
    let second = [0.0, 4.0, 5.0, 0.0, 6.0, 7.0, 10.0, 12.0, 15.0, 14.0, 18.0, 21.0];
    assert_eq!(elements, [first, second].concat());
}

#[test]
fn reflection_leaves_out_the_edge() {
    let model = one(13, "Pad", "p", &[string("mode", "reflect")]).integers("p", &[4], &[0, 2, 1, 1]);
    let (dims, elements) = model.floats(vec![counting(&[2, 3])]);
    assert_eq!(dims, [3, 6]);
    let top = [2.0, 1.0, 0.0, 1.0, 2.0, 1.0];
    assert_eq!(elements, [top, [5.0, 4.0, 3.0, 4.0, 5.0, 4.0], top].concat());
}

#[test]
fn an_lstm_runs_both_ways() {
    let model = Model::new(14)
        .input("x", F32, &[2, 1, 2])
        .weights("w", &[2, 4, 2], &scaled(&[16], 10.0, 0.0))
        .weights("r", &[2, 4, 1], &scaled(&[8], 10.0, -4.0))
        .node("LSTM", "x w r", "y h c", &[int("hidden_size", 1), string("direction", "bidirectional")])
        .output("y", F32)
        .output("h", F32)
        .output("c", F32);
    let outputs = model.run(vec![counting(&[2, 1, 2])]).unwrap();
    close(outputs[0].elements().unwrap(), &[0.176_380_2, 0.686_839_3, 0.533_953_5, 0.752_159_5]);
    close(outputs[1].elements().unwrap(), &[0.533_953_5, 0.686_839_3]);
    close(outputs[2].elements().unwrap(), &[0.842_972_2, 1.466_474]);
    assert_eq!(outputs[0].dims(), [2, 2, 1, 1]);
}

#[test]
fn a_layer_is_normalized_and_scaled() {
    let model = one(17, "LayerNormalization", "s b", &[]).weights("s", &[3], &[1.0, 2.0, 3.0]).weights(
        "b",
        &[3],
        &[0.0, 0.0, 1.0],
    );
    let (_, elements) = model.floats(vec![counting(&[2, 3])]);
    close(&elements, &[-1.224_736, 0.0, 4.674_207, -1.224_736, 0.0, 4.674_207]);
}

#[test]
fn an_image_is_enlarged_between_its_pixels() {
    let model = one(13, "Resize", "_ s", &[string("mode", "linear")]).weights("s", &[4], &[1.0, 1.0, 2.0, 2.0]);
    let (dims, elements) = model.floats(vec![counting(&[1, 1, 2, 2])]);
    assert_eq!(dims, [1, 1, 4, 4]);
    close(&elements[..8], &[0.0, 0.25, 0.75, 1.0, 0.5, 0.75, 1.25, 1.5]);
    close(&elements[8..], &[1.5, 1.75, 2.25, 2.5, 2.0, 2.25, 2.75, 3.0]);
}

#[test]
fn a_remainder_has_the_divisors_sign() {
    let model = Model::new(13).input("x", I64, &[-1]).output("y", I64).integers("d", &[5], &[3, -3, -3, 3, 7]).node(
        "Mod",
        "x d",
        "y",
        &[],
    );
    let x = Value::new(vec![5], vec![-7_i64, 7, -7, 7, i64::MIN]).unwrap();
    assert_eq!(model.longs(vec![x]).1, [2, -2, -1, 1, 6]);
}

#[test]
fn a_branch_sees_what_is_around_it() {
    let branch = |op: &str, name: &str| {
        let mut branch = Model::new(13).node(op, "x two", name, &[]).output(name, F32).graph;
        branch.name = Some(name.to_owned());
        branch
    };
    let branches = [graph("then_branch", branch("Mul", "a")), graph("else_branch", branch("Sub", "b"))];
    let mut model = Model::new(13)
        .input("x", F32, &[-1])
        .weights("two", &[], &[2.0])
        .weights("zero", &[], &[0.0])
        .node("ReduceSum", "x", "sum", &[int("keepdims", 0)])
        .node("Greater", "sum zero", "positive", &[])
        .output("y", F32);
    model.graph.node.push(node("If", "positive", "y", &branches));
    assert_eq!(model.floats(vec![tensor(&[2], &[3.0, 1.0])]).1, [6.0, 2.0]);
    assert_eq!(model.floats(vec![tensor(&[2], &[-3.0, 1.0])]).1, [-5.0, -1.0]);
}

#[test]
fn operands_broadcast_in_every_direction() {
    // a is 2×1×3, b is 4×1: the result is 2×4×3.
    let model = Model::new(13)
        .input("a", F32, &[2, 1, 3])
        .input("b", F32, &[4, 1])
        .node("Add", "a b", "y", &[])
        .output("y", F32);
    let (dims, elements) = model.floats(vec![counting(&[2, 1, 3]), tensor(&[4, 1], &[0.0, 10.0, 20.0, 30.0])]);
    assert_eq!(dims, [2, 4, 3]);
    assert_eq!(elements[..6], [0.0, 1.0, 2.0, 10.0, 11.0, 12.0]);
    assert_eq!(elements[12..15], [3.0, 4.0, 5.0]);
}

#[test]
fn matrices_multiply_in_batches() {
    let model = Model::new(13)
        .input("a", F32, &[-1, -1, -1])
        .input("b", F32, &[-1, -1, -1])
        .node("MatMul", "a b", "y", &[])
        .output("y", F32);
    let (dims, elements) = model.floats(vec![counting(&[2, 1, 2]), counting(&[1, 2, 2])]);
    // [0 1]·[[0 1] [2 3]] and [2 3]·[[0 1] [2 3]].
    assert_eq!((dims, elements), (vec![2, 1, 2], vec![2.0, 3.0, 6.0, 11.0]));
    let (dims, elements) = model.floats(vec![counting(&[1, 1, 2]), counting(&[2, 2, 1])]);
    assert_eq!((dims, elements), (vec![2, 1, 1], vec![1.0, 3.0]));
}

#[test]
fn one_filter_a_channel_is_a_dense_convolution_with_zeros() {
    for (size, stride, pad, dilation) in [
        (1, 1, 0, 1),
        (2, 1, 1, 1),
        (3, 1, 1, 1),
        (3, 2, 1, 1),
        (3, 3, 0, 2),
        (5, 1, 2, 1),
        (5, 2, 2, 1),
        (5, 4, 3, 2),
        (3, 20, 1, 1),
    ] {
        let taps = size * size;
        let own: Vec<f32> = (0..2 * taps).map(|index| ((index * 5) % 7) as f32 - 3.0).collect();
        let mut dense = vec![0.0; 4 * taps];
        dense[..taps].copy_from_slice(&own[..taps]);
        dense[3 * taps..].copy_from_slice(&own[taps..]);
        let side = size as i64;
        let attributes = [
            ints("strides", &[stride, stride]),
            ints("pads", &[pad, pad, pad, pad]),
            ints("dilations", &[dilation; 2]),
        ];
        let grouped = [attributes.as_slice(), &[int("group", 2)]].concat();
        let grouped = one(11, "Conv", "w", &grouped).weights("w", &[2, 1, side, side], &own);
        let dense = one(11, "Conv", "w", &attributes).weights("w", &[2, 2, side, side], &dense);
        let x = || vec![counting(&[1, 2, 9, 13])];
        assert_eq!(grouped.floats(x()), dense.floats(x()), "{size} {stride} {pad} {dilation}");
    }
}
