//! Feature preparation and linear models of ai.onnx.ml.

use crate::tensor::value::Value;
use crate::tests::builder::{
    F32, I64, cancelled, filled, float, float_list, int, ints, kernel, string, string_list, tensor,
};
use crate::tests::learning::{classifies, classifies_strings, gives, refused, rows, with};

#[test]
fn features_are_prepared_as_onnxruntime_prepares_them() {
    gives("Normalizer", &[string("norm", "MAX")], vec![rows()], &[0.5, 1.0, 1.0, 3.0, 0.0, 0.0, 1.0, 0.0]);
    let l1 = [0.333_333_34, 0.666_666_7, -0.25, -0.75, 0.0, 0.0, 1.0, 0.0];
    gives("Normalizer", &[string("norm", "L1")], vec![rows()], &l1);
    let l2 = [0.447_213_6, 0.894_427_2, -0.316_227_76, -0.948_683_26, 0.0, 0.0, 1.0, 0.0];
    gives("Normalizer", &[string("norm", "L2")], vec![rows()], &l2);
    let two = [float_list("offset", &[1.0, 2.0]), float_list("scale", &[0.5, 2.0])];
    gives("Scaler", &two, vec![rows()], &[0.0, 0.0, -1.0, -10.0, -0.5, -4.0, -0.375, -4.0]);
    let one = [float_list("offset", &[1.0]), float_list("scale", &[0.5])];
    gives("Scaler", &one, vec![rows()], &[0.0, 0.5, -1.0, -2.0, -0.5, -0.5, -0.375, -0.5]);
    gives("Binarizer", &[float("threshold", 0.2)], vec![rows()], &[1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    let zeros = [float_list("imputed_value_floats", &[5.0, 6.0]), float("replaced_value_float", 0.0)];
    gives("Imputer", &zeros, vec![rows()], &[1.0, 2.0, -1.0, -3.0, 5.0, 6.0, 0.25, 6.0]);
    let nans = [float_list("imputed_value_floats", &[5.0]), float("replaced_value_float", f32::NAN)];
    gives("Imputer", &nans, vec![tensor(&[1, 2], &[1.0, f32::NAN])], &[1.0, 5.0]);
    let places = Value::new(vec![3], vec![1_i64, 0, 1]).unwrap();
    let taken = [2.0, 1.0, 2.0, -3.0, -1.0, -3.0, 0.0, 0.0, 0.0, 0.0, 0.25, 0.0];
    gives("ArrayFeatureExtractor", &[], vec![rows(), places], &taken);
    let side = [1.0, 1.0, 2.0, 0.0, -1.0, -1.0, -3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 0.25, 0.0, 0.0];
    gives("FeatureVectorizer", &[ints("inputdimensions", &[1, 3])], vec![rows(), rows()], &side);
    let known = [ints("cats_int64s", &[3, 5])];
    let given = Value::new(vec![2, 2], vec![5_i64, 3, 4, 5]).unwrap();
    gives("OneHotEncoder", &known, vec![given], &[0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    gives("OneHotEncoder", &known, vec![tensor(&[2], &[5.7, 3.0])], &[0.0, 1.0, 1.0, 0.0]);
}

#[test]
fn linear_models_score_as_onnxruntime_scores() {
    let transform = |name: &str| string("post_transform", name);
    let two =
        [float_list("coefficients", &[0.1, 0.05, -0.1, 0.1]), float_list("intercepts", &[0.5, 0.5]), int("targets", 2)];
    let with = |name| [two.as_slice(), &[transform(name)]].concat();
    gives("LinearRegressor", &with("NONE"), vec![rows()], &[0.7, 0.6, 0.25, 0.3, 0.5, 0.5, 0.525, 0.475]);
    let probits = [0.524_445_9, 0.253_353_3, -0.674_574_3, -0.524_445_9, 0.0, 0.0, 0.062_705_65, -0.062_705_65];
    gives("LinearRegressor", &with("PROBIT"), vec![rows()], &probits);
    let one =
        [float_list("coefficients", &[0.5, 0.25]), float_list("intercepts", &[0.0]), ints("classlabels_ints", &[7, 9])];
    let with = |name| [one.as_slice(), &[transform(name)]].concat();
    let plain = [0.0, 1.0, 2.25, -1.25, 1.0, 0.0, 0.875, 0.125];
    classifies("LinearClassifier", &with("NONE"), rows(), &[9, 7, 7, 9], &plain);
    classifies("LinearClassifier", &with("SOFTMAX"), rows(), &[9, 7, 7, 9], &plain);
    let logistic = [0.268_941_4, 0.731_058_6, 0.777_299_9, 0.222_700_12, 0.5, 0.5, 0.468_790_6, 0.531_209_4];
    classifies("LinearClassifier", &with("LOGISTIC"), rows(), &[9, 7, 7, 9], &logistic);
    let three = [
        float_list("coefficients", &[0.5, 0.25, -0.5, 0.1, 0.0, 0.2]),
        float_list("intercepts", &[0.0, 0.1, 0.0]),
        string_list("classlabels_strings", &["a", "b", "c"]),
        int("multi_class", 1),
    ];
    let zero = [0.540_538_85, 0.162_807_15, 0.296_654, 0.131_113, 0.617_734_85, 0.251_152_25];
    let zero = [&zero[..], &[0.0, 1.0, 0.0, 0.537_429_8, 0.462_570_16, 0.0]].concat();
    let attributes = [three.as_slice(), &[transform("SOFTMAX_ZERO")]].concat();
    classifies_strings("LinearClassifier", &attributes, rows(), &["a", "b", "b", "a"], &zero);
}

#[test]
fn features_and_lines_whose_numbers_do_not_fit_are_refused() {
    let line = [float_list("coefficients", &[0.5, 0.25, 1.0]), float_list("intercepts", &[0.0, 1.0])];
    refused(3, "LinearRegressor", &with(&line, &[int("targets", 2)]), &[F32], "3 coefficients are not");
    refused(3, "LinearRegressor", &with(&line, &[int("targets", -2)]), &[F32], "negative");
    refused(3, "LinearClassifier", &with(&line, &[ints("classlabels_ints", &[1])]), &[I64, F32], "coefficients");
    refused(3, "Scaler", &[float_list("offset", &[1.0]), float_list("scale", &[])], &[F32], "1 offsets");
    refused(3, "OneHotEncoder", &[], &[F32], "exactly one of");
}

#[test]
fn scalers_and_lines_check_the_cancel_token() {
    let rows = || vec![filled(&[1 << 20, 2], 0.0_f32)];
    let line = [float_list("coefficients", &[0.5, 0.25]), float_list("intercepts", &[1.0])];
    let scaler = [float_list("offset", &[1.0]), float_list("scale", &[0.5])];
    for (op, attributes) in [("LinearRegressor", line), ("Scaler", scaler)] {
        let kernel = kernel(("ai.onnx.ml", 3), op, 1, 1, &attributes);
        assert_eq!(cancelled(&kernel, rows()).message(), "cancelled", "{op}");
    }
}
