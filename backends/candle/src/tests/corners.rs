//! Corner cases that were found by comparing random models with onnxruntime and with ONNX's reference implementation.
//!
//! Expected numbers with more than two decimals are the reference's; the others are computed by hand.

use crate::format::messages::{AttributeProto, GraphProto};
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use crate::tests::builder::{
    BOOL, F32, I64, Model, close, counting, float, graph, info, int, ints, one, string, tensor,
};

/// The elements of the output of an operator on `x`.
fn of(op: &str, opset: i64, attributes: &[AttributeProto], x: &[f32]) -> Vec<f32> {
    one(opset, op, "", attributes).floats(vec![tensor(&[x.len()], x)]).1
}

#[test]
fn a_transposed_convolution_with_an_output_shape_takes_the_odd_place_off_the_beginning() {
    // One element is removed from the whole result, 1 2 0 3 4 0 5 6.
    for (auto_pad, wanted) in [
        ("NOTSET", [2.0, 0.0, 3.0, 4.0, 0.0, 5.0, 6.0]),
        ("VALID", [2.0, 0.0, 3.0, 4.0, 0.0, 5.0, 6.0]),
        ("SAME_LOWER", [2.0, 0.0, 3.0, 4.0, 0.0, 5.0, 6.0]),
        ("SAME_UPPER", [1.0, 2.0, 0.0, 3.0, 4.0, 0.0, 5.0]),
    ] {
        let attributes = [ints("strides", &[3]), ints("output_shape", &[7]), string("auto_pad", auto_pad)];
        let model =
            one(11, "ConvTranspose", "w", &attributes).weights("w", &[3, 1, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let channels = tensor(&[1, 3, 3], &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(model.floats(vec![channels]), (vec![1, 1, 7], wanted.to_vec()), "{auto_pad}");
    }
}

#[test]
fn celu_of_nan_is_nan() {
    let found = of("Celu", 12, &[float("alpha", 2.0)], &[f32::NAN, -1.0, 3.0]);
    assert!(found[0].is_nan());
    close(&found[1..], &[-0.786_938_7, 3.0]);
}

#[test]
fn the_error_function_ends_at_one_and_so_gelu_ends_at_zero() {
    let far = [-1e30, -1e6, -12.0, -4.0, 4.0, 12.0, 1e6, f32::NEG_INFINITY, f32::INFINITY];
    let wanted = [-1.0, -1.0, -1.0, -1.0, 1.0, 1.0, 1.0, -1.0, 1.0];
    assert_eq!(of("Erf", 13, &[], &far), wanted);
    assert_eq!(of("Gelu", 20, &[], &[-1e30, -1e6, -12.0, 12.0, 1e6]), [0.0, 0.0, 0.0, 12.0, 1e6]);
    // The same in a fused step.
    let model = Model::new(20).input("x", F32, &[1, 1]).weights("w", &[1, 1], &[1.0]).output("y", F32);
    let model = model.node("MatMul", "x w", "t", &[]).node("Gelu", "t", "y", &[]);
    assert_eq!(model.floats(vec![tensor(&[1, 1], &[-1e6])]).1, [0.0]);
}

#[test]
fn an_old_pad_fills_every_type_of_float_with_its_number() {
    for (number, ty) in [(1, ElementType::F32), (10, ElementType::F16), (11, ElementType::F64), (16, ElementType::Bf16)]
    {
        let model = Model::new(10)
            .input("x", F32, &[1])
            .output("y", F32)
            .node("Cast", "x", "narrow", &[int("to", number)])
            .node("Pad", "narrow", "padded", &[ints("pads", &[1, 2]), float("value", -1.5)])
            .node("Cast", "padded", "y", &[int("to", 1)]);
        assert_eq!(model.floats(vec![tensor(&[1], &[2.0])]).1, [-1.5, 2.0, -1.5, -1.5], "{ty:?}");
    }
}

#[test]
fn the_index_of_a_largest_element_is_under_the_window_whatever_is_there() {
    let low = f32::NEG_INFINITY;
    let model = Model::new(12).input("x", F32, &[1, 1, 5]).output("top", F32).output("places", I64);
    let model = model.node("MaxPool", "x", "top places", &[ints("kernel_shape", &[2])]);
    let outputs = model.run(vec![tensor(&[1, 1, 5], &[1.0, 2.0, low, low, low])]).unwrap();
    assert_eq!(outputs[0].elements::<f32>().unwrap(), [2.0, 2.0, low, low]);
    assert_eq!(outputs[1].elements::<i64>().unwrap(), [1, 1, 2, 3]);
}

#[test]
fn sums_of_narrow_floats_are_rounded_once() {
    // Adding 1 to 2048 in f16, or to 256 in bf16, has no effect.
    for (number, ty) in [(10, ElementType::F16), (16, ElementType::Bf16)] {
        let model = Model::new(13)
            .input("x", F32, &[4096])
            .output("sum", F32)
            .output("last", F32)
            .output("product", F32)
            .integers("zero", &[1], &[0])
            .integers("begin", &[1], &[4095])
            .integers("end", &[1], &[4096])
            .node("Cast", "x", "narrow", &[int("to", number)])
            .node("ReduceSum", "narrow", "total", &[int("keepdims", 0)])
            .node("CumSum", "narrow zero", "sums", &[])
            .node("Slice", "sums begin end zero", "final", &[])
            .node("Cast", "total", "sum", &[int("to", 1)])
            .node("Cast", "final", "last", &[int("to", 1)])
            .node("ReduceProd", "narrow", "powers", &[int("keepdims", 0)])
            .node("Cast", "powers", "product", &[int("to", 1)]);
        let outputs = model.run(vec![tensor(&[4096], &[1.0; 4096])]).unwrap();
        for (output, wanted) in outputs.iter().zip([4096.0, 4096.0, 1.0]) {
            assert_eq!(output.elements::<f32>().unwrap(), [wanted], "{ty:?}");
        }
    }
}

#[test]
fn inverse_hyperbolic_functions_hold_up_to_the_largest_numbers() {
    close(&of("Asinh", 9, &[], &[-3.4e38, 3.4e38, 0.5]), &[-89.415_15, 89.415_15, 0.481_211_8]);
    close(&of("Acosh", 9, &[], &[3.4e38, 1.5]), &[89.415_15, 0.962_423_6]);
}

#[test]
fn a_branch_may_name_its_output_as_the_node_does() {
    let branch = |op: &str| GraphProto {
        output: vec![info("y", F32, None)],
        ..Model::new(16).node(op, "x x", "t", &[]).node("Neg", "t", "y", &[]).graph
    };
    let branches = [graph("then_branch", branch("Add")), graph("else_branch", branch("Mul"))];
    // `t` is a name inside the branches and of a later value outside.
    let model = Model::new(16)
        .input("x", F32, &[2])
        .input("condition", BOOL, &[])
        .output("t", F32)
        .node("If", "condition", "y", &branches)
        .node("Exp", "y", "t", &[]);
    for (condition, wanted) in [(true, [-4.0_f32, -6.0]), (false, [-4.0, -9.0])] {
        let condition = Value::scalar(condition).unwrap();
        let (dims, found) = model.floats(vec![tensor(&[2], &[2.0, 3.0]), condition]);
        assert_eq!(dims, [2]);
        close(&found, &wanted.map(f32::exp));
    }
}

#[test]
fn a_loop_may_name_its_values_as_the_node_does() {
    let body = Model::new(16).node("Add", "v x", "y", &[]).node("Identity", "go", "gone", &[]).graph;
    let body = GraphProto {
        input: vec![info("i", I64, None), info("go", BOOL, None), info("v", F32, None)],
        output: vec![info("gone", BOOL, None), info("y", F32, None), info("y", F32, None)],
        ..body
    };
    let model = Model::new(16).input("x", F32, &[2]).integers("trips", &[], &[3]).output("all", F32).node(
        "Loop",
        "trips _ x",
        "y all",
        &[graph("body", body)],
    );
    let wanted = vec![0.0, 2.0, 0.0, 3.0, 0.0, 4.0];
    assert_eq!(model.floats(vec![counting(&[2])]), (vec![3, 2], wanted));
}
