//! Operators of com.microsoft that fuse several operators of ai.onnx.

#![expect(clippy::unreadable_literal, reason = "numbers as onnxruntime printed them")]

use crate::tests::builder::{float, int, ints, string, value};
use crate::tests::contrib::{check, doubled, floats, given};

#[test]
fn fused_operators_give_what_onnxruntime_gives() {
    check(
        "FusedMatMul",
        &[float("alpha", 0.5), int("transA", 1), int("transB", 1)],
        &given([floats(&[2, 3, 2]), floats(&[2, 4, 3])]),
        &[&[
            0.59375, -0.9375, -0.75, -0.5625, 0.1875, 0.75, 0.625, 0.5, 0.34375, 0.375, 0.40625, 0.4375, -0.96875,
            -0.90625, -0.84375, -0.78125,
        ]],
    );
    check(
        "BiasGelu",
        &[],
        &given([floats(&[2, 3]), floats(&[3])]),
        &[&[-0.0155241, 0.8413447, -0.1586553, 0.0, 0.5800295, -0.1320622]],
    );
    check(
        "FastGelu",
        &[],
        &given([floats(&[2, 3]), floats(&[3])]),
        &[&[-0.0150843, 0.841192, -0.158808, 0.0, 0.5799606, -0.1322858]],
    );
    check(
        "QuickGelu",
        &[float("alpha", 1.7)],
        &given([floats(&[2, 3])]),
        &[&[-0.1333632, 0.35028356, -0.1497164, 1.1166368, 0.15116978, -0.1638019]],
    );
    check(
        "Gelu",
        &[],
        &given([floats(&[2, 3])]),
        &[&[-0.1320622, 0.34573123, -0.1542688, 1.1179378, 0.14967658, -0.1699705]],
    );
    check(
        "FusedGemm",
        &[string("activation", "LeakyRelu"), float("activation_alpha", 0.1), int("transB", 1), float("alpha", 0.5)],
        &given([floats(&[2, 3]), floats(&[4, 3]), floats(&[4])]),
        &[&[-0.021875, -0.003125, -0.0875, 1.03125, -0.178125, 1.59375, 0.5, 2.15625]],
    );
    check(
        "FusedConv",
        &[string("activation", "Relu"), ints("kernel_shape", &[2, 2])],
        &given([floats(&[1, 2, 3, 3]), floats(&[2, 2, 2, 2]), floats(&[2]), floats(&[1, 2, 2, 2])]),
        &[&[0.0, 0.0, 0.0, 0.0, 2.75, 0.0, 0.8125, 0.0]],
    );
    check(
        "SkipLayerNormalization",
        &[float("epsilon", 1e-5)],
        &given([floats(&[1, 2, 3]), doubled(&[1, 2, 3]), floats(&[3]), floats(&[3]), floats(&[3])]),
        &[&[0.20309472, 1.1393616, -0.4418762, -2.4595237, 0.7046886, 0.18849808]],
    );
    check(
        "SkipSimplifiedLayerNormalization",
        &[float("epsilon", 1e-5)],
        &given([floats(&[1, 2, 3]), doubled(&[1, 2, 3]), floats(&[3])]),
        &[&[1.8844444, 0.3015111, 0.3015111, -1.8298112, 0.1463849, 0.43915468]],
    );
    check(
        "EmbedLayerNormalization",
        &[float("epsilon", 1e-5)],
        &given([
            value(&[1, 3], &[1_i32, 0, 2]),
            value(&[1, 3], &[0_i32, 1, 1]),
            floats(&[3, 4]),
            floats(&[5, 4]),
            floats(&[2, 4]),
            floats(&[4]),
            doubled(&[4]),
            value(&[1, 3], &[1_i32, 1, 0]),
        ]),
        &[
            &[
                -0.7346796, 1.0371647, -0.9628354, 4.2653203, -1.3956891, 0.44784456, -1.5521555, 3.604311, -1.6091315,
                1.5345211, -1.4454343, 0.94097996,
            ],
            &[2.0],
        ],
    );
}
