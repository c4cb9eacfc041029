//! Indexes from coordinates: Resize by exact fractions, and `GridSample` and Range in f64, at ties that f32 would
//! round.

#![expect(clippy::float_cmp, reason = "where floats are compared, exactly is what is meant")]

use crate::CandleGraph;
use crate::tensor::value::Value;
use crate::tests::builder::{F32, I64, Model, counting, string};
use graphpool::backend::ComputeControl;

const TRANSFORMS: [&str; 5] =
    ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"];
const ROUNDINGS: [&str; 4] = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"];

fn graph(transform: &str, rounding: &str, by: &str) -> CandleGraph {
    let attributes = [string("coordinate_transformation_mode", transform), string("nearest_mode", rounding)];
    let model = Model::new(13).input("x", F32, &[-1]).output("y", F32);
    let model = match by {
        "sizes" => model.input("sizes", I64, &[1]).node("Resize", "x _ _ sizes", "y", &attributes),
        _ => model.input("scales", F32, &[1]).node("Resize", "x _ scales", "y", &attributes),
    };
    model.load().unwrap()
}

fn indices(graph: &CandleGraph, input: usize, by: Value) -> Vec<i64> {
    let outputs = graph.run(vec![counting(&[input]), by], &ComputeControl::default()).unwrap();
    outputs[0].elements::<f32>().unwrap().iter().map(|&x| x as i64).collect()
}

/// The integer nearest to `above / below` by the definition of a rounding mode, clamped to the input's indexes.
fn nearest((above, below): (i64, i64), rounding: &str, input: i64) -> i64 {
    // The distance of an integer in units of `1 / below`.
    let distance = |at: i64| at * below - above;
    let around = (-3..input + 3).filter(|&at| distance(at).abs() <= below);
    let found = match rounding {
        "floor" => around.filter(|&at| distance(at) <= 0).max(),
        "ceil" => around.filter(|&at| distance(at) >= 0).min(),
        "round_prefer_floor" => around.min_by_key(|&at| (distance(at).abs(), at)),
        _ => around.min_by_key(|&at| (distance(at).abs(), -at)),
    };
    found.unwrap().clamp(0, input - 1)
}

/// The coordinate of output `index` in the input, as a fraction, for a scale of `p / q`.
fn place(transform: &str, index: i64, (input, output): (i64, i64), (p, q): (i64, i64)) -> (i64, i64) {
    match transform {
        "asymmetric" => (index * q, p),
        "align_corners" if input * p == q => (0, 1),
        "align_corners" => (index * (input - 1) * q, input * p - q),
        "pytorch_half_pixel" if output == 1 => (0, 1),
        // The output is centred in the input.
        "half_pixel_symmetric" => (input * p - output * q + (2 * index + 1) * q - p, 2 * p),
        _ => ((2 * index + 1) * q - p, 2 * p),
    }
}

#[test]
fn sizes_lead_to_the_nearest_element() {
    for transform in TRANSFORMS {
        for rounding in ROUNDINGS {
            let graph = graph(transform, rounding, "sizes");
            for input in 1..=20_i64 {
                for output in 1..=20_i64 {
                    let found = indices(&graph, input as usize, Value::new(vec![1], vec![output]).unwrap());
                    let sizes = (input, output);
                    let wanted = |index| nearest(place(transform, index, sizes, (output, input)), rounding, input);
                    let wanted: Vec<i64> = (0..output).map(wanted).collect();
                    assert_eq!(found, wanted, "{transform} {rounding} {input} to {output}");
                }
            }
        }
    }
}

#[test]
fn scales_are_the_fractions_that_they_stand_for() {
    let scales = [(1, 3), (3, 10), (3, 5), (13, 5), (2, 3), (7, 2), (1, 1), (5, 4), (9, 7), (1, 7)];
    for transform in ["half_pixel", "align_corners", "asymmetric"] {
        for rounding in ROUNDINGS {
            let graph = graph(transform, rounding, "scales");
            for (p, q) in scales {
                for input in 7..=40_i64 {
                    let scale = p as f32 / q as f32;
                    let found = indices(&graph, input as usize, Value::new(vec![1], vec![scale]).unwrap());
                    let output = found.len() as i64;
                    assert_eq!(output, input * p / q, "{input} by {p}/{q}");
                    // If the ratio of the sizes is the same f32 as the scale, it is used instead.
                    let ratio = if (output as f64 / input as f64) as f32 == scale { (output, input) } else { (p, q) };
                    if input * ratio.0 <= ratio.1 {
                        continue;
                    }
                    let wanted = |index| nearest(place(transform, index, (input, output), ratio), rounding, input);
                    let wanted: Vec<i64> = (0..output).map(wanted).collect();
                    assert_eq!(found, wanted, "{transform} {rounding} {input} by {p}/{q}");
                }
            }
        }
    }
}

#[test]
fn a_place_on_an_element_is_that_element_alone() {
    // Outputs at the coordinate of an element are that element, whatever its neighbours are.
    for mode in ["linear", "cubic"] {
        let attributes = [string("coordinate_transformation_mode", "align_corners"), string("mode", mode)];
        let model = Model::new(13).input("x", F32, &[-1]).output("y", F32).input("sizes", I64, &[1]);
        let graph = model.node("Resize", "x _ _ sizes", "y", &attributes).load().unwrap();
        for input in 2..60_usize {
            for times in 1..8 {
                let output = (input - 1) * times + 1;
                let elements: Vec<f32> = (0..input).map(|index| if index % 2 == 0 { 1e30 } else { 3.0 }).collect();
                let sizes = Value::new(vec![1], vec![output as i64]).unwrap();
                let x = Value::new(vec![input], elements.clone()).unwrap();
                let outputs = graph.run(vec![x, sizes], &ComputeControl::default()).unwrap();
                let found: Vec<f32> = outputs[0].elements::<f32>().unwrap().iter().step_by(times).copied().collect();
                assert_eq!(found, elements, "{mode} {input} to {output}");
            }
        }
    }
}

#[test]
fn a_sample_beside_the_middle_is_the_element_on_its_side() {
    let model = Model::new(16).input("x", F32, &[1, 1, 1, -1]).input("g", F32, &[1, 1, 1, 2]).output("y", F32);
    let graph = model.node("GridSample", "x g", "y", &[string("mode", "nearest")]).load().unwrap();
    for size in [2_usize, 3, 5, 7, 8, 10, 64, 100, 1000] {
        for at in 0..size - 1 {
            let middle = (2.0 * (at as f32 + 0.5) + 1.0) / size as f32 - 1.0;
            for number in [middle, middle.next_up(), middle.next_down()] {
                let grid = Value::new(vec![1, 1, 1, 2], vec![number, 0.0]).unwrap();
                let outputs = graph.run(vec![counting(&[1, 1, 1, size]), grid], &ComputeControl::default()).unwrap();
                // Twice the distance from the middle, which is exact in f64.
                let past = (f64::from(number) + 1.0) * size as f64 - 1.0 - (2 * at + 1) as f64;
                let upper = past > 0.0 || (past == 0.0 && at % 2 == 1);
                let wanted = if upper { at + 1 } else { at };
                assert_eq!(outputs[0].elements::<f32>().unwrap(), [wanted as f32], "{number:e} of {size}");
            }
        }
    }
}

#[test]
fn a_range_is_as_long_as_its_numbers_say() {
    let model = Model::new(13).input("a", F32, &[]).input("b", F32, &[]).input("c", F32, &[]).output("y", F32);
    let graph = model.node("Range", "a b c", "y", &[]).load().unwrap();
    for delta in [0.1_f32, 0.3, 0.7, 1.1] {
        for steps in 1..400 {
            let limit = delta * steps as f32;
            let inputs = [0.0, limit, delta].map(|x| Value::scalar(x).unwrap());
            let outputs = graph.run(inputs.to_vec(), &ComputeControl::default()).unwrap();
            // The count of the numbers below the limit, with exact products in f64.
            let below =
                (0..steps + 2).filter(|&step| f64::from(step as f32) * f64::from(delta) < f64::from(limit)).count();
            assert_eq!(outputs[0].len(), below, "{limit} by {delta}");
        }
    }
}
