//! Products and convolutions of quantized tensors, compared with their definitions: with weights that are packed at
//! load, and with weights that are inputs.

#![expect(clippy::many_single_char_names, reason = "a, b, m, n and k are the usual names of matrices and their sizes")]

use crate::CandleBackend;
use crate::format::messages::{AttributeProto, TensorProto};
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use crate::tests::builder::{Model, int, ints, onnx_number};
use graphpool::backend::ComputeControl;
use proptest::prelude::*;
use std::num::NonZeroUsize;

/// Bytes that look random.
struct Numbers(u64);

impl Numbers {
    fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 56) as u8
    }

    fn tensor(&mut self, dims: &[usize], signed: bool) -> Value {
        let bytes: Vec<u8> = (0..dims.iter().product()).map(|_| self.byte()).collect();
        let ty = if signed { ElementType::I8 } else { ElementType::U8 };
        Value::from_bytes(dims.to_vec(), ty, &bytes).unwrap()
    }

    /// One, or one for each of `many`.
    fn list(&mut self, many: Option<usize>, signed: bool) -> Value {
        match many {
            Some(count) => self.tensor(&[count], signed),
            None => self.tensor(&[], signed),
        }
    }

    fn scales(&mut self, many: Option<usize>) -> Value {
        let scale = |byte: u8| (f32::from(byte) + 1.0) / 4096.0;
        match many {
            Some(count) => Value::new(vec![count], (0..count).map(|_| scale(self.byte())).collect()).unwrap(),
            None => Value::scalar(scale(self.byte())).unwrap(),
        }
    }
}

fn numbers(value: &Value) -> Vec<i32> {
    match value.ty() {
        ElementType::U8 => value.elements::<u8>().unwrap().iter().map(|&x| i32::from(x)).collect(),
        ElementType::I8 => value.elements::<i8>().unwrap().iter().map(|&x| i32::from(x)).collect(),
        _ => value.elements::<i32>().unwrap().to_vec(),
    }
}

/// The element of a list of one or many.
fn at<T: Copy>(list: &[T], index: usize) -> T {
    if list.len() == 1 { list[0] } else { list[index] }
}

fn initializer(name: &str, value: &Value) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: value.dims().iter().map(|&dim| dim as i64).collect(),
        data_type: Some(onnx_number(value)),
        raw_data: Some(value.to_bytes()),
        ..TensorProto::default()
    }
}

/// The results of an operator whose inputs at `constant` are known at load, on one thread and on two.
fn run(op: &str, attributes: &[AttributeProto], inputs: &[Value], constant: &[usize], out: i32) -> Vec<Value> {
    let name = |index: usize| format!("x{index}");
    let all = (0..inputs.len()).map(name).collect::<Vec<_>>().join(" ");
    let mut model = Model::new(17).node(op, &all, "y", attributes).output("y", out);
    let mut given = Vec::new();
    for (index, value) in inputs.iter().enumerate() {
        let ty = onnx_number(value);
        if constant.contains(&index) {
            model = model.initializer(initializer(&name(index), value));
        } else {
            let dims: Vec<i64> = value.dims().iter().map(|_| -1).collect();
            model = model.input(&name(index), ty, &dims);
            given.push(value.clone());
        }
    }
    let backends = [CandleBackend::new(), CandleBackend::with_threads(NonZeroUsize::new(2).unwrap()).unwrap()];
    let results = backends.iter().map(|backend| {
        let graph = backend.load_graph(&model.bytes(), usize::MAX).unwrap();
        graph.run(given.clone(), &ComputeControl::default()).unwrap().remove(0)
    });
    results.collect()
}

/// A sum times a factor plus a zero point.
fn requantized(sum: i32, factor: f32, zero: i32, signed: bool) -> i32 {
    let number = (f64::from(sum) * f64::from(factor) + f64::from(zero)).round_ties_even();
    let (low, high) = if signed { (-128.0, 127.0) } else { (0.0, 255.0) };
    number.clamp(low, high) as i32
}

/// The product of (batch, m, k) by (batch, k, n) or (k, n).
fn product(a: &Value, b: &Value, zeros: [&Value; 2]) -> Vec<i32> {
    let (&[batch, m, k], &[.., n]) = (a.dims(), b.dims()) else { panic!("{:?} {:?}", a.dims(), b.dims()) };
    let (left, right, [za, zb]) = (numbers(a), numbers(b), zeros.map(numbers));
    let each = if b.rank() == 3 { k * n } else { 0 };
    let mut out = Vec::new();
    for item in 0..batch {
        for row in 0..m {
            for column in 0..n {
                let term = |place: usize| {
                    (left[(item * m + row) * k + place] - at(&za, row))
                        * (right[item * each + place * n + column] - at(&zb, column))
                };
                out.push((0..k).map(term).sum());
            }
        }
    }
    out
}

#[derive(Debug, Clone, Copy)]
struct Conv {
    batch: usize,
    depth: usize,
    each: usize,
    groups: usize,
    image: [usize; 2],
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    pads: [usize; 4],
}

impl Conv {
    fn attributes(&self) -> Vec<AttributeProto> {
        let list = |list: &[usize]| list.iter().map(|&x| x as i64).collect::<Vec<_>>();
        vec![
            int("group", self.groups as i64),
            ints("strides", &list(&self.strides)),
            ints("dilations", &list(&self.dilations)),
            ints("pads", &list(&self.pads)),
        ]
    }

    fn input(&self) -> [usize; 4] {
        [self.batch, self.depth * self.groups, self.image[0], self.image[1]]
    }

    fn weights(&self) -> [usize; 4] {
        [self.each * self.groups, self.depth, self.kernel[0], self.kernel[1]]
    }

    fn outputs(&self, axis: usize) -> usize {
        let span = (self.kernel[axis] - 1) * self.dilations[axis] + 1;
        (self.image[axis] + self.pads[axis] + self.pads[axis + 2] - span) / self.strides[axis] + 1
    }

    /// The sums, with a bias for each filter.
    fn sums(&self, x: &Value, w: &Value, zeros: [&Value; 2], bias: &[i32]) -> Vec<i32> {
        let (x, w, [zx, zw]) = (numbers(x), numbers(w), zeros.map(numbers));
        let Self { batch, depth, each, groups, image: [high, wide], kernel: [rows, columns], .. } = *self;
        let mut out = Vec::new();
        for (item, filter) in (0..batch).flat_map(|item| (0..each * groups).map(move |filter| (item, filter))) {
            for (y, column) in (0..self.outputs(0)).flat_map(|y| (0..self.outputs(1)).map(move |x| (y, x))) {
                let mut sum = bias[filter];
                for (channel, tap) in (0..depth).flat_map(|c| (0..rows * columns).map(move |tap| (c, tap))) {
                    let row = (y * self.strides[0] + tap / columns * self.dilations[0]).wrapping_sub(self.pads[0]);
                    let place =
                        (column * self.strides[1] + tap % columns * self.dilations[1]).wrapping_sub(self.pads[1]);
                    if row < high && place < wide {
                        let volume = (item * groups + filter / each) * depth + channel;
                        sum += (x[(volume * high + row) * wide + place] - zx[0])
                            * (w[(filter * depth + channel) * rows * columns + tap] - at(&zw, filter));
                    }
                }
                out.push(sum);
            }
        }
        out
    }
}

fn convs() -> impl Strategy<Value = Conv> {
    let sizes = (1_usize..3, 1_usize..6, 1_usize..11, 1_usize..5);
    let pair = |low: usize, high: usize| [low..high, low..high];
    (sizes, pair(7, 24), pair(1, 4), pair(1, 4), pair(1, 3), [0_usize..3, 0..3, 0..3, 0..3]).prop_map(
        |((batch, depth, each, groups), image, kernel, strides, dilations, pads)| Conv {
            batch,
            depth,
            each,
            groups,
            image,
            kernel,
            strides,
            dilations,
            pads,
        },
    )
}

/// A convolution of sums and one that requantizes, with weights of both kinds.
fn check(conv: Conv, signed: [bool; 3], many: bool, seed: u64) {
    let mut random = Numbers(seed | 1);
    let filters = conv.each * conv.groups;
    let (x, w) = (random.tensor(&conv.input(), signed[0]), random.tensor(&conv.weights(), signed[1]));
    let (zx, zw) = (random.list(None, signed[0]), random.list(many.then_some(filters), signed[1]));
    let sums = conv.sums(&x, &w, [&zx, &zw], &vec![0; filters]);
    let inputs = [x.clone(), w.clone(), zx.clone(), zw.clone()];
    for constant in [&[1, 2, 3][..], &[]] {
        for found in run("ConvInteger", &conv.attributes(), &inputs, constant, 6) {
            assert_eq!(numbers(&found), sums, "{conv:?} {signed:?}");
        }
    }
    let bias: Vec<i32> = (0..filters).map(|_| i32::from(random.byte()) * 100 - 12_800).collect();
    let (sx, sw, sy, zy) = (
        random.scales(None),
        random.scales(many.then_some(filters)),
        Value::scalar(random.scales(None).elements::<f32>().unwrap()[0] * 8.0).unwrap(),
        random.list(None, signed[2]),
    );
    let scales = sw.elements::<f32>().unwrap();
    let [a, y] = [&sx, &sy].map(|value| value.elements::<f32>().unwrap()[0]);
    let positions = conv.outputs(0) * conv.outputs(1);
    let sums = conv.sums(&x, &w, [&zx, &zw], &bias);
    let wanted: Vec<i32> = sums
        .iter()
        .enumerate()
        .map(|(index, &sum)| {
            let factor = a * at(scales, index / positions % filters) / y;
            requantized(sum, factor, numbers(&zy)[0], signed[2])
        })
        .collect();
    let out = if signed[2] { 3 } else { 2 };
    let inputs = [x, sx, zx, w, sw, zw, sy, zy, Value::new(vec![filters], bias).unwrap()];
    for constant in [&[1, 2, 3, 4, 5, 6, 7, 8][..], &[]] {
        for found in run("QLinearConv", &conv.attributes(), &inputs, constant, out) {
            assert_eq!(numbers(&found), wanted, "{conv:?} {signed:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn products_are_those_of_the_definition(
        (batch, m, k, n) in (1_usize..3, 1_usize..20, 1_usize..50, 1_usize..70),
        signed in any::<[bool; 3]>(),
        (many_a, many_b, batches) in any::<(bool, bool, bool)>(),
        seed in any::<u64>(),
    ) {
        let mut random = Numbers(seed | 1);
        let a = random.tensor(&[batch, m, k], signed[0]);
        let b = if batches { random.tensor(&[batch, k, n], signed[1]) } else { random.tensor(&[k, n], signed[1]) };
        let (za, zb) = (random.list(many_a.then_some(m), signed[0]), random.list(many_b.then_some(n), signed[1]));
        let sums = product(&a, &b, [&za, &zb]);
        let inputs = [a.clone(), b.clone(), za.clone(), zb.clone()];
        for constant in [&[1, 2, 3][..], &[]] {
            for found in run("MatMulInteger", &[], &inputs, constant, 6) {
                prop_assert_eq!(&numbers(&found), &sums);
            }
        }
        let (sa, sb, sy, zy) = (
            random.scales(None),
            random.scales(many_b.then_some(n)),
            Value::scalar(random.scales(None).elements::<f32>().unwrap()[0] * 8.0).unwrap(),
            random.list(None, signed[2]),
        );
        let scales = sb.elements::<f32>().unwrap();
        let [left, y] = [&sa, &sy].map(|value| value.elements::<f32>().unwrap()[0]);
        let wanted: Vec<i32> = sums
            .iter()
            .enumerate()
            .map(|(index, &sum)| {
                requantized(sum, left * at(scales, index % n) / y, numbers(&zy)[0], signed[2])
            })
            .collect();
        let out = if signed[2] { 3 } else { 2 };
        let inputs = [a, sa, za, b, sb.clone(), zb, sy, zy];
        for constant in [&[1, 2, 3, 4, 5, 6, 7][..], &[]] {
            for found in run("QLinearMatMul", &[], &inputs, constant, out) {
                prop_assert_eq!(&numbers(&found), &wanted);
            }
        }
    }

    #[test]
    fn convolutions_are_those_of_the_definition(
        conv in convs(),
        signed in any::<[bool; 3]>(),
        many in any::<bool>(),
        seed in any::<u64>(),
    ) {
        check(conv, signed, many, seed);
    }
}

#[test]
fn convolutions_of_several_blocks_are_those_of_the_definition() {
    let plain = Conv {
        batch: 1,
        depth: 40,
        each: 70,
        groups: 1,
        image: [30, 31],
        kernel: [3, 3],
        strides: [1, 1],
        dilations: [1, 1],
        pads: [1; 4],
    };
    let deep = Conv { depth: 300, each: 9, image: [6, 8], ..plain };
    let one = Conv { kernel: [1, 1], pads: [0; 4], ..plain };
    let strided = Conv { strides: [2, 2], depth: 3, each: 17, ..plain };
    let depthwise = Conv { depth: 1, each: 1, groups: 12, ..plain };
    let wide = Conv { kernel: [17, 16], pads: [8; 4], each: 2, ..depthwise };
    for (seed, conv) in [plain, deep, one, strided, depthwise, wide].into_iter().enumerate() {
        check(conv, [false, true, false], true, seed as u64);
    }
}

/// A product by weights between steps that dequantize and quantize, with constants `w`, `ws`, `wz` and `b`.
struct Chain {
    op: &'static str,
    attributes: Vec<AttributeProto>,
    axis: i64,
    relu: bool,
    constants: Vec<(&'static str, Value)>,
}

impl Chain {
    /// The model. If it is `open`, the product is an output too, so that its steps remain.
    fn model(&self, open: bool) -> Model {
        let ty = self.constants.iter().find(|(name, _)| *name == "yz").map_or(2, |(_, zero)| onnx_number(zero));
        let bias = if self.constants.iter().any(|(name, _)| *name == "b") { "d e b" } else { "d e" };
        let mut model = Model::new(17)
            .node("DequantizeLinear", "x xs xz", "d", &[])
            .node("DequantizeLinear", "w ws wz", "e", &[int("axis", self.axis)])
            .node(self.op, bias, "c", &self.attributes)
            .node("QuantizeLinear", if self.relu { "r ys yz" } else { "c ys yz" }, "y", &[])
            .output("y", ty);
        if self.relu {
            model = model.node("Relu", "c", "r", &[]);
        }
        if open {
            model = model.output("c", 1);
        }
        for (name, value) in &self.constants {
            model = model.initializer(initializer(name, value));
        }
        model.input("x", 2, &[])
    }

    /// Compares the step of integers with the steps of floats.
    fn check(&self, x: &Value, steps: [usize; 2]) {
        let run = |open: bool, steps: usize| {
            let mut model = self.model(open);
            model.graph.input[0] = crate::tests::builder::info("x", onnx_number(x), None);
            let graph = model.load().unwrap();
            // A convolution of floats has steps beside it that move the channels.
            let fits = if open { graph.steps() >= steps } else { graph.steps() == steps };
            assert!(fits, "{} {open}: {} steps instead of {steps}", self.op, graph.steps());
            let outputs = graph.run(vec![x.clone()], &ComputeControl::default()).unwrap();
            numbers(&outputs[0])
        };
        let (found, wanted) = (run(false, steps[0]), run(true, steps[1]));
        let differences = found.iter().zip(&wanted).filter(|(found, wanted)| found != wanted);
        let near = found.iter().zip(&wanted).all(|(found, wanted)| (found - wanted).abs() <= 1);
        assert!(near && differences.count() * 100 <= found.len(), "{found:?} {wanted:?}");
    }
}

#[test]
fn a_product_between_quantizations_is_one_step_of_integers() {
    let mut random = Numbers(9);
    let scalar = |x: f32| Value::scalar(x).unwrap();
    for (many, relu, signed) in [(true, true, true), (false, false, true), (true, false, false)] {
        let mut constants = |dims: &[usize], channels: usize, ys: f32| {
            let scales = (0..channels).map(|index| 0.01 + index as f32 / 4096.0).collect();
            let scales = if many { Value::new(vec![channels], scales).unwrap() } else { scalar(0.01) };
            let zeros = if many {
                Value::new(vec![channels], vec![0_i8; channels]).unwrap()
            } else {
                Value::scalar(3_i8).unwrap()
            };
            vec![
                ("xs", scalar(0.02)),
                ("xz", Value::scalar(120_u8).unwrap()),
                ("w", random.tensor(dims, true)),
                ("ws", scales),
                ("wz", zeros),
                ("ys", scalar(ys)),
                ("yz", if signed { Value::scalar(-5_i8).unwrap() } else { Value::scalar(7_u8).unwrap() }),
            ]
        };
        let mut conv = constants(&[20, 6, 3, 3], 20, 2.0);
        conv.push(("b", Value::new(vec![20], (0..20).map(|x| x as f32 - 10.0).collect()).unwrap()));
        let product = constants(&[60, 40], 40, 2.0);
        let mut random = Numbers(11);
        let plain = ints("pads", &[1, 1, 1, 1]);
        let conv = Chain { op: "Conv", attributes: vec![plain], axis: 0, relu, constants: conv };
        let steps = 4 - usize::from(!relu);
        conv.check(&random.tensor(&[2, 6, 9, 11], false), [1, steps]);
        let product = Chain { op: "MatMul", attributes: Vec::new(), axis: 1, relu, constants: product };
        product.check(&random.tensor(&[5, 60], false), [1, steps]);
    }
}

#[test]
fn weights_of_a_mebibyte_are_dequantized_at_load() {
    let mut random = Numbers(5);
    let weights = random.tensor(&[1024, 1024], true);
    let one = (Value::scalar(0.5_f32).unwrap(), Value::scalar(1_i8).unwrap());
    let many =
        (Value::new(vec![1024], vec![0.5_f32; 1024]).unwrap(), Value::new(vec![1024], vec![1_i8; 1024]).unwrap());
    for (scale, zero) in [one, many] {
        let model = Model::new(17)
            .input("x", 1, &[-1, 1024])
            .node("DequantizeLinear", "w s z", "e", &[])
            .node("MatMul", "x e", "y", &[])
            .output("y", 1)
            .initializer(initializer("w", &weights))
            .initializer(initializer("s", &scale))
            .initializer(initializer("z", &zero));
        assert_eq!(model.load().unwrap().steps(), 1);
    }
}

#[test]
fn each_column_is_dequantized_by_its_own_scale_and_zero_point() {
    let mut random = Numbers(6);
    for signed in [false, true] {
        let x = random.tensor(&[3, 2, 21], signed);
        let zero = random.tensor(&[21], signed);
        let scales: Vec<f32> = (0..21).map(|column| 0.25 + column as f32).collect();
        for zeros in [false, true] {
            let mut model = Model::new(17)
                .input("x", onnx_number(&x), &[-1, -1, -1])
                .node("DequantizeLinear", if zeros { "x s z" } else { "x s" }, "y", &[int("axis", -1)])
                .output("y", 1)
                .initializer(initializer("s", &Value::new(vec![21], scales.clone()).unwrap()));
            if zeros {
                model = model.initializer(initializer("z", &zero));
            }
            let outputs = model.load().unwrap().run(vec![x.clone()], &ComputeControl::default()).unwrap();
            let zero = if zeros { numbers(&zero) } else { vec![0; 21] };
            let wanted =
                numbers(&x).into_iter().enumerate().map(|(at, x)| (x - zero[at % 21]) as f32 * scales[at % 21]);
            assert_eq!(outputs[0].elements::<f32>().unwrap(), wanted.collect::<Vec<_>>());
        }
    }
}
