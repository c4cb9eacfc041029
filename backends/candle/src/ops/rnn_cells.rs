//! The cells of LSTM, GRU and RNN with their activations, and the parameters that the recurrent operators share.

use crate::compute::context::ExecContext;
use crate::ops::integers::integers;
use crate::ops::node::Node;
use crate::ops::real::Real;
use crate::tensor::budget::Charge;
use crate::tensor::dims::Dims;
use crate::tensor::element::Element;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// A recurrent operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Lstm,
    Gru,
    Rnn,
}

impl Kind {
    pub(super) const fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
            Self::Rnn => 1,
        }
    }
}

/// Whether each direction of a recurrence goes backwards.
pub(super) fn directions(node: &Node<'_>) -> Result<Vec<bool>, Error> {
    match node.string("direction", "forward")? {
        "forward" => Ok(vec![false]),
        "reverse" => Ok(vec![true]),
        "bidirectional" => Ok(vec![false, true]),
        _ => Err(Error::invalid_encoding("attribute direction is not one of forward, reverse and bidirectional")),
    }
}

/// The elements of an optional parameter or state, which must have the dimensions `dims`.
pub(super) fn parameter<'a, T: Element>(value: Option<&'a Value>, dims: &[usize]) -> Result<Option<&'a [T]>, Error> {
    match value {
        Some(value) if value.dims() == dims => value.elements::<T>().map(Some),
        Some(value) => {
            let why = format!("a parameter has dimensions {}, not {}", Dims(value.dims()), Dims(dims));
            Err(Error::invalid_argument(why))
        }
        None => Ok(None),
    }
}

/// The length of each sequence of the batch.
pub(super) fn sequence_lengths(
    value: &Value,
    steps: usize,
    batch: usize,
    cx: &ExecContext<'_>,
) -> Result<(Vec<usize>, Charge), Error> {
    let wrong = || Error::invalid_argument(format!("sequence_lens must be {batch} numbers from 0 to {steps}"));
    let given = integers(value, cx)?;
    let (mut lengths, charge) = cx.list::<usize>(given.len())?;
    for &length in &*given {
        lengths.push(usize::try_from(length).ok().filter(|&length| length <= steps).ok_or_else(wrong)?);
    }
    if lengths.len() == batch { Ok((lengths, charge)) } else { Err(wrong()) }
}

/// An activation of a recurrence.
#[derive(Clone, Copy)]
pub(super) enum Activation {
    Relu,
    Tanh,
    Sigmoid,
    Affine(f32, f32),
    LeakyRelu(f32),
    ThresholdedRelu(f32),
    ScaledTanh(f32, f32),
    HardSigmoid(f32, f32),
    Elu(f32),
    Softsign,
    Softplus,
}

impl Activation {
    fn apply<T: Real>(self, x: T) -> T {
        let (zero, one) = (T::ZERO, T::ONE);
        let float = |number: f32| T::from_f64(f64::from(number));
        match self {
            // NaN is kept.
            Self::Relu => {
                if x < zero {
                    zero
                } else {
                    x
                }
            }
            Self::Tanh => x.tanh(),
            Self::Sigmoid => x.sigmoid(),
            Self::Affine(alpha, beta) => float(alpha) * x + float(beta),
            Self::LeakyRelu(alpha) => {
                if x < zero {
                    float(alpha) * x
                } else {
                    x
                }
            }
            Self::ThresholdedRelu(alpha) => {
                if x > float(alpha) {
                    x
                } else {
                    zero
                }
            }
            Self::ScaledTanh(alpha, beta) => float(alpha) * (float(beta) * x).tanh(),
            Self::HardSigmoid(alpha, beta) => (float(alpha) * x + float(beta)).clamp(zero, one),
            Self::Elu(alpha) => {
                if x < zero {
                    float(alpha) * x.exp_m1()
                } else {
                    x
                }
            }
            Self::Softsign => x / (one + x.abs()),
            Self::Softplus => x.max(zero) + (-x.abs()).exp().ln_1p(),
        }
    }

    /// The activation of a name; its parameters, if any, are removed from the front of the two lists.
    fn named(name: &str, alphas: &mut &[f32], betas: &mut &[f32]) -> Result<Self, Error> {
        fn next(list: &mut &[f32], default: f32) -> f32 {
            let Some((&first, rest)) = list.split_first() else { return default };
            *list = rest;
            first
        }
        Ok(match name.to_ascii_lowercase().as_str() {
            "relu" => Self::Relu,
            "tanh" => Self::Tanh,
            "sigmoid" => Self::Sigmoid,
            "affine" => Self::Affine(next(alphas, 1.0), next(betas, 0.0)),
            "leakyrelu" => Self::LeakyRelu(next(alphas, 0.01)),
            "thresholdedrelu" => Self::ThresholdedRelu(next(alphas, 1.0)),
            "scaledtanh" => Self::ScaledTanh(next(alphas, 1.0), next(betas, 1.0)),
            "hardsigmoid" => Self::HardSigmoid(next(alphas, 0.2), next(betas, 0.5)),
            "elu" => Self::Elu(next(alphas, 1.0)),
            "softsign" => Self::Softsign,
            "softplus" => Self::Softplus,
            _ => return Err(Error::unsupported("attribute activations has an activation that ONNX does not define")),
        })
    }
}

/// The activations of a cell, named f, g and h as in ONNX.
pub(super) struct Functions {
    pub(super) f: Activation,
    pub(super) g: Activation,
    pub(super) h: Activation,
    pub(super) clip: Option<f32>,
    /// LSTM: the forget gate is one minus the input gate.
    pub(super) coupled: bool,
    /// GRU: the reset gate is applied after the recurrent product.
    pub(super) linear_before_reset: bool,
}

/// The cell of one direction.
pub(super) enum Cell {
    /// An LSTM with the default activations, not clipped and not coupled.
    StandardLstm,
    Lstm(Functions),
    Gru(Functions),
    Rnn(Functions),
}

/// The cell of each direction.
pub(super) fn cells_of(node: &Node<'_>, kind: Kind, directions: usize) -> Result<Vec<Cell>, Error> {
    let (each, standard): (usize, &[&str]) = match kind {
        Kind::Lstm => (3, &["Sigmoid", "Tanh", "Tanh"]),
        Kind::Gru => (2, &["Sigmoid", "Tanh"]),
        Kind::Rnn => (1, &["Tanh"]),
    };
    let names = match node.strings("activations")? {
        Some(names) => names,
        None => standard.iter().copied().cycle().take(each * directions).collect(),
    };
    if names.len() != each * directions {
        return Err(Error::invalid_encoding(format!(
            "attribute activations has {} names, not {}",
            names.len(),
            each * directions
        )));
    }
    let mut alphas = node.floats("activation_alpha")?.unwrap_or_default();
    let mut betas = node.floats("activation_beta")?.unwrap_or_default();
    let clip = node.float_option("clip")?.filter(|clip| *clip > 0.0);
    let coupled = kind == Kind::Lstm && node.flag("input_forget", false)?;
    let linear_before_reset = kind == Kind::Gru && node.flag("linear_before_reset", false)?;
    let mut cells = Vec::with_capacity(directions);
    for names in names.chunks_exact(each) {
        let is_standard = names.iter().zip(standard).all(|(name, standard)| name.eq_ignore_ascii_case(standard));
        let mut next = |index: usize| match names.get(index) {
            Some(name) => Activation::named(name, &mut alphas, &mut betas),
            None => Ok(Activation::Tanh),
        };
        let functions = Functions { f: next(0)?, g: next(1)?, h: next(2)?, clip, coupled, linear_before_reset };
        cells.push(match kind {
            Kind::Lstm if is_standard && clip.is_none() && !coupled => Cell::StandardLstm,
            Kind::Lstm => Cell::Lstm(functions),
            Kind::Gru => Cell::Gru(functions),
            Kind::Rnn => Cell::Rnn(functions),
        });
    }
    Ok(cells)
}

impl Cell {
    /// Whether the cell itself adds the recurrent bias of the last gate.
    pub(super) const fn linear_before_reset(&self) -> bool {
        matches!(self, Self::Gru(functions) if functions.linear_before_reset)
    }

    /// The LSTM with the default activations and with peepholes.
    pub(super) fn lstm<T: Real>(gates: &[T], h: &mut [T], c: &mut [T], peepholes: Option<&[T]>) {
        Functions::STANDARD_LSTM.lstm(gates, h, c, peepholes);
    }

    /// The activations of the cell.
    #[cfg(feature = "candle")]
    pub(super) fn into_functions(self) -> Functions {
        match self {
            Self::StandardLstm => Functions::STANDARD_LSTM,
            Self::Lstm(functions) | Self::Gru(functions) | Self::Rnn(functions) => functions,
        }
    }
}

impl Functions {
    const STANDARD_LSTM: Self = Self {
        f: Activation::Sigmoid,
        g: Activation::Tanh,
        h: Activation::Tanh,
        clip: None,
        coupled: false,
        linear_before_reset: false,
    };

    fn clipped<T: Real>(&self, x: T) -> T {
        match self.clip {
            // The bound is positive. NaN is kept.
            Some(clip) => {
                let clip = T::from_f64(f64::from(clip));
                x.clamp(-clip, clip)
            }
            None => x,
        }
    }

    /// Gates in the order input, output, forget, cell; peepholes in the order input, output, forget.
    pub(super) fn lstm<T: Real>(&self, gates: &[T], h: &mut [T], c: &mut [T], peepholes: Option<&[T]>) {
        let hidden = h.len();
        let gate = |which: usize, index: usize| gates[which * hidden + index];
        let peephole = |which: usize, index: usize| peepholes.map_or(T::ZERO, |p| p[which * hidden + index]);
        for index in 0..hidden {
            let old = c[index];
            let input = self.f.apply(self.clipped(gate(0, index) + peephole(0, index) * old));
            let forget = if self.coupled {
                T::ONE - input
            } else {
                self.f.apply(self.clipped(gate(2, index) + peephole(2, index) * old))
            };
            c[index] = forget * old + input * self.g.apply(self.clipped(gate(3, index)));
            let output = self.f.apply(self.clipped(gate(1, index) + peephole(1, index) * c[index]));
            h[index] = output * self.h.apply(c[index]);
        }
    }

    /// The activation of the gates of a GRU.
    pub(super) fn gate(&self, x: f32) -> f32 {
        self.f.apply(self.clipped(x))
    }

    /// The activation of the new state of a GRU.
    pub(super) fn candidate(&self, x: f32) -> f32 {
        self.g.apply(self.clipped(x))
    }

    /// Whether a GRU has the default activations and is not clipped.
    pub(super) const fn is_standard_gru(&self) -> bool {
        matches!((self.f, self.g, self.clip), (Activation::Sigmoid, Activation::Tanh, None))
    }

    /// Whether an RNN has the default activation and is not clipped.
    pub(super) const fn is_standard_rnn(&self) -> bool {
        matches!((self.f, self.clip), (Activation::Tanh, None))
    }

    /// Gates in the order update, reset, hidden.
    pub(super) fn gru<T: Real>(
        &self,
        gates: &mut [T],
        h: &mut [T],
        recurrent: &[T],
        bias: Option<&[T]>,
        scratch: &mut [T],
    ) {
        let hidden = h.len();
        let (both, last) = gates.split_at_mut(2 * hidden);
        let (recurrent_both, recurrent_last) = recurrent.split_at(2 * hidden * hidden);
        T::add_dots(recurrent_both, h, both);
        let (update, reset) = both.split_at(hidden);
        let reset = |index: usize| self.f.apply(self.clipped(reset[index]));
        if self.linear_before_reset {
            match bias {
                Some(bias) => scratch.copy_from_slice(&bias[2 * hidden..3 * hidden]),
                None => scratch.fill(T::ZERO),
            }
            T::add_dots(recurrent_last, h, scratch);
            last.iter_mut().zip(scratch.iter()).enumerate().for_each(|(index, (x, part))| *x += reset(index) * *part);
        } else {
            scratch.iter_mut().zip(h.iter()).enumerate().for_each(|(index, (x, h))| *x = reset(index) * *h);
            T::add_dots(recurrent_last, scratch, last);
        }
        for (index, h) in h.iter_mut().enumerate() {
            let update = self.f.apply(self.clipped(update[index]));
            *h = (T::ONE - update) * self.g.apply(self.clipped(last[index])) + update * *h;
        }
    }

    pub(super) fn rnn<T: Real>(&self, gates: &[T], h: &mut [T]) {
        h.iter_mut().zip(gates).for_each(|(h, &x)| *h = self.f.apply(self.clipped(x)));
    }
}
