//! LSTM, GRU and RNN: in both directions, with sequence lengths, peepholes, clipping and all activations of ONNX.
//!
//! Steps in f32 are those of `packed_steps`, which packs the weights. This file has the others.
//!
//! The contribution of the input to every gate at every step is one product. Each step then adds the product of the
//! state and the recurrent weights, and evaluates the gates.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::math::product::{Matrices, Size, multiply};
use crate::ops::cast::convert;
use crate::ops::layout::permute;
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::ops::packed_steps::{self, Packed, Sizes, Steps};
use crate::ops::real::{Real, compute_type, promote_to};
use crate::ops::rnn_cells::{Cell, Kind, cells_of, directions, parameter, sequence_lengths};
use crate::tensor::budget::Charge;
use crate::tensor::dims::{Dims, count};
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, Values, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(7, "LSTM", (3, 8), |node| recurrence(node, Kind::Lstm))
        .heavy()
        .device(form!(|node| recurrent::recurrence(node, Kind::Lstm))),
    since(7, "GRU", (3, 6), |node| recurrence(node, Kind::Gru))
        .heavy()
        .device(form!(|node| recurrent::recurrence(node, Kind::Gru))),
    since(7, "RNN", (3, 6), |node| recurrence(node, Kind::Rnn))
        .heavy()
        .device(form!(|node| recurrent::recurrence(node, Kind::Rnn))),
];

/// The attributes.
struct Recurrence {
    kind: Kind,
    /// Whether each direction goes backwards.
    directions: Vec<bool>,
    cells: Vec<Cell>,
    batch_first: bool,
    /// The weights of each direction, if they are constant.
    packed: Option<Vec<Packed>>,
}

fn recurrence(node: &Node<'_>, kind: Kind) -> Result<OpFn, Error> {
    let directions = directions(node)?;
    node.ignore(&["hidden_size"]);
    let batch_first = node.opset >= 14 && node.flag("layout", false)?;
    let cells = cells_of(node, kind, directions.len())?;
    let packed = packed_steps::pack_at_load(node, kind);
    let recurrence = Recurrence { kind, directions, cells, batch_first, packed };
    Ok(Box::new(move |args, cx| {
        let first = args.get(0)?;
        let (ty, compute_ty) = (first.ty(), compute_type(first.ty()).ok_or_else(|| no_type(first))?);
        let outputs = match compute_ty {
            ElementType::F64 => recurrence.run::<f64>(args, cx)?,
            _ => recurrence.run::<f32>(args, cx)?,
        };
        outputs.into_iter().map(|value| convert(value, ty, cx)).collect()
    }))
}

/// The state and the parameters of one direction.
struct Direction<'a, T> {
    h: &'a mut [T],
    c: &'a mut [T],
    recurrent: &'a [T],
    bias: Option<&'a [T]>,
    peepholes: Option<&'a [T]>,
}

/// A type that has vector loops for the steps, or none.
trait Recurrent: Real {
    /// Runs the steps with packed weights, unless the type has no loops for them.
    fn run_packed(
        packed: &Packed,
        steps: &Steps<'_>,
        state: (&mut [Self], &mut [Self]),
        visit: &mut dyn FnMut(usize, usize, &[Self]),
        cx: &ExecContext<'_>,
    ) -> Result<(), Error>;

    /// The elements, if they are of f32.
    fn singles(elements: &[Self]) -> Option<&[f32]>;
}

impl Recurrent for f32 {
    fn run_packed(
        packed: &Packed,
        steps: &Steps<'_>,
        (h, c): (&mut [Self], &mut [Self]),
        visit: &mut dyn FnMut(usize, usize, &[Self]),
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        packed_steps::run(packed, steps, h, c, visit, cx)
    }
    fn singles(elements: &[Self]) -> Option<&[f32]> {
        Some(elements)
    }
}

impl Recurrent for f64 {
    fn run_packed(
        _: &Packed,
        _: &Steps<'_>,
        _: (&mut [Self], &mut [Self]),
        _: &mut dyn FnMut(usize, usize, &[Self]),
        _: &ExecContext<'_>,
    ) -> Result<(), Error> {
        Err(Error::runtime_error("packed weights are of f32"))
    }
    fn singles(_: &[Self]) -> Option<&[f32]> {
        None
    }
}

impl Recurrence {
    /// The packed weights of a direction: those of the load, or else `own`, if packing pays for so many rows.
    fn packed_weights<'a>(
        &'a self,
        weights: (&Value, &Value),
        direction: usize,
        rows: usize,
        own: &'a mut Option<Packed>,
        cx: &ExecContext<'_>,
    ) -> Result<Option<&'a Packed>, Error> {
        if let Some(packed) = &self.packed {
            return Ok(packed.get(direction));
        }
        *own = packed_steps::pack_in_call(weights, self.kind, direction, rows, cx)?;
        Ok(own.as_ref())
    }

    fn run<T: Recurrent>(&self, mut args: Args, cx: &ExecContext<'_>) -> Result<Values, Error> {
        let mut float = |index: usize, order: &[usize]| -> Result<Option<Value>, Error> {
            let Ok(value) = args.take(index) else { return Ok(None) };
            let value = promote_to(value, T::TYPE, cx)?;
            let is_permuted = self.batch_first && value.rank() == order.len() && !order.is_empty();
            if is_permuted { permute(value, order, cx).map(Some) } else { Ok(Some(value)) }
        };
        let steps_first = [1, 0, 2];
        let (x, w, r, b) = (float(0, &steps_first)?, float(1, &[])?, float(2, &[])?, float(3, &[])?);
        let (h0, c0, p) = (float(5, &steps_first)?, float(6, &steps_first)?, float(7, &[])?);
        let (Some(x), Some(w), Some(r)) = (x, w, r) else {
            return Err(Error::invalid_argument("X, W or R is missing"));
        };
        let (&[steps, batch, input], &[count_w, gates, input_w], &[count_r, gates_r, hidden]) =
            (x.dims(), w.dims(), r.dims())
        else {
            return Err(Error::invalid_argument("X, W and R must have three dimensions"));
        };
        let direction_count = self.directions.len();
        let fits = (count_w, count_r, input_w, gates_r) == (direction_count, direction_count, input, gates);
        if !fits || hidden.checked_mul(self.kind.gates()) != Some(gates) {
            let why = format!(
                "the weights {} and {} do not fit the input {}",
                Dims(w.dims()),
                Dims(r.dims()),
                Dims(x.dims())
            );
            return Err(Error::invalid_argument(why));
        }
        let lens = args.option(4).map(|lens| sequence_lengths(lens, steps, batch, cx)).transpose()?;
        let state = [direction_count, batch, hidden];
        let bias = parameter::<T>(b.as_ref(), &[direction_count, gates.saturating_mul(2)])?;
        let (h0, c0) = (parameter::<T>(h0.as_ref(), &state)?, parameter::<T>(c0.as_ref(), &state)?);
        let peepholes = parameter::<T>(p.as_ref(), &[direction_count, hidden.saturating_mul(3)])?;
        let size = Sizes { steps, batch, hidden };
        let cells = batch * hidden;
        count(&[steps, direction_count, batch, hidden, 8])?;

        let (mut last_h, charge_h) = zeros(cx, &state)?;
        let (mut last_c, charge_c) = zeros(cx, &state)?;
        let (mut out, charge) = zeros(cx, &[steps, direction_count, batch, hidden])?;
        for (d, (&reverse, cell)) in self.directions.iter().zip(&self.cells).enumerate() {
            let (h, c) = (&mut last_h[d * cells..(d + 1) * cells], &mut last_c[d * cells..(d + 1) * cells]);
            for (state, initial) in [(&mut *h, h0), (&mut *c, c0)] {
                if let Some(initial) = initial {
                    state.copy_from_slice(&initial[d * cells..(d + 1) * cells]);
                }
            }
            let bias = bias.map(|bias| bias[d * 2 * gates..(d + 1) * 2 * gates].split_at(gates));
            let peepholes = peepholes.map(|p| &p[d * 3 * hidden..(d + 1) * 3 * hidden]);
            if let Some(x) = T::singles(x.elements::<T>()?) {
                let mut own = None;
                let packed = self.packed_weights((&w, &r), d, steps * batch, &mut own, cx)?;
                if let Some(packed) = packed {
                    let singles = |(own, recurrent)| T::singles(own).zip(T::singles(recurrent));
                    let steps = Steps {
                        cell,
                        x,
                        bias: bias.and_then(singles),
                        peepholes: peepholes.and_then(T::singles),
                        size,
                        reverse,
                        lens: lens.as_ref().map(|(lens, _)| lens.as_slice()).filter(|lens| !full(lens, size.steps)),
                    };
                    let mut visit = |step: usize, row: usize, h: &[T]| {
                        let start = (step * direction_count + d) * cells + row * hidden;
                        out[start..start + h.len()].copy_from_slice(h);
                    };
                    T::run_packed(packed, &steps, (h, c), &mut visit, cx)?;
                    continue;
                }
            }
            let (mut all_gates, _charge) = input_gates::<T>((&x, &w), d, cell, bias, cx)?;
            let mut direction = Direction {
                h,
                c,
                recurrent: &r.elements::<T>()?[d * gates * hidden..(d + 1) * gates * hidden],
                bias: bias.map(|(_, bias_r)| bias_r),
                peepholes,
            };
            let visit = |step: usize, row: usize, h: &[T]| {
                let start = (step * direction_count + d) * cells + row * hidden;
                out[start..start + hidden].copy_from_slice(h);
            };
            run_steps(
                cell,
                &mut all_gates,
                &mut direction,
                size,
                reverse,
                lens.as_ref().map(|(lens, _)| lens.as_slice()),
                cx,
                visit,
            )?;
        }
        let result = Value::charged(vec![steps, direction_count, batch, hidden], out, charge)?;
        let mut outputs: Values = values![result, Value::charged(state.to_vec(), last_h, charge_h)?];
        if self.kind == Kind::Lstm {
            outputs.push(Value::charged(state.to_vec(), last_c, charge_c)?);
        }
        if self.batch_first { batch_first(outputs, cx) } else { Ok(outputs) }
    }
}

/// The contribution of the input to every gate at every step, with the biases.
fn input_gates<T: Real>(
    (x, w): (&Value, &Value),
    direction: usize,
    cell: &Cell,
    bias: Option<(&[T], &[T])>,
    cx: &ExecContext<'_>,
) -> Result<(Vec<T>, Charge), Error> {
    let (&[steps, batch, input], &[_, gates, _]) = (x.dims(), w.dims()) else {
        return Err(Error::runtime_error("X and W have three dimensions"));
    };
    let left = Matrices::row_major(x.elements::<T>()?, steps * batch, input);
    let right = Matrices::row_major(w.elements::<T>()?, gates, input);
    let right = Matrices { start: direction * gates * input, ..right }.transposed();
    let shape = Size { batch: 1, m: steps * batch, n: gates, k: input };
    let (mut all_gates, charge) = multiply::<T>(left, right, shape, cx)?;
    let mut checkpoint = Checkpoint::default();
    if let Some((bias_w, bias_r)) = bias {
        // With linear_before_reset, the cell of a GRU adds the recurrent bias of its last gate.
        let bias_r = if cell.linear_before_reset() { &bias_r[..gates / 3 * 2] } else { bias_r };
        for row in all_gates.chunks_exact_mut(gates.max(1)) {
            checkpoint.step(2 * gates, cx)?;
            row.iter_mut().zip(bias_w).for_each(|(x, &bias)| *x += bias);
            row.iter_mut().zip(bias_r).for_each(|(x, &bias)| *x += bias);
        }
    }
    Ok((all_gates, charge))
}

/// The outputs with the batch as their first dimension.
fn batch_first(outputs: Values, cx: &ExecContext<'_>) -> Result<Values, Error> {
    let moved = |value: Value| {
        let order: &[usize] = if value.rank() == 4 { &[2, 0, 1, 3] } else { &[1, 0, 2] };
        permute(value, order, cx)
    };
    outputs.into_iter().map(moved).collect()
}

/// Whether all sequences are as long as there are steps.
fn full(lens: &[usize], steps: usize) -> bool {
    lens.iter().all(|&len| len == steps)
}

fn zeros<T: Real>(cx: &ExecContext<'_>, dims: &[usize]) -> Result<(Vec<T>, Charge), Error> {
    let count = count(dims)?;
    cx.filled(T::ZERO, count)
}

/// Runs the steps. `all_gates` holds the contribution of the input to the gates.
#[expect(clippy::too_many_arguments, reason = "the state of a recurrence")]
fn run_steps<T: Real>(
    cell: &Cell,
    all_gates: &mut [T],
    direction: &mut Direction<'_, T>,
    size: Sizes,
    reverse: bool,
    lens: Option<&[usize]>,
    cx: &ExecContext<'_>,
    mut visit: impl FnMut(usize, usize, &[T]),
) -> Result<(), Error> {
    let Sizes { steps, batch, hidden } = size;
    if hidden == 0 || batch == 0 {
        return Ok(());
    }
    let width = all_gates.len() / steps.max(1) / batch;
    let (mut scratch, _charge) = cx.filled(T::ZERO, hidden)?;
    let mut checkpoint = Checkpoint::default();
    for iteration in 0..steps {
        for row in 0..batch {
            checkpoint.step(width * (hidden / 8 + 1), cx)?;
            let len = lens.map_or(steps, |lens| lens[row]);
            if iteration >= len {
                continue;
            }
            let step = if reverse { len - 1 - iteration } else { iteration };
            let gates = &mut all_gates[(step * batch + row) * width..(step * batch + row + 1) * width];
            let h = &mut direction.h[row * hidden..(row + 1) * hidden];
            let c = &mut direction.c[row * hidden..(row + 1) * hidden];
            match cell {
                Cell::StandardLstm => {
                    T::add_dots(direction.recurrent, h, gates);
                    if direction.peepholes.is_none() {
                        standard_lstm(gates, h, c);
                    } else {
                        Cell::lstm(gates, h, c, direction.peepholes);
                    }
                }
                Cell::Lstm(functions) => {
                    T::add_dots(direction.recurrent, h, gates);
                    functions.lstm(gates, h, c, direction.peepholes);
                }
                Cell::Gru(functions) => functions.gru(gates, h, direction.recurrent, direction.bias, &mut scratch),
                Cell::Rnn(functions) => {
                    T::add_dots(direction.recurrent, h, gates);
                    functions.rnn(gates, h);
                }
            }
            visit(step, row, h);
        }
    }
    Ok(())
}

/// The cell of an LSTM with the default activations, and without peepholes.
fn standard_lstm<T: Real>(gates: &[T], h: &mut [T], c: &mut [T]) {
    let hidden = h.len();
    let (input, rest) = gates.split_at(hidden);
    let (output, rest) = rest.split_at(hidden);
    let (forget, cell) = rest.split_at(hidden);
    for index in 0..hidden {
        let kept = forget[index].sigmoid() * c[index];
        c[index] = kept + input[index].sigmoid() * cell[index].tanh();
        h[index] = output[index].sigmoid() * c[index].tanh();
    }
}
