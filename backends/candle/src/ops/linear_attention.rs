//! LinearAttention: each head has a state matrix, which each key and value of a sequence updates and each query reads.
//!
//! Computed in f32, one position at a time, as ONNX defines it.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::math::functions;
use crate::ops::cast::convert;
use crate::ops::heads::overwrite;
use crate::ops::linear_sizes::{LinearAttributes, LinearSizes};
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::tensor::dims::count;
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, Values, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[since(27, "LinearAttention", (3, 6), attention)
    .heavy()
    .device(form!(|node| { linear_attention::attention(LinearAttributes::new(node)?) }))];

fn attention(node: &Node<'_>) -> Result<OpFn, Error> {
    let attributes = LinearAttributes::new(node)?;
    Ok(Box::new(move |args, cx| attributes.run(args, cx)))
}

/// The elements of one input, by position and head.
#[derive(Clone, Copy)]
struct Rows<'a> {
    elements: &'a [f32],
    heads: usize,
    size: usize,
}

impl<'a> Rows<'a> {
    fn at(&self, position: usize, head: usize) -> &'a [f32] {
        let start = (position * self.heads + head) * self.size;
        &self.elements[start..start + self.size]
    }
}

impl LinearAttributes {
    fn run(&self, mut args: Args, cx: &ExecContext<'_>) -> Result<Values, Error> {
        let mut inputs = Vec::with_capacity(6);
        let mut types = [ElementType::F32; 2];
        for index in 0..6 {
            let Ok(value) = args.take(index) else {
                inputs.push(None);
                continue;
            };
            if !matches!(value.ty(), ElementType::F32 | ElementType::F16 | ElementType::Bf16) {
                return Err(no_type(&value));
            }
            match index {
                0 => types = [value.ty(); 2],
                3 => types[1] = value.ty(),
                _ => {}
            }
            inputs.push(Some(convert(value, ElementType::F32, cx)?));
        }
        let [Some(query), Some(key), Some(value), past, decay, beta] = inputs.as_slice() else {
            return Err(Error::invalid_argument("queries, keys or values are missing"));
        };
        let past_dims = past.as_ref().map(Value::dims);
        let sizes = self.sizes([query.dims(), key.dims(), value.dims()], past_dims)?;
        let decay = decay.as_ref().map(|decay| self.rows(decay, &sizes, self.decay_widths(&sizes))).transpose()?;
        let beta = beta.as_ref().map(|beta| self.rows(beta, &sizes, self.beta_widths())).transpose()?;
        let query = Rows { elements: query.elements()?, heads: self.heads, size: sizes.key };
        let key = Rows { elements: key.elements()?, heads: self.key_heads, size: sizes.key };
        let value = Rows { elements: value.elements()?, heads: self.key_heads, size: sizes.value };
        let mut checkpoint = Checkpoint::default();
        let (mut state, charge) = cx.filled(0.0_f32, count(&sizes.state)?)?;
        if let Some(past) = past {
            overwrite(&mut state, past.elements()?, &mut checkpoint, cx)?;
        }
        let dims_out = self.output_dims(&sizes);
        let result = cx
            .output::<f32>(&dims_out)?
            .write(0.0, |out| self.run_steps([query, key, value], [decay, beta], &sizes, &mut state, out, cx))?;
        let state = Value::charged(sizes.state.to_vec(), state, charge)?;
        Ok(values![convert(result, types[0], cx)?, convert(state, types[1], cx)?])
    }

    /// Decay or beta, which must have one of `widths` elements at each position.
    fn rows<'a>(&self, value: &'a Value, sizes: &LinearSizes, widths: [usize; 2]) -> Result<Rows<'a>, Error> {
        let (heads, size) = self.gate(value.dims(), sizes, widths)?;
        Ok(Rows { elements: value.elements()?, heads, size })
    }

    fn run_steps(
        &self,
        [query, key, value]: [Rows<'_>; 3],
        [decay, beta]: [Option<Rows<'_>>; 2],
        sizes: &LinearSizes,
        state: &mut [f32],
        out: &mut [f32],
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let scale = sizes.scale;
        let (group, depth) = (self.heads / self.key_heads, sizes.value);
        let (mut new, _charge) = cx.filled(0.0_f32, depth)?;
        let mut checkpoint = Checkpoint::default();
        for batch in 0..sizes.batch {
            for head in 0..self.key_heads {
                let start = (batch * self.key_heads + head) * sizes.key * depth;
                let state = &mut state[start..start + sizes.key * depth];
                for position in batch * sizes.len..(batch + 1) * sizes.len {
                    let (key, value) = (key.at(position, head), value.at(position, head));
                    if let Some(decay) = decay {
                        let decay = decay.at(position, head);
                        for (index, row) in state.chunks_exact_mut(depth).enumerate() {
                            checkpoint.step(depth, cx)?;
                            let factor = functions::exp(if decay.len() == 1 { decay[0] } else { decay[index] });
                            row.iter_mut().for_each(|x| *x *= factor);
                        }
                    }
                    new.copy_from_slice(value);
                    if let Some(beta) = beta {
                        let beta = if beta.heads == 1 { beta.at(position, 0) } else { beta.at(position, head) };
                        for (row, k) in state.chunks_exact(depth).zip(key) {
                            checkpoint.step(depth, cx)?;
                            new.iter_mut().zip(row).for_each(|(new, x)| *new -= x * k);
                        }
                        new.iter_mut().for_each(|new| *new *= beta[0]);
                    }
                    for (row, k) in state.chunks_exact_mut(depth).zip(key) {
                        checkpoint.step(depth, cx)?;
                        row.iter_mut().zip(&new).for_each(|(x, new)| *x += k * new);
                    }
                    for head in head * group..(head + 1) * group {
                        let start = (position * self.heads + head) * depth;
                        let out = &mut out[start..start + depth];
                        for (row, q) in state.chunks_exact(depth).zip(query.at(position, head)) {
                            checkpoint.step(depth, cx)?;
                            out.iter_mut().zip(row).for_each(|(out, x)| *out += scale * q * x);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
