//! LSTM, GRU and RNN.

use super::super::builder::{F32, Model, int, node, string, tensor, value};
use super::numbers;

/// A recurrence of one direction in f64 by its definition. Weights are rows of gates, in ONNX's order.
fn recurrence(
    op: &str,
    before_reset: bool,
    x: &[f32],
    dims: [usize; 4],
    weights: [&[f32]; 3],
    reverse: bool,
    lens: &[usize],
) -> Vec<f64> {
    let [steps, batch, input, hidden] = dims;
    let ([w, r, bias], gates) = (weights, weights[0].len() / input);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let dot = |row: &[f32], x: &[f64]| row.iter().zip(x).map(|(&a, b)| f64::from(a) * b).sum::<f64>();
    let mut out = vec![0.0; steps * batch * hidden];
    for sequence in 0..batch {
        let (mut h, mut c) = (vec![0.0; hidden], vec![0.0; hidden]);
        for iteration in 0..lens[sequence] {
            let step = if reverse { lens[sequence] - 1 - iteration } else { iteration };
            let own: Vec<f64> = x[(step * batch + sequence) * input..][..input].iter().map(|&x| f64::from(x)).collect();
            let from_input = |gate: usize| dot(&w[gate * input..][..input], &own) + f64::from(bias[gate]);
            let from_state =
                |gate: usize, h: &[f64]| dot(&r[gate * hidden..][..hidden], h) + f64::from(bias[gates + gate]);
            let sum = |gate: usize| from_input(gate) + from_state(gate, &h);
            let next: Vec<f64> = match op {
                "LSTM" => {
                    let pairs: Vec<(f64, f64)> = (0..hidden)
                        .map(|at| {
                            let kept = sigmoid(sum(2 * hidden + at)) * c[at];
                            let cell = kept + sigmoid(sum(at)) * sum(3 * hidden + at).tanh();
                            (cell, sigmoid(sum(hidden + at)) * cell.tanh())
                        })
                        .collect();
                    c = pairs.iter().map(|pair| pair.0).collect();
                    pairs.iter().map(|pair| pair.1).collect()
                }
                "GRU" => {
                    let reset: Vec<f64> = (0..hidden).map(|at| sigmoid(sum(hidden + at))).collect();
                    let scaled: Vec<f64> = h.iter().zip(&reset).map(|(h, r)| h * r).collect();
                    (0..hidden)
                        .map(|at| {
                            let last = 2 * hidden + at;
                            let state =
                                if before_reset { reset[at] * from_state(last, &h) } else { from_state(last, &scaled) };
                            let (update, new) = (sigmoid(sum(at)), (from_input(last) + state).tanh());
                            (1.0 - update) * new + update * h[at]
                        })
                        .collect()
                }
                _ => (0..hidden).map(|at| sum(at).tanh()).collect(),
            };
            h = next;
            out[(step * batch + sequence) * hidden..][..hidden].copy_from_slice(&h);
        }
    }
    out
}

#[test]
fn recurrences_of_many_sizes_are_those_of_the_definition() {
    for (steps, batch, input, hidden) in [(5, 1, 3, 37), (4, 3, 19, 21), (3, 9, 8, 300), (1, 1, 5, 16)] {
        for (op, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
            for (before_reset, constant, shorter) in [
                (false, true, false),
                (true, true, false),
                (false, false, false),
                (true, false, true),
                (false, true, true),
            ] {
                if before_reset && op != "GRU" {
                    continue;
                }
                let rows = gates * hidden;
                let part =
                    |count: usize, seed: usize| numbers(count, seed).iter().map(|x| x * 0.15).collect::<Vec<_>>();
                let (x, w) = (numbers(steps * batch * input, 1), part(2 * rows * input, 2));
                let (r, bias) = (part(2 * rows * hidden, 3), part(4 * rows, 4));
                let lens: Vec<usize> = (0..batch).map(|at| if shorter { 1 + at % steps } else { steps }).collect();
                let mut attributes = vec![int("hidden_size", hidden as i64), string("direction", "bidirectional")];
                if op == "GRU" {
                    attributes.push(int("linear_before_reset", i64::from(before_reset)));
                }
                let size = |size: usize| size as i64;
                let dims = [[2, size(rows), size(input)], [2, size(rows), size(hidden)], [1, 2, 2 * size(rows)]];
                let mut model = Model::new(14).input("x", F32, &[size(steps), size(batch), size(input)]);
                let mut inputs = vec![tensor(&[steps, batch, input], &x)];
                for (name, dims, elements) in [("w", dims[0], &w), ("r", dims[1], &r)] {
                    if constant {
                        model = model.weights(name, &dims, elements);
                    } else {
                        model = model.input(name, F32, &dims);
                        inputs.push(tensor(&dims.map(|dim| dim as usize), elements));
                    }
                }
                let numbers_of_steps: Vec<i32> = lens.iter().map(|&len| len as i32).collect();
                model = model.weights("b", &dims[2][1..], &bias).input("l", 6, &[size(batch)]).output("y", F32);
                inputs.push(value(&[batch], &numbers_of_steps));
                model.graph.node.push(node(op, "x w r b l", "y", &attributes));
                let (_, found) = model.floats(inputs);
                for (direction, reverse) in [(0, false), (1, true)] {
                    let half =
                        |list: &[f32]| list[direction * list.len() / 2..(direction + 1) * list.len() / 2].to_vec();
                    let (w, r, bias) = (half(&w), half(&r), half(&bias));
                    let sizes = [steps, batch, input, hidden];
                    let wanted = recurrence(op, before_reset, &x, sizes, [&w, &r, &bias], reverse, &lens);
                    for step in 0..steps {
                        let found = &found[(step * 2 + direction) * batch * hidden..][..batch * hidden];
                        for (found, wanted) in found.iter().zip(&wanted[step * batch * hidden..]) {
                            assert!((f64::from(*found) - wanted).abs() < 2e-5, "{op} {steps} {batch} {input} {hidden}");
                        }
                    }
                }
            }
        }
    }
}
