//! Tree ensembles of ai.onnx.ml: scores, malformed trees, deep trees.

use crate::format::messages::{AttributeProto, TensorProto};
use crate::tensor::value::Value;
use crate::tests::builder::{
    F32, F64, cancelled, close, filled, float_list, int, ints, kernel, string, string_list, tensor, tensor_attribute,
};
use crate::tests::learning::{
    bytes, classifies, classifies_strings, control, gives, load, refused, rows, rows_and_nan, with,
};
use graphpool::backend::ErrorKind;

/// Two trees: the first tests feature 0 and treats NaN as low, the second tests feature 1.
fn trees() -> Vec<AttributeProto> {
    vec![
        ints("nodes_treeids", &[0, 0, 0, 1, 1, 1]),
        ints("nodes_nodeids", &[0, 1, 2, 0, 1, 2]),
        ints("nodes_featureids", &[0, 0, 0, 1, 0, 0]),
        float_list("nodes_values", &[0.0, 0.0, 0.0, 0.5, 0.0, 0.0]),
        string_list("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_GT", "LEAF", "LEAF"]),
        ints("nodes_truenodeids", &[1, 0, 0, 1, 0, 0]),
        ints("nodes_falsenodeids", &[2, 0, 0, 2, 0, 0]),
        ints("nodes_missing_value_tracks_true", &[1, 0, 0, 0, 0, 0]),
    ]
}

fn regressor() -> Vec<AttributeProto> {
    let targets = [
        ints("target_treeids", &[0, 0, 1, 1, 1]),
        ints("target_nodeids", &[1, 2, 1, 2, 2]),
        ints("target_ids", &[0, 1, 0, 0, 1]),
        float_list("target_weights", &[1.0, 2.0, 3.0, 4.0, 5.0]),
        int("n_targets", 2),
    ];
    with(&trees(), &targets)
}

fn classes(ids: &[i64], weights: &[f32], more: &[AttributeProto]) -> Vec<AttributeProto> {
    let classes = [
        ints("class_treeids", &[0, 0, 1, 1]),
        ints("class_nodeids", &[1, 2, 1, 2]),
        ints("class_ids", ids),
        float_list("class_weights", weights),
    ];
    with(&with(&trees(), &classes), more)
}

#[test]
fn trees_score_as_onnxruntime_scores() {
    // The last row has no score for the second target: its base value here, 0 in onnxruntime.
    for (name, wanted) in [
        ("SUM", [3.5, 2.25, 5.5, 5.25, 5.5, 5.25, 4.5, 7.25, 4.5, 0.25]),
        ("AVERAGE", [2.0, 1.25, 3.0, 2.75, 3.0, 2.75, 2.5, 3.75, 2.5, 0.25]),
        ("MIN", [3.5, 2.25, 1.5, 5.25, 1.5, 5.25, 4.5, 2.25, 1.5, 0.25]),
        ("MAX", [3.5, 2.25, 4.5, 5.25, 4.5, 5.25, 4.5, 5.25, 3.5, 0.25]),
    ] {
        let more = [string("aggregate_function", name), float_list("base_values", &[0.5, 0.25])];
        gives("TreeEnsembleRegressor", &with(&regressor(), &more), vec![rows_and_nan()], &wanted);
    }
    let two = string_list("classlabels_strings", &["no", "yes"]);
    let labels = ["yes", "no", "no", "yes", "no"];
    let plain = [0.4, 0.6, 0.6, 0.4, 0.6, 0.4, 0.3, 0.7, 0.7, 0.3];
    let positive = classes(&[0; 4], &[0.1, 0.4, 0.2, 0.3], std::slice::from_ref(&two));
    classifies_strings("TreeEnsembleClassifier", &positive, rows_and_nan(), &labels, &plain);
    let logistic = classes(&[0; 4], &[0.1, 0.4, 0.2, 0.3], &[two, string("post_transform", "LOGISTIC")]);
    let scores = [0.354_343_7, 0.645_656_3, 0.401_312_35, 0.598_687_65, 0.401_312_35, 0.598_687_65];
    let scores = [&scores[..], &[0.331_812_2, 0.668_187_8, 0.425_557_5, 0.574_442_5]].concat();
    classifies_strings("TreeEnsembleClassifier", &logistic, rows_and_nan(), &labels, &scores);
    let based =
        [ints("classlabels_int64s", &[7, 9]), string("post_transform", "LOGISTIC"), float_list("base_values", &[0.25])];
    let scores = [0.299_432_8, 0.700_567_2, 0.537_429_8, 0.462_570_2, 0.537_429_8, 0.462_570_2];
    let scores = [&scores[..], &[0.413_382_4, 0.586_617_6, 0.413_382_4, 0.586_617_6]].concat();
    let attributes = classes(&[0; 4], &[-0.1, 0.4, 0.2, -0.3], &based);
    classifies("TreeEnsembleClassifier", &attributes, rows_and_nan(), &[9, 7, 7, 9, 9], &scores);
    let three = [string_list("classlabels_strings", &["a", "b", "c"]), string("post_transform", "SOFTMAX")];
    let scores = [0.269_307_5, 0.401_759_56, 0.328_932_9, 0.319_873_06, 0.390_693_84, 0.289_433_12];
    let again = [0.319_873_06, 0.390_693_84, 0.289_433_12, 0.249_143_4, 0.501_713_2, 0.249_143_4];
    let scores = [&scores[..], &again, &[0.332_225, 0.300_609_62, 0.367_165_4]].concat();
    let attributes = classes(&[0, 1, 2, 1], &[0.1, 0.4, 0.2, 0.3], &three);
    classifies_strings("TreeEnsembleClassifier", &attributes, rows_and_nan(), &["b", "b", "b", "b", "c"], &scores);
}

fn numbers(ty: i32, values: &[f32]) -> TensorProto {
    let dims = vec![values.len() as i64];
    if ty == 2 {
        let int32_data = values.iter().map(|&value| value as i32).collect();
        return TensorProto { dims, data_type: Some(2), int32_data, ..TensorProto::default() };
    }
    TensorProto { dims, data_type: Some(F32), float_data: values.to_vec(), ..TensorProto::default() }
}

/// An ensemble of version 5 whose second branch tests membership in a set.
fn ensemble() -> Vec<AttributeProto> {
    vec![
        int("n_targets", 2),
        ints("tree_roots", &[0, 2]),
        tensor_attribute("nodes_modes", numbers(2, &[0.0, 6.0, 4.0])),
        ints("nodes_featureids", &[0, 1, 0]),
        tensor_attribute("nodes_splits", numbers(F32, &[0.0, 0.0, 0.25])),
        ints("nodes_truenodeids", &[1, 0, 2]),
        ints("nodes_trueleafs", &[0, 1, 1]),
        ints("nodes_falsenodeids", &[3, 1, 3]),
        ints("nodes_falseleafs", &[1, 1, 1]),
        ints("nodes_missing_value_tracks_true", &[1, 0, 0]),
        ints("leaf_targetids", &[0, 1, 0, 1]),
        tensor_attribute("leaf_weights", numbers(F32, &[1.0, 2.0, 4.0, 8.0])),
        tensor_attribute("membership_values", numbers(F32, &[-3.0, 2.0, f32::NAN])),
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
    let double = |name: &str, values: &[f64]| {
        let dims = vec![values.len() as i64];
        tensor_attribute(
            name,
            TensorProto { dims, data_type: Some(F64), double_data: values.to_vec(), ..TensorProto::default() },
        )
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
    // The weights are not exact in f32.
    assert!(found.iter().all(|x| weights.contains(x)), "{found:?}");
}

#[test]
fn malformed_trees_are_refused_at_load() {
    let refused = |attribute: AttributeProto, why: &str| {
        super::refused(3, "TreeEnsembleRegressor", &with(&regressor(), &[attribute]), &[F32], why);
    };
    refused(ints("nodes_truenodeids", &[0, 0, 0, 1, 0, 0]), "reached from no root");
    refused(ints("nodes_truenodeids", &[2, 0, 0, 1, 0, 0]), "two roots");
    refused(ints("nodes_truenodeids", &[5, 0, 0, 1, 0, 0]), "which does not exist");
    refused(ints("nodes_truenodeids", &[i64::MIN, 0, 0, 1, 0, 0]), "which does not exist");
    refused(ints("nodes_featureids", &[-1, 0, 0, 1, 0, 0]), "feature -1");
    refused(ints("nodes_featureids", &[i64::MAX, 0, 0, 1, 0, 0]), "feature");
    refused(ints("nodes_nodeids", &[0, 1, 1, 0, 1, 2]), "defined twice");
    refused(ints("nodes_treeids", &[0, 0]), "has 2 entries");
    refused(float_list("nodes_values", &[]), "has 0 entries");
    refused(string_list("nodes_modes", &["BRANCH", "LEAF", "LEAF", "BRANCH_GT", "LEAF", "LEAF"]), "a mode");
    refused(string_list("nodes_modes", &["LEAF", "LEAF", "LEAF", "BRANCH_GT", "LEAF", "LEAF"]), "two roots");
    refused(ints("target_ids", &[0, 1, 0, 0, 2]), "not below 2");
    refused(ints("target_ids", &[0, 1, 0, 0, -1]), "target -1");
    refused(ints("target_nodeids", &[1, 2, 1, 2, 9]), "which does not exist");
    refused(int("n_targets", i64::MAX), "targets");
    refused(int("n_targets", -1), "targets");
    refused(int("n_targets", 0), "0 targets");
    let refused = |attribute: AttributeProto, why: &str| {
        super::refused(5, "TreeEnsemble", &with(&ensemble(), &[attribute]), &[F32], why);
    };
    refused(ints("nodes_truenodeids", &[0, 0, 2]), "or from itself");
    refused(ints("nodes_truenodeids", &[7, 0, 2]), "does not exist");
    refused(ints("nodes_truenodeids", &[-7, 0, 2]), "node -7");
    refused(ints("tree_roots", &[0]), "reached from no root");
    refused(ints("tree_roots", &[0, 2, 2]), "or from itself");
    refused(tensor_attribute("nodes_modes", numbers(2, &[0.0, 6.0, 6.0])), "fewer sets");
    refused(tensor_attribute("nodes_modes", numbers(2, &[0.0, 7.0, 4.0])), "the mode 7");
    refused(ints("leaf_targetids", &[0, 1, 0, 2]), "not below 2");
}

#[test]
fn a_cycle_beside_a_tree_is_refused() {
    // Nodes 3 and 4 are each other's child, so each has one parent.
    let attributes = [
        ints("nodes_treeids", &[0; 7]),
        ints("nodes_nodeids", &[0, 1, 2, 3, 4, 5, 6]),
        ints("nodes_featureids", &[0; 7]),
        float_list("nodes_values", &[0.0; 7]),
        string_list("nodes_modes", &["BRANCH_LT", "LEAF", "LEAF", "BRANCH_LT", "BRANCH_LT", "LEAF", "LEAF"]),
        ints("nodes_truenodeids", &[1, 0, 0, 4, 3, 0, 0]),
        ints("nodes_falsenodeids", &[2, 0, 0, 5, 6, 0, 0]),
        ints("target_treeids", &[]),
        ints("target_nodeids", &[]),
        ints("target_ids", &[]),
        float_list("target_weights", &[]),
    ];
    refused(3, "TreeEnsembleRegressor", &attributes, &[F32], "reached from no root");
}

/// A tree that is a chain of branches: the children of each are the next branch and a leaf.
fn chain(links: i64) -> Vec<AttributeProto> {
    let count = (2 * links + 1) as usize;
    let ids: Vec<i64> = (0..count as i64).collect();
    let modes: Vec<&str> = ids.iter().map(|id| if *id < links { "BRANCH_LT" } else { "LEAF" }).collect();
    let yes: Vec<i64> = ids.iter().map(|&id| if id < links { id + 1 } else { 0 }).collect();
    let no: Vec<i64> = ids.iter().map(|&id| if id < links { links + 1 + id } else { 0 }).collect();
    vec![
        ints("nodes_treeids", &vec![0; count]),
        ints("nodes_nodeids", &ids),
        ints("nodes_featureids", &vec![0; count]),
        float_list("nodes_values", &vec![1.0; count]),
        string_list("nodes_modes", &modes),
        ints("nodes_truenodeids", &yes),
        ints("nodes_falsenodeids", &no),
        ints("target_treeids", &[0]),
        ints("target_nodeids", &[links]),
        ints("target_ids", &[0]),
        float_list("target_weights", &[3.0]),
    ]
}

#[test]
fn a_deep_tree_is_walked_without_recursion() {
    let graph = load(&bytes(3, "TreeEnsembleRegressor", &[F32], &[F32], &chain(30_000))).unwrap();
    let outputs = graph.run(vec![tensor(&[2, 1], &[0.0, 2.0])], &control()).unwrap();
    assert_eq!(outputs[0].elements::<f32>().unwrap(), [3.0, 0.0]);
}

#[test]
fn a_deep_tree_checks_the_cancel_token() {
    let kernel = kernel(("ai.onnx.ml", 3), "TreeEnsembleRegressor", 1, 1, &chain(30_000));
    assert_eq!(cancelled(&kernel, vec![filled(&[500, 1], 0.0_f32)]).message(), "cancelled");
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
fn scores_are_charged() {
    let more = [int("n_targets", 1 << 24)];
    let graph = load(&bytes(3, "TreeEnsembleRegressor", &[F32], &[F32], &with(&regressor(), &more))).unwrap();
    assert_eq!(graph.run(vec![rows()], &control()).unwrap_err().kind(), ErrorKind::TooLarge);
}
