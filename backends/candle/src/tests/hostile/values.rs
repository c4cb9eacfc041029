//! Extreme numbers, attributes and shapes as inputs of operators.

use crate::tensor::value::Value;
use crate::tests::builder::{F32, I64, Model, counting, info, int, integers, ints, one, string, tensor};
use graphpool::backend::{ComputeControl, ErrorKind};

#[test]
fn integers_at_the_ends_of_their_range_wrap_or_are_errors() {
    let binary = |op: &str, a: i64, b: i64| {
        let model = Model::new(13).input("a", I64, &[-1]).input("b", I64, &[-1]).output("y", I64);
        let value = |number| Value::new(vec![1], vec![number]).unwrap();
        model
            .node(op, "a b", "y", &[])
            .run(vec![value(a), value(b)])
            .map(|outputs| outputs[0].elements::<i64>().unwrap()[0])
    };
    assert_eq!(binary("Div", i64::MIN, -1).unwrap(), i64::MIN);
    assert_eq!(binary("Mod", i64::MIN, -1).unwrap(), 0);
    assert_eq!(binary("Add", i64::MAX, 1).unwrap(), i64::MIN);
    assert_eq!(binary("Pow", 3, -1).unwrap(), 0);
    for op in ["Div", "Mod"] {
        assert_eq!(binary(op, 1, 0).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn attributes_out_of_range_are_errors() {
    let extremes = [i64::MIN, -100, -1, 0, 1, 100, i64::MAX];
    for value in extremes {
        for (op, name) in [("Softmax", "axis"), ("Flatten", "axis"), ("Concat", "axis"), ("ArgMax", "axis")] {
            let _ = one(13, op, "", &[int(name, value)])
                .load()
                .map(|graph| graph.run(vec![counting(&[2, 2])], &ComputeControl::default()));
        }
        for name in ["kernel_shape", "strides", "dilations", "pads"] {
            let attributes = match name {
                "kernel_shape" => vec![ints(name, &[value, value])],
                "pads" => vec![ints("kernel_shape", &[2, 2]), ints(name, &[value; 4])],
                _ => vec![ints("kernel_shape", &[2, 2]), ints(name, &[value, value])],
            };
            for op in ["MaxPool", "AveragePool"] {
                let _ = one(12, op, "", &attributes).run(vec![counting(&[1, 1, 4, 4])]);
            }
            let conv = one(12, "Conv", "w", &attributes).weights("w", &[1, 1, 2, 2], &[1.0; 4]);
            let _ = conv.run(vec![counting(&[1, 1, 4, 4])]);
            let conv = one(12, "ConvTranspose", "w", &attributes).weights("w", &[1, 1, 2, 2], &[1.0; 4]);
            let _ = conv.run(vec![counting(&[1, 1, 4, 4])]);
        }
        let _ = one(13, "Transpose", "", &[ints("perm", &[value, 0])]).run(vec![counting(&[2, 2])]);
        let _ = one(12, "Squeeze", "", &[ints("axes", &[value])]).run(vec![counting(&[1, 1])]);
        let _ = one(12, "Unsqueeze", "", &[ints("axes", &[value])]).run(vec![counting(&[2])]);
        let _ = one(13, "DepthToSpace", "", &[int("blocksize", value)]).run(vec![counting(&[1, 4, 1, 1])]);
        for step in extremes {
            let slice = one(13, "Slice", "a b axes steps", &[])
                .integers("a", &[1], &[value])
                .integers("b", &[1], &[step])
                .integers("axes", &[1], &[0])
                .integers("steps", &[1], &[step]);
            let _ = slice.run(vec![counting(&[5])]);
            let _ = slice.run(vec![counting(&[0])]);
        }
        let gather = one(13, "Gather", "i", &[]).initializer(integers("i", &[1], &[value]));
        let in_range = (-2..2).contains(&value);
        assert_eq!(gather.run(vec![counting(&[2])]).is_ok(), in_range);
    }
}

#[test]
fn every_operator_meets_empty_and_strange_tensors_without_a_panic() {
    let shapes: [&[usize]; 8] = [&[], &[0], &[1], &[3], &[0, 3], &[2, 2], &[1, 2, 0, 3], &[2, 2, 3, 3]];
    for operator in crate::operators() {
        for first in shapes {
            for second in shapes {
                for opset in [operator.since, operator.until] {
                    let inputs = operator.inputs.0.max(1);
                    let names: Vec<String> = (0..inputs).map(|index| format!("i{index}")).collect();
                    let mut model = Model::new(opset).output("y", F32).node(operator.name, &names.join(" "), "y", &[]);
                    model = model.of_domain(operator.domain, opset);
                    let dims = |index: usize| if index == 0 { first } else { second };
                    for (index, name) in names.iter().enumerate() {
                        model.graph.input.push(info(name, F32, None));
                        let _ = index;
                    }
                    let _ = model.run((0..inputs).map(|index| counting(dims(index))).collect());
                    // The same with integers for all inputs but the first.
                    for input in model.graph.input.iter_mut().skip(1) {
                        *input = info(input.name.as_deref().unwrap(), I64, None);
                    }
                    let integers = |index: usize| {
                        let count: usize = dims(index).iter().product();
                        Value::new(dims(index).to_vec(), (0..count).map(|number| number as i64 - 1).collect()).unwrap()
                    };
                    let values = (0..inputs).map(|index| if index == 0 { counting(first) } else { integers(index) });
                    let _ = model.run(values.collect());
                }
            }
        }
    }
}

#[test]
fn a_window_of_one_over_one_has_its_pads() {
    let attributes = [ints("kernel_shape", &[1, 1, 2]), ints("pads", &[1, 0, 0, 1, 0, 0])];
    let (dims, elements) = one(13, "MaxPool", "", &attributes).floats(vec![tensor(&[1, 1, 1, 1, 3], &[1.0, 3.0, 2.0])]);
    assert_eq!(dims, [1, 1, 3, 1, 2]);
    let none = f32::NEG_INFINITY;
    assert_eq!(elements, [none, none, 3.0, 3.0, none, none]);
}

#[test]
fn a_convolution_of_two_types_is_refused_however_its_weights_come() {
    use half::f16;
    let image = || Value::new(vec![1, 1, 2, 2], vec![f16::ONE; 4]).unwrap();
    let model = |model: Model| {
        let mut model = model.node("Conv", "x w", "y", &[]).output("y", 10);
        model.graph.input.insert(0, info("x", 10, None));
        model
    };
    let weights = tensor(&[1, 1, 1, 1], &[2.0]);
    let constant = model(Model::new(13).weights("w", &[1, 1, 1, 1], &[2.0])).run(vec![image()]);
    let given = model(Model::new(13).input("w", F32, &[1, 1, 1, 1])).run(vec![image(), weights]);
    for refused in [constant, given] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    let half = Value::new(vec![1, 1, 1, 1], vec![f16::from_f32(2.0)]).unwrap();
    let outputs = model(Model::new(13).input("w", 10, &[1, 1, 1, 1])).run(vec![image(), half]).unwrap();
    assert_eq!(outputs[0].elements::<f16>().unwrap(), [f16::from_f32(2.0); 4]);
}

#[test]
fn pads_that_cancel_each_other_out_are_refused_if_they_overflow() {
    for mode in ["constant", "reflect", "edge", "wrap"] {
        let model = one(19, "Pad", "pads", &[string("mode", mode)]).input("pads", I64, &[2]);
        let pads = |before: i64, after: i64| {
            let pads = Value::new(vec![2], vec![before, after]).unwrap();
            model.run(vec![tensor(&[3], &[1.0, 2.0, 3.0]), pads]).map_err(|error| error.kind())
        };
        assert_eq!(pads(-1, 1).unwrap()[0].len(), 3);
        for (before, after) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (i64::MIN + 1, i64::MAX)] {
            assert_eq!(pads(before, after).unwrap_err(), ErrorKind::InvalidArgument, "{mode} {before} {after}");
        }
    }
}
