//! Attention of com.microsoft: masks, biases and quantized weights.

#![expect(clippy::unreadable_literal, reason = "numbers as onnxruntime printed them")]

use crate::format::messages::AttributeProto;
use crate::tensor::value::Value;
use crate::tests::builder::{float, int, ints, value};
use crate::tests::contrib::{check, doubled, floats, given, run, scalar, signed, unsigned};
use graphpool::backend::ErrorKind;

#[test]
fn attention_of_several_heads_gives_what_onnxruntime_gives() {
    check(
        "Attention",
        &[int("num_heads", 2)],
        &given([floats(&[2, 3, 4]), floats(&[4, 12]), floats(&[12])]),
        &[&[
            -2.0484116, -0.1202534, 0.8259606, -2.0610614, 2.1255758, -0.4703728, 0.25864527, -1.5166011, -0.7338998,
            0.58573055, -1.2501696, 1.9343399, 1.7472566, -0.5599654, 0.24255273, -1.9925547, -1.7001017, 2.3209748,
            -0.9811218, -1.0764978, -1.3992007, 2.0624154, 0.72463864, -2.4151955,
        ]],
    );
    check(
        "Attention",
        &[int("num_heads", 2), int("unidirectional", 1)],
        &given([floats(&[2, 3, 4]), floats(&[4, 12]), floats(&[12]), value(&[2, 3], &[1_i32, 1, 0, 1, 1, 1])]),
        &[&[
            -0.8125, 0.9375, -1.4375, 2.375, -0.8141358, 0.9361094, 0.834752, -1.8924001, -1.076535, 0.71307015,
            -1.2992659, 2.1153896, -2.5, -0.1875, 0.75, -2.4375, 0.03365012, -0.4110573, 0.19116984, -1.9457295,
            -1.3992007, 2.0624154, 0.72463864, -2.4151955,
        ]],
    );
    check(
        "Attention",
        &[int("num_heads", 2)],
        &given([floats(&[2, 3, 4]), floats(&[4, 12]), floats(&[12]), value(&[2], &[2_i32, 3])]),
        &[&[
            -2.0561044, -0.1195637, 0.9962007, -2.1956086, -0.8141358, 0.9361094, 0.834752, -1.8924001, -1.076535,
            0.71307015, -1.2992659, 2.1153896, 1.7472566, -0.5599654, 0.24255273, -1.9925547, -1.7001017, 2.3209748,
            -0.9811218, -1.0764978, -1.3992007, 2.0624154, 0.72463864, -2.4151955,
        ]],
    );
    check(
        "Attention",
        &[int("num_heads", 2), float("scale", 0.3)],
        &[
            Some(floats(&[2, 3, 4])),
            Some(floats(&[4, 12])),
            Some(floats(&[12])),
            None,
            None,
            Some(floats(&[2, 2, 3, 3])),
        ],
        &[&[
            -1.9370953, -0.1151969, -0.0351798, -0.3876385, 0.387339, 0.34129244, -0.3821989, -0.735225, -0.8770879,
            0.69340014, -0.9066604, 0.79689014, 0.868909, 0.2046933, -0.540598, -1.3122749, -2.0212781, 2.4174898,
            -0.8717797, -1.1305279, 0.05897089, 0.77153885, -0.0521890, -1.7347322,
        ]],
    );
    check(
        "QAttention",
        &[int("num_heads", 2)],
        &given([
            unsigned(&[2, 3, 4]),
            signed(&[4, 12]),
            floats(&[12]),
            scalar(0.02_f32),
            scalar(0.01_f32),
            value(&[2], &[2_i32, 3]),
            scalar(128_u8),
            scalar(1_i8),
        ]),
        &[&[
            -0.9136188, 3.325795, -0.2343149, -5.684459, -0.9156531, 3.3285332, 0.16616218, -0.4299238, -0.7103809,
            3.0522492, -0.2298848, -5.6263328, -2.6969965, 0.12756257, 1.1748582, -0.9288445, -1.341357, -0.1158749,
            -5.309068, -0.52218, -0.546266, 0.57628775, -3.4346638, -0.5285067,
        ]],
    );
    check(
        "MultiHeadAttention",
        &[int("num_heads", 2)],
        &given([
            floats(&[2, 3, 4]),
            floats(&[2, 5, 4]),
            doubled(&[2, 5, 4]),
            floats(&[12]),
            value(&[2, 5], &[1_i32, 1, 1, 0, 0, 1, 1, 1, 1, 1]),
        ]),
        &[&[
            -3.2378, 1.9229639, -1.1364383, 1.1112401, -2.7405014, 1.4461199, -0.2107755, 0.05749748, -3.2268486,
            1.9334878, -0.479977, -1.11661, -0.6213213, 0.827337, -1.4870138, -0.2926241, -1.7300059, 2.8222854,
            -1.5936177, -0.4313585, -0.4950071, 1.085526, -2.19032, 0.1903199,
        ]],
    );
}

#[test]
fn later_keys_have_no_weight_even_if_all_others_are_masked() {
    let mask = value(&[1, 3], &[0_i32, 1, 1]);
    check(
        "Attention",
        &[int("num_heads", 1), int("unidirectional", 1)],
        &given([floats(&[1, 3, 2]), floats(&[2, 6]), floats(&[6]), mask.clone()]),
        &[&[-0.1875, -0.4375, -0.1875, -1.9375, -0.151_839_91, -1.837_003_4]],
    );
    check(
        "MultiHeadAttention",
        &[int("num_heads", 1), int("unidirectional", 1), float("mask_filter_value", -1.0)],
        &[Some(floats(&[1, 3, 2])), Some(floats(&[1, 3, 2])), Some(floats(&[1, 3, 2])), None, Some(mask)],
        &[&[-1.25, 0.5, -0.648_630_4, 1.101_369_7, -0.057_572_037, -0.205_873_01]],
    );
}

#[test]
fn attention_whose_sizes_do_not_fit_is_refused() {
    let heads = |count| [int("num_heads", count)];
    let refused = |attributes: &[AttributeProto], inputs: &[Option<Value>]| {
        run("Attention", attributes, inputs, 1, false).unwrap_err().kind()
    };
    let three = given([floats(&[2, 3, 4]), floats(&[4, 12]), floats(&[12])]);
    assert_eq!(refused(&heads(0), &three), ErrorKind::InvalidEncoding);
    assert_eq!(refused(&heads(3), &three), ErrorKind::InvalidArgument);
    let narrow = given([floats(&[2, 3, 4]), floats(&[4, 11]), floats(&[11])]);
    assert_eq!(refused(&heads(2), &narrow), ErrorKind::InvalidArgument);
    let sizes = [int("num_heads", 2), ints("qkv_hidden_sizes", &[4, 4, i64::MAX])];
    assert_eq!(refused(&sizes, &three), ErrorKind::InvalidArgument);
}
