//! Convolutions and products by weights, compared with their definitions, and fused steps, compared with unfused ones.

use crate::format::messages::AttributeProto;
use crate::tensor::value::Value;
use crate::tests::builder::{F32, Model, cancelled, close, filled, float, info, int, ints, kernel, one, tensor};
use graphpool::backend::ComputeControl;

/// Small numbers with few repetitions.
pub(super) fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|index| ((index * 37 + seed * 101) % 23) as f32 / 8.0 - 1.25).collect()
}

/// Sizes and attributes of a convolution over two dimensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) batch: usize,
    pub(super) depth: usize,
    pub(super) filters: usize,
    pub(super) groups: usize,
    pub(super) image: [usize; 2],
    pub(super) kernel: [usize; 2],
    pub(super) strides: [usize; 2],
    pub(super) dilations: [usize; 2],
    pub(super) pads: [usize; 4],
}

pub(super) const PLAIN: Shape = Shape {
    batch: 1,
    depth: 3,
    filters: 9,
    groups: 1,
    image: [11, 13],
    kernel: [3, 3],
    strides: [1, 1],
    dilations: [1, 1],
    pads: [0; 4],
};

/// The convolution by its definition, with sums in f64.
fn convolution(shape: Shape, image: &[f32], weights: &[f32], bias: &[f32]) -> Vec<f32> {
    let Shape { batch, depth, filters, groups, image: [high, wide], kernel, strides, dilations, pads } = shape;
    let out = |axis: usize, size: usize| {
        (size + pads[axis] + pads[axis + 2] - (kernel[axis] - 1) * dilations[axis] - 1) / strides[axis] + 1
    };
    let mut result = Vec::new();
    for n in 0..batch {
        for (filter, &bias) in bias.iter().enumerate() {
            for y in 0..out(0, high) {
                for x in 0..out(1, wide) {
                    let mut sum = f64::from(bias);
                    for channel in 0..depth {
                        let plane = n * depth * groups + filter / (filters / groups) * depth + channel;
                        for dy in 0..kernel[0] {
                            for dx in 0..kernel[1] {
                                let (row, column) =
                                    (y * strides[0] + dy * dilations[0], x * strides[1] + dx * dilations[1]);
                                let inside = (pads[0]..pads[0] + high).contains(&row)
                                    && (pads[1]..pads[1] + wide).contains(&column);
                                if inside {
                                    let at = (plane * high + row - pads[0]) * wide + column - pads[1];
                                    let tap = ((filter * depth + channel) * kernel[0] + dy) * kernel[1] + dx;
                                    sum += f64::from(image[at]) * f64::from(weights[tap]);
                                }
                            }
                        }
                    }
                    result.push(sum as f32);
                }
            }
        }
    }
    result
}

pub(super) fn longs(sizes: &[usize]) -> Vec<i64> {
    sizes.iter().map(|&size| size as i64).collect()
}

/// A model of the convolution, with weights that are constant or inputs.
pub(super) fn model(shape: Shape, constant: bool) -> (Model, Vec<Value>, Vec<f32>) {
    let Shape { batch, depth, filters, groups, image: [high, wide], kernel, .. } = shape;
    let image = numbers(batch * depth * groups * high * wide, 1);
    let weights = numbers(filters * depth * kernel[0] * kernel[1], 2);
    let bias = numbers(filters, 3);
    let wanted = convolution(shape, &image, &weights, &bias);
    let attributes: [AttributeProto; 4] = [
        int("group", groups as i64),
        ints("strides", &longs(&shape.strides)),
        ints("dilations", &longs(&shape.dilations)),
        ints("pads", &longs(&shape.pads)),
    ];
    let dims = [filters, depth, kernel[0], kernel[1]];
    let mut inputs = vec![tensor(&[batch, depth * groups, high, wide], &image)];
    let mut model = Model::new(13).input("x", F32, &[-1, -1, -1, -1]);
    if constant {
        model = model.weights("w", &longs(&dims), &weights).weights("b", &[filters as i64], &bias);
    } else {
        model = model.input("w", F32, &longs(&dims)).input("b", F32, &[filters as i64]);
        inputs.extend([tensor(&dims, &weights), tensor(&[filters], &bias)]);
    }
    (model.node("Conv", "x w b", "c", &attributes), inputs, wanted)
}

#[test]
fn convolutions_are_those_of_the_definition() {
    let wide = Shape { image: [9, 70], ..PLAIN };
    let deep = Shape { depth: 40, filters: 17, image: [5, 6], pads: [1; 4], ..PLAIN };
    let single = Shape { depth: 1, filters: 6, groups: 6, pads: [1, 2, 0, 1], ..PLAIN };
    for shape in [
        PLAIN,
        wide,
        deep,
        Shape { batch: 2, pads: [1, 0, 2, 3], ..PLAIN },
        Shape { strides: [2, 3], dilations: [2, 1], pads: [2; 4], ..wide },
        Shape { kernel: [1, 1], ..deep },
        Shape { kernel: [1, 1], strides: [2, 2], pads: [0; 4], ..deep },
        Shape { groups: 3, batch: 2, ..PLAIN },
        Shape { groups: 3, kernel: [1, 1], batch: 2, ..PLAIN },
        Shape { batch: 5, image: [3, 4], pads: [1, 0, 1, 1], ..PLAIN },
        Shape { batch: 13, image: [1, 9], kernel: [1, 3], strides: [1, 2], groups: 3, ..PLAIN },
        single,
        Shape { filters: 12, batch: 2, ..single },
        Shape { image: [7, 90], ..single },
        Shape { image: [7, 90], strides: [1, 2], dilations: [1, 3], ..single },
        Shape { strides: [2, 1], ..single },
        Shape { strides: [3, 2], dilations: [2, 2], ..single },
        Shape { strides: [20, 20], ..single },
        Shape { kernel: [33, 33], image: [30, 40], pads: [9; 4], ..single },
    ] {
        for constant in [true, false] {
            let (model, inputs, wanted) = model(shape, constant);
            let (_, found) = model.output("c", F32).floats(inputs);
            assert_eq!(found.len(), wanted.len(), "{shape:?}");
            for (found, wanted) in found.iter().zip(&wanted) {
                assert!((found - wanted).abs() <= 1e-3, "{shape:?} {constant}: {found} instead of {wanted}");
            }
        }
    }
}

/// Checks that a model gives the same with constant weights, which are fused, and with weights as inputs, which are
/// not.
pub(super) fn alike(shape: Shape, follow: impl Fn(Model) -> Model) {
    let run = |constant| {
        let (model, inputs, _) = model(shape, constant);
        follow(model).run(inputs).unwrap()
    };
    let (fused, plain) = (run(true), run(false));
    assert_eq!(fused.len(), plain.len());
    for (fused, plain) in fused.iter().zip(&plain) {
        assert_eq!(fused.dims(), plain.dims());
        close(fused.elements::<f32>().unwrap(), plain.elements::<f32>().unwrap());
    }
}

fn shapes() -> [Shape; 3] {
    let depthwise = Shape { depth: 1, filters: 9, groups: 9, ..PLAIN };
    [PLAIN, Shape { batch: 2, groups: 3, ..PLAIN }, depthwise]
}

#[test]
fn a_chain_after_a_convolution_gives_what_its_operators_give() {
    for shape in shapes() {
        let per = numbers(9, 4);
        alike(shape, |model| {
            model
                .weights("scale", &[9], &per)
                .weights("mean", &[9], &numbers(9, 5))
                .weights("variance", &[9], &[0.5; 9])
                .weights("channel", &[1, 9, 1, 1], &per)
                .weights("three", &[], &[3.0])
                .weights("zero", &[], &[0.0])
                .weights("six", &[1], &[6.0])
                .node("BatchNormalization", "c scale channels mean variance", "n", &[])
                .weights("channels", &[9], &numbers(9, 6))
                .node("Mul", "channel n", "m", &[])
                .node("Add", "m three", "p", &[])
                .node("Clip", "p zero six", "k", &[])
                .node("Mul", "m k", "h", &[])
                .node("Div", "h six", "s", &[])
                .node("Sub", "three s", "t", &[])
                .node("Sigmoid", "t", "g", &[])
                .node("Mul", "g t", "u", &[])
                .node("LeakyRelu", "u", "y", &[float("alpha", 0.2)])
                .output("y", F32)
        });
    }
}

#[test]
fn a_value_that_others_read_stays() {
    for shape in shapes() {
        // The convolution's own output is wanted too.
        alike(shape, |model| model.node("Relu", "c", "y", &[]).output("y", F32).output("c", F32));
        // The chain's result is read twice.
        alike(shape, |model| {
            model
                .node("Relu", "c", "r", &[])
                .node("Softmax", "r", "y", &[int("axis", 1)])
                .node("Neg", "r", "z", &[])
                .output("y", F32)
                .output("z", F32)
        });
        // Two ends.
        alike(shape, |model| {
            model.node("Relu", "c", "y", &[]).node("Tanh", "c", "z", &[]).output("z", F32).output("y", F32)
        });
    }
}

#[test]
fn a_constant_that_broadcasts_the_result_is_not_fused() {
    for dims in [&[2, 1, 1, 1][..], &[1, 1, 1, 1, 1], &[11], &[9, 11], &[1, 1, 9, 1]] {
        let count: i64 = dims.iter().product();
        let elements = numbers(count as usize, 7);
        alike(Shape { image: [11, 13], ..PLAIN }, |model| {
            model.weights("k", dims, &elements).node("Add", "c k", "y", &[]).output("y", F32)
        });
    }
}

#[test]
fn weights_are_packed_for_each_layout_that_a_step_needs() {
    let weights = numbers(72 * 72, 8);
    let base = || Model::new(13).input("x", F32, &[-1, 72]).input("z", F32, &[1, -1, 8, 8]);
    let rest = |model: Model| {
        model
            .node("MatMul", "x w", "a", &[])
            .node("Gemm", "x w", "b", &[int("transB", 1)])
            .node("Reshape", "w four", "v", &[])
            .node("Conv", "z v", "c", &[])
            .node("Reshape", "w other", "u", &[])
            .node("Conv", "z u", "d", &[int("group", 2)])
            .integers("four", &[4], &[72, 8, 3, 3])
            .integers("other", &[4], &[144, 4, 3, 3])
            .output("a", F32)
            .output("b", F32)
            .output("c", F32)
            .output("d", F32)
    };
    let inputs = || vec![tensor(&[3, 72], &numbers(3 * 72, 9)), tensor(&[1, 8, 8, 8], &numbers(512, 10))];
    let constant = rest(base().weights("w", &[72, 72], &weights)).run(inputs()).unwrap();
    let mut given = inputs();
    given.push(tensor(&[72, 72], &weights));
    let plain = rest(base().input("w", F32, &[72, 72])).run(given).unwrap();
    for (constant, plain) in constant.iter().zip(&plain) {
        assert_eq!(constant.dims(), plain.dims());
        for (a, b) in constant.elements::<f32>().unwrap().iter().zip(plain.elements::<f32>().unwrap()) {
            assert!((a - b).abs() < 1e-2, "{a} {b}");
        }
    }
}

#[test]
fn products_by_constant_weights_equal_products_by_inputs() {
    for (dims, k, n) in [(&[1, 300][..], 300, 100), (&[300], 300, 48), (&[7, 300], 300, 60), (&[2, 90, 33], 33, 130)] {
        let count: usize = dims.iter().product();
        let x = tensor(dims, &numbers(count, 1));
        let (weights, bias) = (numbers(k * n, 2), numbers(n, 3));
        let rest = |model: Model| {
            model
                .node("MatMul", "x w", "m", &[])
                .weights("bias", &[n as i64], &bias)
                .weights("half", &[], &[0.5])
                .node("Add", "bias m", "s", &[])
                .node("Mul", "s half", "h", &[])
                .node("Erf", "h", "e", &[])
                .node("Mul", "e s", "y", &[])
                .output("y", F32)
        };
        let mut base = Model::new(13);
        base.graph.input.push(info("x", F32, None));
        let dims_w = [k as i64, n as i64];
        let fused = rest(base.clone().weights("w", &dims_w, &weights)).floats(vec![x.clone()]);
        let plain = rest(base.input("w", F32, &dims_w)).floats(vec![x, tensor(&[k, n], &weights)]);
        assert_eq!(fused.0, plain.0);
        for (a, b) in fused.1.iter().zip(&plain.1) {
            assert!((a - b).abs() < 1e-3 * b.abs().max(1.0), "{a} {b}");
        }
    }
}

#[test]
fn weights_that_many_steps_use_are_packed_once() {
    let mut model = Model::new(13).input("x", F32, &[1, 64]).weights("w", &[64, 64], &numbers(4096, 1));
    for index in 0..200 {
        model = model.node("MatMul", "x w", &format!("y{index}"), &[]).output(&format!("y{index}"), F32);
    }
    // Packed separately for each step, the weights would exceed the budget, a few times the file's length.
    let outputs = model.run(vec![tensor(&[1, 64], &numbers(64, 2))]).unwrap();
    assert_eq!(outputs[0].elements::<f32>().unwrap(), outputs[199].elements::<f32>().unwrap());
    // Steps that scale the weights have copies of their own until the budget is spent.
    let mut model = Model::new(13).input("x", F32, &[1, 64, 2, 2]).weights("w", &[64, 64, 1, 1], &numbers(4096, 1));
    for index in 0..200 {
        model = model
            .weights(&format!("k{index}"), &[], &[index as f32])
            .node("Conv", "x w", &format!("c{index}"), &[])
            .node("Mul", &format!("c{index} k{index}"), &format!("y{index}"), &[])
            .output(&format!("y{index}"), F32);
    }
    let outputs = model.run(vec![tensor(&[1, 64, 2, 2], &numbers(256, 2))]).unwrap();
    let (first, last) = (outputs[1].elements::<f32>().unwrap(), outputs[199].elements::<f32>().unwrap());
    for (first, last) in first.iter().zip(last) {
        assert!((first * 199.0 - last).abs() < 1e-3 * last.abs().max(1.0), "{first} {last}");
    }
}

#[test]
fn large_windows_check_the_cancel_token() {
    // Each output has few elements, so that only the loops over the windows are long enough for a check.
    let size = ints("kernel_shape", &[999, 999]);
    let image = || filled(&[1, 2, 1000, 1000], 1.0_f32);
    for op in ["MaxPool", "AveragePool"] {
        let kernel = kernel(("", 13), op, 1, 1, std::slice::from_ref(&size));
        assert_eq!(cancelled(&kernel, vec![image()]).message(), "cancelled", "{op}");
    }
    let kernel = kernel(("", 13), "Conv", 2, 1, &[int("group", 2)]);
    let weights = filled(&[2, 1, 999, 999], 0.5_f32);
    assert_eq!(cancelled(&kernel, vec![image(), weights]).message(), "cancelled", "Conv");
}

#[test]
fn a_kernel_wider_than_its_output_gives_what_the_definition_gives() {
    // Rows of 65535 elements, each of which gives 63.
    let conv = one(13, "Conv", "w", &[ints("dilations", &[1, 64]), int("group", 2)])
        .weights("w", &[2, 1, 1, 1024], &[0.5; 2048])
        .load()
        .unwrap();
    let found = conv.run(vec![filled(&[1, 2, 64, 65535], 1.0_f32)], &ComputeControl::default()).unwrap();
    assert_eq!(found[0].dims(), [1, 2, 64, 63]);
    assert!(found[0].elements::<f32>().unwrap().iter().all(|x| (x - 512.0).abs() < 1e-3));
}

#[test]
fn constants_whose_product_overflows_are_not_merged() {
    type Follow<'a> = &'a [(&'a str, f32)];
    let cases: [(f32, f32, Follow<'_>); 7] = [
        (1e20, 0.0, &[("Mul", 1e20)]),
        (0.0, 1.0, &[("Mul", 1e20), ("Mul", 1e20)]),
        (1e-25, 1e30, &[("Mul", 1e-25)]),
        (1e10, 1e10, &[("Mul", 1e-25), ("Mul", 1e-25), ("Mul", 1e25)]),
        (-3e38, 1.0, &[("Add", 3e38), ("Add", 3e38)]),
        (-1e20, 1.0, &[("Add", 3e38), ("Mul", 1e-3)]),
        (1.0, 1.0, &[("Mul", 0.0), ("Add", 2.0)]),
    ];
    for (weight, x, follow) in cases {
        for (op, dims, image) in [("Conv", vec![32, 1, 1, 1], vec![1, 1, 1, 1]), ("MatMul", vec![1, 32], vec![1, 1])] {
            let run = |constant: bool| {
                let weights = vec![weight; 32];
                let mut inputs = vec![tensor(&image, &[x])];
                let mut model = Model::new(13).input("x", F32, &longs(&image));
                if constant {
                    model = model.weights("w", &longs(&dims), &weights);
                } else {
                    model = model.input("w", F32, &longs(&dims));
                    inputs.push(tensor(&dims, &weights));
                }
                model = model.node(op, "x w", "y0", &[]);
                for (index, (op, by)) in follow.iter().enumerate() {
                    let (from, by_name) = (format!("y{index}"), format!("k{index}"));
                    model = model.weights(&by_name, &[], &[*by]);
                    model = model.node(op, &format!("{from} {by_name}"), &format!("y{}", index + 1), &[]);
                }
                model.output(&format!("y{}", follow.len()), F32).floats(inputs).1
            };
            for (fused, plain) in run(true).into_iter().zip(run(false)) {
                assert!(
                    fused.to_bits() == plain.to_bits() || (fused / plain - 1.0).abs() < 1e-5,
                    "{op} {weight} {follow:?}: {fused} {plain}"
                );
            }
        }
    }
}
