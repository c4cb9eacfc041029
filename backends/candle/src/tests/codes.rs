//! Narrow element types, of at most 8 bits: in files, in operators that move them, and in those that refuse them.

use crate::format::messages::TensorProto;
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use crate::tests::builder::{F32, I64, Model, int, tensor};
use crate::{CandleBackend, decode_tensor};
use graphpool::backend::{Backend, ComputeControl, Encoding, ErrorKind, LoadRequest, Target, TensorType, TensorView};
use prost::Message;

const I4: i32 = 22;
const U2: i32 = 25;
const E4M3FN: i32 = 17;

fn packed(ty: i32, dims: &[i64], raw: &[u8]) -> TensorProto {
    TensorProto { dims: dims.to_vec(), data_type: Some(ty), raw_data: Some(raw.to_vec()), ..TensorProto::default() }
}

#[test]
fn a_file_packs_several_elements_into_a_byte() {
    let read = |tensor: TensorProto| decode_tensor(&tensor.encode_to_vec());
    assert_eq!(read(packed(I4, &[3], &[0x21, 0x0f])).unwrap().to_bytes(), [1, 2, 15]);
    assert_eq!(read(packed(U2, &[5], &[0b1110_0100, 2])).unwrap().to_bytes(), [0, 1, 2, 3, 2]);
    let listed = TensorProto { int32_data: vec![0x21, 0x0f], raw_data: None, ..packed(I4, &[3], &[]) };
    assert_eq!(read(listed).unwrap().to_bytes(), [1, 2, 15]);
    let listed = TensorProto { int32_data: vec![0x38], raw_data: None, ..packed(E4M3FN, &[1], &[]) };
    assert_eq!(read(listed).unwrap().to_bytes(), [0x38]);
    for (dims, raw) in
        [(&[3][..], &[0x21][..]), (&[3], &[0; 3]), (&[-1], &[]), (&[1 << 40, 1 << 40], &[0]), (&[0, 5], &[0])]
    {
        assert_eq!(read(packed(I4, dims, raw)).unwrap_err().kind(), ErrorKind::InvalidEncoding, "{dims:?}");
    }
    for number in [-1, 256] {
        let listed = TensorProto { int32_data: vec![number], raw_data: None, ..packed(I4, &[2], &[]) };
        assert_eq!(read(listed).unwrap_err().kind(), ErrorKind::InvalidEncoding);
    }
}

#[test]
fn packed_tensors_are_charged_with_their_unpacked_size() {
    let raw = vec![0; 1 << 20];
    let tensor = TensorProto { name: Some("w".to_owned()), ..packed(U2, &[1 << 22], &raw) };
    // No node reads the tensor, so it is not part of the plan.
    let model = Model::new(25).input("x", F32, &[-1]).initializer(tensor).node("Neg", "x", "y", &[]).output("y", F32);
    let load = |limit: usize| CandleBackend::new().load_graph(&model.bytes(), limit);
    assert!(load(1 << 26).is_ok());
    assert_eq!(load(3 << 20).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn codes_are_moved_as_they_are() {
    // Codes are transposed and padded, and converted to numbers at the end.
    let x = tensor(&[2, 2], &[-8.0, 7.0, 1.0, -1.0]);
    let cast = |model: Model, from: &str, to: &str| model.node("Cast", from, to, &[int("to", 1)]).output(to, F32);
    let base = || Model::new(25).input("x", F32, &[-1, -1]).node("Cast", "x", "c", &[int("to", i64::from(I4))]);
    let turned = cast(base().node("Transpose", "c", "t", &[]), "t", "y");
    assert_eq!(turned.floats(vec![x.clone()]).1, [-8.0, 1.0, 7.0, -1.0]);
    let padded = base().integers("p", &[4], &[0, 1, 0, 0]).node("Pad", "c p", "t", &[]);
    assert_eq!(cast(padded, "t", "y").floats(vec![x.clone()]).1, [0.0, -8.0, 7.0, 0.0, 1.0, -1.0]);
    // Operators that compute with them are refused.
    for op in ["Relu", "Neg", "Tanh"] {
        let error = base().node(op, "c", "y", &[]).output("y", I4).run(vec![x.clone()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedOperation, "{op}");
    }
    for op in ["Add", "MatMul", "Equal", "Gather", "Where"] {
        let inputs = if op == "Where" { "c c c" } else { "c c" };
        assert!(base().node(op, inputs, "y", &[]).output("y", I4).run(vec![x.clone()]).is_err(), "{op}");
    }
    let mixed = base().node("Concat", "c x", "y", &[int("axis", 0)]).output("y", I4);
    assert_eq!(mixed.run(vec![x]).unwrap_err().kind(), ErrorKind::UnsupportedOperation);
}

#[test]
fn quantized_numbers_stay_in_their_range() {
    let x = tensor(&[6], &[-1e9, -3.0, 0.5, 1.5, 7.0, f32::INFINITY]);
    let there = |ty: i32, wanted: &[f32]| {
        let model = Model::new(25)
            .input("x", F32, &[-1])
            .weights("s", &[], &[1.0])
            .node("QuantizeLinear", "x s", "q", &[int("output_dtype", i64::from(ty))])
            .node("DequantizeLinear", "q s", "y", &[])
            .output("y", F32);
        assert_eq!(model.floats(vec![x.clone()]).1, wanted, "{ty}");
    };
    there(I4, &[-8.0, -3.0, 0.0, 2.0, 7.0, 7.0]);
    there(U2, &[0.0, 0.0, 0.0, 2.0, 3.0, 3.0]);
    there(E4M3FN, &[-448.0, -3.0, 0.5, 1.5, 7.0, 448.0]);
}

#[test]
fn a_guest_sees_codes_as_bytes_and_can_set_only_valid_ones() {
    let model = Model::new(25)
        .input("x", I4, &[2])
        .node("Cast", "x", "y", &[int("to", i64::from(I64))])
        .node("Identity", "x", "z", &[])
        .output("y", I64)
        .output("z", I4);
    let bytes = model.bytes();
    let parts: [&[u8]; 1] = [&bytes];
    let request = LoadRequest::new(&parts, Encoding::Onnx, Target::Cpu).with_memory_limit(1 << 20);
    let graph = CandleBackend::new().load(&request).unwrap();
    assert_eq!((graph.inputs()[0].ty, graph.outputs()[1].ty), (Some(TensorType::U8), Some(TensorType::U8)));
    let mut context = graph.init_context().unwrap();
    let wrong = TensorView::new(&[2], TensorType::U8, &[1, 16]).unwrap();
    assert_eq!(context.set_input(0, wrong).unwrap_err().kind(), ErrorKind::InvalidArgument);
    context.set_input(0, TensorView::new(&[2], TensorType::U8, &[1, 15]).unwrap()).unwrap();
    context.compute(&ComputeControl::default()).unwrap();
    assert_eq!(context.output(0).unwrap().data(), [1_i64, -1].map(i64::to_le_bytes).concat());
    assert_eq!(context.output(1).unwrap().data(), [1, 15]);
    assert!(Value::from_bytes(vec![1], ElementType::U2, &[4]).is_err());
    assert!(Value::from_bytes(vec![1], ElementType::F8E5M2, &[255]).is_ok());
}
