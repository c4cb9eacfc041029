//! Support vector machines of ai.onnx.ml.

use crate::format::messages::AttributeProto;
use crate::tests::builder::{F32, I64, cancelled, filled, float_list, int, ints, kernel, string, string_list};
use crate::tests::learning::{bytes, classifies, classifies_strings, control, gives, load, refused, rows, with};

const VECTORS: [f32; 6] = [0.5, 1.0, -1.0, 0.25, 0.0, 2.0];

fn machine(kind: &str, parameters: &[f32], coefficients: &[f32], rho: &[f32]) -> Vec<AttributeProto> {
    vec![
        string("kernel_type", kind),
        float_list("kernel_params", parameters),
        float_list("support_vectors", &VECTORS),
        float_list("coefficients", coefficients),
        float_list("rho", rho),
    ]
}

#[test]
fn support_vectors_score_as_onnxruntime_scores() {
    for (kind, wanted) in [
        ("LINEAR", [5.6, -6.9, 0.1, 0.725]),
        ("POLY", [9.170_313, -13.778_906, 0.092_187_5, 0.134_423_82]),
        ("RBF", [0.879_990_2, 0.089_937_9, -0.472_810_18, -0.134_039_25]),
        ("SIGMOID", [1.494_161_2, -2.017_793, -0.022_459_33, 0.276_463_06]),
    ] {
        // The offset applies to the kernels of products only.
        let attributes = machine(kind, &[0.5, 0.25, 3.0], &[1.0, -2.0, 0.5], &[0.1]);
        gives("SVMRegressor", &with(&attributes, &[int("n_supports", 3)]), vec![rows()], &wanted);
    }
    let rbf = machine("RBF", &[0.5, 0.0, 3.0], &[1.0, -2.0, 0.5], &[0.1]);
    let one = with(&rbf, &[int("n_supports", 3), int("one_class", 1)]);
    gives("SVMRegressor", &one, vec![rows()], &[1.0, 1.0, -1.0, -1.0]);
    let plain =
        [float_list("kernel_params", &[0.0; 3]), float_list("coefficients", &[1.0, -2.0]), float_list("rho", &[0.1])];
    gives("SVMRegressor", &plain, vec![rows()], &[-2.9, 5.1, 0.1, 0.35]);

    let two = with(&rbf, &[ints("vectors_per_class", &[1, 2]), ints("classlabels_ints", &[7, 9])]);
    let scores = [
        -0.879_990_16,
        0.879_990_16,
        -0.089_937_9,
        0.089_937_9,
        0.472_810_2,
        -0.472_810_2,
        0.134_039_25,
        -0.134_039_25,
    ];
    classifies("SVMClassifier", &two, rows(), &[7, 7, 9, 9], &scores);
    let logistic = with(&two, &[string("post_transform", "LOGISTIC")]);
    let scores =
        [0.293_179_87, 0.706_820_13, 0.477_530_66, 0.522_469_34, 0.616_048_7, 0.383_951_3, 0.533_459_7, 0.466_540_28];
    classifies("SVMClassifier", &logistic, rows(), &[7, 7, 9, 9], &scores);
    let sure = [
        ints("vectors_per_class", &[1, 2]),
        float_list("prob_a", &[-1.2]),
        float_list("prob_b", &[0.3]),
        string_list("classlabels_strings", &["u", "v"]),
    ];
    let scores =
        [0.680_482_15, 0.319_517_85, 0.452_083_26, 0.547_916_77, 0.295_801_1, 0.704_198_8, 0.385_318_7, 0.614_681_3];
    classifies_strings("SVMClassifier", &with(&rbf, &sure), rows(), &["u", "u", "v", "v"], &scores);

    let three = machine("LINEAR", &[0.5, 0.0, 3.0], &[1.0, -2.0, 0.5, 0.3, 0.7, -1.0], &[0.1, -0.2, 0.3]);
    let three = with(&three, &[ints("vectors_per_class", &[1, 1, 1]), ints("classlabels_ints", &[7, 8, 9])]);
    let scores = [3.6, 2.55, -4.05, -3.9, -4.25, 6.475, 0.1, -0.2, 0.3, 0.725, -0.1625, 0.125];
    classifies("SVMClassifier", &three, rows(), &[7, 8, 7, 7], &scores);
    let sure = [float_list("prob_a", &[-1.0, -2.0, -0.5]), float_list("prob_b", &[0.1, 0.2, 0.3])];
    let outputs = load(&bytes(3, "SVMClassifier", &[F32], &[I64, F32], &with(&three, &sure))).unwrap();
    let outputs = outputs.run(vec![rows()], &control()).unwrap();
    let scores = [0.974_890_7, 0.016_162_45, 0.008_946_86, 0.008_244_25, 0.941_684_96, 0.050_070_93];
    let scores = [&scores[..], &[0.263_104_38, 0.320_084_7, 0.416_810_93, 0.318_569_36, 0.251_112_1, 0.430_318_53]];
    for (found, wanted) in outputs[1].elements::<f32>().unwrap().iter().zip(scores.concat()) {
        assert!((found - wanted).abs() < 1e-4, "{found} instead of {wanted}");
    }
    let rows_of_each = [
        float_list("kernel_params", &[0.0; 3]),
        float_list("coefficients", &[1.0, -2.0, 0.5, 0.3, 0.7, -1.0]),
        float_list("rho", &[0.1]),
        ints("classlabels_ints", &[7, 8, 9]),
    ];
    let scores = [-2.9, 1.2, -1.2, 5.1, -1.3, 2.4, 0.1, 0.1, 0.1, 0.35, 0.225, 0.275];
    classifies("SVMClassifier", &rows_of_each, rows(), &[8, 7, 7, 7], &scores);
}

#[test]
fn machines_whose_numbers_do_not_fit_are_refused() {
    let rbf = machine("RBF", &[0.5, 0.0, 3.0], &[1.0, -2.0, 0.5], &[0.1]);
    let two = with(&rbf, &[ints("vectors_per_class", &[1, 2]), ints("classlabels_ints", &[7, 9])]);
    for (attribute, why) in [
        (ints("vectors_per_class", &[1, i64::MAX]), "vectors"),
        (ints("vectors_per_class", &[-1, 4]), "-1 support vectors"),
        (ints("vectors_per_class", &[1, 1, 1]), "coefficients"),
        (float_list("rho", &[]), "rho"),
        (float_list("prob_a", &[1.0]), "prob_b"),
        (float_list("kernel_params", &[1.0]), "kernel_params"),
        (string("kernel_type", "COSINE"), "kernel_type"),
        (ints("classlabels_ints", &[7]), "1 classes"),
    ] {
        refused(3, "SVMClassifier", &with(&two, &[attribute]), &[I64, F32], why);
    }
    refused(3, "SVMRegressor", &with(&rbf, &[int("n_supports", 4)]), &[F32], "vectors");
    refused(3, "SVMRegressor", &with(&rbf, &[int("n_supports", -4)]), &[F32], "negative");
}

#[test]
fn a_machine_checks_the_cancel_token() {
    let rbf = machine("RBF", &[0.5, 0.0, 3.0], &[1.0, -2.0, 0.5], &[0.1]);
    let kernel = kernel(("ai.onnx.ml", 3), "SVMRegressor", 1, 1, &with(&rbf, &[int("n_supports", 3)]));
    assert_eq!(cancelled(&kernel, vec![filled(&[200_000, 2], 0.0_f32)]).message(), "cancelled");
}
