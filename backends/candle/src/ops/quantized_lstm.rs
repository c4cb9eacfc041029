//! DynamicQuantizeLSTM of com.microsoft: an LSTM whose weights are integers of 8 bits.
//!
//! The whole input, and the state at each step, are quantized as by DynamicQuantizeLinear. Products of integers are exact.
//! Weights that are known at load are packed then, others in each call.

use std::sync::Arc;

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::integer::{Flip, Processor, Sums, Unsigned, Zeros, add_bytes, correct};
use crate::math::{functions, loops};
use crate::ops::byte_product::{Counter, bytes, column_sums, number, right};
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::{Operator, microsoft};
use crate::ops::packed_steps::standard_lstm;
use crate::ops::quantize::dynamic_parameters;
use crate::ops::quantize_bytes::quantized;
use crate::ops::rnn_cells::{directions, parameter, sequence_lengths};
use crate::tensor::budget::Charge;
use crate::tensor::dims::{Dims, count};
use crate::tensor::value::{Value, Values, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[microsoft("DynamicQuantizeLSTM", (3, 12), lstm).heavy()];

/// The weights of one direction, packed: a column for each unit of each gate.
struct Weights {
    panels: Vec<u8>,
    /// The sum of each column.
    sums: Vec<i32>,
    /// The zero point of the packed bytes: one, or one for each column.
    zeros: Vec<i32>,
    /// The scale of each column.
    scales: Vec<f32>,
    _charges: Option<[Charge; 2]>,
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
        // Weights that exceed the budget of the load are packed in each call.
        if Layers::packed_len(value.dims()).is_none_or(|len| node.charge(len).is_err()) {
            return Ok(None);
        }
        Layers::new([value, scale, zero], None).map(Arc::new).map(Some)
    };
    let known = [known(1, 8)?, known(2, 10)?];
    let lstm = Lstm { directions, clip, coupled, known };
    Ok(Box::new(move |args, cx| lstm.run(&args, cx)))
}

impl Layers {
    /// The bytes of packed weights and of the sums of their columns; `None` on overflow.
    fn packed_len(dims: &[usize]) -> Option<usize> {
        let &[directions, inner, gates] = dims else { return Some(0) };
        let sums = gates.checked_mul(size_of::<i32>())?;
        Processor::best().right_len(inner, gates)?.checked_add(sums)?.checked_mul(directions)
    }

    /// Packs weights of directions × inner × gates; with `cx`, which is charged, in a call.
    fn new([value, scale, zero]: [&Value; 3], cx: Option<&ExecContext<'_>>) -> Result<Self, Error> {
        let &[directions, inner, gates] = value.dims() else {
            return Err(Error::invalid_argument(format!(
                "the weights {} must have three dimensions",
                Dims(value.dims())
            )));
        };
        let scales = scale.elements::<f32>()?;
        let rows = scales.len() / directions.max(1);
        if scales.len() != directions * rows || ![1, gates].contains(&rows) || zero.len() != scales.len() {
            let why = format!(
                "{} scales and {} zero points do not fit the weights {}",
                scales.len(),
                zero.len(),
                Dims(value.dims())
            );
            return Err(Error::invalid_argument(why));
        }
        let ((elements, signed), (zeros, zero_signed)) = (bytes(value)?, bytes(zero)?);
        if signed != zero_signed {
            return Err(no_type(value));
        }
        let processor = Processor::best();
        let flip = processor.right_flip(signed, Unsigned::Left);
        let len = processor.right_len(inner, gates).ok_or_else(|| Error::too_large("the weights are too large"))?;
        let ones: Vec<u8> = processor.ones(inner).collect();
        let mut counter = Counter::new();
        let mut layers = Self { directions: Vec::with_capacity(directions), inner, gates };
        for direction in 0..directions {
            let ((mut panels, mut sums), charges) = match cx {
                Some(cx) => {
                    let ((panels, of_panels), (sums, of_sums)) = (cx.filled(0, len)?, cx.filled(0, gates)?);
                    ((panels, sums), Some([of_panels, of_sums]))
                }
                None => ((vec![0; len], vec![0; gates]), None),
            };
            let mut step = |work| cx.map_or(Ok(()), |cx| counter.step(work, cx));
            if len > 0 {
                let own = &elements[direction * inner * gates..][..inner * gates];
                processor.pack_right(own, (inner, gates), flip, &mut panels, |work| step(4 * work))?;
                column_sums(right(&panels, inner, gates), &ones, &mut sums, step)?;
            }
            let own = direction * rows..(direction + 1) * rows;
            let zeros = zeros[own.clone()].iter().map(|&zero| flip.zero_point(number(zero, signed))).collect();
            let scales = if rows == 1 { vec![scales[direction]; gates] } else { scales[own].to_vec() };
            layers.directions.push(Weights { panels, sums, zeros, scales, _charges: charges });
        }
        Ok(layers)
    }
}

impl Weights {
    /// The products of rows of `k` bytes, which were quantized with this zero point, and the weights. `packed` is memory
    /// for the rows.
    fn multiply(
        &self,
        (rows, k): (&[u8], usize),
        zero: f32,
        packed: &mut Vec<u8>,
        out: &mut [i32],
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let (processor, n) = (Processor::best(), self.scales.len());
        let flip = processor.left_flip(false, Unsigned::Left);
        let mut counter = Counter::new();
        let left = if flip == Flip::None && processor.takes_plain_rows(k) {
            rows
        } else {
            packed.clear();
            processor.pack_left(rows, k, (flip, Unsigned::Left), packed, |work| counter.step(4 * work, cx))?;
            packed
        };
        let product = Sums { left, rows: rows.len() / k, out: &mut *out, pitch: n };
        processor.multiply(right(&self.panels, k, n), product, |work| counter.step(work, cx))?;
        let no_zeros = self.zeros.iter().all(|&zero| zero == 0);
        for (row, sums) in rows.chunks_exact(k).zip(out.chunks_exact_mut(n)) {
            counter.step(8 * n + k, cx)?;
            let row_sum = if no_zeros {
                0
            } else {
                add_bytes(row, false).wrapping_add(flip.zero_point(0).wrapping_mul(k as i32))
            };
            let left = flip.zero_point(zero as i32);
            correct(sums, Zeros { left, row_sum, right: &self.zeros, column_sums: &self.sums, k, bias: 0 });
        }
        Ok(())
    }

    /// Adds the dequantized sums to the gates.
    fn add(&self, sums: &[i32], scale: f32, gates: &mut [f32]) {
        let columns = gates.iter_mut().zip(sums).zip(&self.scales);
        loops::for_each(columns, move |((gate, &sum), own)| *gate += sum as f32 * (scale * own));
    }
}

/// Appends quantized numbers.
fn quantize(
    from: &[f32],
    to: &mut Vec<u8>,
    (scale, zero): (f32, f32),
    checkpoint: &mut Checkpoint,
    cx: &ExecContext<'_>,
) -> Result<(), Error> {
    for piece in from.chunks(PIECE) {
        checkpoint.step(piece.len(), cx)?;
        loops::extend(to, piece.iter().map(|&x| quantized::<u8>(x / scale, zero)));
    }
    Ok(())
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
        let row_len = |k| Processor::best().left_row_len(k).ok_or_else(|| Error::too_large("a row is too long"));
        let mut packed = cx.block::<u8>(count(&[steps * batch, row_len(input)?])?.max(row_len(hidden)?))?;
        let (mut bytes_x, mut bytes_h) = (cx.block::<u8>(elements.len())?, cx.block::<u8>(hidden)?);
        quantize(elements, &mut bytes_x, quantization_x, &mut checkpoint, cx)?;
        let (mut sums_x, mut sums_h) = (cx.full_block(0, count(&[steps, batch, gates])?)?, cx.full_block(0, gates)?);
        let mut row = cx.full_block(0.0_f32, gates)?;
        for (d, &reverse) in self.directions.iter().enumerate() {
            let (h, c) = (&mut h[d * cells..(d + 1) * cells], &mut c[d * cells..(d + 1) * cells]);
            let (w, r) = (&w.directions[d], &r.directions[d]);
            let bias = bias.map(|bias| bias[d * 2 * gates..(d + 1) * 2 * gates].split_at(gates));
            let peepholes = peepholes.map(|peepholes| &peepholes[d * 3 * hidden..(d + 1) * 3 * hidden]);
            if !bytes_x.is_empty() {
                w.multiply((&bytes_x, input), quantization_x.1, &mut packed, &mut sums_x, cx)?;
            }
            for iteration in 0..steps {
                for index in 0..batch {
                    checkpoint.step(16 * gates, cx)?;
                    let len = lengths.as_ref().map_or(steps, |(lengths, _)| lengths[index]);
                    if iteration >= len {
                        continue;
                    }
                    let step = if reverse { len - 1 - iteration } else { iteration };
                    match bias {
                        Some((bias_w, bias_r)) => {
                            row.iter_mut().zip(bias_w.iter().zip(bias_r)).for_each(|(x, (a, b))| *x = a + b);
                        }
                        None => row.fill(0.0),
                    }
                    w.add(&sums_x[(step * batch + index) * gates..][..gates], quantization_x.0, &mut row);
                    let cell = index * hidden..(index + 1) * hidden;
                    let quantization_h = dynamic_parameters(&h[cell.clone()], &mut checkpoint, cx)?;
                    bytes_h.clear();
                    quantize(&h[cell.clone()], &mut bytes_h, quantization_h, &mut checkpoint, cx)?;
                    r.multiply((&bytes_h, hidden), quantization_h.1, &mut packed, &mut sums_h, cx)?;
                    r.add(&sums_h, quantization_h.0, &mut row);
                    self.cell(&mut row, &mut h[cell.clone()], &mut c[cell.clone()], peepholes);
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
    fn cell(&self, gates: &mut [f32], h: &mut [f32], c: &mut [f32], peepholes: Option<&[f32]>) {
        if self.clip.is_none() && !self.coupled && peepholes.is_none() {
            return standard_lstm(gates, h, c);
        }
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
