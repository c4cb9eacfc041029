//! CausalConvWithState: a depthwise convolution over the current and earlier elements of a sequence. The elements of
//! earlier calls are in a state.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::functions::sigmoid;
use crate::ops::cast::convert;
use crate::ops::heads::for_each;
use crate::ops::layout::join;
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::{Operator, since};
use crate::tensor::dims::Dims;
use crate::tensor::element::{ElementType, with_elements};
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[since(27, "CausalConvWithState", (2, 4), convolution).heavy()];

fn convolution(node: &Node<'_>) -> Result<OpFn, Error> {
    let silu = match node.string("activation", "none")? {
        "none" => false,
        "silu" | "swish" => true,
        _ => return Err(Error::invalid_encoding("attribute activation is not one of none, silu and swish")),
    };
    node.limit_outputs(2)?;
    Ok(Box::new(move |args, cx| run(args, silu, cx)))
}

fn run(mut args: Args, silu: bool, cx: &ExecContext<'_>) -> Result<Vec<Value>, Error> {
    let (value, weights) = (args.take(0)?, args.take(1)?);
    let ty = value.ty();
    if !matches!(ty, ElementType::F32 | ElementType::F16 | ElementType::Bf16) {
        return Err(no_type(&value));
    }
    let (bias, past) = (args.take(2).ok(), args.take(3).ok());
    let wrong = || {
        Error::invalid_argument(format!(
            "the weights {1} do not fit the input {0}",
            Dims(value.dims()),
            Dims(weights.dims())
        ))
    };
    let (&[batch, channels, len], &[filters, 1, taps]) = (value.dims(), weights.dims()) else {
        return Err(wrong());
    };
    if filters != channels || taps == 0 {
        return Err(wrong());
    }
    let state_dims = [batch, channels, taps - 1];
    let past = match past {
        Some(past) if past.dims() == state_dims => past,
        Some(past) => {
            return Err(Error::invalid_argument(format!(
                "the past state has dimensions {}, not {}",
                Dims(past.dims()),
                Dims(&state_dims)
            )));
        }
        None => convert(cx.output::<f32>(&state_dims)?.write(0.0, |_| Ok(()))?, ty, cx)?,
    };
    if bias.as_ref().is_some_and(|bias| bias.dims() != [channels]) {
        return Err(Error::invalid_argument(format!(
            "the bias must have one element for each of the {channels} channels"
        )));
    }
    let padded = join(&[&past, &value], 2, cx)?;
    let single = |value: Value| convert(value, ElementType::F32, cx);
    let (source, weights) = (single(padded.clone())?, single(weights)?);
    let bias = bias.map(single).transpose()?;
    let (source, weights) = (source.elements::<f32>()?, weights.elements::<f32>()?);
    let bias = bias.as_ref().map(Value::elements::<f32>).transpose()?;
    let padded_len = len + taps - 1;
    let mut checkpoint = Checkpoint::default();
    let result = cx.output::<f32>(&[batch, channels, len])?.append(|out| {
        for (index, line) in source.chunks_exact(padded_len).enumerate() {
            let channel = index % channels;
            let start = out.len();
            checkpoint.fill(bias.map_or(0.0, |bias| bias[channel]), start + len, out, cx)?;
            for (tap, &weight) in weights[channel * taps..(channel + 1) * taps].iter().enumerate() {
                for (out, line) in out[start..].chunks_mut(PIECE).zip(line[tap..].chunks(PIECE)) {
                    checkpoint.step(out.len(), cx)?;
                    out.iter_mut().zip(line).for_each(|(out, x)| *out += weight * x);
                }
            }
            if silu {
                for_each(&mut out[start..], &mut checkpoint, cx, |x| *x *= sigmoid(*x))?;
            }
        }
        Ok(())
    })?;
    let state = last_elements(&padded, taps - 1, cx)?;
    Ok(vec![convert(result, ty, cx)?, state])
}

/// The last `len` elements along the last of three dimensions.
fn last_elements(value: &Value, len: usize, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let &[batch, channels, padded_len] = value.dims() else {
        return Err(Error::invalid_argument("the input must have three dimensions"));
    };
    with_elements!(value, |elements| cx.output(&[batch, channels, len])?.append(|out| {
        let mut checkpoint = Checkpoint::default();
        for line in elements.chunks_exact(padded_len) {
            checkpoint.copy(&line[padded_len - len..], out, cx)?;
        }
        Ok(())
    }))
}
