//! FlexAttention of ai.onnx.preview: attention whose scores and weights are modified by subgraphs of the node.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::ops::cast::convert;
use crate::ops::heads::{AttentionDims, for_each, precision, softmax};
use crate::ops::modifiers::{FlexAttributes, check_kept};
use crate::ops::node::{Args, Node, OpFn, Subgraph};
use crate::ops::operator::{Operator, form, since};
use crate::ops::real::Real;
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, Values};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[since(1, "FlexAttention", (3, 3), attention)
    .in_domain("ai.onnx.preview")
    .until(1)
    .heavy()
    .device(form!(|node| { attention::flex(FlexAttributes::new(node)?) }))];

fn attention(node: &Node<'_>) -> Result<OpFn, Error> {
    let attributes = FlexAttributes::new(node)?;
    Ok(Box::new(move |args, cx| attributes.run(args, cx)))
}

/// Applies a subgraph to `value`; the subgraph must keep its dimensions and type.
fn apply_subgraph(graph: Option<&Subgraph>, value: Value, args: &Args, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let Some(graph) = graph else { return Ok(value) };
    let (dims, ty) = (value.dims().to_vec(), value.ty());
    let mut inputs: Values = values![value];
    for &index in &graph.captures {
        inputs.push(args.get(index)?.clone());
    }
    let result = graph.graph.run(inputs, cx)?.into_iter().next();
    let result = result.ok_or_else(|| Error::runtime_error("a subgraph has no output"))?;
    check_kept((&dims, ty), (result.dims(), result.ty()))?;
    Ok(result)
}

impl FlexAttributes {
    fn run(&self, mut args: Args, cx: &ExecContext<'_>) -> Result<Values, Error> {
        let (query, key, value) = (args.take(0)?, args.take(1)?, args.take(2)?);
        let ty = query.ty();
        if key.ty() != ty || value.ty() != ty {
            return Err(Error::invalid_argument("queries, keys and values have different types"));
        }
        let dims = AttentionDims::of(query.dims(), key.dims(), value.dims())?;
        let compute_ty = precision(ty, self.softmax_precision)?;
        let (query, key) = (convert(query, compute_ty, cx)?, convert(key, compute_ty, cx)?);
        let value = convert(value, compute_ty, cx)?;
        let result = if compute_ty == ElementType::F64 {
            self.compute::<f64>([&query, &key, &value], &dims, &args, cx)?
        } else {
            self.compute::<f32>([&query, &key, &value], &dims, &args, cx)?
        };
        Ok(values![convert(result, ty, cx)?])
    }

    fn compute<T: Real>(
        &self,
        [query, key, value]: [&Value; 3],
        dims: &AttentionDims,
        args: &Args,
        cx: &ExecContext<'_>,
    ) -> Result<Value, Error> {
        let scale = T::from_f64(self.scale.unwrap_or(dims.scale()));
        // The subgraphs compute in softmax_precision, by default in the type of the attention.
        let subgraph_ty = self.softmax_precision.unwrap_or(T::TYPE);
        let (shared, block, keys) = (dims.shared_rows(), dims.block(), dims.key_len);
        let groups = dims.batch * (dims.query_heads / dims.group_size);
        let mut checkpoint = Checkpoint::default();
        let scores = cx.output::<T>(&dims.score_dims())?.append(|out| {
            for head in 0..groups {
                for first in (0..shared).step_by(block) {
                    let count = block.min(shared - first);
                    let (scores, _charge) = dims.scores::<T>((query, key), head, (first, count), cx)?;
                    let start = out.len();
                    checkpoint.copy(&scores, out, cx)?;
                    for_each(&mut out[start..], &mut checkpoint, cx, |x| *x = x.times(scale))?;
                }
            }
            Ok(())
        })?;
        let mut scores = apply_subgraph(self.score.as_ref(), convert(scores, subgraph_ty, cx)?, args, cx)?;
        scores = convert(scores, T::TYPE, cx)?;
        if keys > 0 {
            let elements = scores.elements::<T>()?;
            scores = cx.output::<T>(&dims.score_dims())?.append(|out| {
                checkpoint.copy(elements, out, cx)?;
                out.chunks_exact_mut(keys).try_for_each(|row| softmax(row, &mut checkpoint, cx))
            })?;
        }
        let weights = apply_subgraph(self.weight.as_ref(), convert(scores, subgraph_ty, cx)?, args, cx)?;
        let weights = convert(weights, T::TYPE, cx)?;
        cx.output::<T>(&dims.output_dims())?.write(T::ZERO, |out| {
            let elements = weights.elements::<T>()?;
            let size = shared * dims.value_size;
            if keys == 0 {
                return Ok(());
            }
            for (head, out) in out.chunks_exact_mut(size).enumerate() {
                let part = &elements[head * shared * keys..(head + 1) * shared * keys];
                let part = cx.output::<T>(&[shared, keys])?.append(|rows| checkpoint.copy(part, rows, cx))?;
                dims.weighted_sum(&part, value, head, out, cx)?;
            }
            Ok(())
        })
    }
}
