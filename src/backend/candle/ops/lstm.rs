//! LSTM, forwards, backwards and both, with the standard activations.

use super::super::meter::Cx;
use super::super::node::Node;
use super::super::value::{Dims, Value, count};
use super::super::{kernel, math};
use super::matmul::{Matrices, Size, multiply};
use super::{Kernel, Operator, since};
use crate::nn::Error;

pub(super) const OPERATORS: &[Operator] = &[since(7, "LSTM", (3, 8), lstm)];

#[derive(Clone, Copy)]
struct Direction {
    index: usize,
    reverse: bool,
}

fn lstm(node: &Node<'_>) -> Result<Kernel, Error> {
    let directions: &[Direction] = match node.string("direction", "forward")? {
        "forward" => &[Direction { index: 0, reverse: false }],
        "reverse" => &[Direction { index: 0, reverse: true }],
        "bidirectional" => &[Direction { index: 0, reverse: false }, Direction { index: 1, reverse: true }],
        _ => return Err(Error::invalid_encoding("a direction that is none of the three")),
    };
    if let Some(activations) = node.strings("activations")? {
        let same = |(name, wanted): (&&str, &str)| name.eq_ignore_ascii_case(wanted);
        let standard = ["Sigmoid", "Tanh", "Tanh"].into_iter().cycle();
        if !activations.iter().zip(standard).all(same) {
            return Err(Error::unsupported("other activations than the standard ones"));
        }
    }
    node.ignore(&["hidden_size"]);
    let clips = node.float_option("clip")?.is_some();
    if clips || node.flag("input_forget", false)? || node.flag("layout", false)? {
        return Err(Error::unsupported("clip, input_forget and layout"));
    }
    if node.has_input(4) || node.has_input(7) {
        return Err(Error::unsupported("sequence lengths and peepholes"));
    }
    Ok(Box::new(move |args, cx| {
        let (x, w, r) = (args.get(0)?, args.get(1)?, args.get(2)?);
        let (&[steps, batch, input], &[count_w, gates, input_w], &[count_r, gates_r, hidden]) =
            (x.dims(), w.dims(), r.dims())
        else {
            return Err(Error::invalid_argument("three dimensions are wanted"));
        };
        let count_d = directions.len();
        let fits = (count_w, count_r, input_w, gates_r) == (count_d, count_d, input, gates);
        if !fits || hidden.checked_mul(4) != Some(gates) {
            let why = format!("weights {} and {} for {}", Dims(w.dims()), Dims(r.dims()), Dims(x.dims()));
            return Err(Error::invalid_argument(why));
        }
        let optional = |index: usize, dims: &[usize]| match args.option(index) {
            Some(value) if value.dims() == dims => value.elements::<f32>().map(Some),
            Some(value) => Err(Error::invalid_argument(format!("input {index} is {}", Dims(value.dims())))),
            None => Ok(None),
        };
        let state = [count_d, batch, hidden];
        let bias = optional(3, &[count_d, gates.saturating_mul(2)])?;
        let (h0, c0) = (optional(5, &state)?, optional(6, &state)?);
        let size = Sizes { steps, batch, hidden };
        let cells = batch * hidden;
        count(&[steps, count_d, batch, hidden, 8])?;

        let (mut last_h, charge_h) = zeros(cx, &state)?;
        let (mut last_c, charge_c) = zeros(cx, &state)?;
        let result = cx.output::<f32>(&[steps, count_d, batch, hidden])?.try_write(0.0, |out| {
            for direction in directions {
                let d = direction.index;
                let (h, c) = (&mut last_h[d * cells..(d + 1) * cells], &mut last_c[d * cells..(d + 1) * cells]);
                for (state, initial) in [(&mut *h, h0), (&mut *c, c0)] {
                    if let Some(initial) = initial {
                        state.copy_from_slice(&initial[d * cells..(d + 1) * cells]);
                    }
                }
                // The input's part of every gate at every step, in one product.
                let left = Matrices::rows(x.storage()?, steps * batch, input);
                let right = Matrices::rows(w.storage()?, gates, input);
                let right = Matrices { start: d * gates * input, ..right }.transposed();
                let shape = Size { batch: 1, m: steps * batch, n: gates, k: input };
                let (mut parts, _charge) = multiply::<f32>(left, right, shape, cx)?;
                if let Some(bias) = bias {
                    let bias = &bias[d * 2 * gates..(d + 1) * 2 * gates];
                    let (of_w, of_r) = bias.split_at(gates);
                    for row in parts.chunks_exact_mut(gates.max(1)) {
                        row.iter_mut().zip(of_w.iter().zip(of_r)).for_each(|(x, (a, b))| *x += a + b);
                    }
                }
                let recurrent = &r.elements::<f32>()?[d * gates * hidden..(d + 1) * gates * hidden];
                let visit = |step: usize, h: &[f32]| {
                    let start = (step * count_d + d) * cells;
                    out[start..start + cells].copy_from_slice(h);
                };
                recur(&mut parts, recurrent, h, c, size, direction.reverse, cx, visit)?;
            }
            Ok(())
        })?;
        Ok(vec![
            result,
            Value::charged(state.to_vec(), last_h, charge_h)?,
            Value::charged(state.to_vec(), last_c, charge_c)?,
        ])
    }))
}

fn zeros(cx: &Cx<'_>, dims: &[usize]) -> Result<(Vec<f32>, super::super::meter::Charge), Error> {
    let count = count(dims)?;
    let (mut elements, charge) = cx.scratch::<f32>(count)?;
    elements.resize(count, 0.0);
    Ok((elements, charge))
}

#[derive(Clone, Copy)]
struct Sizes {
    steps: usize,
    batch: usize,
    hidden: usize,
}

/// Runs the steps: `parts` are the gates (input, output, forget, cell) without the recurrent part.
#[expect(clippy::too_many_arguments, reason = "the state of a recurrence")]
fn recur(
    parts: &mut [f32],
    recurrent: &[f32],
    h: &mut [f32],
    c: &mut [f32],
    size: Sizes,
    reverse: bool,
    cx: &Cx<'_>,
    mut visit: impl FnMut(usize, &[f32]),
) -> Result<(), Error> {
    let Sizes { steps, batch, hidden } = size;
    if hidden == 0 || batch == 0 {
        return Ok(());
    }
    for turn in 0..steps {
        cx.control.check()?;
        let step = if reverse { steps - 1 - turn } else { turn };
        let gates = &mut parts[step * batch * 4 * hidden..(step + 1) * batch * 4 * hidden];
        for (row, gates) in gates.chunks_exact_mut(4 * hidden).enumerate() {
            let h = &mut h[row * hidden..(row + 1) * hidden];
            let c = &mut c[row * hidden..(row + 1) * hidden];
            kernel::add_dots(recurrent, h, gates);
            let (input, rest) = gates.split_at(hidden);
            let (output, rest) = rest.split_at(hidden);
            let (forget, cell) = rest.split_at(hidden);
            for index in 0..hidden {
                let kept = math::sigmoid(forget[index]) * c[index];
                c[index] = kept + math::sigmoid(input[index]) * math::tanh(cell[index]);
                h[index] = math::sigmoid(output[index]) * math::tanh(c[index]);
            }
        }
        visit(step, h);
    }
    Ok(())
}
