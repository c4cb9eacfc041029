//! A small convolutional model from its bytes to its outputs, through the traits that the engine calls.

use crate::tests::builder::{F32, Model, ints};
use graphpool::backend::{Backend, ComputeControl, Encoding, ErrorKind, LoadRequest, Target, Tensor};

use crate::CandleBackend;

/// Convolution, Relu, pooling and a matrix product.
pub fn small() -> Model {
    Model::new(13)
        .input("x", F32, &[-1, 1, 4, 4])
        .output("y", F32)
        .weights(
            "w",
            &[2, 1, 3, 3],
            &[0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        )
        .weights("b", &[2], &[0.5, -10.0])
        .weights("m", &[2, 3], &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0])
        .node("Conv", "x w b", "c", &[ints("pads", &[1, 1, 1, 1])])
        .node("Relu", "c", "r", &[])
        .node("GlobalMaxPool", "r", "g", &[])
        .node("Flatten", "g", "f", &[])
        .node("MatMul", "f m", "y", &[])
}

#[test]
fn a_small_model_runs_from_bytes_to_outputs() {
    let bytes = small().bytes();
    let graph = CandleBackend::new().load(&LoadRequest::new(&[&bytes], Encoding::Onnx, Target::Cpu)).unwrap();
    assert_eq!(graph.inputs()[0].name, "x");
    assert_eq!(graph.inputs()[0].dimensions, Some(vec![None, Some(1), Some(4), Some(4)]));
    assert_eq!(graph.outputs()[0].dimensions, None);

    let mut context = graph.init_context().unwrap();
    let control = ComputeControl::default();
    assert_eq!(context.compute(&control).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(context.output(0).is_err());

    let elements: Vec<f32> = (0..16).map(|index| index as f32).collect();
    let input = Tensor::from_f32(vec![1, 1, 4, 4], &elements).unwrap();
    context.set_input(0, input.view()).unwrap();
    context.compute(&control).unwrap();
    let output = context.output(0).unwrap().to_owned();
    assert_eq!(output.dimensions(), [1, 3]);
    // By hand: the maximum of the first filter is 15.5, that of the second 5+6+7+9+10+11+13+14+15-10 = 80.
    assert_eq!(output.to_f32().unwrap(), [15.5 + 800.0, 31.0 + 1600.0, 46.5 + 2400.0]);
}

#[test]
fn an_input_of_another_shape_or_type_is_refused() {
    let bytes = small().bytes();
    let graph = CandleBackend::new().load(&LoadRequest::new(&[&bytes], Encoding::Autodetect, Target::Cpu)).unwrap();
    let mut context = graph.init_context().unwrap();
    for dims in [vec![1, 1, 4], vec![1, 2, 4, 4], vec![]] {
        let elements = vec![0.0; dims.iter().product::<u32>() as usize];
        let input = Tensor::from_f32(dims, &elements).unwrap();
        assert_eq!(context.set_input(0, input.view()).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    let bytes = Tensor::new(vec![1, 1, 4, 4], graphpool::backend::TensorType::U8, vec![0; 16]).unwrap();
    assert_eq!(context.set_input(0, bytes.view()).unwrap_err().kind(), ErrorKind::InvalidArgument);
}
