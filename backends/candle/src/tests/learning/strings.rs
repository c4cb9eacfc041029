//! Tensors of strings: as a guest passes them, and as operators choose from a model's strings.

use crate::format::messages::TensorProto;
use crate::tensor::value::Value;
use crate::tests::builder::{BOOL, I64, Model, STRING, node, string, string_list};
use crate::tests::learning::{bytes, control, imported, load};
use graphpool::backend::{BackendContext as _, ErrorKind, Tensor, TensorType};

#[test]
fn a_guest_gives_and_gets_strings_as_rows_of_bytes() {
    let attributes = [
        string_list("keys_strings", &["cat", "dog", ""]),
        string_list("values_strings", &["Katze", "Hund", "nichts"]),
        string("default_string", "?"),
    ];
    let graph = load(&bytes(2, "LabelEncoder", &[STRING], &[STRING], &attributes)).unwrap();
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
    // The rows of bytes count towards the memory limit.
    let small = control().with_memory_limit(30);
    assert_eq!(context.compute(&small).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn a_string_that_the_model_does_not_name_reaches_no_output() {
    let model = Model::new(15).input("x", STRING, &[-1]).node("Identity", "x", "y", &[]).output("y", STRING);
    let graph = model.load().unwrap();
    let value = graph.strings(vec![1], &["unknown"]).unwrap();
    assert_eq!(graph.strings_of(&value).unwrap_err().kind(), ErrorKind::RuntimeError);
    let mut context = graph.context();
    let tensor = Tensor::new(vec![1, 2], TensorType::U8, b"ab".to_vec()).unwrap();
    context.set_input(0, tensor.view()).unwrap();
    assert!(context.compute(&control()).unwrap_err().message().contains("does not contain"));
    // Comparing it is refused: two unknown strings may differ.
    let model = Model::new(19).input("x", STRING, &[-1]).node("Equal", "x x", "y", &[]).output("y", BOOL);
    let graph = model.load().unwrap();
    let value = graph.strings(vec![1], &["unknown"]).unwrap();
    assert_eq!(graph.run(vec![value], &control()).unwrap_err().kind(), ErrorKind::UnsupportedOperation);
}

#[test]
fn strings_of_the_models_own_are_chosen_from() {
    let words = TensorProto {
        name: Some("words".to_owned()),
        dims: vec![1, 3],
        data_type: Some(STRING),
        string_data: vec![b"low".to_vec(), b"middle".to_vec(), b"high".to_vec()],
        ..TensorProto::default()
    };
    let mut model = Model::new(15).input("at", I64, &[-1]).initializer(words.clone()).output("y", STRING);
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
