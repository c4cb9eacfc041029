//! The steps of LSTM, GRU and RNN in f32: products by weights that are packed once, and cells in vector loops.

use crate::compute::context::{Checkpoint, ExecContext, VECTOR_CHECK_INTERVAL};
use crate::math::pack::{self, Strided, Target};
use crate::math::{functions, loops, simd};
use crate::ops::node::Node;
use crate::ops::rnn_cells::{Cell, Kind};
use crate::tensor::budget::Charge;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// Rows that are packed and multiplied as one block.
const ROWS: usize = 128;

/// The most weights that are packed in a call, which is not interrupted meanwhile.
const MOST_IN_CALL: usize = 1 << 22;

/// A transposed matrix of weights, packed as the right-hand side of products.
struct Weights {
    packed: Vec<f32>,
    k: usize,
    n: usize,
    _charge: Option<Charge>,
}

/// The weights of one direction.
pub(super) struct Packed {
    input: Weights,
    /// Those of all gates, or for a GRU those of its first two and those of its last.
    recurrent: Vec<Weights>,
}

/// Numbers of steps, sequences and elements of the state.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) steps: usize,
    pub(super) batch: usize,
    pub(super) hidden: usize,
}

/// What the steps of one direction read, and where they begin.
pub(super) struct Steps<'a> {
    pub(super) cell: &'a Cell,
    /// The input of each step and sequence.
    pub(super) x: &'a [f32],
    /// The bias of each gate, and the recurrent part of it.
    pub(super) bias: Option<(&'a [f32], &'a [f32])>,
    pub(super) peepholes: Option<&'a [f32]>,
    pub(super) size: Sizes,
    pub(super) reverse: bool,
    /// The lengths of the sequences, if they differ from the number of steps.
    pub(super) lens: Option<&'a [usize]>,
}

/// The packed weights of each direction if they are constant, and the load's budget holds them.
pub(super) fn pack_at_load(node: &Node<'_>, kind: Kind) -> Option<Vec<Packed>> {
    let (w, r) = (node.constant(1)?, node.constant(2)?);
    let shape = shape(w.dims(), r.dims(), kind)?;
    let (w, r) = (w.elements::<f32>().ok()?, r.elements::<f32>().ok()?);
    node.charge(shape.packed()?.checked_mul(size_of::<f32>())?).ok()?;
    let allocate = |len| Ok((Vec::with_capacity(len), None));
    (0..shape.directions).map(|direction| shape.pack(w, r, direction, allocate)).collect::<Result<_, Error>>().ok()
}

/// The packed weights of one direction, for a call with other weights in each; `None` if packing does not pay.
pub(super) fn pack_in_call(
    (w, r): (&Value, &Value),
    kind: Kind,
    direction: usize,
    rows: usize,
    cx: &ExecContext<'_>,
) -> Result<Option<Packed>, Error> {
    let Some(shape) = shape(w.dims(), r.dims(), kind) else { return Ok(None) };
    if rows < 4 || w.len().max(r.len()) > MOST_IN_CALL {
        return Ok(None);
    }
    cx.control.check()?;
    let allocate = |len| cx.scratch::<f32>(len).map(|(list, charge)| (list, Some(charge)));
    shape.pack(w.elements::<f32>()?, r.elements::<f32>()?, direction, allocate).map(Some)
}

#[derive(Clone, Copy)]
struct Shape {
    kind: Kind,
    directions: usize,
    input: usize,
    hidden: usize,
}

/// The sizes of weights of these dimensions, if they fit each other.
fn shape(w: &[usize], r: &[usize], kind: Kind) -> Option<Shape> {
    let (&[directions, gates, input], &[directions_r, gates_r, hidden]) = (w, r) else { return None };
    let fits = (directions, gates) == (directions_r, gates_r) && hidden.checked_mul(kind.gates()) == Some(gates);
    (fits && input > 0 && hidden > 0).then_some(Shape { kind, directions, input, hidden })
}

impl Shape {
    /// The number of packed elements of all directions.
    fn packed(&self) -> Option<usize> {
        let gates = self.kind.gates() * self.hidden;
        let parts = self.parts().into_iter().map(|n| pack::packed_b_len(self.hidden, n));
        let each = parts.sum::<Option<usize>>()?.checked_add(pack::packed_b_len(self.input, gates)?)?;
        each.checked_mul(self.directions)
    }

    /// The columns of the recurrent products.
    fn parts(&self) -> Vec<usize> {
        match self.kind {
            Kind::Gru => vec![2 * self.hidden, self.hidden],
            kind => vec![kind.gates() * self.hidden],
        }
    }

    fn pack(
        &self,
        w: &[f32],
        r: &[f32],
        direction: usize,
        allocate: impl Fn(usize) -> Result<(Vec<f32>, Option<Charge>), Error>,
    ) -> Result<Packed, Error> {
        let gates = self.kind.gates() * self.hidden;
        let weights = |elements: &[f32], k: usize, n: usize| -> Result<Weights, Error> {
            let len = pack::packed_b_len(k, n).ok_or_else(|| Error::too_large("the weights are too large"))?;
            let (mut packed, charge) = allocate(len)?;
            pack::pack_b(Strided { elements, row: 1, column: k }, k, n, &mut packed);
            Ok(Weights { packed, k, n, _charge: charge })
        };
        let input = weights(&w[direction * gates * self.input..][..gates * self.input], self.input, gates)?;
        let (mut start, mut recurrent) = (direction * gates * self.hidden, Vec::new());
        for n in self.parts() {
            recurrent.push(weights(&r[start..start + n * self.hidden], self.hidden, n)?);
            start += n * self.hidden;
        }
        Ok(Packed { input, recurrent })
    }
}

/// What a product packs its left-hand side in, and the work since the last check.
struct Scratch {
    packed: Vec<f32>,
    work: usize,
    _charge: Charge,
}

impl Scratch {
    fn new(len: usize, cx: &ExecContext<'_>) -> Result<Self, Error> {
        let (packed, charge) = cx.scratch::<f32>(len)?;
        Ok(Self { packed, work: 0, _charge: charge })
    }
}

impl Weights {
    /// Adds the product of `m` rows and the weights to columns of `out`, whose rows have `pitch` elements.
    fn add(
        &self,
        rows: &[f32],
        m: usize,
        out: &mut [f32],
        (pitch, at): (usize, usize),
        scratch: &mut Scratch,
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let (k, n, width) = (self.k, self.n, pack::nr());
        let padded = pack::pitch(n);
        for (rows, out) in rows[..m * k].chunks(ROWS * k).zip(out.chunks_mut(ROWS * pitch)) {
            let m = rows.len() / k;
            // A single row needs no packing.
            let left = if m == 1 {
                rows
            } else {
                scratch.packed.clear();
                let rows = Strided { elements: rows, row: k, column: 1 };
                let mut checkpoint = Checkpoint::default();
                pack::pack_a(rows, m, k, &mut scratch.packed, |work| checkpoint.step(work, cx))?;
                &scratch.packed
            };
            for (from, depth) in pack::depth_blocks(k) {
                for first in (0..n).step_by(width) {
                    scratch.work += m * depth * width;
                    if scratch.work >= VECTOR_CHECK_INTERVAL {
                        cx.control.check()?;
                        scratch.work = 0;
                    }
                    let panel = &self.packed[from * padded + first * depth..];
                    let columns = width.min(n - first);
                    let target = Target { out: &mut *out, pitch, first: at + first, columns };
                    pack::add_product(&left[from * m..(from + depth) * m], panel, m, depth, target);
                }
            }
        }
        Ok(())
    }
}

/// Runs the steps from the state `h` and `c` on, which ends as the last one. `visit` gets each step, the first sequence,
/// and the new states.
pub(super) fn run(
    packed: &Packed,
    steps: &Steps<'_>,
    h: &mut [f32],
    c: &mut [f32],
    mut visit: impl FnMut(usize, usize, &[f32]),
    cx: &ExecContext<'_>,
) -> Result<(), Error> {
    let Sizes { steps: count, batch, hidden } = steps.size;
    let width = packed.input.n;
    let rows = count * batch;
    if rows == 0 || hidden == 0 {
        return Ok(());
    }
    // The contribution of the input to every gate at every step.
    let (mut gates, _gates) = cx.scratch::<f32>(rows * width)?;
    let mut checkpoint = Checkpoint::default();
    match steps.bias {
        Some((own, recurrent)) => {
            // With linear_before_reset, the cell of a GRU adds the recurrent bias of its last gate.
            let added = if steps.cell.linear_before_reset() { 2 * hidden } else { width };
            let (mut bias, _bias) = cx.scratch::<f32>(width)?;
            bias.extend_from_slice(own);
            bias.iter_mut().zip(&recurrent[..added]).for_each(|(bias, &x)| *bias += x);
            (0..rows).try_for_each(|_| checkpoint.copy(&bias, &mut gates, cx))?;
        }
        None => checkpoint.fill(0.0, rows * width, &mut gates, cx)?,
    }
    let input = packed.input.k;
    let parts = cx.parts(rows.div_ceil(pack::mr()), rows.saturating_mul(width).saturating_mul(input));
    let mut scratches =
        (0..parts).map(|_| Scratch::new(rows.min(ROWS) * input, cx)).collect::<Result<Vec<_>, Error>>()?;
    cx.parallel_for(&mut scratches, &mut gates, pack::mr() * width, |cx, scratch, start, out| {
        let rows = out.len() / width;
        packed.input.add(&steps.x[start / width * input..], rows, out, (width, 0), scratch, cx)
    })?;
    drop(scratches);
    let mut scratch = Scratch::new(batch.min(ROWS) * hidden, cx)?;
    let (mut parts, _parts) = cx.filled(0.0_f32, batch * hidden)?;
    for iteration in 0..count {
        checkpoint.step(batch * width, cx)?;
        let Some(lens) = steps.lens else {
            let step = if steps.reverse { count - 1 - iteration } else { iteration };
            let gates = &mut gates[step * batch * width..(step + 1) * batch * width];
            advance(packed, steps, gates, h, c, &mut parts, &mut scratch, cx)?;
            visit(step, 0, h);
            continue;
        };
        for (row, &len) in lens.iter().enumerate().filter(|&(_, &len)| iteration < len) {
            let step = if steps.reverse { len - 1 - iteration } else { iteration };
            let gates = &mut gates[(step * batch + row) * width..][..width];
            let own = row * hidden..(row + 1) * hidden;
            let (h, c) = (&mut h[own.clone()], &mut c[own]);
            advance(packed, steps, gates, h, c, &mut parts[..hidden], &mut scratch, cx)?;
            visit(step, row, h);
        }
    }
    Ok(())
}

/// One step of some sequences, whose states are in `h` and `c`.
#[expect(clippy::too_many_arguments, reason = "the state of a recurrence")]
fn advance(
    packed: &Packed,
    steps: &Steps<'_>,
    gates: &mut [f32],
    h: &mut [f32],
    c: &mut [f32],
    parts: &mut [f32],
    scratch: &mut Scratch,
    cx: &ExecContext<'_>,
) -> Result<(), Error> {
    let hidden = steps.size.hidden;
    let (width, m) = (packed.input.n, h.len() / hidden);
    let [first, others @ ..] = packed.recurrent.as_slice() else { return Ok(()) };
    first.add(h, m, gates, (width, 0), scratch, cx)?;
    let rows = gates.chunks_exact_mut(width).zip(h.chunks_exact_mut(hidden));
    match steps.cell {
        Cell::StandardLstm if steps.peepholes.is_none() => {
            rows.zip(c.chunks_exact_mut(hidden)).for_each(|((gates, h), c)| standard_lstm(gates, h, c));
        }
        Cell::StandardLstm => {
            let rows = rows.zip(c.chunks_exact_mut(hidden));
            rows.for_each(|((gates, h), c)| Cell::lstm(gates, h, c, steps.peepholes));
        }
        Cell::Lstm(functions) => {
            let rows = rows.zip(c.chunks_exact_mut(hidden));
            rows.for_each(|((gates, h), c)| functions.lstm(gates, h, c, steps.peepholes));
        }
        Cell::Rnn(functions) if functions.is_standard_rnn() => rows.for_each(|(gates, h)| {
            loops::for_each(h.iter_mut().zip(&*gates), |(h, &x)| *h = functions::tanh(x));
        }),
        Cell::Rnn(functions) => rows.for_each(|(gates, h)| functions.rnn(gates, h)),
        Cell::Gru(functions) => {
            let [last] = others else { return Ok(()) };
            let standard = functions.is_standard_gru();
            for (gates, _) in rows {
                let both = &mut gates[..2 * hidden];
                if standard {
                    simd::map(both, functions::sigmoid);
                } else {
                    both.iter_mut().for_each(|x| *x = functions.gate(*x));
                }
            }
            if functions.linear_before_reset {
                for parts in parts.chunks_exact_mut(hidden) {
                    match steps.bias {
                        Some((_, bias)) => parts.copy_from_slice(&bias[2 * hidden..3 * hidden]),
                        None => parts.fill(0.0),
                    }
                }
                last.add(h, m, parts, (hidden, 0), scratch, cx)?;
                for (gates, parts) in gates.chunks_exact_mut(width).zip(parts.chunks_exact(hidden)) {
                    let (both, new) = gates.split_at_mut(2 * hidden);
                    let reset = &both[hidden..];
                    loops::for_each(new.iter_mut().zip(reset).zip(parts), |((new, &r), &x)| *new += r * x);
                }
            } else {
                let rows = parts.chunks_exact_mut(hidden).zip(h.chunks_exact(hidden)).zip(gates.chunks_exact(width));
                for ((parts, h), gates) in rows {
                    let reset = &gates[hidden..2 * hidden];
                    loops::for_each(parts.iter_mut().zip(h).zip(reset), |((part, &h), &r)| *part = r * h);
                }
                last.add(parts, m, gates, (width, 2 * hidden), scratch, cx)?;
            }
            for (gates, h) in gates.chunks_exact_mut(width).zip(h.chunks_exact_mut(hidden)) {
                let (both, new) = gates.split_at_mut(2 * hidden);
                if standard {
                    simd::map(new, functions::tanh);
                } else {
                    new.iter_mut().for_each(|x| *x = functions.candidate(*x));
                }
                let update = both[..hidden].iter();
                loops::for_each(h.iter_mut().zip(update).zip(&*new), |((h, &z), &new)| *h = (1.0 - z) * new + z * *h);
            }
        }
    }
    Ok(())
}

/// The cell of an LSTM with the default activations, and without peepholes. The gates are in the order input, output,
/// forget, cell.
pub(super) fn standard_lstm(gates: &mut [f32], h: &mut [f32], c: &mut [f32]) {
    let hidden = h.len();
    let (sigmoids, cell) = gates.split_at_mut(3 * hidden);
    simd::map(sigmoids, functions::sigmoid);
    simd::map(cell, functions::tanh);
    let (input, rest) = sigmoids.split_at(hidden);
    let (output, forget) = rest.split_at(hidden);
    let items = c.iter_mut().zip(forget).zip(input).zip(&*cell);
    loops::for_each(items, |(((c, &forget), &input), &cell)| *c = forget * *c + input * cell);
    loops::for_each(h.iter_mut().zip(output).zip(&*c), |((h, &output), &c)| *h = output * functions::tanh(c));
}
