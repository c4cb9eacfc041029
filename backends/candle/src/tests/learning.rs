//! ai.onnx.ml against what onnxruntime 1.32 gives for the same models, and trees that are attacks.

use prost::Message as _;

use crate::compute::context::ExecContext;
use crate::format::messages::{AttributeProto, ModelProto, TensorProto};
use crate::ops::node::{Args, Node, Shared};
use crate::tensor::budget::Meter;
use crate::tensor::value::Value;
use crate::tests::builder::{F32, I64, Model, close, float, info, int, ints, node, string, tensor};
use crate::{CandleBackend, CandleGraph, ops};
use graphpool::backend::{BackendContext as _, ComputeControl, Error, ErrorKind, Tensor, TensorType};

/// The number of strings.
const TEXT: i32 = 8;

fn reals(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(6),
        floats: values.to_vec(),
        ..AttributeProto::default()
    }
}

fn texts(name: &str, values: &[&str]) -> AttributeProto {
    let strings = values.iter().map(|text| text.as_bytes().to_vec()).collect();
    AttributeProto { name: Some(name.to_owned()), r#type: Some(8), strings, ..AttributeProto::default() }
}

fn held(name: &str, tensor: TensorProto) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(4), t: Some(tensor), ..AttributeProto::default() }
}

/// The bytes of a model with one operator.
fn bytes(version: i64, op: &str, inputs: &[i32], outputs: &[i32], attributes: &[AttributeProto]) -> Vec<u8> {
    let names = |letter: char, count: usize| (0..count).map(|at| format!("{letter}{at}")).collect::<Vec<_>>().join(" ");
    let mut model = Model::new(15);
    let mut made = node(op, &names('x', inputs.len()), &names('y', outputs.len()), attributes);
    made.domain = Some("ai.onnx.ml".to_owned());
    model.graph.node.push(made);
    model.graph.input = inputs.iter().enumerate().map(|(at, &ty)| info(&format!("x{at}"), ty, None)).collect();
    model.graph.output = outputs.iter().enumerate().map(|(at, &ty)| info(&format!("y{at}"), ty, None)).collect();
    imported(&model, version)
}

fn imported(model: &Model, version: i64) -> Vec<u8> {
    Model { imports: vec![("ai.onnx.ml", version)], ..model.clone() }.bytes()
}

fn load(bytes: &[u8]) -> Result<CandleGraph, Error> {
    CandleBackend::new().load_graph(bytes, 1 << 24)
}

fn control() -> ComputeControl {
    ComputeControl::default().with_memory_limit(1 << 24)
}

fn rows() -> Value {
    tensor(&[4, 2], &[1.0, 2.0, -1.0, -3.0, 0.0, 0.0, 0.25, 0.0])
}

/// The same rows and one with a NaN.
fn rows_and_nan() -> Value {
    tensor(&[5, 2], &[1.0, 2.0, -1.0, -3.0, 0.0, 0.0, 0.25, 0.0, f32::NAN, 1.0])
}

#[track_caller]
fn gives(op: &str, attributes: &[AttributeProto], inputs: Vec<Value>, wanted: &[f32]) {
    let types: Vec<i32> = inputs.iter().map(|value| if value.elements::<f32>().is_ok() { F32 } else { I64 }).collect();
    let outputs = load(&bytes(3, op, &types, &[F32], attributes)).unwrap().run(inputs, &control()).unwrap();
    close(outputs[0].elements().unwrap(), wanted);
}

/// Labels that are integers, and scores.
#[track_caller]
fn classifies(op: &str, attributes: &[AttributeProto], rows: Value, labels: &[i64], scores: &[f32]) {
    let outputs = load(&bytes(3, op, &[F32], &[I64, F32], attributes)).unwrap().run(vec![rows], &control()).unwrap();
    assert_eq!(outputs[0].elements::<i64>().unwrap(), labels, "{op}");
    close(outputs[1].elements().unwrap(), scores);
}

/// Labels that are strings, and scores.
#[track_caller]
fn names(op: &str, attributes: &[AttributeProto], rows: Value, labels: &[&str], scores: &[f32]) {
    let graph = load(&bytes(3, op, &[F32], &[TEXT, F32], attributes)).unwrap();
    let outputs = graph.run(vec![rows], &control()).unwrap();
    assert_eq!(graph.strings_of(&outputs[0]).unwrap(), labels, "{op}");
    close(outputs[1].elements().unwrap(), scores);
}

#[test]
fn features_are_prepared_as_onnxruntime_prepares_them() {
    gives("Normalizer", &[string("norm", "MAX")], vec![rows()], &[0.5, 1.0, 1.0, 3.0, 0.0, 0.0, 1.0, 0.0]);
    let l1 = [0.333_333_34, 0.666_666_7, -0.25, -0.75, 0.0, 0.0, 1.0, 0.0];
    gives("Normalizer", &[string("norm", "L1")], vec![rows()], &l1);
    let l2 = [0.447_213_6, 0.894_427_2, -0.316_227_76, -0.948_683_26, 0.0, 0.0, 1.0, 0.0];
    gives("Normalizer", &[string("norm", "L2")], vec![rows()], &l2);
    let two = [reals("offset", &[1.0, 2.0]), reals("scale", &[0.5, 2.0])];
    gives("Scaler", &two, vec![rows()], &[0.0, 0.0, -1.0, -10.0, -0.5, -4.0, -0.375, -4.0]);
    let one = [reals("offset", &[1.0]), reals("scale", &[0.5])];
    gives("Scaler", &one, vec![rows()], &[0.0, 0.5, -1.0, -2.0, -0.5, -0.5, -0.375, -0.5]);
    gives("Binarizer", &[float("threshold", 0.2)], vec![rows()], &[1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    let zeros = [reals("imputed_value_floats", &[5.0, 6.0]), float("replaced_value_float", 0.0)];
    gives("Imputer", &zeros, vec![rows()], &[1.0, 2.0, -1.0, -3.0, 5.0, 6.0, 0.25, 6.0]);
    let nans = [reals("imputed_value_floats", &[5.0]), float("replaced_value_float", f32::NAN)];
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
    let two = [reals("coefficients", &[0.1, 0.05, -0.1, 0.1]), reals("intercepts", &[0.5, 0.5]), int("targets", 2)];
    let with = |name| [two.as_slice(), &[transform(name)]].concat();
    gives("LinearRegressor", &with("NONE"), vec![rows()], &[0.7, 0.6, 0.25, 0.3, 0.5, 0.5, 0.525, 0.475]);
    let probits = [0.524_445_9, 0.253_353_3, -0.674_574_3, -0.524_445_9, 0.0, 0.0, 0.062_705_65, -0.062_705_65];
    gives("LinearRegressor", &with("PROBIT"), vec![rows()], &probits);
    let one = [reals("coefficients", &[0.5, 0.25]), reals("intercepts", &[0.0]), ints("classlabels_ints", &[7, 9])];
    let with = |name| [one.as_slice(), &[transform(name)]].concat();
    let plain = [0.0, 1.0, 2.25, -1.25, 1.0, 0.0, 0.875, 0.125];
    classifies("LinearClassifier", &with("NONE"), rows(), &[9, 7, 7, 9], &plain);
    classifies("LinearClassifier", &with("SOFTMAX"), rows(), &[9, 7, 7, 9], &plain);
    let logistic = [0.268_941_4, 0.731_058_6, 0.777_299_9, 0.222_700_12, 0.5, 0.5, 0.468_790_6, 0.531_209_4];
    classifies("LinearClassifier", &with("LOGISTIC"), rows(), &[9, 7, 7, 9], &logistic);
    let three = [
        reals("coefficients", &[0.5, 0.25, -0.5, 0.1, 0.0, 0.2]),
        reals("intercepts", &[0.0, 0.1, 0.0]),
        texts("classlabels_strings", &["a", "b", "c"]),
        int("multi_class", 1),
    ];
    let zero = [0.540_538_85, 0.162_807_15, 0.296_654, 0.131_113, 0.617_734_85, 0.251_152_25];
    let zero = [&zero[..], &[0.0, 1.0, 0.0, 0.537_429_8, 0.462_570_16, 0.0]].concat();
    let attributes = [three.as_slice(), &[transform("SOFTMAX_ZERO")]].concat();
    names("LinearClassifier", &attributes, rows(), &["a", "b", "b", "a"], &zero);
}

/// Two trees: one compares feature 0 and takes a NaN for what is low, the other feature 1.
fn trees() -> Vec<AttributeProto> {
    vec![
        ints("nodes_treeids", &[0, 0, 0, 1, 1, 1]),
        ints("nodes_nodeids", &[0, 1, 2, 0, 1, 2]),
        ints("nodes_featureids", &[0, 0, 0, 1, 0, 0]),
        reals("nodes_values", &[0.0, 0.0, 0.0, 0.5, 0.0, 0.0]),
        texts("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_GT", "LEAF", "LEAF"]),
        ints("nodes_truenodeids", &[1, 0, 0, 1, 0, 0]),
        ints("nodes_falsenodeids", &[2, 0, 0, 2, 0, 0]),
        ints("nodes_missing_value_tracks_true", &[1, 0, 0, 0, 0, 0]),
    ]
}

fn with(base: &[AttributeProto], more: &[AttributeProto]) -> Vec<AttributeProto> {
    let replaced = |attribute: &AttributeProto| more.iter().any(|other| other.name == attribute.name);
    base.iter().filter(|attribute| !replaced(attribute)).chain(more).cloned().collect()
}

fn regressor() -> Vec<AttributeProto> {
    let targets = [
        ints("target_treeids", &[0, 0, 1, 1, 1]),
        ints("target_nodeids", &[1, 2, 1, 2, 2]),
        ints("target_ids", &[0, 1, 0, 0, 1]),
        reals("target_weights", &[1.0, 2.0, 3.0, 4.0, 5.0]),
        int("n_targets", 2),
    ];
    with(&trees(), &targets)
}

fn classes(ids: &[i64], weights: &[f32], more: &[AttributeProto]) -> Vec<AttributeProto> {
    let classes = [
        ints("class_treeids", &[0, 0, 1, 1]),
        ints("class_nodeids", &[1, 2, 1, 2]),
        ints("class_ids", ids),
        reals("class_weights", weights),
    ];
    with(&with(&trees(), &classes), more)
}

#[test]
fn trees_score_as_onnxruntime_scores() {
    // The last row's second target has no score; it is 0 there and its base value here.
    for (name, wanted) in [
        ("SUM", [3.5, 2.25, 5.5, 5.25, 5.5, 5.25, 4.5, 7.25, 4.5, 0.25]),
        ("AVERAGE", [2.0, 1.25, 3.0, 2.75, 3.0, 2.75, 2.5, 3.75, 2.5, 0.25]),
        ("MIN", [3.5, 2.25, 1.5, 5.25, 1.5, 5.25, 4.5, 2.25, 1.5, 0.25]),
        ("MAX", [3.5, 2.25, 4.5, 5.25, 4.5, 5.25, 4.5, 5.25, 3.5, 0.25]),
    ] {
        let more = [string("aggregate_function", name), reals("base_values", &[0.5, 0.25])];
        gives("TreeEnsembleRegressor", &with(&regressor(), &more), vec![rows_and_nan()], &wanted);
    }
    let two = texts("classlabels_strings", &["no", "yes"]);
    let labels = ["yes", "no", "no", "yes", "no"];
    let plain = [0.4, 0.6, 0.6, 0.4, 0.6, 0.4, 0.3, 0.7, 0.7, 0.3];
    let positive = classes(&[0; 4], &[0.1, 0.4, 0.2, 0.3], std::slice::from_ref(&two));
    names("TreeEnsembleClassifier", &positive, rows_and_nan(), &labels, &plain);
    let logistic = classes(&[0; 4], &[0.1, 0.4, 0.2, 0.3], &[two, string("post_transform", "LOGISTIC")]);
    let scores = [0.354_343_7, 0.645_656_3, 0.401_312_35, 0.598_687_65, 0.401_312_35, 0.598_687_65];
    let scores = [&scores[..], &[0.331_812_2, 0.668_187_8, 0.425_557_5, 0.574_442_5]].concat();
    names("TreeEnsembleClassifier", &logistic, rows_and_nan(), &labels, &scores);
    let based =
        [ints("classlabels_int64s", &[7, 9]), string("post_transform", "LOGISTIC"), reals("base_values", &[0.25])];
    let scores = [0.299_432_8, 0.700_567_2, 0.537_429_8, 0.462_570_2, 0.537_429_8, 0.462_570_2];
    let scores = [&scores[..], &[0.413_382_4, 0.586_617_6, 0.413_382_4, 0.586_617_6]].concat();
    let attributes = classes(&[0; 4], &[-0.1, 0.4, 0.2, -0.3], &based);
    classifies("TreeEnsembleClassifier", &attributes, rows_and_nan(), &[9, 7, 7, 9, 9], &scores);
    let three = [texts("classlabels_strings", &["a", "b", "c"]), string("post_transform", "SOFTMAX")];
    let scores = [0.269_307_5, 0.401_759_56, 0.328_932_9, 0.319_873_06, 0.390_693_84, 0.289_433_12];
    let again = [0.319_873_06, 0.390_693_84, 0.289_433_12, 0.249_143_4, 0.501_713_2, 0.249_143_4];
    let scores = [&scores[..], &again, &[0.332_225, 0.300_609_62, 0.367_165_4]].concat();
    let attributes = classes(&[0, 1, 2, 1], &[0.1, 0.4, 0.2, 0.3], &three);
    names("TreeEnsembleClassifier", &attributes, rows_and_nan(), &["b", "b", "b", "b", "c"], &scores);
}

fn numbers(ty: i32, values: &[f32]) -> TensorProto {
    let dims = vec![values.len() as i64];
    if ty == 2 {
        let int32_data = values.iter().map(|&value| value as i32).collect();
        return TensorProto { dims, data_type: Some(2), int32_data, ..TensorProto::default() };
    }
    TensorProto { dims, data_type: Some(F32), float_data: values.to_vec(), ..TensorProto::default() }
}

/// An ensemble of version 5 whose second branch looks into a set.
fn ensemble() -> Vec<AttributeProto> {
    vec![
        int("n_targets", 2),
        ints("tree_roots", &[0, 2]),
        held("nodes_modes", numbers(2, &[0.0, 6.0, 4.0])),
        ints("nodes_featureids", &[0, 1, 0]),
        held("nodes_splits", numbers(F32, &[0.0, 0.0, 0.25])),
        ints("nodes_truenodeids", &[1, 0, 2]),
        ints("nodes_trueleafs", &[0, 1, 1]),
        ints("nodes_falsenodeids", &[3, 1, 3]),
        ints("nodes_falseleafs", &[1, 1, 1]),
        ints("nodes_missing_value_tracks_true", &[1, 0, 0]),
        ints("leaf_targetids", &[0, 1, 0, 1]),
        held("leaf_weights", numbers(F32, &[1.0, 2.0, 4.0, 8.0])),
        held("membership_values", numbers(F32, &[-3.0, 2.0, f32::NAN])),
    ]
}

#[test]
fn an_ensemble_of_the_newest_kind_looks_into_sets() {
    let x = tensor(&[5, 2], &[1.0, 2.0, -1.0, -3.0, 0.0, 0.0, 0.25, 0.0, f32::NAN, 2.0]);
    let graph = load(&bytes(5, "TreeEnsemble", &[F32], &[F32], &ensemble())).unwrap();
    let outputs = graph.run(vec![x], &control()).unwrap();
    close(outputs[0].elements().unwrap(), &[0.0, 16.0, 1.0, 8.0, 0.0, 10.0, 4.0, 8.0, 1.0, 8.0]);
}

#[test]
fn an_ensemble_of_doubles_answers_in_doubles() {
    const F64: i32 = 11;
    let double = |name: &str, values: &[f64]| {
        let dims = vec![values.len() as i64];
        held(name, TensorProto { dims, data_type: Some(F64), double_data: values.to_vec(), ..TensorProto::default() })
    };
    let weights = [0.1, 0.2, 0.3, 0.7];
    let doubles = [
        double("nodes_splits", &[0.0, 0.0, 0.25]),
        double("leaf_weights", &weights),
        double("membership_values", &[-3.0, 2.0, f64::NAN]),
    ];
    let attributes = with(&ensemble(), &doubles);
    let graph = load(&bytes(5, "TreeEnsemble", &[F64], &[F64], &attributes)).unwrap();
    let x = Value::new(vec![1, 2], vec![-1.0_f64, -3.0]).unwrap();
    let outputs = graph.run(vec![x], &control()).unwrap();
    let found = outputs[0].elements::<f64>().unwrap();
    // No float of 32 bits is one of the weights.
    assert!(found.iter().all(|x| weights.contains(x)), "{found:?}");
}

#[track_caller]
fn refused(version: i64, op: &str, attributes: &[AttributeProto], outputs: &[i32], why: &str) {
    let error = load(&bytes(version, op, &[F32], outputs, attributes)).unwrap_err();
    assert!(error.message().contains(why), "{error} instead of {why}");
}

#[test]
fn trees_that_are_none_are_refused_when_they_are_loaded() {
    let refused = |attribute: AttributeProto, why: &str| {
        refused(3, "TreeEnsembleRegressor", &with(&regressor(), &[attribute]), &[F32], why);
    };
    refused(ints("nodes_truenodeids", &[0, 0, 0, 1, 0, 0]), "reached from no root");
    refused(ints("nodes_truenodeids", &[2, 0, 0, 1, 0, 0]), "two roots");
    refused(ints("nodes_truenodeids", &[5, 0, 0, 1, 0, 0]), "which does not exist");
    refused(ints("nodes_truenodeids", &[i64::MIN, 0, 0, 1, 0, 0]), "which does not exist");
    refused(ints("nodes_featureids", &[-1, 0, 0, 1, 0, 0]), "feature -1");
    refused(ints("nodes_featureids", &[i64::MAX, 0, 0, 1, 0, 0]), "feature");
    refused(ints("nodes_nodeids", &[0, 1, 1, 0, 1, 2]), "defined twice");
    refused(ints("nodes_treeids", &[0, 0]), "has 2 entries");
    refused(reals("nodes_values", &[]), "has 0 entries");
    refused(texts("nodes_modes", &["BRANCH", "LEAF", "LEAF", "BRANCH_GT", "LEAF", "LEAF"]), "a mode");
    refused(texts("nodes_modes", &["LEAF", "LEAF", "LEAF", "BRANCH_GT", "LEAF", "LEAF"]), "two roots");
    refused(ints("target_ids", &[0, 1, 0, 0, 2]), "not below 2");
    refused(ints("target_ids", &[0, 1, 0, 0, -1]), "target -1");
    refused(ints("target_nodeids", &[1, 2, 1, 2, 9]), "which does not exist");
    refused(int("n_targets", i64::MAX), "targets");
    refused(int("n_targets", -1), "targets");
    refused(int("n_targets", 0), "0 targets");
    let refused = |attribute: AttributeProto, why: &str| {
        crate::tests::learning::refused(5, "TreeEnsemble", &with(&ensemble(), &[attribute]), &[F32], why);
    };
    refused(ints("nodes_truenodeids", &[0, 0, 2]), "or from itself");
    refused(ints("nodes_truenodeids", &[7, 0, 2]), "does not exist");
    refused(ints("nodes_truenodeids", &[-7, 0, 2]), "node -7");
    refused(ints("tree_roots", &[0]), "reached from no root");
    refused(ints("tree_roots", &[0, 2, 2]), "or from itself");
    refused(held("nodes_modes", numbers(2, &[0.0, 6.0, 6.0])), "fewer sets");
    refused(held("nodes_modes", numbers(2, &[0.0, 7.0, 4.0])), "the mode 7");
    refused(ints("leaf_targetids", &[0, 1, 0, 2]), "not below 2");
}

#[test]
fn a_cycle_beside_a_tree_is_refused() {
    // Nodes 3 and 4 lead to each other; each is led to once.
    let attributes = [
        ints("nodes_treeids", &[0; 7]),
        ints("nodes_nodeids", &[0, 1, 2, 3, 4, 5, 6]),
        ints("nodes_featureids", &[0; 7]),
        reals("nodes_values", &[0.0; 7]),
        texts("nodes_modes", &["BRANCH_LT", "LEAF", "LEAF", "BRANCH_LT", "BRANCH_LT", "LEAF", "LEAF"]),
        ints("nodes_truenodeids", &[1, 0, 0, 4, 3, 0, 0]),
        ints("nodes_falsenodeids", &[2, 0, 0, 5, 6, 0, 0]),
        ints("target_treeids", &[]),
        ints("target_nodeids", &[]),
        ints("target_ids", &[]),
        reals("target_weights", &[]),
    ];
    refused(3, "TreeEnsembleRegressor", &attributes, &[F32], "reached from no root");
}

/// A chain of branches, each of which leads to the next one and to a leaf.
fn chain(links: i64) -> Vec<u8> {
    let count = (2 * links + 1) as usize;
    let ids: Vec<i64> = (0..count as i64).collect();
    let modes: Vec<&str> = ids.iter().map(|id| if *id < links { "BRANCH_LT" } else { "LEAF" }).collect();
    let yes: Vec<i64> = ids.iter().map(|&id| if id < links { id + 1 } else { 0 }).collect();
    let no: Vec<i64> = ids.iter().map(|&id| if id < links { links + 1 + id } else { 0 }).collect();
    let attributes = [
        ints("nodes_treeids", &vec![0; count]),
        ints("nodes_nodeids", &ids),
        ints("nodes_featureids", &vec![0; count]),
        reals("nodes_values", &vec![1.0; count]),
        texts("nodes_modes", &modes),
        ints("nodes_truenodeids", &yes),
        ints("nodes_falsenodeids", &no),
        ints("target_treeids", &[0]),
        ints("target_nodeids", &[links]),
        ints("target_ids", &[0]),
        reals("target_weights", &[3.0]),
    ];
    bytes(3, "TreeEnsembleRegressor", &[F32], &[F32], &attributes)
}

#[test]
fn a_deep_tree_is_walked_without_a_stack() {
    let graph = load(&chain(30_000)).unwrap();
    let outputs = graph.run(vec![tensor(&[2, 1], &[0.0, 2.0])], &control()).unwrap();
    assert_eq!(outputs[0].elements::<f32>().unwrap(), [3.0, 0.0]);
}

/// Runs the one operator of a model as the plan does, but without a look at the token before it or after it.
fn cancelled(bytes: &[u8], inputs: Vec<Value>) -> Error {
    let proto = ModelProto::decode(bytes).unwrap();
    let node = &proto.graph.as_ref().unwrap().node[0];
    let (shared, opset) = (Shared::new(usize::MAX), proto.opset_import[1].version.unwrap());
    let made = Node::new(node, opset, vec![None; node.input.len()], Vec::new(), &shared);
    let operator = ops::find("ai.onnx.ml", node.op_type.as_deref().unwrap(), opset).unwrap();
    let kernel = (operator.build)(&made).unwrap();
    let control = ComputeControl::default();
    control.cancel.cancel();
    let meter = Meter::new(1 << 28);
    kernel(Args::new(inputs.into_iter().map(Some).collect()), &ExecContext::new(&control, &meter)).unwrap_err()
}

#[test]
fn long_work_ends_when_it_is_cancelled() {
    let many = |rows: usize, columns: usize| vec![tensor(&[rows, columns], &vec![0.0; rows * columns])];
    assert_eq!(cancelled(&chain(30_000), many(500, 1)).message(), "cancelled");
    let rbf = machine("RBF", &[0.5, 0.0, 3.0], &[1.0, -2.0, 0.5], &[0.1]);
    let machine = bytes(3, "SVMRegressor", &[F32], &[F32], &with(&rbf, &[int("n_supports", 3)]));
    assert_eq!(cancelled(&machine, many(200_000, 2)).message(), "cancelled");
    let line = [reals("coefficients", &[0.5, 0.25]), reals("intercepts", &[1.0])];
    let line = bytes(3, "LinearRegressor", &[F32], &[F32], &line);
    assert_eq!(cancelled(&line, many(1 << 20, 2)).message(), "cancelled");
    let scaler = bytes(3, "Scaler", &[F32], &[F32], &[reals("offset", &[1.0]), reals("scale", &[0.5])]);
    assert_eq!(cancelled(&scaler, many(1 << 20, 2)).message(), "cancelled");
}

#[test]
fn rows_that_are_too_short_for_the_trees_are_refused() {
    let graph = load(&bytes(3, "TreeEnsembleRegressor", &[F32], &[F32], &regressor())).unwrap();
    let error = graph.run(vec![tensor(&[4, 1], &[0.0; 4])], &control()).unwrap_err();
    assert!(error.message().contains("1 features"), "{error}");
    let outputs = graph.run(vec![tensor(&[0, 2], &[])], &control()).unwrap();
    assert_eq!(outputs[0].dims(), [0, 2]);
}

#[test]
fn what_the_scores_take_is_charged() {
    let more = [int("n_targets", 1 << 24)];
    let graph = load(&bytes(3, "TreeEnsembleRegressor", &[F32], &[F32], &with(&regressor(), &more))).unwrap();
    assert_eq!(graph.run(vec![rows()], &control()).unwrap_err().kind(), ErrorKind::TooLarge);
}

const VECTORS: [f32; 6] = [0.5, 1.0, -1.0, 0.25, 0.0, 2.0];

fn machine(kind: &str, parameters: &[f32], coefficients: &[f32], rho: &[f32]) -> Vec<AttributeProto> {
    vec![
        string("kernel_type", kind),
        reals("kernel_params", parameters),
        reals("support_vectors", &VECTORS),
        reals("coefficients", coefficients),
        reals("rho", rho),
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
        // The offset counts for the products alone.
        let attributes = machine(kind, &[0.5, 0.25, 3.0], &[1.0, -2.0, 0.5], &[0.1]);
        gives("SVMRegressor", &with(&attributes, &[int("n_supports", 3)]), vec![rows()], &wanted);
    }
    let rbf = machine("RBF", &[0.5, 0.0, 3.0], &[1.0, -2.0, 0.5], &[0.1]);
    let one = with(&rbf, &[int("n_supports", 3), int("one_class", 1)]);
    gives("SVMRegressor", &one, vec![rows()], &[1.0, 1.0, -1.0, -1.0]);
    let plain = [reals("kernel_params", &[0.0; 3]), reals("coefficients", &[1.0, -2.0]), reals("rho", &[0.1])];
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
        reals("prob_a", &[-1.2]),
        reals("prob_b", &[0.3]),
        texts("classlabels_strings", &["u", "v"]),
    ];
    let scores =
        [0.680_482_15, 0.319_517_85, 0.452_083_26, 0.547_916_77, 0.295_801_1, 0.704_198_8, 0.385_318_7, 0.614_681_3];
    names("SVMClassifier", &with(&rbf, &sure), rows(), &["u", "u", "v", "v"], &scores);

    let three = machine("LINEAR", &[0.5, 0.0, 3.0], &[1.0, -2.0, 0.5, 0.3, 0.7, -1.0], &[0.1, -0.2, 0.3]);
    let three = with(&three, &[ints("vectors_per_class", &[1, 1, 1]), ints("classlabels_ints", &[7, 8, 9])]);
    let scores = [3.6, 2.55, -4.05, -3.9, -4.25, 6.475, 0.1, -0.2, 0.3, 0.725, -0.1625, 0.125];
    classifies("SVMClassifier", &three, rows(), &[7, 8, 7, 7], &scores);
    let sure = [reals("prob_a", &[-1.0, -2.0, -0.5]), reals("prob_b", &[0.1, 0.2, 0.3])];
    let outputs = load(&bytes(3, "SVMClassifier", &[F32], &[I64, F32], &with(&three, &sure))).unwrap();
    let outputs = outputs.run(vec![rows()], &control()).unwrap();
    let scores = [0.974_890_7, 0.016_162_45, 0.008_946_86, 0.008_244_25, 0.941_684_96, 0.050_070_93];
    let scores = [&scores[..], &[0.263_104_38, 0.320_084_7, 0.416_810_93, 0.318_569_36, 0.251_112_1, 0.430_318_53]];
    for (found, wanted) in outputs[1].elements::<f32>().unwrap().iter().zip(scores.concat()) {
        assert!((found - wanted).abs() < 1e-4, "{found} instead of {wanted}");
    }
    let rows_of_each = [
        reals("kernel_params", &[0.0; 3]),
        reals("coefficients", &[1.0, -2.0, 0.5, 0.3, 0.7, -1.0]),
        reals("rho", &[0.1]),
        ints("classlabels_ints", &[7, 8, 9]),
    ];
    let scores = [-2.9, 1.2, -1.2, 5.1, -1.3, 2.4, 0.1, 0.1, 0.1, 0.35, 0.225, 0.275];
    classifies("SVMClassifier", &rows_of_each, rows(), &[8, 7, 7, 7], &scores);
}

#[test]
fn machines_and_lines_whose_numbers_do_not_fit_are_refused() {
    let rbf = machine("RBF", &[0.5, 0.0, 3.0], &[1.0, -2.0, 0.5], &[0.1]);
    let two = with(&rbf, &[ints("vectors_per_class", &[1, 2]), ints("classlabels_ints", &[7, 9])]);
    for (attribute, why) in [
        (ints("vectors_per_class", &[1, i64::MAX]), "vectors"),
        (ints("vectors_per_class", &[-1, 4]), "-1 support vectors"),
        (ints("vectors_per_class", &[1, 1, 1]), "coefficients"),
        (reals("rho", &[]), "rho"),
        (reals("prob_a", &[1.0]), "prob_b"),
        (reals("kernel_params", &[1.0]), "kernel_params"),
        (string("kernel_type", "COSINE"), "kernel_type"),
        (ints("classlabels_ints", &[7]), "1 classes"),
    ] {
        refused(3, "SVMClassifier", &with(&two, &[attribute]), &[I64, F32], why);
    }
    refused(3, "SVMRegressor", &with(&rbf, &[int("n_supports", 4)]), &[F32], "vectors");
    refused(3, "SVMRegressor", &with(&rbf, &[int("n_supports", -4)]), &[F32], "negative");
    let line = [reals("coefficients", &[0.5, 0.25, 1.0]), reals("intercepts", &[0.0, 1.0])];
    refused(3, "LinearRegressor", &with(&line, &[int("targets", 2)]), &[F32], "3 coefficients are not");
    refused(3, "LinearRegressor", &with(&line, &[int("targets", -2)]), &[F32], "negative");
    refused(3, "LinearClassifier", &with(&line, &[ints("classlabels_ints", &[1])]), &[I64, F32], "coefficients");
    refused(3, "Scaler", &[reals("offset", &[1.0]), reals("scale", &[])], &[F32], "1 offsets");
    refused(3, "LabelEncoder", &[ints("keys_int64s", &[1]), ints("values_int64s", &[])], &[I64], "1 keys");
    refused(3, "OneHotEncoder", &[], &[F32], "exactly one of");
}

#[test]
fn labels_go_from_strings_to_numbers_and_back() {
    let run =
        |version, op: &str, given: i32, made: i32, attributes: &[AttributeProto], inputs: &[&str], numbers: &[i64]| {
            let graph = load(&bytes(version, op, &[given], &[made], attributes)).unwrap();
            let value = match given {
                TEXT => graph.strings(vec![inputs.len()], inputs).unwrap(),
                _ => Value::new(vec![numbers.len()], numbers.to_vec()).unwrap(),
            };
            let outputs = graph.run(vec![value], &control()).unwrap();
            match made {
                TEXT => (graph.strings_of(&outputs[0]).unwrap().join(" "), vec![]),
                _ => (String::new(), outputs[0].elements::<i64>().unwrap().to_vec()),
            }
        };
    let mapped = [
        ints("cats_int64s", &[3, 5]),
        texts("cats_strings", &["a", "b"]),
        int("default_int64", -7),
        string("default_string", "q"),
    ];
    assert_eq!(run(3, "CategoryMapper", TEXT, I64, &mapped, &["b", "z"], &[]).1, [5, -7]);
    assert_eq!(run(3, "CategoryMapper", I64, TEXT, &mapped, &[], &[5, 9]).0, "b q");
    let classes = [texts("classes_strings", &["x", "y"])];
    assert_eq!(run(1, "LabelEncoder", TEXT, I64, &classes, &["y", "q"], &[]).1, [1, -1]);
    assert_eq!(run(1, "LabelEncoder", I64, TEXT, &classes, &[], &[1, 0, 2]).0, "y x _Unused");
    // Of equal keys the first counts.
    let twice = [ints("keys_int64s", &[1, 2, 1]), texts("values_strings", &["one", "two", "three"])];
    assert_eq!(run(2, "LabelEncoder", I64, TEXT, &twice, &[], &[2, 1, 3]).0, "two one _Unused");
}

#[test]
fn a_guest_gives_and_gets_strings_as_rows_of_bytes() {
    let attributes = [
        texts("keys_strings", &["cat", "dog", ""]),
        texts("values_strings", &["Katze", "Hund", "nichts"]),
        string("default_string", "?"),
    ];
    let graph = load(&bytes(2, "LabelEncoder", &[TEXT], &[TEXT], &attributes)).unwrap();
    let mut context = graph.context();
    let mut set = |dims: &[u32], ty, data: &[u8]| {
        context.set_input(0, Tensor::new(dims.to_vec(), ty, data.to_vec()).unwrap().view())
    };
    assert_eq!(set(&[], TensorType::U8, &[1]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(set(&[1, 4], TensorType::I32, &[0; 16]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(set(&[1, 1], TensorType::U8, &[0xff]).unwrap_err().message().contains("UTF-8"));
    assert_eq!(set(&[3, 0], TensorType::U8, &[]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    set(&[2, 2, 4], TensorType::U8, b"dog\0cat\0\0\0\0\0bird").unwrap();
    context.compute(&control()).unwrap();
    let output = context.output(0).unwrap();
    assert_eq!((output.dimensions(), output.ty()), (&[2, 2, 6][..], TensorType::U8));
    assert_eq!(output.data(), b"Hund\0\0Katze\0nichts?\0\0\0\0\0");
    // Rows of bytes are charged.
    let small = control().with_memory_limit(30);
    assert_eq!(context.compute(&small).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn a_string_that_the_model_does_not_name_reaches_no_output() {
    let model = Model::new(15).input("x", TEXT, &[-1]).node("Identity", "x", "y", &[]).output("y", TEXT);
    let graph = model.load().unwrap();
    let value = graph.strings(vec![1], &["unknown"]).unwrap();
    assert_eq!(graph.strings_of(&value).unwrap_err().kind(), ErrorKind::RuntimeError);
    let mut context = graph.context();
    let tensor = Tensor::new(vec![1, 2], TensorType::U8, b"ab".to_vec()).unwrap();
    context.set_input(0, tensor.view()).unwrap();
    assert!(context.compute(&control()).unwrap_err().message().contains("doesn't name"));
    // Nor is it compared: two of them may be different.
    let model =
        Model::new(19).input("x", TEXT, &[-1]).node("Equal", "x x", "y", &[]).output("y", crate::tests::builder::BOOL);
    let graph = model.load().unwrap();
    let value = graph.strings(vec![1], &["unknown"]).unwrap();
    assert_eq!(graph.run(vec![value], &control()).unwrap_err().kind(), ErrorKind::UnsupportedOperation);
}

#[test]
fn strings_of_the_models_own_are_chosen_from() {
    let words = TensorProto {
        name: Some("words".to_owned()),
        dims: vec![1, 3],
        data_type: Some(TEXT),
        string_data: vec![b"low".to_vec(), b"middle".to_vec(), b"high".to_vec()],
        ..TensorProto::default()
    };
    let mut model = Model::new(15).input("at", I64, &[-1]).initializer(words.clone()).output("y", TEXT);
    let mut made = node("ArrayFeatureExtractor", "words at", "y", &[]);
    made.domain = Some("ai.onnx.ml".to_owned());
    model.graph.node.push(made);
    let graph = load(&imported(&model, 3)).unwrap();
    let outputs = graph.run(vec![Value::new(vec![2], vec![2_i64, 0]).unwrap()], &control()).unwrap();
    assert_eq!(graph.strings_of(&outputs[0]).unwrap(), ["high", "low"]);
    for place in [3, -1, i64::MIN] {
        let error = graph.run(vec![Value::new(vec![1], vec![place]).unwrap()], &control()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
    model.graph.initializer[0].string_data[1] = vec![0xff];
    assert!(load(&imported(&model, 3)).unwrap_err().message().contains("UTF-8"));
    model.graph.initializer[0].string_data.pop();
    assert!(load(&imported(&model, 3)).unwrap_err().message().contains("2 elements"));
}

#[test]
fn a_map_is_given_as_the_matrix_of_its_scores() {
    let mut model = Model::new(15).input("x", F32, &[-1, 2]);
    let mut made = node("ZipMap", "x", "y", &[texts("classlabels_strings", &["no", "yes"])]);
    made.domain = Some("ai.onnx.ml".to_owned());
    model.graph.node.push(made);
    // A sequence of maps is written as a type that is no tensor.
    let mut output = info("y", F32, None);
    output.r#type.as_mut().unwrap().tensor_type = None;
    model.graph.output.push(output);
    let graph = load(&imported(&model, 3)).unwrap();
    assert_eq!(graph.output_ports()[0].dims, Some(vec![None, Some(2)]));
    let outputs = graph.run(vec![tensor(&[1, 2], &[0.25, 0.75])], &control()).unwrap();
    assert_eq!((outputs[0].dims(), outputs[0].elements::<f32>().unwrap()), (&[1, 2][..], &[0.25, 0.75][..]));
}
