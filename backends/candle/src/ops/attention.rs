//! Attention: softmax(scores of queries and keys) times values, with masks, caches and heads that share keys.
//!
//! Scores are computed some rows at a time, so that the whole score matrix exists only if the model uses it as an
//! output. f16 and bf16 are computed in f32 and rounded once, at the end. A query that may attend to no key gives
//! zeros.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::ops::cast::convert;
use crate::ops::heads::{
    AttentionDims, AttentionSettings, Visible, for_each, overwrite, precision, softmax, split_heads,
};
use crate::ops::layout::{join, permute};
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::ops::real::Real;
use crate::tensor::budget::Charge;
use crate::tensor::dims::{Dims, product, strides};
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, Values};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(23, "Attention", (3, 6), attention).until(23).heavy().device(form!(on_device)),
    since(24, "Attention", (3, 7), attention).heavy().device(form!(on_device)),
];

fn attention(node: &Node<'_>) -> Result<OpFn, Error> {
    let settings = AttentionSettings::new(node)?;
    Ok(Box::new(move |args, cx| settings.run(args, cx)))
}

#[cfg(feature = "candle")]
fn on_device(node: &Node<'_>) -> Result<crate::device::args::DeviceForm, crate::device::args::Stop> {
    crate::ops::device::attention::attention(AttentionSettings::new(node)?)
}

/// A mask that broadcasts to the scores.
struct Mask<'a, T> {
    elements: MaskElements<'a, T>,
    strides: [usize; 4],
    /// Number of keys that the mask covers; later keys are masked.
    keys: usize,
}

enum MaskElements<'a, T> {
    Allowed(&'a [bool]),
    Additive(&'a [T]),
}

impl<'a, T: Real> Mask<'a, T> {
    fn new(value: &'a Value, dims: &AttentionDims, may_be_short: bool) -> Result<Self, Error> {
        let wrong = || {
            Error::invalid_argument(format!(
                "the mask {} does not broadcast to the scores {}",
                Dims(value.dims()),
                Dims(&dims.score_dims())
            ))
        };
        let (all, own) = (dims.score_dims(), strides(value.dims()));
        let skipped = all.len().checked_sub(value.rank()).ok_or_else(wrong)?;
        let (mut strides, mut keys) = ([0; 4], dims.key_len);
        for (position, (&dim, &stride)) in value.dims().iter().zip(&own).enumerate() {
            let position = position + skipped;
            if position == 3 && may_be_short && dim < dims.key_len {
                (strides[3], keys) = (stride, dim);
            } else if dim == all[position] {
                strides[position] = stride;
            } else if dim != 1 {
                return Err(wrong());
            }
        }
        let elements = match value.ty() {
            ElementType::Bool => MaskElements::Allowed(value.elements()?),
            _ => MaskElements::Additive(value.elements()?),
        };
        Ok(Self { elements, strides, keys })
    }

    /// Applies the mask to the part of one row of scores that begins at the key `low`.
    fn apply(
        &self,
        row: &mut [T],
        [batch, head, query, low]: [usize; 4],
        checkpoint: &mut Checkpoint,
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let [b, h, q, k] = self.strides;
        let start = batch * b + head * h + query * q;
        for (piece, row) in row.chunks_mut(PIECE).enumerate() {
            checkpoint.step(row.len(), cx)?;
            let start = start + (low + piece * PIECE) * k;
            match self.elements {
                MaskElements::Allowed(list) => row.iter_mut().enumerate().for_each(|(position, x)| {
                    if !list[start + position * k] {
                        *x = T::NEG_INFINITY;
                    }
                }),
                MaskElements::Additive(list) => {
                    row.iter_mut().enumerate().for_each(|(position, x)| *x = x.plus(list[start + position * k]));
                }
            }
        }
        Ok(())
    }
}

/// The inputs, converted to the type of the computation.
struct Inputs<'a, T> {
    query: &'a Value,
    key: &'a Value,
    value: &'a Value,
    mask: Option<Mask<'a, T>>,
    /// Number of keys of each sequence that are not padding.
    lens: Option<Vec<usize>>,
    /// Number of past keys, which precede those of this call.
    past: usize,
}

impl AttentionSettings {
    fn run(&self, mut args: Args, cx: &ExecContext<'_>) -> Result<Values, Error> {
        let (query, key, value) = (args.take(0)?, args.take(1)?, args.take(2)?);
        let (ty, is_3d) = (query.ty(), query.rank() == 3);
        if key.ty() != ty {
            return Err(Error::invalid_argument(format!("the queries are {ty:?} and the keys are {:?}", key.ty())));
        }
        if key.rank() != query.rank() || value.rank() != query.rank() {
            return Err(Error::invalid_argument("queries, keys and values have different ranks"));
        }
        let query = split_heads(query, self.query_heads, cx)?;
        let (key, value) = (split_heads(key, self.key_heads, cx)?, split_heads(value, self.key_heads, cx)?);
        let (key, value, past) = match (args.take(4), args.take(5)) {
            (Ok(before), Ok(values)) => {
                let past = before.dims().get(2).copied().unwrap_or(0);
                (join(&[&before, &key], 2, cx)?, join(&[&values, &value], 2, cx)?, past)
            }
            _ => (key, value, 0),
        };
        let dims = AttentionDims::of(query.dims(), key.dims(), value.dims())?;
        let lens = args.option(6).map(|lens| dims.lens(lens)).transpose()?;
        let compute_ty = precision(ty, self.softmax_precision)?;
        precision(value.ty(), None)?;
        let mask = args.take(3).ok();
        let mask = match mask {
            Some(mask) if mask.ty() == ElementType::Bool => Some(mask),
            Some(mask) => {
                precision(mask.ty(), None)?;
                Some(convert(mask, compute_ty, cx)?)
            }
            None => None,
        };
        let query = convert(query, compute_ty, cx)?;
        let (keys, values) = (convert(key.clone(), compute_ty, cx)?, convert(value.clone(), compute_ty, cx)?);
        let inputs = (&query, &keys, &values, mask.as_ref());
        let (result, scores) = if compute_ty == ElementType::F64 {
            self.compute::<f64>(inputs, lens, past, &dims, cx)?
        } else {
            self.compute::<f32>(inputs, lens, past, &dims, cx)?
        };
        let mut result = convert(result, ty, cx)?;
        if is_3d {
            let width = dims.query_heads.saturating_mul(dims.value_size);
            result = permute(result, &[0, 2, 1, 3], cx)?.reshaped(vec![dims.batch, dims.query_len, width])?;
        }
        let mut outputs: Values = values![result, key, value];
        if let Some(scores) = scores {
            outputs.push(convert(scores, ty, cx)?);
        }
        Ok(outputs)
    }

    /// The result and, if the fourth output is used, the scores.
    fn compute<T: Real>(
        &self,
        (query, key, value, mask): (&Value, &Value, &Value, Option<&Value>),
        lens: Option<Vec<usize>>,
        past: usize,
        dims: &AttentionDims,
        cx: &ExecContext<'_>,
    ) -> Result<(Value, Option<Value>), Error> {
        let mask = mask.map(|mask| Mask::new(mask, dims, self.opset >= 24)).transpose()?;
        let inputs = Inputs { query, key, value, mask, lens, past };
        let mut all = None;
        if self.outputs > 3 {
            all = Some(cx.filled(T::ZERO, product(&dims.score_dims()))?);
        }
        let result = cx.output::<T>(&dims.output_dims())?.write(T::ZERO, |out| {
            self.run_blocks(&inputs, dims, out, all.as_mut().map(|(all, _)| all.as_mut_slice()), cx)
        })?;
        if dims.value_size == 0
            && let Some((all, _)) = &mut all
        {
            self.run_blocks(&inputs, dims, &mut [], Some(all), cx)?;
        }
        let all = all.map(|(all, charge)| Value::charged(dims.score_dims().to_vec(), all, charge)).transpose()?;
        Ok((result, all))
    }

    /// Computes the output of each head of the keys, one block of queries at a time.
    fn run_blocks<T: Real>(
        &self,
        inputs: &Inputs<'_, T>,
        dims: &AttentionDims,
        out: &mut [T],
        mut all: Option<&mut [T]>,
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let (shared, block) = (dims.shared_rows(), dims.block());
        if dims.key_len == 0 {
            return Ok(());
        }
        for head in 0..dims.batch * (dims.query_heads / dims.group_size) {
            for first in (0..shared).step_by(block) {
                cx.control.check()?;
                let count = block.min(shared - first);
                let (scores, charge) = dims.scores((inputs.query, inputs.key), head, (first, count), cx)?;
                let at = head * shared + first;
                let kept = all.as_mut().map(|all| &mut all[at * dims.key_len..(at + count) * dims.key_len]);
                let weights = self.weights(inputs, dims, (scores, charge), at, kept, cx)?;
                if dims.value_size > 0 {
                    dims.weighted_sum(
                        &weights,
                        inputs.value,
                        head,
                        &mut out[at * dims.value_size..(at + count) * dims.value_size],
                        cx,
                    )?;
                }
            }
        }
        Ok(())
    }

    /// The softmax of a block of rows of scores; `at` is the index of its first row among all rows.
    fn weights<T: Real>(
        &self,
        inputs: &Inputs<'_, T>,
        dims: &AttentionDims,
        (mut scores, charge): (Vec<T>, Charge),
        at: usize,
        mut kept: Option<&mut [T]>,
        cx: &ExecContext<'_>,
    ) -> Result<Value, Error> {
        let (scale, cap) = (T::from_f64(self.scale.unwrap_or(dims.scale())), T::from_f64(f64::from(self.softcap)));
        let mut checkpoint = Checkpoint::default();
        let count = scores.len() / dims.key_len;
        for (index, row) in scores.chunks_exact_mut(dims.key_len).enumerate() {
            let at = at + index;
            let (batch, head, query) =
                (at / (dims.query_heads * dims.query_len), at / dims.query_len % dims.query_heads, at % dims.query_len);
            let mut keep = |mode: i64, row: &[T], checkpoint: &mut Checkpoint| match &mut kept {
                Some(kept) if mode == self.mode => {
                    overwrite(&mut kept[index * dims.key_len..(index + 1) * dims.key_len], row, checkpoint, cx)
                }
                _ => Ok(()),
            };
            for_each(row, &mut checkpoint, cx, |x| *x = x.times(scale))?;
            keep(0, row, &mut checkpoint)?;
            if self.softcap > 0.0 {
                for_each(row, &mut checkpoint, cx, |x| *x = x.divided_by(cap).tanh().times(cap))?;
            }
            keep(1, row, &mut checkpoint)?;
            let visible = Visible { lens: inputs.lens.as_deref(), past: inputs.past };
            let (low, high) = self.visible(&visible, dims, batch, query);
            checkpoint.set(T::NEG_INFINITY, &mut row[..low], cx)?;
            checkpoint.set(T::NEG_INFINITY, &mut row[high..], cx)?;
            if let Some(mask) = &inputs.mask {
                let (inside, past) = row[low..high].split_at_mut(mask.keys.clamp(low, high) - low);
                checkpoint.set(T::NEG_INFINITY, past, cx)?;
                mask.apply(inside, [batch, head, query, low], &mut checkpoint, cx)?;
            }
            keep(2, row, &mut checkpoint)?;
            softmax(row, &mut checkpoint, cx)?;
            keep(3, row, &mut checkpoint)?;
        }
        Value::charged(vec![count, dims.key_len], scores, charge)
    }
}
