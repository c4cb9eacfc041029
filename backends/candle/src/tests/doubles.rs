//! Tensors of f64 are computed in f64: the results need digits and magnitudes that f32 lacks.

use crate::format::messages::{AttributeProto, TensorProto};
use crate::tensor::value::Value;
use crate::tests::builder::{F64, I64, Model, float, floats, int, ints, string, string_list, value};

/// Added to 1, it is lost in f32.
const TINY: f64 = 1.0 / (1_u64 << 40) as f64;

/// The output of an operator on an input `x` and constants `p`, `q`, `r` and so on.
fn of(
    opset: i64,
    op: &str,
    x: (&[usize], &[f64]),
    constants: &[(&[i64], &[f64])],
    attributes: &[AttributeProto],
) -> Vec<f64> {
    let mut names = vec!["x".to_owned()];
    let mut model = Model::new(opset).output("y", F64).input("x", F64, &vec![-1; x.0.len()]);
    for (name, (dims, elements)) in ('p'..).zip(constants) {
        model = model.initializer(TensorProto {
            name: Some(name.to_string()),
            dims: dims.to_vec(),
            data_type: Some(F64),
            double_data: elements.to_vec(),
            ..TensorProto::default()
        });
        names.push(name.to_string());
    }
    let model = model.node(op, &names.join(" "), "y", attributes);
    let outputs = model.run(vec![value(x.0, x.1)]).unwrap();
    outputs[0].elements::<f64>().unwrap().to_vec()
}

#[track_caller]
fn near(found: &[f64], wanted: &[f64]) {
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        assert!((found - wanted).abs() <= 1e-14 * wanted.abs().max(1e-300), "{found:e} instead of {wanted:e}");
    }
}

/// Numbers of both signs that are distinct in f64 and equal to ±1 in f32.
fn fine(count: usize) -> Vec<f64> {
    (0..count).map(|index| (1.0 + TINY * (index + 1) as f64) * if index % 2 == 0 { 1.0 } else { -1.0 }).collect()
}

#[test]
fn convolutions() {
    let x = fine(12);
    for (weights, group) in [(&[1, 1, 1][..], 1), (&[3, 1, 1], 3)] {
        let channels = weights[0] as usize;
        let ones = vec![1.0; channels];
        let dims = [1, channels, 12 / channels];
        for op in ["Conv", "ConvTranspose"] {
            assert_eq!(of(13, op, (&dims, &x), &[(weights, &ones)], &[int("group", group)]), x, "{op}");
        }
    }
    // Compared with the definition: pads, strides, dilations, groups, a bias, and more outputs than one block.
    let (n, channels, filters, groups, input, kernel) = (2, 4, 6, 2, 25_000, 3);
    let (x, w) = (fine(n * channels * input), fine(filters * channels / groups * kernel));
    let bias = fine(filters);
    let found = of(
        13,
        "Conv",
        (&[n, channels, 1, input], &x),
        &[(&[6, 2, 1, 3], &w), (&[6], &bias)],
        &[int("group", 2), ints("pads", &[0, 3, 0, 1]), ints("strides", &[1, 2]), ints("dilations", &[1, 2])],
    );
    let output = (input + 4 - 5) / 2 + 1;
    let mut wanted = Vec::new();
    for batch in 0..n {
        for filter in 0..filters {
            for place in 0..output {
                let mut sum = bias[filter];
                for depth in 0..2 {
                    for tap in 0..kernel {
                        let Some(at) = (place * 2 + tap * 2).checked_sub(3).filter(|&at| at < input) else { continue };
                        let channel = filter / 3 * 2 + depth;
                        sum += x[(batch * channels + channel) * input + at] * w[(filter * 2 + depth) * kernel + tap];
                    }
                }
                wanted.push(sum);
            }
        }
    }
    for (found, wanted) in found.iter().zip(&wanted) {
        assert!((found - wanted).abs() < 1e-14, "{found:e} instead of {wanted:e}");
    }
    assert_eq!(found.len(), wanted.len());
}

#[test]
fn pools() {
    let x = fine(6);
    let one = ints("kernel_shape", &[1]);
    for op in ["MaxPool", "AveragePool"] {
        assert_eq!(of(13, op, (&[1, 1, 6], &x), &[], std::slice::from_ref(&one)), x, "{op}");
    }
    let sizes: Vec<f64> = x.iter().map(|x| x.abs()).collect();
    assert_eq!(of(13, "LpPool", (&[1, 1, 6], &x), &[], &[one, int("p", 1)]), sizes);
    for op in ["GlobalMaxPool", "GlobalAveragePool"] {
        assert_eq!(of(13, op, (&[1, 6, 1], &x), &[], &[]), x, "{op}");
    }
    assert_eq!(of(13, "GlobalLpPool", (&[1, 6, 1], &x), &[], &[int("p", 1)]), sizes);
    near(
        &of(13, "AveragePool", (&[1, 1, 2], &[1.0, 1.0 + 4.0 * TINY]), &[], &[ints("kernel_shape", &[2])]),
        &[1.0 + 2.0 * TINY],
    );
    let top = of(13, "MaxPool", (&[1, 1, 2], &[1.0, 1.0 + TINY]), &[], &[ints("kernel_shape", &[2])]);
    assert_eq!(top, [1.0 + TINY]);
    let unpooled = Model::new(13)
        .input("x", F64, &[1, 1, 1])
        .integers("i", &[1, 1, 1], &[1])
        .output("y", F64)
        .node("MaxUnpool", "x i", "y", &[ints("kernel_shape", &[2]), ints("strides", &[2])])
        .run(vec![value(&[1, 1, 1], &[1.0 + TINY])])
        .unwrap();
    assert_eq!(unpooled[0].elements::<f64>().unwrap(), [0.0, 1.0 + TINY]);
    let columns = Model::new(18)
        .input("x", F64, &[1, 1, 2])
        .integers("image", &[1], &[2])
        .integers("block", &[1], &[1])
        .output("y", F64)
        .node("Col2Im", "x image block", "y", &[])
        .run(vec![value(&[1, 1, 2], &[1.0 + TINY, -1.0 - TINY])])
        .unwrap();
    assert_eq!(columns[0].elements::<f64>().unwrap(), [1.0 + TINY, -1.0 - TINY]);
}

#[test]
fn normalizations() {
    let ones: (&[i64], &[f64]) = (&[1], &[1.0]);
    let zeros: (&[i64], &[f64]) = (&[1], &[0.0]);
    // 16777217 is not an f32.
    let batch = of(
        13,
        "BatchNormalization",
        (&[1, 1, 2], &[16_777_217.0, 16_777_216.0 + TINY * 1e7]),
        &[ones, zeros, (&[1], &[16_777_216.0]), ones],
        &[float("epsilon", 0.0)],
    );
    near(&batch, &[1.0, 16_777_216.0 + TINY * 1e7 - 16_777_216.0]);
    // The numbers and their squares are out of f32's range.
    let far = [1e39, 2e39, 3e39];
    let wanted = [-1.5_f64.sqrt(), 0.0, 1.5_f64.sqrt()];
    let threes: (&[i64], &[f64]) = (&[3], &[1.0; 3]);
    near(&of(17, "LayerNormalization", (&[1, 3], &far), &[threes], &[]), &wanted);
    near(&of(13, "InstanceNormalization", (&[1, 1, 3], &far), &[ones, zeros], &[]), &wanted);
    near(&of(21, "GroupNormalization", (&[1, 1, 3], &far), &[ones, zeros], &[int("num_groups", 1)]), &wanted);
    near(&of(13, "MeanVarianceNormalization", (&[1, 1, 1, 3], &far), &[], &[]), &wanted);
    near(&of(13, "LpNormalization", (&[1, 2], &[3e39, 4e39]), &[], &[]), &[0.6, 0.8]);
    let local = of(13, "LRN", (&[1, 1, 2], &[1.0 + TINY, 2.0]), &[], &[int("size", 1), float("alpha", 0.0)]);
    near(&local, &[1.0 + TINY, 2.0]);
}

#[test]
fn softmax_and_losses() {
    let x = [0.0, 1e-9, 2e-9];
    let sum: f64 = x.iter().map(|x: &f64| x.exp()).sum();
    let soft: Vec<f64> = x.iter().map(|x| x.exp() / sum).collect();
    let logarithms: Vec<f64> = x.iter().map(|x| x - sum.ln()).collect();
    for (opset, dims) in [(11, &[1, 3][..]), (13, &[1, 3]), (13, &[3, 1])] {
        let axis = [int("axis", i64::from(dims[0] != 3))];
        near(&of(opset, "Softmax", (dims, &x), &[], &axis), &soft);
        near(&of(opset, "LogSoftmax", (dims, &x), &[], &axis), &logarithms);
    }
    assert_eq!(of(13, "Hardmax", (&[1, 2], &[1.0, 1.0 + TINY]), &[], &[]), [0.0, 1.0]);
    let loss = |op: &str, x: &[f64]| {
        let model = Model::new(13).input("x", F64, &[1, -1]).integers("t", &[1], &[1]).output("y", F64);
        let outputs = model.node(op, "x t", "y", &[]).run(vec![value(&[1, x.len()], x)]).unwrap();
        outputs[0].elements::<f64>().unwrap().to_vec()
    };
    assert_eq!(loss("NegativeLogLikelihoodLoss", &[0.0, 1.0 + TINY]), [-1.0 - TINY]);
    near(&loss("SoftmaxCrossEntropyLoss", &x), &[-logarithms[1]]);
}

#[test]
fn samples() {
    let (low, high) = (1.0, 1.0 + 4.0 * TINY);
    let between = |part: f64| low + part * (high - low);
    for opset in [10, 11, 18] {
        let scales: TensorProto = floats("s", &[1], &[2.0]);
        let inputs = if opset < 11 { "x s" } else { "x _ s" };
        let model = Model::new(opset).input("x", F64, &[2]).initializer(scales).output("y", F64);
        let found = model.node("Resize", inputs, "y", &[string("mode", "linear")]).run(vec![value(&[2], &[low, high])]);
        let found = found.unwrap()[0].elements::<f64>().unwrap().to_vec();
        let wanted = if opset < 11 { [0.0, 0.5, 1.0, 1.0] } else { [0.0, 0.25, 0.75, 1.0] };
        near(&found, &wanted.map(between));
    }
    let attributes = [int("align_corners", 1)];
    let grid = of(16, "GridSample", (&[1, 1, 1, 2], &[low, high]), &[(&[1, 1, 1, 2], &[0.5, 0.0])], &attributes);
    near(&grid, &[between(0.75)]);
    let model = Model::new(20).input("x", F64, &[1, 2, 3]).integers("s", &[4], &[1, 1, 1, 1]).output("y", F64);
    let theta = value(&[1, 2, 3], &[1.0, 0.0, 1.0 + TINY, 0.0, 1.0, -1.0 - TINY]);
    let outputs = model.node("AffineGrid", "x s", "y", &[]).run(vec![theta]).unwrap();
    assert_eq!(outputs[0].elements::<f64>().unwrap(), [1.0 + TINY, -1.0 - TINY]);
}

#[test]
fn recurrences() {
    let affine = string_list("activations", &["Affine"]);
    // Each state is the sum of the input and the previous state.
    let one: (&[i64], &[f64]) = (&[1, 1, 1], &[1.0]);
    let x = [1.0 + TINY, 2.0 - TINY];
    let found = of(14, "RNN", (&[2, 1, 1], &x), &[one, one], &[affine, int("hidden_size", 1)]);
    near(&found, &[1.0 + TINY, 3.0]);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let hidden = [int("hidden_size", 1)];
    let four: (&[i64], &[f64]) = (&[1, 4, 1], &[1.0; 4]);
    let found = of(14, "LSTM", (&[1, 1, 1], &[0.3]), &[four, four], &hidden);
    near(&found, &[sigmoid(0.3) * (sigmoid(0.3) * 0.3_f64.tanh()).tanh()]);
    let three: (&[i64], &[f64]) = (&[1, 3, 1], &[1.0; 3]);
    let found = of(14, "GRU", (&[1, 1, 1], &[0.3]), &[three, three], &hidden);
    near(&found, &[(1.0 - sigmoid(0.3)) * 0.3_f64.tanh()]);
}

#[test]
fn windows() {
    let model = |op: &str| {
        let model = Model::new(17).input("n", I64, &[]).output("y", F64);
        let outputs = model.node(op, "n", "y", &[int("output_datatype", 11)]).run(vec![Value::scalar(7_i64).unwrap()]);
        outputs.unwrap()[0].elements::<f64>().unwrap().to_vec()
    };
    let hann: Vec<f64> = (0..7).map(|k| 0.5 - 0.5 * (std::f64::consts::TAU * f64::from(k) / 7.0).cos()).collect();
    near(&model("HannWindow"), &hann);
}
