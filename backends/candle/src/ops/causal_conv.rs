//! CausalConvWithState: a depthwise convolution over the current and earlier elements of a sequence. The elements of
//! earlier calls are in a state.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::functions::sigmoid;
use crate::ops::cast::convert;
use crate::ops::heads::for_each;
use crate::ops::layout::join;
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::tensor::dims::Dims;
use crate::tensor::element::{ElementType, with_elements};
use crate::tensor::value::{Value, Values, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[since(27, "CausalConvWithState", (2, 4), convolution)
    .heavy()
    .device(form!(|node| { sequence::causal_convolution(activation(node)?, sizes) }))];

fn convolution(node: &Node<'_>) -> Result<OpFn, Error> {
    let silu = activation(node)?;
    Ok(Box::new(move |args, cx| run(args, silu, cx)))
}

/// Whether the result goes through silu.
fn activation(node: &Node<'_>) -> Result<bool, Error> {
    node.limit_outputs(2)?;
    match node.string("activation", "none")? {
        "none" => Ok(false),
        "silu" | "swish" => Ok(true),
        _ => Err(Error::invalid_encoding("attribute activation is not one of none, silu and swish")),
    }
}

/// Batch, channels, length and taps of an input and weights of these dimensions; a bias and a past state must fit them.
fn sizes([value, weights]: [&[usize]; 2], [bias, past]: [Option<&[usize]>; 2]) -> Result<[usize; 4], Error> {
    let wrong = || {
        let (value, weights) = (Dims(value), Dims(weights));
        Error::invalid_argument(format!("the weights {weights} do not fit the input {value}"))
    };
    let (&[batch, channels, len], &[filters, 1, taps]) = (value, weights) else { return Err(wrong()) };
    if filters != channels || taps == 0 {
        return Err(wrong());
    }
    let state = [batch, channels, taps - 1];
    if let Some(past) = past.filter(|&past| past != state) {
        return Err(Error::invalid_argument(format!(
            "the past state has dimensions {}, not {}",
            Dims(past),
            Dims(&state)
        )));
    }
    if bias.is_some_and(|bias| bias != [channels]) {
        return Err(Error::invalid_argument(format!(
            "the bias must have one element for each of the {channels} channels"
        )));
    }
    Ok([batch, channels, len, taps])
}

fn run(mut args: Args, silu: bool, cx: &ExecContext<'_>) -> Result<Values, Error> {
    let (value, weights) = (args.take(0)?, args.take(1)?);
    let ty = value.ty();
    if !matches!(ty, ElementType::F32 | ElementType::F16 | ElementType::Bf16) {
        return Err(no_type(&value));
    }
    let (bias, past) = (args.take(2).ok(), args.take(3).ok());
    let optional = [&bias, &past].map(|value| value.as_ref().map(Value::dims));
    let [batch, channels, len, taps] = sizes([value.dims(), weights.dims()], optional)?;
    let past = match past {
        Some(past) => past,
        None => convert(cx.output::<f32>(&[batch, channels, taps - 1])?.write(0.0, |_| Ok(()))?, ty, cx)?,
    };
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
    Ok(values![convert(result, ty, cx)?, state])
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
