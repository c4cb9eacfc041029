//! Kernels with vector loops beside plain loops over the definition, at sizes that are no multiples of a vector.

#![allow(clippy::many_single_char_names, reason = "the names of ONNX's formulas")]
#![allow(clippy::float_cmp, reason = "infinities are equal")]

use super::builder::{close, float, int, kernel, run_kernel, string, tensor, value};
use crate::format::messages::AttributeProto;
use crate::tensor::value::Value;
use graphpool::backend::ComputeControl;
use half::f16;

mod recurrences;
mod windows;

/// Numbers that look random, from -2 to 2.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|index| ((index * 7919 + seed * 104_729) % 4001) as f32 / 1000.0 - 2.0).collect()
}

/// The outputs of an operator of ai.onnx at opset 18.
fn run(op: &str, inputs: Vec<Value>, outputs: usize, attributes: &[AttributeProto]) -> Vec<Value> {
    let kernel = kernel(("", 18), op, inputs.len(), outputs, attributes);
    run_kernel(&kernel, inputs, &ComputeControl::default()).unwrap()
}

fn floats(value: &Value) -> &[f32] {
    value.elements().unwrap()
}

#[test]
fn halves_convert_as_one_by_one() {
    let x: Vec<f32> = numbers(77, 1).into_iter().chain([f32::NAN, f32::INFINITY, -1e-8, 70_000.0, 1e-7]).collect();
    let halves = run("Cast", vec![tensor(&[82], &x)], 1, &[int("to", 10)]);
    let wanted: Vec<u16> = x.iter().map(|&x| f16::from_f32(x).to_bits()).collect();
    let found = halves[0].elements::<f16>().unwrap();
    assert_eq!(found.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), wanted);
    let wide = run("Cast", vec![halves[0].clone()], 1, &[int("to", 1)]);
    for (found, wanted) in floats(&wide[0]).iter().zip(found) {
        assert_eq!(found.to_bits(), wanted.to_f32().to_bits());
    }
    let other: Vec<f16> = numbers(82, 2).into_iter().map(f16::from_f32).collect();
    let sums = run("Add", vec![halves[0].clone(), value(&[82], &other)], 1, &[]);
    for ((sum, &a), &b) in sums[0].elements::<f16>().unwrap().iter().zip(found).zip(&other) {
        assert!(*sum == a + b || (sum.is_nan() && (a + b).is_nan()));
    }
}

#[test]
fn floats_become_bytes_and_booleans_as_one_by_one() {
    let x: Vec<f32> =
        numbers(77, 1).into_iter().map(|x| x * 300.0).chain([f32::NAN, f32::INFINITY, -0.0, 0.0]).collect();
    let bytes = run("Cast", vec![tensor(&[81], &x)], 1, &[int("to", 2)]);
    assert_eq!(bytes[0].elements::<u8>().unwrap(), x.iter().map(|&x| x as u8).collect::<Vec<_>>());
    let large: Vec<f32> = x.iter().map(|x| x * 1e7).chain([-3e9, 2_147_483_647.0, -2_147_483_648.0, -0.9]).collect();
    let integers = run("Cast", vec![tensor(&[85], &large)], 1, &[int("to", 6)]);
    assert_eq!(integers[0].elements::<i32>().unwrap(), large.iter().map(|&x| x as i32).collect::<Vec<_>>());
    let flags = run("Cast", vec![tensor(&[81], &x)], 1, &[int("to", 9)]);
    assert_eq!(flags[0].elements::<bool>().unwrap(), x.iter().map(|&x| x != 0.0).collect::<Vec<_>>());
}

#[test]
fn comparisons_and_choices_broadcast() {
    let (a, b) = (numbers(5 * 37, 1), numbers(37, 2));
    let less = run("Less", vec![tensor(&[5, 37], &a), tensor(&[37], &b)], 1, &[]);
    let wanted: Vec<bool> = a.iter().enumerate().map(|(at, &x)| x < b[at % 37]).collect();
    assert_eq!(less[0].elements::<bool>().unwrap(), wanted);
    let column = [true, false, true, true, false];
    for (flags, dims) in [(&wanted[..], vec![5, 37]), (&wanted[..37], vec![37]), (&column[..], vec![5, 1])] {
        for (second, second_dims) in [(&b[..], vec![37]), (&b[..1], vec![]), (&b[..5], vec![5, 1])] {
            let inputs = vec![value(&dims, flags), tensor(&[5, 37], &a), tensor(&second_dims, second)];
            let found = run("Where", inputs, 1, &[]);
            let pick = |(at, &x): (usize, &f32)| {
                let flag = match flags.len() {
                    5 => flags[at / 37],
                    37 => flags[at % 37],
                    _ => flags[at],
                };
                let other = match second.len() {
                    1 => second[0],
                    5 => second[at / 37],
                    _ => second[at % 37],
                };
                if flag { x } else { other }
            };
            assert_eq!(floats(&found[0]), a.iter().enumerate().map(pick).collect::<Vec<_>>());
        }
    }
}

#[test]
fn reductions_over_any_adjacent_axes_are_those_of_the_definition() {
    let dims = [3, 7, 5, 37];
    let x = numbers(dims.iter().product(), 3);
    for (axes, before, count, after) in [
        (vec![0], 1, 3, 7 * 5 * 37),
        (vec![1], 3, 7, 5 * 37),
        (vec![1, 2], 3, 35, 37),
        (vec![3], 3 * 35, 37, 1),
        (vec![2, 3], 21, 5 * 37, 1),
        (vec![0, 1, 2, 3], 1, 3 * 35 * 37, 1),
    ] {
        for op in ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"] {
            let list = value(&[axes.len()], &axes);
            let found = run(op, vec![tensor(&dims, &x), list], 1, &[]);
            let wanted = (0..before * after).map(|at| {
                let (block, column) = (at / after, at % after);
                let row = (0..count).map(|place| x[(block * count + place) * after + column]);
                match op {
                    "ReduceSum" => row.map(f64::from).sum::<f64>() as f32,
                    "ReduceMean" => (row.map(f64::from).sum::<f64>() / count as f64) as f32,
                    "ReduceMax" => row.fold(f32::NEG_INFINITY, f32::max),
                    _ => row.fold(f32::INFINITY, f32::min),
                }
            });
            close(floats(&found[0]), &wanted.collect::<Vec<_>>());
        }
    }
    for place in [0, 13, 36] {
        let mut x = x[..74].to_vec();
        x[place] = f32::NAN;
        for (axes, dims) in [([1_i64], [2, 37]), ([0], [37, 2])] {
            let found = run("ReduceMax", vec![tensor(&dims, &x), value(&[1], &axes)], 1, &[]);
            assert_eq!(floats(&found[0]).iter().filter(|x| x.is_nan()).count(), 1);
        }
    }
}

#[test]
fn softmax_along_every_axis_is_that_of_the_definition() {
    let dims = [3, 7, 5, 19];
    let mut x = numbers(dims.iter().product(), 21);
    (x[40], x[500], x[1001]) = (f32::NEG_INFINITY, f32::NAN, 80.0);
    for axis in 0..4 {
        let (step, count) = (dims[axis + 1..].iter().product::<usize>(), dims[axis]);
        for op in ["Softmax", "LogSoftmax"] {
            let found = run(op, vec![tensor(&dims, &x)], 1, &[int("axis", axis as i64)]);
            for (at, &found) in floats(&found[0]).iter().enumerate() {
                let first = at / (step * count) * step * count + at % step;
                let row = (0..count).map(|place| f64::from(x[first + place * step]));
                let top = row.clone().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = row.map(|x| (x - top).exp()).sum();
                let number = f64::from(x[at]) - top;
                let wanted = if op == "Softmax" { number.exp() / sum } else { number - sum.ln() };
                let near = (f64::from(found) - wanted).abs() < 1e-5 * (1.0 + wanted.abs());
                assert!(near || f64::from(found) == wanted || (found.is_nan() && wanted.is_nan()), "{op} {axis} {at}");
            }
        }
    }
}

#[test]
fn sums_up_to_each_element_are_those_of_the_definition() {
    let dims = [3, 5, 37];
    let x = numbers(3 * 5 * 37, 5);
    for (axis, size, step) in [(0, 3, 185), (1, 5, 37), (2, 37, 1)] {
        for (exclusive, reverse) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let attributes = [int("exclusive", exclusive), int("reverse", reverse)];
            let found = run("CumSum", vec![tensor(&dims, &x), value(&[], &[i64::from(axis)])], 1, &attributes);
            let wanted = (0..x.len()).map(|at| {
                let (place, first) = (at / step % size, at - at / step % size * step);
                let other = |other: usize| match (exclusive, reverse) {
                    (0, 0) => other <= place,
                    (0, _) => other >= place,
                    (_, 0) => other < place,
                    _ => other > place,
                };
                (0..size).filter(|&at| other(at)).map(|other| x[first + other * step]).sum::<f32>()
            });
            close(floats(&found[0]), &wanted.collect::<Vec<_>>());
        }
    }
}

#[test]
fn repeated_rows_and_elements_are_copied() {
    let x: Vec<f32> = numbers(3 * 37, 7);
    for repeats in [[1, 2], [2, 1], [3, 2]] {
        let found = run("Tile", vec![tensor(&[3, 37], &x), value(&[2], &repeats)], 1, &[]);
        let (rows, columns) = (3 * repeats[0] as usize, 37 * repeats[1] as usize);
        let wanted: Vec<f32> = (0..rows * columns).map(|at| x[at / columns % 3 * 37 + at % columns % 37]).collect();
        assert_eq!(floats(&found[0]), wanted);
    }
}

#[test]
fn narrow_tensors_are_joined() {
    let (a, b, c) = (numbers(37 * 2, 1), numbers(37, 2), numbers(37 * 4, 3));
    let inputs = vec![tensor(&[37, 2], &a), tensor(&[37, 1], &b), tensor(&[37, 4], &c)];
    let found = run("Concat", inputs, 1, &[int("axis", 1)]);
    let rows = (0..37).flat_map(|row| [&a[row * 2..row * 2 + 2], &b[row..=row], &c[row * 4..row * 4 + 4]].concat());
    assert_eq!(floats(&found[0]), rows.collect::<Vec<_>>());
}

#[test]
fn elements_are_gathered_and_scattered_along_every_axis() {
    let dims = [3, 5, 7];
    let x = numbers(105, 8);
    for (axis, size, step) in [(0, 3, 35), (1, 5, 7), (2, 7, 1)] {
        let indices: Vec<i64> = (0..105_i64).map(|at| at * 31 % size as i64 - at % 2 * size as i64).collect();
        let place = |at: usize| {
            let index = indices[at].rem_euclid(size as i64) as usize;
            at - at / step % size * step + index * step
        };
        let axis = [int("axis", axis)];
        let found = run("GatherElements", vec![tensor(&dims, &x), value(&dims, &indices)], 1, &axis);
        assert_eq!(floats(&found[0]), (0..105).map(|at| x[place(at)]).collect::<Vec<_>>());
        let updates = numbers(105, 9);
        let inputs = vec![tensor(&dims, &x), value(&dims, &indices), tensor(&dims, &updates)];
        let found = run("ScatterElements", inputs, 1, &axis);
        let mut wanted = x.clone();
        (0..105).for_each(|at| wanted[place(at)] = updates[at]);
        assert_eq!(floats(&found[0]), wanted);
    }
}

#[test]
fn few_of_the_largest_are_those_of_a_sort() {
    let mut x = numbers(3 * 131, 10);
    for at in (0..x.len()).step_by(5) {
        x[at] = (at % 3) as f32;
    }
    (x[17], x[140], x[30], x[33]) = (f32::NAN, f32::INFINITY, 0.0, -0.0);
    for (k, largest) in [(1, 1), (4, 1), (32, 1), (33, 1), (1, 0), (7, 0), (131, 0)] {
        for (dims, axis) in [([3, 131], 1), ([131, 3], 0)] {
            let found = run(
                "TopK",
                vec![tensor(&dims, &x), value(&[1], &[k as i64])],
                2,
                &[int("largest", largest), int("axis", axis)],
            );
            let (step, next) = if axis == 1 { (1, 131) } else { (3, 1) };
            for row in 0..3 {
                let mut order: Vec<usize> = (0..131).collect();
                let rank = |at: &usize| {
                    let x = x[row * next + at * step];
                    // A NaN counts as the largest.
                    let x = if x.is_nan() { f64::INFINITY } else { f64::from(x).min(1e300) + 0.0 };
                    if largest == 1 { 0.0 - x } else { x }
                };
                order.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
                let wanted: Vec<i64> = order[..k].iter().map(|&at| at as i64).collect();
                let indices = found[1].elements::<i64>().unwrap();
                let found: Vec<i64> =
                    (0..k).map(|at| if axis == 1 { indices[row * k + at] } else { indices[at * 3 + row] }).collect();
                assert_eq!(found, wanted, "{k} {largest} {axis}");
            }
        }
    }
}

#[test]
fn products_of_named_dimensions_are_those_of_the_definition() {
    // Batch b, rows i, columns j, summed k.
    let (b, i, j, k) = (2, 5, 19, 33);
    for (left, right) in [("bik", "bkj"), ("bik", "bjk"), ("bki", "bkj"), ("ibk", "jbk"), ("kbi", "kjb")] {
        let size = |name: char| match name {
            'b' => b,
            'i' => i,
            'j' => j,
            _ => k,
        };
        let dims = |term: &str| term.chars().map(size).collect::<Vec<_>>();
        let place =
            |term: &str, of: &dyn Fn(char) -> usize| term.chars().fold(0, |at, name| at * size(name) + of(name));
        let (x, y) = (numbers(b * i * k, 11), numbers(b * j * k, 12));
        for output in ["bij", "jib"] {
            let equation = string("equation", &format!("{left},{right}->{output}"));
            let found = run("Einsum", vec![tensor(&dims(left), &x), tensor(&dims(right), &y)], 1, &[equation]);
            let mut wanted = vec![0.0; b * i * j];
            for at in 0..b * i * j {
                let (own_b, own_i, own_j) = (at / (i * j), at / j % i, at % j);
                let of = |own_k: usize| {
                    move |name: char| match name {
                        'b' => own_b,
                        'i' => own_i,
                        'j' => own_j,
                        _ => own_k,
                    }
                };
                let product =
                    |own_k: usize| f64::from(x[place(left, &of(own_k))]) * f64::from(y[place(right, &of(own_k))]);
                wanted[place(output, &of(0))] = (0..k).map(product).sum::<f64>() as f32;
            }
            for (found, wanted) in floats(&found[0]).iter().zip(&wanted) {
                assert!((found - wanted).abs() < 1e-4, "{left} {right} {output}");
            }
        }
    }
}

#[test]
fn functions_with_numbers_of_their_own_are_those_of_the_definition() {
    let x: Vec<f32> = numbers(77, 13).into_iter().map(|x| x * 3.0).chain([f32::NAN, f32::INFINITY]).collect();
    let check = |op: &str, attributes: &[AttributeProto], exact: &dyn Fn(f64) -> f64| {
        let found = run(op, vec![tensor(&[79], &x)], 1, attributes);
        for (&found, &x) in floats(&found[0]).iter().zip(&x) {
            let wanted = exact(f64::from(x));
            let near = (f64::from(found) - wanted).abs() <= 1e-6 * (1.0 + wanted.abs());
            assert!(near || f64::from(found) == wanted || (found.is_nan() && wanted.is_nan()), "{op} {x}: {found}");
        }
    };
    check("LeakyRelu", &[float("alpha", 0.25)], &|x| if x < 0.0 { 0.25 * x } else { x });
    check("Elu", &[float("alpha", 0.5)], &|x| if x < 0.0 { 0.5 * x.exp_m1() } else { x });
    check("Softplus", &[], &|x| x.max(0.0) + (-x.abs()).exp().ln_1p());
    check("Mish", &[], &|x| x * (x.max(0.0) + (-x.abs()).exp().ln_1p()).tanh());
    check("Log", &[], &f64::ln);
    check("Sin", &[], &f64::sin);
    check("Cos", &[], &f64::cos);
    let small = run("Cos", vec![tensor(&[77], &x[..77])], 1, &[]);
    close(floats(&small[0]), &x[..77].iter().map(|x| x.cos()).collect::<Vec<_>>());
    let large = run("Sin", vec![tensor(&[2], &[1e9, 0.5])], 1, &[]);
    close(floats(&large[0]), &[1e9_f32.sin(), 0.5_f32.sin()]);
    let found = run("LogSoftmax", vec![tensor(&[1, 77], &x[..77])], 1, &[]);
    let total = x[..77].iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
    let wanted: Vec<f32> = x[..77].iter().map(|&x| (f64::from(x) - total) as f32).collect();
    close(floats(&found[0]), &wanted);
}
