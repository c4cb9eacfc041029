//! Findings of `scripts/differential.py`: operators whose results differed from their specification.

use crate::format::messages::AttributeProto;
use crate::tensor::value::Value;
use crate::tests::builder::{BOOL, F32, I64, Model, counting, float, info, int, one, string, tensor};
use graphpool::backend::ErrorKind;

#[test]
fn a_letter_that_a_term_repeats_is_summed_where_the_output_is_implied() {
    let model = |equation| one(12, "Einsum", "", &[string("equation", equation)]);
    assert_eq!(model("ii").floats(vec![counting(&[3, 3])]), (vec![], vec![12.0]));
    assert_eq!(model("iij").floats(vec![counting(&[2, 2, 2])]), (vec![2], vec![6.0, 8.0]));
    assert_eq!(model("ii->i").floats(vec![counting(&[3, 3])]), (vec![3], vec![0.0, 4.0, 8.0]));
}

#[test]
fn a_scalar_that_is_not_zero_has_no_index() {
    let model = Model::new(13).input("x", F32, &[]).node("NonZero", "x", "y", &[]).output("y", I64);
    assert_eq!(model.longs(vec![tensor(&[], &[7.0])]), (vec![0, 1], vec![]));
    assert_eq!(model.longs(vec![tensor(&[], &[0.0])]), (vec![0, 0], vec![]));
    let model = Model::new(13).input("x", F32, &[1]).node("NonZero", "x", "y", &[]).output("y", I64);
    assert_eq!(model.longs(vec![tensor(&[1], &[7.0])]), (vec![1, 1], vec![0]));
}

#[test]
fn an_old_mask_has_the_type_of_what_it_masks() {
    let model = |opset, ty| {
        let model = Model::new(opset).input("x", F32, &[2]).node("Dropout", "x", "y mask", &[float("ratio", 0.5)]);
        model.output("y", F32).output("mask", ty).run(vec![tensor(&[2], &[1.0, 2.0])])
    };
    assert_eq!(model(7, F32).unwrap()[1].elements::<f32>().unwrap(), [1.0, 1.0]);
    assert_eq!(model(10, BOOL).unwrap()[1].elements::<bool>().unwrap(), [true, true]);
}

#[test]
fn a_mode_that_is_an_input_of_the_model_may_say_that_nothing_is_trained() {
    let mut model = Model::new(13).input("x", F32, &[2]).output("y", F32).node("Dropout", "x _ mode", "y", &[]);
    model.graph.input.push(info("mode", BOOL, Some(&[])));
    let run = |mode: bool| model.run(vec![tensor(&[2], &[1.0, 2.0]), Value::scalar(mode).unwrap()]);
    assert_eq!(run(false).unwrap()[0].elements::<f32>().unwrap(), [1.0, 2.0]);
    assert_eq!(run(true).unwrap_err().kind(), ErrorKind::UnsupportedOperation);
}

#[test]
fn a_quotient_is_rounded_as_its_scale_is_before_it_is_quantized() {
    // -31 / 0.3803711 is -81.499, which is -81.5 in f16; that is rounded to the even number.
    let run = |opset, attributes: &[AttributeProto]| {
        let model = Model::new(opset)
            .input("x", F32, &[1])
            .weights("s", &[], &[0.380_371_1])
            .node("Cast", "x", "narrow", &[int("to", 10)])
            .node("Cast", "s", "scale", &[int("to", 10)])
            .node("Cast", "x", "byte", &[int("to", 3)])
            .node("Sub", "byte byte", "zero", &[])
            .node("Squeeze", "zero", "point", &[])
            .node("QuantizeLinear", "narrow scale point", "y", attributes)
            .output("y", 3);
        model.run(vec![tensor(&[1], &[-31.0])]).unwrap()[0].elements::<i8>().unwrap()[0]
    };
    assert_eq!((run(21, &[]), run(23, &[])), (-81, -82));
    assert_eq!((run(23, &[int("precision", 1)]), run(23, &[int("precision", 10)])), (-81, -82));
}

#[test]
fn the_area_tangent_is_odd() {
    for x in [0.0, 1e-30, 0.25, 0.998_845, 0.999_999_9, 1.0_f32] {
        let found = one(9, "Atanh", "", &[]).floats(vec![tensor(&[2], &[x, -x])]).1;
        assert_eq!(found[0].to_bits(), (-found[1]).to_bits(), "{x}");
        let wanted = f64::from(x).atanh();
        let found = f64::from(found[0]);
        // The difference of equal infinities is NaN, so bits are compared first.
        assert!(found.to_bits() == wanted.to_bits() || (found - wanted).abs() <= 1e-6 * wanted, "{x}");
    }
}

/// A model of one node from i64 inputs to an i64 output.
fn of_integers(op: &str, inputs: usize, attributes: &[AttributeProto]) -> Model {
    let names: Vec<String> = (0..inputs).map(|index| format!("x{index}")).collect();
    let mut model = Model::new(13).node(op, &names.join(" "), "y", attributes).output("y", I64);
    model.graph.input.extend(names.iter().map(|name| info(name, I64, None)));
    model
}

fn integers(dims: &[usize], elements: &[i64]) -> Value {
    Value::new(dims.to_vec(), elements.to_vec()).unwrap()
}

#[test]
fn integers_are_multiplied_and_summed_as_integers() {
    // This number and its neighbours are one number in f64.
    let large = (1_i64 << 60) + 1;
    let (a, b) = (|| integers(&[2, 2], &[large, 2, 3, 4]), || integers(&[2, 2], &[1, 0, 0, 1]));
    let einsum = |equation| of_integers("Einsum", 2, &[string("equation", equation)]).longs(vec![a(), b()]);
    assert_eq!(einsum("ij,jk->ik"), (vec![2, 2], vec![large, 2, 3, 4]));
    assert_eq!(einsum("ii,jj->"), (vec![], vec![2 * (large + 4)]));
    let gemm = of_integers("Gemm", 3, &[int("transA", 1)]);
    let found = gemm.longs(vec![a(), b(), integers(&[2], &[10, 20])]);
    assert_eq!(found, (vec![2, 2], vec![large + 10, 23, 12, 24]));
    let halved = of_integers("Gemm", 2, &[float("alpha", 0.5)]);
    assert_eq!(halved.run(vec![a(), b()]).unwrap_err().kind(), ErrorKind::UnsupportedOperation);
}

#[test]
fn false_comes_before_true() {
    let model = Model::new(13).input("x", BOOL, &[3]).node("Unique", "x", "y places", &[]);
    let model = model.output("y", BOOL).output("places", I64);
    let outputs = model.run(vec![Value::new(vec![3], vec![true, false, true]).unwrap()]).unwrap();
    assert_eq!(outputs[0].elements::<bool>().unwrap(), [false, true]);
    assert_eq!(outputs[1].elements::<i64>().unwrap(), [1, 0]);
}

#[test]
fn an_old_resize_takes_the_next_element_where_fewer_are_left() {
    let model = one(10, "Resize", "s", &[string("mode", "nearest")]);
    let run = |scale: f32| model.clone().weights("s", &[1], &[scale]).floats(vec![counting(&[8])]).1;
    assert_eq!(run(0.75), [0.0, 2.0, 3.0, 4.0, 6.0, 7.0]);
    assert_eq!(run(0.4), [0.0, 3.0, 5.0]);
    assert_eq!(run(1.5), [0.0, 0.0, 1.0, 2.0, 2.0, 3.0, 4.0, 4.0, 5.0, 6.0, 6.0, 7.0]);
}
