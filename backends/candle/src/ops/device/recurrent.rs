//! Device forms of LSTM, GRU and RNN. Sequences of different lengths are left to the host.

use crate::device::args::{DeviceArgs, DeviceForm, Outputs, Stop};
use crate::device::context::DeviceContext;
use crate::device::math::{Compare, Unary};
use crate::device::tensor::DeviceTensor;
use crate::ops::device::activation::{clamped, exp_minus_one, positive_part, sigmoid_of, softplus_of};
use crate::ops::device::{host_only, own_type};
use crate::ops::node::Node;
use crate::ops::rnn_cells::{Activation, Cell, Functions, Kind, cells_of, directions};
use crate::tensor::dims::Dims;
use crate::tensor::element::ElementType;
use graphpool::backend::Error;

type Tensor = Result<DeviceTensor, Error>;

fn apply(activation: Activation, x: &DeviceTensor, dx: &DeviceContext<'_>) -> Tensor {
    let below = |other: &DeviceTensor| dx.select(&dx.compare_with(Compare::Less, x, 0.0)?, other, x);
    let affine = |x: &DeviceTensor, factor: f32, term: f32| dx.affine(x, f64::from(factor), f64::from(term));
    match activation {
        Activation::Relu => positive_part(x, dx),
        Activation::Tanh => dx.unary(Unary::Tanh, x),
        Activation::Sigmoid => sigmoid_of(x, dx),
        Activation::Affine(alpha, beta) => affine(x, alpha, beta),
        Activation::LeakyRelu(alpha) => below(&affine(x, alpha, 0.0)?),
        Activation::ThresholdedRelu(alpha) => {
            let above = dx.compare_with(Compare::Greater, x, f64::from(alpha))?;
            dx.select(&above, x, &dx.number(0.0, x.ty())?)
        }
        Activation::ScaledTanh(alpha, beta) => affine(&dx.unary(Unary::Tanh, &affine(x, beta, 0.0)?)?, alpha, 0.0),
        Activation::HardSigmoid(alpha, beta) => clamped(&affine(x, alpha, beta)?, 0.0, 1.0, dx),
        Activation::Elu(alpha) => below(&affine(&exp_minus_one(x, dx)?, alpha, 0.0)?),
        Activation::Softsign => dx.div(x, &dx.affine(&dx.unary(Unary::Abs, x)?, 1.0, 1.0)?),
        Activation::Softplus => softplus_of(x, dx),
    }
}

/// What the gates of one direction are made of.
struct Direction {
    /// [hidden, gates]: the recurrent weights, transposed.
    recurrent: DeviceTensor,
    /// [1, gates]: the recurrent bias.
    bias: Option<DeviceTensor>,
    /// The weights of the cell in the gates: input, output and forget gate, [1, hidden] each.
    peepholes: Option<[DeviceTensor; 3]>,
    h: DeviceTensor,
    c: DeviceTensor,
}

impl Direction {
    /// One step of the state, from the contribution of the input to the gates.
    fn step(
        &mut self,
        functions: &Functions,
        kind: Kind,
        gates: &DeviceTensor,
        dx: &DeviceContext<'_>,
    ) -> Result<(), Error> {
        let hidden = self.h.dims()[1];
        let clip = |x: DeviceTensor| match functions.clip {
            Some(bound) => clamped(&x, -f64::from(bound), f64::from(bound), dx),
            None => Ok(x),
        };
        let part = |of: &DeviceTensor, which: usize| dx.narrow(of, 1, which * hidden, hidden);
        let activate = |activation: Activation, x: DeviceTensor| apply(activation, &clip(x)?, dx);
        match kind {
            Kind::Lstm => {
                let gates = dx.add(gates, &dx.matmul(&self.h, &self.recurrent)?)?;
                let with_cell = |which: usize, gate: DeviceTensor, c: &DeviceTensor| match &self.peepholes {
                    Some(peepholes) => dx.add(&gate, &dx.mul(&peepholes[which], c)?),
                    None => Ok(gate),
                };
                let input = activate(functions.f, with_cell(0, part(&gates, 0)?, &self.c)?)?;
                let forget = if functions.coupled {
                    dx.affine(&input, -1.0, 1.0)?
                } else {
                    activate(functions.f, with_cell(2, part(&gates, 2)?, &self.c)?)?
                };
                let new = dx.mul(&input, &activate(functions.g, part(&gates, 3)?)?)?;
                let c = dx.add(&dx.mul(&forget, &self.c)?, &new)?;
                let output = activate(functions.f, with_cell(1, part(&gates, 1)?, &c)?)?;
                self.h = dx.mul(&output, &apply(functions.h, &c, dx)?)?;
                self.c = c;
            }
            Kind::Gru => {
                let both = dx.narrow(&self.recurrent, 1, 0, 2 * hidden)?;
                let last = dx.narrow(&self.recurrent, 1, 2 * hidden, hidden)?;
                let both = dx.add(&dx.narrow(gates, 1, 0, 2 * hidden)?, &dx.matmul(&self.h, &both)?)?;
                let update = activate(functions.f, part(&both, 0)?)?;
                let reset = activate(functions.f, part(&both, 1)?)?;
                let candidate = part(gates, 2)?;
                let candidate = if functions.linear_before_reset {
                    let mut product = dx.matmul(&self.h, &last)?;
                    if let Some(bias) = &self.bias {
                        product = dx.add(&product, &part(bias, 2)?)?;
                    }
                    dx.add(&candidate, &dx.mul(&reset, &product)?)?
                } else {
                    dx.add(&candidate, &dx.matmul(&dx.mul(&reset, &self.h)?, &last)?)?
                };
                let candidate = activate(functions.g, candidate)?;
                let kept = dx.mul(&update, &self.h)?;
                self.h = dx.add(&dx.mul(&dx.affine(&update, -1.0, 1.0)?, &candidate)?, &kept)?;
            }
            Kind::Rnn => {
                let gates = dx.add(gates, &dx.matmul(&self.h, &self.recurrent)?)?;
                self.h = activate(functions.f, gates)?;
            }
        }
        Ok(())
    }
}

/// Bytes that the management of a kept tensor and of a view of it takes.
pub(super) const KEPT_BYTES: usize = 1 << 10;

/// The sizes of a recurrence, checked against each other.
#[derive(Clone, Copy)]
struct Sizes {
    steps: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    gates: usize,
}

pub(in crate::ops) fn recurrence(node: &Node<'_>, kind: Kind) -> Result<DeviceForm, Stop> {
    let directions = directions(node)?;
    node.ignore(&["hidden_size"]);
    let batch_first = node.opset >= 14 && node.flag("layout", false)?;
    let cells = cells_of(node, kind, directions.len())?;
    let cells: Vec<(bool, Functions)> =
        directions.into_iter().zip(cells.into_iter().map(Cell::into_functions)).collect();
    Ok(Box::new(move |args, dx| run(&cells, kind, batch_first, args, dx)))
}

fn run(
    cells: &[(bool, Functions)],
    kind: Kind,
    batch_first: bool,
    args: &mut DeviceArgs,
    dx: &DeviceContext<'_>,
) -> Outputs {
    if args.option(4).is_some() {
        return host_only();
    }
    let ty = own_type(args, 0)?;
    let compute_ty = if ty == ElementType::F64 { ElementType::F64 } else { ElementType::F32 };
    let mut float = |index: usize, order: &[usize]| -> Result<Option<DeviceTensor>, Stop> {
        let Some(value) = args.optional_float(index, dx)? else { return Ok(None) };
        let value = dx.cast(&value, compute_ty)?;
        if batch_first && value.rank() == order.len() { Ok(Some(dx.permute(&value, order)?)) } else { Ok(Some(value)) }
    };
    let steps_first = [1, 0, 2];
    let (x, w, r, b) = (float(0, &steps_first)?, float(1, &[])?, float(2, &[])?, float(3, &[])?);
    let (h0, c0, p) = (float(5, &steps_first)?, float(6, &steps_first)?, float(7, &[])?);
    let (Some(x), Some(w), Some(r)) = (x, w, r) else {
        return Err(Error::invalid_argument("X, W or R is missing").into());
    };
    let (&[steps, batch, input], &[count_w, gates, input_w], &[count_r, gates_r, hidden]) =
        (x.dims(), w.dims(), r.dims())
    else {
        return Err(Error::invalid_argument("X, W and R must have three dimensions").into());
    };
    let fits = (count_w, count_r, input_w, gates_r) == (cells.len(), cells.len(), input, gates);
    if !fits || hidden.checked_mul(kind.gates()) != Some(gates) {
        let (w, r, x) = (Dims(w.dims()), Dims(r.dims()), Dims(x.dims()));
        return Err(Error::invalid_argument(format!("the weights {w} and {r} do not fit the input {x}")).into());
    }
    if [steps, batch, input, hidden].contains(&0) {
        return host_only();
    }
    let sizes = Sizes { steps, batch, input, hidden, gates };
    let checked = |value: Option<DeviceTensor>, dims: &[usize]| match value {
        Some(value) if value.dims() != dims => {
            let why = format!("a parameter has dimensions {}, not {}", Dims(value.dims()), Dims(dims));
            Err(Error::invalid_argument(why))
        }
        value => Ok(value),
    };
    let state = [cells.len(), batch, hidden];
    let b = checked(b, &[cells.len(), 2 * gates])?;
    let (h0, c0) = (checked(h0, &state)?, checked(c0, &state)?);
    let p = checked(p, &[cells.len(), 3 * hidden])?;

    // The states after the steps are kept until they are joined.
    let _kept = dx.cx.budget.charge(steps.saturating_mul(KEPT_BYTES))?;
    let (mut all, mut last_h, mut last_c) = (Vec::new(), Vec::new(), Vec::new());
    for (d, (reverse, functions)) in cells.iter().enumerate() {
        let of = |value: &DeviceTensor| -> Tensor {
            let dims = &value.dims()[1..];
            dx.reshape(&dx.narrow(value, 0, d, 1)?, dims)
        };
        let parameters = [Some(&w), Some(&r), b.as_ref(), h0.as_ref(), c0.as_ref(), p.as_ref()];
        let [w, r, b, h0, c0, p] = parameters.map(|value| value.map(of).transpose());
        let (Some(w), Some(r)) = (w?, r?) else { return host_only() };
        let outputs = one_direction(functions, kind, *reverse, &x, [w, r], [b?, h0?, c0?, p?], sizes, dx)?;
        all.push(dx.stack(&outputs.0, 0)?);
        last_h.push(outputs.1);
        last_c.push(outputs.2);
    }
    let mut outputs = vec![dx.stack(&all, 1)?, dx.stack(&last_h, 0)?];
    if kind == Kind::Lstm {
        outputs.push(dx.stack(&last_c, 0)?);
    }
    let finish = |value: DeviceTensor| {
        let order: &[usize] = if value.rank() == 4 { &[2, 0, 1, 3] } else { &[1, 0, 2] };
        let value = if batch_first { dx.permute(&value, order)? } else { value };
        Ok(dx.cast(&value, ty)?.into())
    };
    outputs.into_iter().map(finish).collect()
}

/// The hidden state after each step, and the last two states.
#[expect(clippy::too_many_arguments, reason = "the inputs of a recurrence")]
fn one_direction(
    functions: &Functions,
    kind: Kind,
    reverse: bool,
    x: &DeviceTensor,
    [w, r]: [DeviceTensor; 2],
    [b, h0, c0, p]: [Option<DeviceTensor>; 4],
    sizes: Sizes,
    dx: &DeviceContext<'_>,
) -> Result<(Vec<DeviceTensor>, DeviceTensor, DeviceTensor), Error> {
    let Sizes { steps, batch, input, hidden, gates } = sizes;
    // The contribution of the input to every gate at every step.
    let rows = dx.reshape(x, &[steps * batch, input])?;
    let mut contribution = dx.matmul(&rows, &dx.transpose(&w)?)?;
    let bias = b.map(|b| -> Result<[DeviceTensor; 2], Error> {
        let b = dx.reshape(&b, &[1, 2 * gates])?;
        Ok([dx.narrow(&b, 1, 0, gates)?, dx.narrow(&b, 1, gates, gates)?])
    });
    let bias = bias.transpose()?;
    if let Some([bias_w, bias_r]) = &bias {
        contribution = dx.add(&contribution, bias_w)?;
        if functions.linear_before_reset {
            // The cell of the GRU adds the recurrent bias of its last gate.
            let both = dx.narrow(bias_r, 1, 0, 2 * hidden)?;
            let bias_r = dx.join(&[both, dx.filled(&[1, hidden], 0.0, x.ty())?], 1)?;
            contribution = dx.add(&contribution, &bias_r)?;
        } else {
            contribution = dx.add(&contribution, bias_r)?;
        }
    }
    let contribution = dx.reshape(&contribution, &[steps, batch, gates])?;
    let zeros = || dx.filled(&[batch, hidden], 0.0, x.ty());
    let peepholes = p.map(|p| -> Result<[DeviceTensor; 3], Error> {
        let p = dx.reshape(&p, &[1, 3 * hidden])?;
        let part = |which: usize| dx.narrow(&p, 1, which * hidden, hidden);
        Ok([part(0)?, part(1)?, part(2)?])
    });
    let mut direction = Direction {
        recurrent: dx.contiguous(&dx.transpose(&r)?)?,
        bias: bias.map(|[_, bias_r]| bias_r),
        peepholes: peepholes.transpose()?,
        h: h0.map_or_else(zeros, Ok)?,
        c: c0.map_or_else(zeros, Ok)?,
    };
    let mut outputs = Vec::with_capacity(steps);
    for iteration in 0..steps {
        let step = if reverse { steps - 1 - iteration } else { iteration };
        let gates = dx.reshape(&dx.narrow(&contribution, 0, step, 1)?, &[batch, gates])?;
        direction.step(functions, kind, &gates, dx)?;
        outputs.push(direction.h.clone());
    }
    if reverse {
        outputs.reverse();
    }
    Ok((outputs, direction.h, direction.c))
}
