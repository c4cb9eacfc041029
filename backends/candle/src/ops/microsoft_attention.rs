//! Attention, QAttention and MultiHeadAttention of com.microsoft, without past keys and values.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::ops::delegate::{call, int, onnx_operator};
use crate::ops::layout::permute;
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::{Operator, microsoft};
use crate::ops::qlinear::{Quantized, QuantizedProduct};
use crate::tensor::dims::{Dims, count};
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    microsoft("Attention", (2, 7), attention).heavy(),
    microsoft("QAttention", (5, 9), q_attention).heavy(),
    microsoft("MultiHeadAttention", (1, 6), multi_head).heavy(),
];

/// The attributes of an attention, and the operators that it is composed of.
struct Heads {
    count: usize,
    causal: bool,
    scale: Option<f32>,
    /// Added to the scores of keys that the mask excludes.
    masked: f32,
    matmul: OpFn,
    add: OpFn,
    softmax: OpFn,
}

impl Heads {
    fn new(node: &Node<'_>) -> Result<Self, Error> {
        let count = node.int("num_heads")?.and_then(|count| usize::try_from(count).ok()).filter(|&count| count > 0);
        node.limit_outputs(1)?;
        Ok(Self {
            count: count.ok_or_else(|| Error::invalid_encoding("attribute num_heads is missing or not positive"))?,
            causal: node.flag("unidirectional", false)?,
            scale: node.float_option("scale")?.filter(|&scale| scale != 0.0),
            masked: node.float("mask_filter_value", -10000.0)?,
            matmul: onnx_operator("MatMul", 13, Vec::new())?,
            add: onnx_operator("Add", 13, Vec::new())?,
            softmax: onnx_operator("Softmax", 13, vec![int("axis", -1)])?,
        })
    }

    /// Batch size, sequence length and hidden size of a tensor.
    fn dims(&self, value: &Value) -> Result<[usize; 3], Error> {
        match *value.dims() {
            [batch, steps, width] if width % self.count == 0 => Ok([batch, steps, width]),
            _ => Err(Error::invalid_argument(format!(
                "the input {} must have three dimensions, the last one a multiple of {} heads",
                Dims(value.dims()),
                self.count
            ))),
        }
    }

    /// Splits the hidden size into heads: the result is batch × heads × length × head size.
    fn split(&self, value: Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
        let [batch, steps, width] = self.dims(&value)?;
        permute(value.reshaped(vec![batch, steps, self.count, width / self.count])?, &[0, 2, 1, 3], cx)
    }

    /// The attention of queries `q` to keys `k` with values `v`, each batch × length × hidden size. The mask has a
    /// number for each key, or the number of keys of each sequence. The bias is added to the scores.
    fn attend(
        &self,
        [q, k, v]: [Value; 3],
        mask: Option<&Value>,
        bias: Option<Value>,
        cx: &ExecContext<'_>,
    ) -> Result<Value, Error> {
        if q.ty() != ElementType::F32 {
            return Err(no_type(&q));
        }
        let ([batch, steps, width], [_, keys, _], [_, _, out]) = (self.dims(&q)?, self.dims(&k)?, self.dims(&v)?);
        if k.dims() != [batch, keys, width] || v.dims() != [batch, keys, out] {
            let why =
                format!("keys {} and values {} do not fit queries {}", Dims(k.dims()), Dims(v.dims()), Dims(q.dims()));
            return Err(Error::invalid_argument(why));
        }
        let scale = self.scale.unwrap_or_else(|| 1.0 / ((width / self.count) as f32).sqrt());
        let k = permute(k.reshaped(vec![batch, keys, self.count, width / self.count])?, &[0, 2, 3, 1], cx)?;
        let mut scores = call(&self.matmul, [self.split(q, cx)?, k], cx)?;
        count(&[batch, self.count, steps, keys])?;
        let mask = mask.map(|mask| self.mask(mask, batch, keys, cx)).transpose()?;
        self.scale_and_mask(&mut scores, mask.as_ref(), [batch, steps, keys], scale, cx)?;
        if let Some(bias) = bias {
            let dims = scores.dims().to_vec();
            scores = call(&self.add, [scores, bias], cx)?;
            if scores.dims() != dims {
                return Err(Error::invalid_argument(
                    "the attention bias does not broadcast to the dimensions of the scores",
                ));
            }
        }
        let attended = call(&self.matmul, [call(&self.softmax, [scores], cx)?, self.split(v, cx)?], cx)?;
        permute(attended, &[0, 2, 1, 3], cx)?.reshaped(vec![batch, steps, out])
    }

    /// The number that the mask adds to the scores of each sequence and key.
    fn mask(&self, mask: &Value, batch: usize, keys: usize, cx: &ExecContext<'_>) -> Result<Value, Error> {
        let given = mask.elements::<i32>()?;
        let added = |kept: bool| if kept { 0.0 } else { self.masked };
        let output = cx.output::<f32>(&[batch, keys])?;
        match *mask.dims() {
            // The number of keys of each sequence.
            [rows] if rows == batch => {
                let kept = |index: usize| usize::try_from(given[index / keys]).is_ok_and(|end| index % keys < end);
                output.collect((0..batch * keys).map(|index| added(kept(index))))
            }
            [rows, columns] if (rows, columns) == (batch, keys) => {
                output.collect(given.iter().map(|&one| added(one != 0)))
            }
            _ => Err(Error::unsupported(format!(
                "a mask of dimensions {} is not supported: {} and {} are",
                Dims(mask.dims()),
                Dims(&[batch]),
                Dims(&[batch, keys])
            ))),
        }
    }

    /// Scales the scores, adds the mask and applies the causal mask.
    fn scale_and_mask(
        &self,
        scores: &mut Value,
        mask: Option<&Value>,
        [batch, steps, keys]: [usize; 3],
        scale: f32,
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let mask = mask.map(Value::elements::<f32>).transpose()?;
        let elements =
            scores.elements_mut::<f32>().ok_or_else(|| Error::runtime_error("the attention scores are shared"))?;
        let mut checkpoint = Checkpoint::default();
        for (index, row) in elements.chunks_exact_mut(keys.max(1)).enumerate() {
            checkpoint.step(keys, cx)?;
            let (image, step) = (index / (self.count * steps) % batch.max(1), index % steps);
            row.iter_mut().for_each(|score| *score *= scale);
            if let Some(mask) = mask {
                let mask = &mask[image * keys..(image + 1) * keys];
                row.iter_mut().zip(mask).for_each(|(score, mask)| *score += mask);
            }
            if self.causal {
                // The last query is at the position of the last key. Later keys are excluded even if all earlier ones
                // are masked.
                let end = (step + 1 + keys).saturating_sub(steps).min(keys);
                row[end..].fill(f32::MIN);
            }
        }
        Ok(())
    }
}

/// Splits the last dimension into queries, keys and values.
fn split_qkv(value: &Value, sizes: [usize; 3], cx: &ExecContext<'_>) -> Result<[Value; 3], Error> {
    let &[batch, steps, width] = value.dims() else {
        return Err(Error::invalid_argument("the input must have three dimensions"));
    };
    if sizes.iter().try_fold(0_usize, |sum, &size| sum.checked_add(size)) != Some(width) {
        return Err(Error::invalid_argument(format!(
            "the last dimension of {} is not the sum of the sizes {sizes:?}",
            Dims(value.dims())
        )));
    }
    let elements = value.elements::<f32>()?;
    let mut start = 0;
    let mut part = |size: usize| {
        let mut checkpoint = Checkpoint::default();
        let from = start;
        start += size;
        cx.output::<f32>(&[batch, steps, size])?.append(|out| {
            elements.chunks_exact(width).try_for_each(|row| checkpoint.copy(&row[from..from + size], out, cx))
        })
    };
    Ok([part(sizes[0])?, part(sizes[1])?, part(sizes[2])?])
}

/// Hidden sizes of queries, keys and values: those of the attribute, or a third each.
fn sizes(hidden_sizes: Option<[usize; 3]>, width: usize) -> [usize; 3] {
    hidden_sizes.unwrap_or([width / 3, width / 3, width - 2 * (width / 3)])
}

fn attention(node: &Node<'_>) -> Result<OpFn, Error> {
    let heads = Heads::new(node)?;
    if (4..7).any(|index| index != 5 && node.has_input(index)) || node.flag("do_rotary", false)? {
        return Err(Error::unsupported("past keys and values and rotary embeddings are not supported"));
    }
    node.ignore(&["past_present_share_buffer", "rotary_embedding_dim"]);
    let hidden_sizes = match node.ints("qkv_hidden_sizes")?.unwrap_or_default() {
        [] => None,
        &[q, k, v] => {
            let size = |size: i64| {
                usize::try_from(size)
                    .map_err(|_| Error::invalid_encoding("attribute qkv_hidden_sizes has a negative size"))
            };
            Some([size(q)?, size(k)?, size(v)?])
        }
        other => {
            return Err(Error::invalid_encoding(format!(
                "attribute qkv_hidden_sizes has {} sizes, not 3",
                other.len()
            )));
        }
    };
    Ok(Box::new(move |mut args, cx| {
        let mut projected = call(&heads.matmul, [args.take(0)?, args.take(1)?], cx)?;
        if let Ok(bias) = args.take(2) {
            projected = call(&heads.add, [projected, bias], cx)?;
        }
        let width = projected.dims().last().copied().unwrap_or(0);
        let qkv = split_qkv(&projected, sizes(hidden_sizes, width), cx)?;
        drop(projected);
        Ok(vec![heads.attend(qkv, args.option(3), args.option(5).cloned(), cx)?])
    }))
}

fn q_attention(node: &Node<'_>) -> Result<OpFn, Error> {
    let (heads, product) = (Heads::new(node)?, QuantizedProduct::new()?);
    if node.has_input(8) || node.flag("do_rotary", false)? {
        return Err(Error::unsupported("past keys and values and rotary embeddings are not supported"));
    }
    node.ignore(&["past_present_share_buffer"]);
    Ok(Box::new(move |mut args, cx| {
        let a = Quantized { value: args.take(0)?, scale: args.take(3)?, zero_point: args.option(6).cloned() };
        let b = Quantized { value: args.take(1)?, scale: args.take(4)?, zero_point: args.option(7).cloned() };
        let projected = product.multiply(a, b, Some(args.take(2)?), cx)?;
        let width = projected.dims().last().copied().unwrap_or(0);
        let qkv = split_qkv(&projected, sizes(None, width), cx)?;
        drop(projected);
        Ok(vec![heads.attend(qkv, args.option(5), None, cx)?])
    }))
}

fn multi_head(node: &Node<'_>) -> Result<OpFn, Error> {
    let heads = Heads::new(node)?;
    if !node.has_input(1) || !node.has_input(2) {
        return Err(Error::unsupported("queries, keys and values packed into one tensor are not supported"));
    }
    Ok(Box::new(move |mut args: Args, cx| {
        let mut values = [args.take(0)?, args.take(1)?, args.take(2)?];
        if let Ok(bias) = args.take(3) {
            let widths: Vec<usize> = values.iter().map(|value| value.dims().last().copied().unwrap_or(0)).collect();
            let len = bias.len();
            let biases = split_qkv(&bias.reshaped(vec![1, 1, len])?, [widths[0], widths[1], widths[2]], cx)?;
            for (value, bias) in values.iter_mut().zip(biases) {
                *value = call(&heads.add, [value.clone(), bias], cx)?;
            }
        }
        Ok(vec![heads.attend(values, args.option(4), args.option(5).cloned(), cx)?])
    }))
}
