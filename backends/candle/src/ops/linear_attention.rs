//! LinearAttention: each head has a state matrix, which each key and value of a sequence updates and each query reads.
//!
//! Computed in f32, one position at a time, as ONNX defines it.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::math::functions;
use crate::ops::cast::convert;
use crate::ops::heads::overwrite;
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::{Operator, since};
use crate::tensor::dims::{Dims, count};
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[since(27, "LinearAttention", (3, 6), attention).heavy()];

struct LinearAttention {
    heads: usize,
    key_heads: usize,
    scale: f32,
}

fn attention(node: &Node<'_>) -> Result<OpFn, Error> {
    let heads = |name: &str| {
        let number = node.int(name)?.and_then(|number| usize::try_from(number).ok()).filter(|&number| number > 0);
        number.ok_or_else(|| Error::invalid_encoding(format!("attribute {name} is missing or not positive")))
    };
    // `gated`: the state decays. `delta`: the value that the state holds for the key is subtracted from the new value.
    let (gated, delta) = match node.string("update_rule", "gated_delta")? {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        _ => {
            return Err(Error::invalid_encoding(
                "attribute update_rule is not one of linear, gated, delta and gated_delta",
            ));
        }
    };
    let (heads, key_heads, scale) = (heads("q_num_heads")?, heads("kv_num_heads")?, node.float("scale", 0.0)?);
    let operator = LinearAttention { heads, key_heads, scale };
    // It is the block size of a faster algorithm, and does not change the result.
    node.ignore(&["chunk_size"]);
    node.limit_outputs(2)?;
    if heads % key_heads != 0 {
        return Err(Error::invalid_encoding(format!(
            "q_num_heads {heads} is not a multiple of kv_num_heads {key_heads}"
        )));
    }
    if node.has_input(4) != gated || node.has_input(5) != delta {
        return Err(Error::invalid_encoding("decay and beta must be given exactly where update_rule uses them"));
    }
    Ok(Box::new(move |args, cx| operator.run(args, cx)))
}

/// The sizes of one call: sequence length, and elements of a key and of a value.
struct Sizes {
    batch: usize,
    len: usize,
    key: usize,
    value: usize,
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

impl LinearAttention {
    fn run(&self, mut args: Args, cx: &ExecContext<'_>) -> Result<Vec<Value>, Error> {
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
        let wrong = || {
            let dims = [query, key, value].map(|value| Dims(value.dims()));
            let why = format!("queries {}, keys {} and values {}", dims[0], dims[1], dims[2]);
            Error::invalid_argument(format!("{why} do not fit {} and {} heads", self.heads, self.key_heads))
        };
        let (&[batch, len, width], &[b, l, keys], &[c, m, values]) = (query.dims(), key.dims(), value.dims()) else {
            return Err(wrong());
        };
        let size = width / self.heads;
        let divisible =
            width % self.heads == 0 && values % self.key_heads == 0 && size.checked_mul(self.key_heads) == Some(keys);
        if (b, c, l, m) != (batch, batch, len, len) || !divisible {
            return Err(wrong());
        }
        let sizes = Sizes { batch, len, key: size, value: values / self.key_heads };
        let decay = decay.as_ref().map(|decay| self.gate(decay, &sizes, &[self.key_heads, keys])).transpose()?;
        let beta = beta.as_ref().map(|beta| self.gate(beta, &sizes, &[self.key_heads, 1])).transpose()?;
        let query = Rows { elements: query.elements()?, heads: self.heads, size };
        let key = Rows { elements: key.elements()?, heads: self.key_heads, size };
        let value = Rows { elements: value.elements()?, heads: self.key_heads, size: sizes.value };
        let dims = [batch, self.key_heads, size, sizes.value];
        let mut checkpoint = Checkpoint::default();
        let (mut state, charge) = cx.filled(0.0_f32, count(&dims)?)?;
        if let Some(past) = past {
            if past.dims() != dims {
                return Err(Error::invalid_argument(format!(
                    "the past state has dimensions {}, not {}",
                    Dims(past.dims()),
                    Dims(&dims)
                )));
            }
            overwrite(&mut state, past.elements()?, &mut checkpoint, cx)?;
        }
        let dims_out = [batch, len, self.heads.saturating_mul(sizes.value)];
        let result = cx
            .output::<f32>(&dims_out)?
            .write(0.0, |out| self.run_steps([query, key, value], [decay, beta], &sizes, &mut state, out, cx))?;
        let state = Value::charged(dims.to_vec(), state, charge)?;
        Ok(vec![convert(result, types[0], cx)?, convert(state, types[1], cx)?])
    }

    /// Decay or beta, which must have one of `widths` elements at each position.
    fn gate<'a>(&self, value: &'a Value, sizes: &Sizes, widths: &[usize]) -> Result<Rows<'a>, Error> {
        match *value.dims() {
            [batch, len, width] if (batch, len) == (sizes.batch, sizes.len) && widths.contains(&width) => {
                let heads = if width == 1 { 1 } else { self.key_heads };
                Ok(Rows { elements: value.elements()?, heads, size: width / heads })
            }
            _ => Err(Error::invalid_argument(format!(
                "the dimensions {} of decay or beta do not fit {} positions",
                Dims(value.dims()),
                sizes.len
            ))),
        }
    }

    fn run_steps(
        &self,
        [query, key, value]: [Rows<'_>; 3],
        [decay, beta]: [Option<Rows<'_>>; 2],
        sizes: &Sizes,
        state: &mut [f32],
        out: &mut [f32],
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let scale = if self.scale == 0.0 { 1.0 / (sizes.key as f32).sqrt() } else { self.scale };
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
