//! DynamicQuantizeLSTM of com.microsoft: an LSTM whose weights are integers of 8 bits.
//!
//! The whole input, and the state at each step, are quantized as by DynamicQuantizeLinear. Products of integers are
//! summed in f32, which is exact up to 2²⁴.

use std::sync::Arc;

use crate::compute::context::{Checkpoint, ExecContext};
use crate::math::{functions, simd};
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::{Operator, microsoft};
use crate::ops::quantize::dynamic_parameters;
use crate::ops::rnn_cells::{directions, parameter, sequence_lengths};
use crate::tensor::budget::Charge;
use crate::tensor::dims::{Dims, count};
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, Values, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[microsoft("DynamicQuantizeLSTM", (3, 12), lstm).heavy()];

/// The weights of one direction: a row for each unit of each gate, of integers minus their zero point, as f32.
struct Weights {
    rows: Vec<f32>,
    /// The scale of each row.
    scales: Vec<f32>,
    _charge: Option<Charge>,
}

/// The weights of the four gates for each direction.
struct Layers {
    directions: Vec<Weights>,
    inner: usize,
    gates: usize,
}

/// The attributes.
struct Lstm {
    directions: Vec<bool>,
    clip: Option<f32>,
    coupled: bool,
    /// The weights of the input and of the state, if they are known at load.
    known: [Option<Arc<Layers>>; 2],
}

fn lstm(node: &Node<'_>) -> Result<OpFn, Error> {
    node.require_inputs(&[8, 9, 10, 11])?;
    let directions = directions(node)?;
    let standard = ["sigmoid", "tanh", "tanh"].iter().cycle();
    if let Some(names) = node.strings("activations")?
        && !names.iter().zip(standard).all(|(name, standard)| name.eq_ignore_ascii_case(standard))
    {
        return Err(Error::unsupported("activations other than Sigmoid, Tanh and Tanh are not supported"));
    }
    node.ignore(&["hidden_size", "activation_alpha", "activation_beta"]);
    let clip = node.float_option("clip")?.filter(|clip| *clip > 0.0);
    let coupled = node.flag("input_forget", false)?;
    node.limit_outputs(3)?;
    let known = |index: usize, scale: usize| -> Result<Option<Arc<Layers>>, Error> {
        let (Some(value), Some(scale), Some(zero)) =
            (node.constant(index), node.constant(scale), node.constant(scale + 1))
        else {
            return Ok(None);
        };
        // Weights that exceed the budget of the load are transposed at each run.
        if node.charge(value.len().saturating_mul(size_of::<f32>())).is_err() {
            return Ok(None);
        }
        Layers::new([value, scale, zero], None).map(Arc::new).map(Some)
    };
    let known = [known(1, 8)?, known(2, 10)?];
    let lstm = Lstm { directions, clip, coupled, known };
    Ok(Box::new(move |args, cx| lstm.run(&args, cx)))
}

impl Layers {
    /// Reads weights of directions × inner × gates, and transposes each direction, so that a row holds the weights of
    /// one unit.
    fn new([value, scale, zero]: [&Value; 3], cx: Option<&ExecContext<'_>>) -> Result<Self, Error> {
        let &[directions, inner, gates] = value.dims() else {
            return Err(Error::invalid_argument(format!(
                "the weights {} must have three dimensions",
                Dims(value.dims())
            )));
        };
        let scales = scale.elements::<f32>()?;
        let (rows, columns) = (scales.len() / directions.max(1), inner);
        if scales.len() != directions * rows || ![1, gates].contains(&rows) || zero.len() != scales.len() {
            let why = format!(
                "{} scales and {} zero points do not fit the weights {}",
                scales.len(),
                zero.len(),
                Dims(value.dims())
            );
            return Err(Error::invalid_argument(why));
        }
        let mut layers = Self { directions: Vec::with_capacity(directions), inner, gates };
        for direction in 0..directions {
            let (mut transposed, charge) = match cx {
                Some(cx) => {
                    let (transposed, charge) = cx.filled(0.0_f32, columns * gates)?;
                    (transposed, Some(charge))
                }
                None => (vec![0.0; columns * gates], None),
            };
            let start = direction * columns * gates;
            let scales = &scales[direction * rows..(direction + 1) * rows];
            let zeros = direction * rows..(direction + 1) * rows;
            let mut checkpoint = Checkpoint::default();
            let mut fill = |integer: &dyn Fn(usize) -> f32, zero: &dyn Fn(usize) -> f32| -> Result<(), Error> {
                for (gate, row) in transposed.chunks_exact_mut(columns.max(1)).enumerate() {
                    if let Some(cx) = cx {
                        checkpoint.step(4 * columns, cx)?;
                    }
                    let zero = zero(if rows == 1 { 0 } else { gate });
                    row.iter_mut().enumerate().for_each(|(at, x)| *x = integer(start + at * gates + gate) - zero);
                }
                Ok(())
            };
            match (value.ty(), zero.ty()) {
                (ElementType::I8, ElementType::I8) => {
                    let (integers, zeros) = (value.elements::<i8>()?, &zero.elements::<i8>()?[zeros]);
                    fill(&|at| f32::from(integers[at]), &|at| f32::from(zeros[at]))?;
                }
                (ElementType::U8, ElementType::U8) => {
                    let (integers, zeros) = (value.elements::<u8>()?, &zero.elements::<u8>()?[zeros]);
                    fill(&|at| f32::from(integers[at]), &|at| f32::from(zeros[at]))?;
                }
                _ => return Err(no_type(value)),
            }
            let scales = if rows == 1 { vec![scales[0]; gates] } else { scales.to_vec() };
            layers.directions.push(Weights { rows: transposed, scales, _charge: charge });
        }
        Ok(layers)
    }
}

/// Quantizes numbers; the results are the integers minus the zero point.
fn quantize(from: &[f32], to: &mut [f32], (scale, zero): (f32, f32)) {
    let integer = |x: f32| ((x / scale).round_ties_even() + zero).clamp(0.0, 255.0) - zero;
    to.iter_mut().zip(from).for_each(|(to, &x)| *to = integer(x));
}

/// Adds the dequantized products of the weights and a quantized row to the gates.
fn add_products(weights: &Weights, row: &[f32], scale: f32, sums: &mut [f32], gates: &mut [f32]) {
    sums.fill(0.0);
    simd::add_dots(&weights.rows, row, sums);
    gates.iter_mut().zip(&*sums).zip(&weights.scales).for_each(|((gate, sum), own)| *gate += sum * (scale * own));
}

impl Lstm {
    fn run(&self, args: &Args, cx: &ExecContext<'_>) -> Result<Values, Error> {
        let x = args.get(0)?;
        let layers = |known: &Option<Arc<Layers>>, index: usize, scale: usize| match known {
            Some(known) => Ok(Arc::clone(known)),
            None => Layers::new([args.get(index)?, args.get(scale)?, args.get(scale + 1)?], Some(cx)).map(Arc::new),
        };
        let (w, r) = (layers(&self.known[0], 1, 8)?, layers(&self.known[1], 2, 10)?);
        let (&[steps, batch, input], hidden, gates) = (x.dims(), r.inner, r.gates) else {
            return Err(Error::invalid_argument("the input must have three dimensions"));
        };
        let direction_count = self.directions.len();
        let fits = (w.directions.len(), r.directions.len()) == (direction_count, direction_count)
            && (w.inner, w.gates) == (input, gates);
        if !fits || hidden.checked_mul(4) != Some(gates) || hidden == 0 || input == 0 {
            return Err(Error::invalid_argument(format!("the weights do not fit the input {}", Dims(x.dims()))));
        }
        let lengths = args.option(4).map(|lengths| sequence_lengths(lengths, steps, batch, cx)).transpose()?;
        let state = [direction_count, batch, hidden];
        let bias = parameter::<f32>(args.option(3), &[direction_count, 2 * gates])?;
        let (h0, c0) = (parameter(args.option(5), &state)?, parameter(args.option(6), &state)?);
        let peepholes = parameter(args.option(7), &[direction_count, 3 * hidden])?;
        let cells = batch * hidden;
        let dims = [steps, direction_count, batch, hidden];
        let total = count(&dims)?;
        count(&[steps, batch, gates])?;
        let ((mut h, charge_h), (mut c, charge_c)) =
            (cx.filled(0.0_f32, direction_count * cells)?, cx.filled(0.0_f32, direction_count * cells)?);
        let (mut out, charge) = cx.filled(0.0_f32, total)?;
        if let Some(h0) = h0 {
            h.copy_from_slice(h0);
        }
        if let Some(c0) = c0 {
            c.copy_from_slice(c0);
        }
        let mut checkpoint = Checkpoint::default();
        let elements = x.elements::<f32>()?;
        let quantization_x = dynamic_parameters(elements, &mut checkpoint, cx)?;
        let ((mut row_x, _x), (mut row_h, _h)) = (cx.filled(0.0_f32, input)?, cx.filled(0.0_f32, hidden)?);
        let ((mut sums, _sums), (mut row, _row)) = (cx.filled(0.0_f32, gates)?, cx.filled(0.0_f32, gates)?);
        for (d, &reverse) in self.directions.iter().enumerate() {
            let (h, c) = (&mut h[d * cells..(d + 1) * cells], &mut c[d * cells..(d + 1) * cells]);
            let (w, r) = (&w.directions[d], &r.directions[d]);
            let bias = bias.map(|bias| bias[d * 2 * gates..(d + 1) * 2 * gates].split_at(gates));
            let peepholes = peepholes.map(|peepholes| &peepholes[d * 3 * hidden..(d + 1) * 3 * hidden]);
            for iteration in 0..steps {
                for index in 0..batch {
                    checkpoint.step(gates * (input + hidden) / 8 + 1, cx)?;
                    let len = lengths.as_ref().map_or(steps, |(lengths, _)| lengths[index]);
                    if iteration >= len {
                        continue;
                    }
                    let step = if reverse { len - 1 - iteration } else { iteration };
                    quantize(&elements[(step * batch + index) * input..][..input], &mut row_x, quantization_x);
                    match bias {
                        Some((bias_w, bias_r)) => {
                            row.iter_mut().zip(bias_w.iter().zip(bias_r)).for_each(|(x, (a, b))| *x = a + b);
                        }
                        None => row.fill(0.0),
                    }
                    add_products(w, &row_x, quantization_x.0, &mut sums, &mut row);
                    let cell = index * hidden..(index + 1) * hidden;
                    let quantization_h = dynamic_parameters(&h[cell.clone()], &mut checkpoint, cx)?;
                    quantize(&h[cell.clone()], &mut row_h, quantization_h);
                    add_products(r, &row_h, quantization_h.0, &mut sums, &mut row);
                    self.cell(&row, &mut h[cell.clone()], &mut c[cell.clone()], peepholes);
                    out[(step * direction_count + d) * cells..][cell.clone()].copy_from_slice(&h[cell]);
                }
            }
        }
        Ok(values![
            Value::charged(dims.to_vec(), out, charge)?,
            Value::charged(state.to_vec(), h, charge_h)?,
            Value::charged(state.to_vec(), c, charge_c)?,
        ])
    }

    /// Gates in the order input, output, forget, cell; peepholes in the order input, output, forget.
    fn cell(&self, gates: &[f32], h: &mut [f32], c: &mut [f32], peepholes: Option<&[f32]>) {
        let hidden = h.len();
        let clipped = |x: f32| self.clip.map_or(x, |clip| x.clamp(-clip, clip));
        let peephole = |which: usize, index: usize| peepholes.map_or(0.0, |p| p[which * hidden + index]);
        let gate = |which: usize, index: usize| gates[which * hidden + index];
        for index in 0..hidden {
            let old = c[index];
            let input = functions::sigmoid(clipped(gate(0, index) + peephole(0, index) * old));
            let forget = if self.coupled {
                1.0 - input
            } else {
                functions::sigmoid(clipped(gate(2, index) + peephole(2, index) * old))
            };
            c[index] = forget * old + input * functions::tanh(clipped(gate(3, index)));
            let output = functions::sigmoid(clipped(gate(1, index) + peephole(1, index) * c[index]));
            h[index] = output * functions::tanh(c[index]);
        }
    }
}
