//! Label encoders, category mappers and maps of ai.onnx.ml.

use crate::format::messages::AttributeProto;
use crate::tensor::value::Value;
use crate::tests::builder::{F32, I64, Model, STRING, info, int, ints, node, string, string_list, tensor};
use crate::tests::learning::{bytes, control, imported, load, refused};

#[test]
fn labels_go_from_strings_to_numbers_and_back() {
    let run =
        |version, op: &str, given: i32, made: i32, attributes: &[AttributeProto], inputs: &[&str], numbers: &[i64]| {
            let graph = load(&bytes(version, op, &[given], &[made], attributes)).unwrap();
            let value = match given {
                STRING => graph.strings(vec![inputs.len()], inputs).unwrap(),
                _ => Value::new(vec![numbers.len()], numbers.to_vec()).unwrap(),
            };
            let outputs = graph.run(vec![value], &control()).unwrap();
            match made {
                STRING => (graph.strings_of(&outputs[0]).unwrap().join(" "), vec![]),
                _ => (String::new(), outputs[0].elements::<i64>().unwrap().to_vec()),
            }
        };
    let mapped = [
        ints("cats_int64s", &[3, 5]),
        string_list("cats_strings", &["a", "b"]),
        int("default_int64", -7),
        string("default_string", "q"),
    ];
    assert_eq!(run(3, "CategoryMapper", STRING, I64, &mapped, &["b", "z"], &[]).1, [5, -7]);
    assert_eq!(run(3, "CategoryMapper", I64, STRING, &mapped, &[], &[5, 9]).0, "b q");
    let classes = [string_list("classes_strings", &["x", "y"])];
    assert_eq!(run(1, "LabelEncoder", STRING, I64, &classes, &["y", "q"], &[]).1, [1, -1]);
    assert_eq!(run(1, "LabelEncoder", I64, STRING, &classes, &[], &[1, 0, 2]).0, "y x _Unused");
    // The first of equal keys is used.
    let twice = [ints("keys_int64s", &[1, 2, 1]), string_list("values_strings", &["one", "two", "three"])];
    assert_eq!(run(2, "LabelEncoder", I64, STRING, &twice, &[], &[2, 1, 3]).0, "two one _Unused");
}

#[test]
fn a_map_is_given_as_the_matrix_of_its_scores() {
    let mut model = Model::new(15).input("x", F32, &[-1, 2]);
    let mut made = node("ZipMap", "x", "y", &[string_list("classlabels_strings", &["no", "yes"])]);
    made.domain = Some("ai.onnx.ml".to_owned());
    model.graph.node.push(made);
    // The type of a sequence of maps is not a tensor.
    let mut output = info("y", F32, None);
    output.r#type.as_mut().unwrap().tensor_type = None;
    model.graph.output.push(output);
    let graph = load(&imported(&model, 3)).unwrap();
    assert_eq!(graph.output_ports()[0].dims, Some(vec![None, Some(2)]));
    let outputs = graph.run(vec![tensor(&[1, 2], &[0.25, 0.75])], &control()).unwrap();
    assert_eq!((outputs[0].dims(), outputs[0].elements::<f32>().unwrap()), (&[1, 2][..], &[0.25, 0.75][..]));
}

#[test]
fn keys_without_values_are_refused() {
    let attributes = [ints("keys_int64s", &[1]), ints("values_int64s", &[])];
    refused(3, "LabelEncoder", &attributes, &[I64], "1 keys");
}
