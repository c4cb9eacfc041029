//! Quantized operators of com.microsoft: LSTM, matrix products, and operators on quantized tensors.

#![expect(clippy::unreadable_literal, reason = "numbers as onnxruntime printed them")]

use crate::tensor::value::Value;
use crate::tests::builder::{filled, float, int, ints, kernel, run_kernel, string, value};
use crate::tests::contrib::{bytes, check, floats, given, rising, run, scalar, signed, unsigned};
use graphpool::backend::{ComputeControl, ErrorKind};

/// The inputs of a `DynamicQuantizeLSTM` whose weights have one scale and one zero point for each direction.
fn lstm(directions: usize) -> Vec<Option<Value>> {
    let (scale, recurrent_scale) = (filled(&[directions], 0.01_f32), filled(&[directions], 0.02_f32));
    let zero = filled(&[directions], 3_i8);
    let mut inputs = vec![None; 12];
    for (at, input) in [
        (0, floats(&[3, 2, 3])),
        (1, signed(&[directions, 3, 8])),
        (2, signed(&[directions, 2, 8])),
        (3, floats(&[directions, 16])),
        (7, floats(&[directions, 6])),
        (8, scale),
        (9, zero.clone()),
        (10, recurrent_scale),
        (11, zero),
    ] {
        inputs[at] = Some(input);
    }
    inputs
}

#[test]
fn an_lstm_of_integers_gives_what_onnxruntime_gives() {
    check(
        "DynamicQuantizeLSTM",
        &[int("hidden_size", 2), string("direction", "forward")],
        &lstm(1),
        &[
            &[
                0.08728591, 0.5075839, 0.00361437, -0.0943805, 0.01965345, 0.03564453, 0.01890915, -0.0278539,
                0.05244231, -0.1920444, 0.05400045, 0.05473805,
            ],
            &[0.05244231, -0.1920444, 0.05400045, 0.05473805],
            &[0.16452152, -0.3814221, 0.15472017, 0.08789699],
        ],
    );
    check(
        "DynamicQuantizeLSTM",
        &[int("hidden_size", 2), string("direction", "bidirectional")],
        &lstm(2),
        &[
            &[
                0.08728591, 0.5075839, 0.00361437, -0.0943805, -0.3104894, 0.07312542, -0.2214987, 0.3526701,
                0.01965345, 0.03564453, 0.01890915, -0.0278539, -0.2631368, 0.28789544, -0.2523624, 0.16015892,
                0.05244231, -0.1920444, 0.05400045, 0.05473805, -0.0978560, 0.22157685, -0.0713198, 0.23883024,
            ],
            &[0.05244231, -0.1920444, 0.05400045, 0.05473805, -0.3104894, 0.07312542, -0.2214987, 0.3526701],
            &[0.16452152, -0.3814221, 0.15472017, 0.08789699, -0.4322878, 0.9941261, -0.2448728, 0.7057115],
        ],
    );
    check(
        "DynamicQuantizeLSTM",
        &[int("hidden_size", 2), float("clip", 0.5)],
        &[
            Some(floats(&[3, 2, 3])),
            Some(unsigned(&[1, 3, 8])),
            Some(unsigned(&[1, 2, 8])),
            Some(floats(&[1, 16])),
            Some(value(&[2], &[3_i32, 1])),
            Some(floats(&[1, 2, 2])),
            Some(floats(&[1, 2, 2])),
            None,
            Some(rising(500.0)),
            Some(filled(&[1, 8], 128_u8)),
            Some(rising(400.0)),
            Some(filled(&[1, 8], 120_u8)),
        ],
        &[
            &[
                -0.3451914, 0.25219974, -0.0513135, 0.21981616, -0.1030712, 0.00336101, 0.0, 0.0, 0.00004193,
                -0.1708942, 0.0, 0.0,
            ],
            &[0.00004193, -0.1708942, -0.0513135, 0.21981616],
            &[0.00011106, -0.284288, -0.1367616, 0.49042502],
        ],
    );
}

#[test]
fn products_of_integers_in_floats_give_what_onnxruntime_gives() {
    check(
        "DynamicQuantizeMatMul",
        &[],
        &given([
            floats(&[2, 3]),
            signed(&[3, 4]),
            value(&[4], &[0.1_f32, 0.2, 0.3, 0.4]),
            value(&[4], &[0_i8, 1, 2, 3]),
            floats(&[4]),
        ]),
        &[&[19.912746, 33.860786, 36.09412, -18.887257, -10.119608, -11.803923, -10.802942, -27.616669]],
    );
    check(
        "MatMulIntegerToFloat",
        &[],
        &given([
            unsigned(&[2, 3]),
            signed(&[3, 4]),
            scalar(0.1_f32),
            value(&[4], &[0.1_f32, 0.2, 0.3, 0.4]),
            scalar(9_u8),
            value(&[4], &[0_i8, 1, 2, 3]),
            floats(&[4]),
        ]),
        &[&[-39.840004, -16.2, 65.170006, -75.83, -252.96002, -202.68001, 145.09001, -621.9501]],
    );
}

/// `x` with its scale and zero point.
fn quantized(x: Value, scale: f32, zero: u8) -> [Value; 3] {
    [x, scalar(scale), scalar(zero)]
}

/// `x` with the scale 0.1 and the zero point 100, then the scale and the zero point of the output.
fn from_one(x: Value, scale: f32, zero: u8) -> Vec<Option<Value>> {
    let [x, x_scale, x_zero] = quantized(x, 0.1, 100);
    given([x, x_scale, x_zero, scalar(scale), scalar(zero)])
}

#[test]
fn quantized_tensors_give_what_onnxruntime_gives() {
    let x = || unsigned(&[2, 3]);
    let pair = [quantized(x(), 0.1, 100), quantized(unsigned(&[3]), 0.05, 20)].concat();
    let pair: Vec<_> = pair.into_iter().chain([scalar(0.2_f32), scalar(90_u8)]).map(Some).collect();
    bytes("QLinearAdd", &[], &pair, &[35, 63, 90, 90, 118, 146]);
    bytes("QLinearMul", &[], &pair, &[140, 63, 55, 84, 110, 205]);
    bytes("QLinearSigmoid", &[], &from_one(x(), 0.005, 3), &[3, 3, 17, 153, 201, 203]);
    bytes("QLinearLeakyRelu", &[float("alpha", 0.1)], &from_one(x(), 0.2, 100), &[95, 97, 99, 106, 124, 142]);
    let softmax = [int("axis", -1), int("opset", 13)];
    bytes("QLinearSoftmax", &softmax, &from_one(x(), 0.003_906_25, 0), &[0, 6, 250, 0, 6, 250]);

    let parts = [quantized(x(), 0.1, 100), quantized(unsigned(&[2, 1]), 0.05, 0)].concat();
    let concat: Vec<_> = [scalar(0.2_f32), scalar(100_u8)].into_iter().chain(parts).map(Some).collect();
    bytes("QLinearConcat", &[int("axis", 1)], &concat, &[50, 68, 87, 100, 106, 124, 142, 109]);

    let image = || from_one(unsigned(&[1, 2, 3, 3]), 0.09, 99);
    let window = [ints("kernel_shape", &[2, 2]), ints("pads", &[1, 0, 0, 0])];
    bytes("QLinearAveragePool", &window, &image(), &[8, 50, 70, 111, 122, 92, 94, 135, 156, 126, 137, 107]);
    bytes("QLinearGlobalAveragePool", &[], &image(), &[89, 111]);
}

#[test]
fn sums_and_products_of_bytes_are_those_of_the_definition() {
    for count in [1, 15, 16, 33, 70, 300] {
        let other: Vec<u8> = (0..count).map(|at| (at * 91 % 256) as u8).collect();
        let pair = [unsigned(&[count]), value(&[count], &other)];
        let other: Vec<i8> = other.into_iter().map(u8::cast_signed).collect();
        let signed_pair = [signed(&[count]), value(&[count], &other)];
        let zeros = [scalar(100_u8), scalar(20_u8), scalar(90_u8)];
        let signed_zeros = [scalar(-100_i8), scalar(20_i8), scalar(-3_i8)];
        let number = |value: &Value, at: usize| match value.elements::<u8>() {
            Ok(bytes) => f32::from(bytes[at]),
            Err(_) => f32::from(value.elements::<i8>().unwrap()[at]),
        };
        for ([a, b], zeros, low, high) in [(pair, zeros, 0.0, 255.0), (signed_pair, signed_zeros, -128.0, 127.0)] {
            for op in ["QLinearAdd", "QLinearMul"] {
                let [of_a, of_b, of_result] = zeros.clone();
                let inputs = [a.clone(), scalar(0.1_f32), of_a, b.clone(), scalar(0.05_f32), of_b];
                let inputs: Vec<_> = inputs.into_iter().chain([scalar(0.07_f32), of_result]).collect();
                let operator = kernel(("com.microsoft", 1), op, 8, 1, &[]);
                let found = run_kernel(&operator, inputs, &ComputeControl::default()).unwrap();
                for at in 0..count {
                    let (x, y) = (number(&a, at) - number(&zeros[0], 0), number(&b, at) - number(&zeros[1], 0));
                    let (x, y) = (x * 0.1, y * 0.05);
                    let result = if op == "QLinearAdd" { x + y } else { x * y };
                    let wanted = ((result / 0.07).round_ties_even() + number(&zeros[2], 0)).clamp(low, high);
                    assert!((number(&found[0], at) - wanted).abs() < 0.5, "{op} {count} {at}");
                }
            }
        }
    }
}

#[test]
fn a_quantized_softmax_without_an_axis_takes_the_last_one() {
    let x = value(&[2, 2, 3], &[0_u8, 10, 20, 30, 0, 5, 1, 2, 40, 7, 7, 7]);
    for opset in [11, 12, 13] {
        bytes(
            "QLinearSoftmax",
            &[int("opset", opset)],
            &given([x.clone(), scalar(0.1_f32), scalar(0_u8), scalar(0.003_906_25_f32), scalar(0_u8)]),
            &[23, 63, 170, 226, 11, 19, 5, 5, 246, 85, 85, 85],
        );
    }
}

#[test]
fn quantized_operators_whose_inputs_do_not_fit_are_refused() {
    // Scales and zero points may be scalars.
    let mut inputs = lstm(1);
    for at in [3, 7] {
        inputs[at] = None;
    }
    for (at, input) in [(8, scalar(0.01_f32)), (9, scalar(3_i8)), (10, scalar(0.01_f32)), (11, scalar(3_i8))] {
        inputs[at] = Some(input);
    }
    let run_lstm = |inputs: &[Option<Value>]| run("DynamicQuantizeLSTM", &[], inputs, 1, false);
    assert!(run_lstm(&inputs).is_ok());
    let refused = |at: usize, input: Value| {
        let mut inputs = inputs.clone();
        inputs[at] = Some(input);
        run_lstm(&inputs).unwrap_err().kind()
    };
    assert_eq!(refused(1, signed(&[1, 4, 8])), ErrorKind::InvalidArgument);
    assert_eq!(refused(2, signed(&[1, 2, 7])), ErrorKind::InvalidArgument);
    assert_eq!(refused(1, floats(&[1, 3, 8])), ErrorKind::UnsupportedOperation);
    assert_eq!(refused(8, value(&[2], &[0.1_f32, 0.1])), ErrorKind::InvalidArgument);
    assert_eq!(refused(4, value(&[2], &[4_i32, 1])), ErrorKind::InvalidArgument);
    assert_eq!(refused(3, floats(&[1, 15])), ErrorKind::InvalidArgument);
    // The scale and zero point of the output come first, and are missing here.
    let parts = [quantized(unsigned(&[2]), 0.1, 0), quantized(unsigned(&[2]), 0.1, 0)].concat();
    let parts: Vec<_> = parts.into_iter().skip(1).chain([unsigned(&[2])]).map(Some).collect();
    let error = run("QLinearConcat", &[int("axis", 0)], &parts, 1, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidEncoding);
}
