//! The operators against candle's: the same inputs of random shapes give the same outputs.

use candle_core::{D, DType, Device, Tensor};
use graphpool::backend::ComputeControl;
use graphpool_candle::messages::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use graphpool_candle::{CandleBackend, Value};
use proptest::prelude::*;
use prost::Message as _;

/// The first output of one operator of opset 17.
fn onnx(operator: &str, attributes: Vec<AttributeProto>, inputs: &[&Value]) -> Value {
    let info = |name: String, elem_type: i32| {
        let tensor_type = Some(TensorTypeProto { elem_type: Some(elem_type), shape: None });
        ValueInfoProto { name: Some(name), r#type: Some(TypeProto { tensor_type }) }
    };
    let number = |value: &Value| match value.ty() {
        graphpool_candle::ElementType::I64 => 7,
        _ => 1,
    };
    let names: Vec<String> = (0..inputs.len()).map(|index| format!("x{index}")).collect();
    let node = NodeProto {
        op_type: Some(operator.to_owned()),
        input: names.clone(),
        output: vec!["y".to_owned()],
        attribute: attributes,
        ..NodeProto::default()
    };
    let ty = if operator == "ArgMax" { 7 } else { 1 };
    let graph = GraphProto {
        node: vec![node],
        input: names.into_iter().zip(inputs).map(|(name, value)| info(name, number(value))).collect(),
        output: vec![info("y".to_owned(), ty)],
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { domain: None, version: Some(17) };
    let model =
        ModelProto { ir_version: Some(8), graph: Some(graph), opset_import: vec![opset], ..ModelProto::default() };
    let graph = CandleBackend::new().load_graph(&model.encode_to_vec(), 1 << 30).unwrap();
    let values = inputs.iter().map(|value| (*value).clone()).collect();
    graph.run(values, &ComputeControl::default()).unwrap().remove(0)
}

fn ints(name: &str, ints: &[usize]) -> AttributeProto {
    let ints = ints.iter().map(|&int| int as i64).collect();
    AttributeProto { name: Some(name.to_owned()), ints, r#type: Some(7), ..AttributeProto::default() }
}

fn int(name: &str, int: i64) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), i: Some(int), r#type: Some(2), ..AttributeProto::default() }
}

/// A tensor of normally distributed numbers, as candle's and as ours.
fn random(dims: &[usize]) -> (Tensor, Value) {
    let tensor = Tensor::randn(0.0_f32, 1.0, dims, &Device::Cpu).unwrap();
    let value = Value::from_candle(&tensor).unwrap();
    (tensor, value)
}

#[track_caller]
fn same(found: &Value, wanted: &candle_core::Result<Tensor>) {
    let wanted = Value::from_candle(wanted.as_ref().unwrap()).unwrap();
    assert_eq!(found.dims(), wanted.dims());
    for (found, wanted) in found.elements::<f32>().unwrap().iter().zip(wanted.elements::<f32>().unwrap()) {
        assert!((found - wanted).abs() <= 2e-5 * wanted.abs().max(1.0), "{found} where candle has {wanted}");
    }
}

#[test]
fn a_value_goes_to_candle_and_back() {
    fn check<T: graphpool_candle::Element + std::fmt::Debug>(elements: Vec<T>) {
        let value = Value::new(vec![2, elements.len() / 2], elements).unwrap();
        let back = Value::from_candle(&value.to_candle(&Device::Cpu).unwrap()).unwrap();
        assert_eq!((back.ty(), back.dims()), (value.ty(), value.dims()));
        assert_eq!(back.elements::<T>().unwrap(), value.elements::<T>().unwrap());
    }
    check(vec![1.0_f32, -2.0, f32::INFINITY, 0.5]);
    check(vec![1.0_f64, -2.0, 1e300, 0.5]);
    check(vec![1_u8, 2, 3, 255]);
    check(vec![1_u32, 2, 3, u32::MAX]);
    check(vec![1_i16, -2, 3, i16::MIN]);
    check(vec![1_i32, -2, 3, i32::MIN]);
    check(vec![1_i64, -2, 3, i64::MIN]);
    let booleans = Value::new(vec![1], vec![true]).unwrap();
    assert!(booleans.to_candle(&Device::Cpu).unwrap_err().message().contains("Bool"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn elementwise_operators_agree(dims in prop::collection::vec(1_usize..6, 0..4)) {
        let (x, value) = random(&dims);
        let positive = x.abs().unwrap();
        let positives = Value::from_candle(&positive).unwrap();
        same(&onnx("Relu", vec![], &[&value]), &x.relu());
        same(&onnx("Tanh", vec![], &[&value]), &x.tanh());
        same(&onnx("Erf", vec![], &[&value]), &x.erf());
        same(&onnx("Exp", vec![], &[&value]), &x.exp());
        same(&onnx("Sin", vec![], &[&value]), &x.sin());
        same(&onnx("Cos", vec![], &[&value]), &x.cos());
        same(&onnx("Abs", vec![], &[&value]), &x.abs());
        same(&onnx("Neg", vec![], &[&value]), &x.neg());
        same(&onnx("Floor", vec![], &[&value]), &x.floor());
        same(&onnx("Ceil", vec![], &[&value]), &x.ceil());
        same(&onnx("Sign", vec![], &[&value]), &x.sign());
        same(&onnx("Sqrt", vec![], &[&positives]), &positive.sqrt());
        same(&onnx("Log", vec![], &[&positives]), &positive.log());
        same(&onnx("Reciprocal", vec![], &[&value]), &x.recip());
    }

    #[test]
    fn operators_of_two_broadcast_alike(dims in prop::collection::vec(1_usize..6, 1..4), ones in any::<[bool; 6]>()) {
        let side = |from: usize| -> Vec<usize> {
            dims.iter().enumerate().map(|(at, &dim)| if ones[from + at] { 1 } else { dim }).collect()
        };
        let ((a, left), (b, right)) = (random(&side(0)), random(&side(3)));
        same(&onnx("Add", vec![], &[&left, &right]), &a.broadcast_add(&b));
        same(&onnx("Sub", vec![], &[&left, &right]), &a.broadcast_sub(&b));
        same(&onnx("Mul", vec![], &[&left, &right]), &a.broadcast_mul(&b));
        same(&onnx("Div", vec![], &[&left, &right]), &a.broadcast_div(&b));
        same(&onnx("Max", vec![], &[&left, &right]), &a.broadcast_maximum(&b));
        same(&onnx("Min", vec![], &[&left, &right]), &a.broadcast_minimum(&b));
    }

    #[test]
    fn products_of_matrices_agree(batch in 1_usize..4, m in 1_usize..40, n in 1_usize..40, k in 1_usize..80) {
        let ((a, left), (b, right)) = (random(&[batch, m, k]), random(&[batch, k, n]));
        same(&onnx("MatMul", vec![], &[&left, &right]), &a.matmul(&b));
        let (flat, weights) = random(&[n, k]);
        let (bias, addends) = random(&[n]);
        let first = a.get(0).unwrap();
        let rows = Value::from_candle(&first).unwrap();
        let wanted = first.matmul(&flat.t().unwrap()).and_then(|product| product.broadcast_add(&bias));
        same(&onnx("Gemm", vec![int("transB", 1)], &[&rows, &weights, &addends]), &wanted);
    }

    #[test]
    fn convolutions_agree(
        n in 1_usize..3, depth in 1_usize..4, each in 1_usize..4, groups in 1_usize..4,
        (height, width) in (5_usize..12, 5_usize..12), kernel in 1_usize..4,
        (pad, stride, dilation) in (0_usize..3, 1_usize..3, 1_usize..3),
    ) {
        let (x, image) = random(&[n, depth * groups, height, width]);
        let (w, filters) = random(&[each * groups, depth, kernel, kernel]);
        let attributes = |pads: &[usize]| vec![
            ints("strides", &[stride, stride]), ints("dilations", &[dilation, dilation]), ints("pads", pads),
            int("group", groups as i64),
        ];
        let found = onnx("Conv", attributes(&[pad; 4]), &[&image, &filters]);
        same(&found, &x.conv2d(&w, pad, stride, dilation, groups));
        let (w, filters) = random(&[depth, each, kernel, kernel]);
        let (x, image) = random(&[n, depth, height, width]);
        let attributes = vec![ints("strides", &[stride, stride]), ints("dilations", &[dilation, dilation])];
        same(&onnx("ConvTranspose", attributes, &[&image, &filters]), &x.conv_transpose2d(&w, 0, 0, stride, dilation));
        let window = || vec![ints("kernel_shape", &[kernel, kernel]), ints("strides", &[stride, stride])];
        let pooled = (kernel, kernel);
        same(&onnx("MaxPool", window(), &[&image]), &x.max_pool2d_with_stride(pooled, (stride, stride)));
        same(&onnx("AveragePool", window(), &[&image]), &x.avg_pool2d_with_stride(pooled, (stride, stride)));
    }

    #[test]
    fn reductions_and_layouts_agree(dims in prop::collection::vec(1_usize..7, 3..4), at in 0_usize..3) {
        let (x, value) = random(&dims);
        let axes = || vec![ints("axes", &[at])];
        let axis = Value::new(vec![1], vec![at as i64]).unwrap();
        same(&onnx("ReduceSum", vec![], &[&value, &axis]), &x.sum_keepdim(at));
        same(&onnx("ReduceMean", axes(), &[&value]), &x.mean_keepdim(at));
        same(&onnx("ReduceMax", axes(), &[&value]), &x.max_keepdim(at));
        same(&onnx("ReduceMin", axes(), &[&value]), &x.min_keepdim(at));
        same(&onnx("Transpose", vec![ints("perm", &[2, 0, 1])], &[&value]), &x.permute((2, 0, 1)));
        same(&onnx("Concat", vec![int("axis", at as i64)], &[&value, &value]), &Tensor::cat(&[&x, &x], at));
        let greatest = x.argmax_keepdim(at).and_then(|index| index.to_dtype(DType::I64));
        let found = onnx("ArgMax", vec![int("axis", at as i64)], &[&value]);
        let greatest = Value::from_candle(&greatest.unwrap()).unwrap();
        prop_assert_eq!(found.elements::<i64>().unwrap(), greatest.elements::<i64>().unwrap());
        let softmax = x.max_keepdim(D::Minus1).and_then(|most| x.broadcast_sub(&most)?.exp());
        let softmax = softmax.and_then(|exp| exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?));
        same(&onnx("Softmax", vec![], &[&value]), &softmax);
        let indices: Vec<i64> = (0..4).map(|index| index % dims[at] as i64).collect();
        let places = Tensor::new(indices.as_slice(), &Device::Cpu).unwrap();
        let indices = Value::new(vec![4], indices).unwrap();
        same(&onnx("Gather", vec![int("axis", at as i64)], &[&value, &indices]), &x.index_select(&places, at));
    }
}
