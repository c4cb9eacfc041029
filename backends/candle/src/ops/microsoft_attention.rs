//! Attention, QAttention and MultiHeadAttention of com.microsoft, without past keys and values.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::ops::delegate::{call, int, onnx_operator};
use crate::ops::layout::permute;
use crate::ops::microsoft_heads::{HeadAttributes, HeadSizes, check_qkv, hidden_sizes, sizes, wrong_bias};
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::{Operator, form, microsoft};
use crate::ops::qlinear::{Quantized, QuantizedProduct};
use crate::tensor::dims::count;
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    microsoft("Attention", (2, 7), attention).heavy().device(form!(microsoft_attention::attention)),
    microsoft("QAttention", (5, 9), q_attention).heavy(),
    microsoft("MultiHeadAttention", (1, 6), multi_head).heavy().device(form!(microsoft_attention::multi_head)),
];

/// The attributes of an attention, and the operators that it is composed of.
struct Heads {
    attributes: HeadAttributes,
    matmul: OpFn,
    add: OpFn,
    softmax: OpFn,
}

impl Heads {
    fn new(node: &Node<'_>) -> Result<Self, Error> {
        let attributes = HeadAttributes::new(node)?;
        node.limit_outputs(1)?;
        Ok(Self {
            attributes,
            matmul: onnx_operator("MatMul", 13, Vec::new())?,
            add: onnx_operator("Add", 13, Vec::new())?,
            softmax: onnx_operator("Softmax", 13, vec![int("axis", -1)])?,
        })
    }

    /// Splits the hidden size into heads: the result is batch × heads × length × head size.
    fn split(&self, value: Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
        let ([batch, steps, width], heads) = (self.attributes.dims(value.dims())?, self.attributes.count);
        permute(value.reshaped(vec![batch, steps, heads, width / heads])?, &[0, 2, 1, 3], cx)
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
        let (heads, sizes) = (self.attributes.count, self.attributes.sizes([q.dims(), k.dims(), v.dims()])?);
        let k = permute(k.reshaped(vec![sizes.batch, sizes.keys, heads, sizes.size])?, &[0, 2, 3, 1], cx)?;
        let mut scores = call(&self.matmul, [self.split(q, cx)?, k], cx)?;
        count(&[sizes.batch, heads, sizes.steps, sizes.keys])?;
        let mask = mask.map(|mask| self.attributes.mask(mask, &sizes, cx)).transpose()?;
        self.scale_and_mask(&mut scores, mask.as_ref(), &sizes, cx)?;
        if let Some(bias) = bias {
            let dims = scores.dims().to_vec();
            scores = call(&self.add, [scores, bias], cx)?;
            if scores.dims() != dims {
                return Err(wrong_bias());
            }
        }
        let attended = call(&self.matmul, [call(&self.softmax, [scores], cx)?, self.split(v, cx)?], cx)?;
        permute(attended, &[0, 2, 1, 3], cx)?.reshaped(vec![sizes.batch, sizes.steps, sizes.out])
    }

    /// Scales the scores, adds the mask and applies the causal mask.
    fn scale_and_mask(
        &self,
        scores: &mut Value,
        mask: Option<&Value>,
        sizes: &HeadSizes,
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let &HeadSizes { batch, steps, keys, scale, .. } = sizes;
        let mask = mask.map(Value::elements::<f32>).transpose()?;
        let elements =
            scores.elements_mut::<f32>().ok_or_else(|| Error::runtime_error("the attention scores are shared"))?;
        let mut checkpoint = Checkpoint::default();
        for (index, row) in elements.chunks_exact_mut(keys.max(1)).enumerate() {
            checkpoint.step(keys, cx)?;
            let (image, step) = (index / (self.attributes.count * steps) % batch.max(1), index % steps);
            row.iter_mut().for_each(|score| *score *= scale);
            if let Some(mask) = mask {
                let mask = &mask[image * keys..(image + 1) * keys];
                row.iter_mut().zip(mask).for_each(|(score, mask)| *score += mask);
            }
            if self.attributes.causal {
                // Later keys are excluded even if all earlier ones are masked.
                row[sizes.visible(step)..].fill(f32::MIN);
            }
        }
        Ok(())
    }
}

/// Splits the last dimension into queries, keys and values.
fn split_qkv(value: &Value, sizes: [usize; 3], cx: &ExecContext<'_>) -> Result<[Value; 3], Error> {
    let [batch, steps] = check_qkv(value.dims(), sizes)?;
    let width = value.dims()[2];
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

fn attention(node: &Node<'_>) -> Result<OpFn, Error> {
    let heads = Heads::new(node)?;
    if (4..7).any(|index| index != 5 && node.has_input(index)) || node.flag("do_rotary", false)? {
        return Err(Error::unsupported("past keys and values and rotary embeddings are not supported"));
    }
    node.ignore(&["past_present_share_buffer", "rotary_embedding_dim"]);
    let hidden_sizes = hidden_sizes(node)?;
    Ok(Box::new(move |mut args, cx| {
        let mut projected = call(&heads.matmul, [args.take(0)?, args.take(1)?], cx)?;
        if let Ok(bias) = args.take(2) {
            projected = call(&heads.add, [projected, bias], cx)?;
        }
        let width = projected.dims().last().copied().unwrap_or(0);
        let qkv = split_qkv(&projected, sizes(hidden_sizes, width), cx)?;
        drop(projected);
        Ok(values![heads.attend(qkv, args.option(3), args.option(5).cloned(), cx)?])
    }))
}

fn q_attention(node: &Node<'_>) -> Result<OpFn, Error> {
    let (heads, product) = (Heads::new(node)?, QuantizedProduct::new(None)?);
    if node.has_input(8) || node.flag("do_rotary", false)? {
        return Err(Error::unsupported("past keys and values and rotary embeddings are not supported"));
    }
    node.ignore(&["past_present_share_buffer"]);
    Ok(Box::new(move |mut args, cx| {
        let a = Quantized { value: Some(args.take(0)?), scale: args.take(3)?, zero_point: args.option(6).cloned() };
        let b = Quantized { value: Some(args.take(1)?), scale: args.take(4)?, zero_point: args.option(7).cloned() };
        let projected = product.multiply(a, b, Some(args.take(2)?), cx)?;
        let width = projected.dims().last().copied().unwrap_or(0);
        let qkv = split_qkv(&projected, sizes(None, width), cx)?;
        drop(projected);
        Ok(values![heads.attend(qkv, args.option(5), None, cx)?])
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
        Ok(values![heads.attend(values, args.option(4), args.option(5).cloned(), cx)?])
    }))
}
