//! Device forms of Attention, `FlexAttention`, `RotaryEmbedding` and `SwiGLU`.

use crate::compute::context::Checkpoint;
use crate::device::args::{DeviceArgs, DeviceForm, Outputs, Stop};
use crate::device::context::DeviceContext;
use crate::device::math::{Compare, Extreme, Unary};
use crate::device::tensor::DeviceTensor;
use crate::ops::device::activation::sigmoid_of;
use crate::ops::device::{host_only, one, own_type, require_one_type};
use crate::ops::heads::{AttentionDims, AttentionSettings, RotarySizes, Visible, precision};
use crate::ops::modifiers::{FlexAttributes, check_kept};
use crate::ops::node::{Node, Subgraph};
use crate::tensor::dims::Dims;
use crate::tensor::element::ElementType;
use graphpool::backend::Error;

/// A tensor as batch × heads × length × head size.
fn split_heads(x: &DeviceTensor, heads: Option<usize>, dx: &DeviceContext<'_>) -> Result<DeviceTensor, Stop> {
    match (x.dims(), heads) {
        (&[_, found, _, _], heads) if heads.is_none_or(|heads| heads == found) => Ok(x.clone()),
        (&[batch, len, width], Some(heads)) if heads > 0 && width % heads == 0 => {
            let split = dx.reshape(x, &[batch, len, heads, width / heads])?;
            Ok(dx.permute(&split, &[0, 2, 1, 3])?)
        }
        // The host's kernel says what is wrong.
        _ => host_only(),
    }
}

/// The keys or values with each head repeated for the heads of the queries in its group.
fn repeated(x: &DeviceTensor, group_size: usize, dx: &DeviceContext<'_>) -> Result<DeviceTensor, Error> {
    let &[batch, heads, len, size] = x.dims() else { return Ok(x.clone()) };
    let each = dx.reshape(x, &[batch, heads, 1, len, size])?;
    let all = dx.broadcast(&each, &[batch, heads, group_size, len, size])?;
    dx.reshape(&all, &[batch, heads * group_size, len, size])
}

pub(in crate::ops) fn attention(settings: AttentionSettings) -> Result<DeviceForm, Stop> {
    Ok(Box::new(move |args, dx| run(&settings, args, dx)))
}

fn run(settings: &AttentionSettings, args: &mut DeviceArgs, dx: &DeviceContext<'_>) -> Outputs {
    let ty = require_one_type(args, 1..3)?;
    let (query, key, value) = (args.tensor(0, dx)?, args.tensor(1, dx)?, args.tensor(2, dx)?);
    let is_3d = query.rank() == 3;
    if key.rank() != query.rank() || value.rank() != query.rank() {
        return host_only();
    }
    let query = split_heads(&query, settings.query_heads, dx)?;
    let mut key = split_heads(&key, settings.key_heads, dx)?;
    let mut value = split_heads(&value, settings.key_heads, dx)?;
    let mut past = 0;
    if args.option(4).is_some() {
        let (before, values) = (args.tensor(4, dx)?, args.tensor(5, dx)?);
        past = before.dims().get(2).copied().unwrap_or(0);
        key = dx.join(&[before, key], 2)?;
        value = dx.join(&[values, value], 2)?;
    }
    let dims = AttentionDims::of(query.dims(), key.dims(), value.dims())?;
    if dims.score_dims().contains(&0) || dims.output_dims().contains(&0) || dims.head_size == 0 {
        return host_only();
    }
    let compute_ty = precision(ty, settings.softmax_precision)?;
    let cast = |x: &DeviceTensor| dx.cast(x, compute_ty);
    let repeated = |x: &DeviceTensor| repeated(x, dims.group_size, dx);
    let products = dx.matmul(&cast(&query)?, &dx.transpose(&repeated(&cast(&key)?)?)?)?;
    let mut kept = None;
    let mut scores = dx.affine(&products, settings.scale.unwrap_or(dims.scale()), 0.0)?;
    let mut keep = |mode: i64, scores: &DeviceTensor| {
        if settings.outputs > 3 && mode == settings.mode {
            kept = Some(scores.clone());
        }
    };
    keep(0, &scores);
    if settings.softcap > 0.0 {
        let cap = dx.number(f64::from(settings.softcap), compute_ty)?;
        scores = dx.mul(&dx.unary(Unary::Tanh, &dx.div(&scores, &cap)?)?, &cap)?;
    }
    keep(1, &scores);
    scores = masked(settings, args, &dims, past, &scores, dx)?;
    keep(2, &scores);
    let weights = softmax(&scores, dx)?;
    keep(3, &weights);
    let mut result = dx.cast(&dx.matmul(&weights, &repeated(&cast(&value)?)?)?, ty)?;
    if is_3d {
        let width = dims.query_heads.saturating_mul(dims.value_size);
        result = dx.reshape(&dx.permute(&result, &[0, 2, 1, 3])?, &[dims.batch, dims.query_len, width])?;
    }
    let mut outputs = vec![result.into(), key.into(), value.into()];
    if let Some(kept) = kept {
        outputs.push(dx.cast(&kept, ty)?.into());
    }
    Ok(outputs)
}

/// The scores with the mask added, and -∞ where a query may not attend to a key.
fn masked(
    settings: &AttentionSettings,
    args: &mut DeviceArgs,
    dims: &AttentionDims,
    past: usize,
    scores: &DeviceTensor,
    dx: &DeviceContext<'_>,
) -> Result<DeviceTensor, Stop> {
    let scores = if args.option(3).is_some() { with_mask(settings, args, dims, scores, dx)? } else { scores.clone() };
    let lens = if args.option(6).is_some() { Some(dims.lens(&args.host(6, dx)?)?) } else { None };
    if lens.is_none() && !settings.limits() {
        return Ok(scores);
    }
    let visible = Visible { lens: lens.as_deref(), past };
    let (batch, rows) = (if lens.is_some() { dims.batch } else { 1 }, dims.query_len);
    let shown = dx.cx.output::<bool>(&[batch, 1, rows, dims.key_len])?.append(|out| {
        let mut checkpoint = Checkpoint::default();
        for row in 0..batch * rows {
            let (low, high) = settings.visible(&visible, dims, row / rows, row % rows);
            checkpoint.fill(false, row * dims.key_len + low, out, dx.cx)?;
            checkpoint.fill(true, row * dims.key_len + high, out, dx.cx)?;
            checkpoint.fill(false, (row + 1) * dims.key_len, out, dx.cx)?;
        }
        Ok(())
    })?;
    let Some(shown) = dx.upload(&shown)? else { return host_only() };
    Ok(dx.select(&shown, &scores, &dx.number(f64::NEG_INFINITY, scores.ty())?)?)
}

/// The scores with the mask added, or -∞ where a mask of booleans is false.
fn with_mask(
    settings: &AttentionSettings,
    args: &mut DeviceArgs,
    dims: &AttentionDims,
    scores: &DeviceTensor,
    dx: &DeviceContext<'_>,
) -> Result<DeviceTensor, Stop> {
    let mask = args.tensor(3, dx)?;
    let mut wanted = dims.score_dims();
    let wrong = || {
        let (mask, scores) = (Dims(mask.dims()), dims.score_dims());
        Error::invalid_argument(format!("the mask {mask} does not broadcast to the scores {}", Dims(&scores)))
    };
    // A mask may cover the first keys alone, and the others are masked.
    let covered = mask.dims().last().copied().unwrap_or(dims.key_len);
    let short = settings.opset >= 24 && covered < dims.key_len;
    if short {
        wanted[3] = covered;
    }
    let skipped = wanted.len().checked_sub(mask.rank()).ok_or_else(wrong)?;
    if !mask.dims().iter().zip(&wanted[skipped..]).all(|(&own, &wanted)| own == wanted || own == 1) {
        return Err(wrong().into());
    }
    if mask.is_empty() {
        return host_only();
    }
    let inside = if short { dx.narrow(scores, 3, 0, covered)? } else { scores.clone() };
    let inside = if mask.ty() == ElementType::Bool {
        dx.select(&mask, &inside, &dx.number(f64::NEG_INFINITY, scores.ty())?)?
    } else {
        precision(mask.ty(), None)?;
        dx.add(&inside, &dx.cast(&mask, scores.ty())?)?
    };
    if !short {
        return Ok(inside);
    }
    let rest = [dims.batch, dims.query_heads, dims.query_len, dims.key_len - covered];
    Ok(dx.join(&[inside, dx.filled(&rest, f64::NEG_INFINITY, scores.ty())?], 3)?)
}

/// The softmax of each row. A row of -∞ becomes zeros.
fn softmax(scores: &DeviceTensor, dx: &DeviceContext<'_>) -> Result<DeviceTensor, Error> {
    let top = dx.extreme_of(Extreme::Max, scores, &[3])?;
    let none = dx.compare_with(Compare::Equal, &top, f64::NEG_INFINITY)?;
    let zero = dx.number(0.0, scores.ty())?;
    let powers = dx.unary(Unary::Exp, &dx.sub(scores, &dx.select(&none, &zero, &top)?)?)?;
    let sum = dx.sum(&powers, &[3])?;
    dx.div(&powers, &dx.select(&none, &dx.number(1.0, scores.ty())?, &sum)?)
}

/// FlexAttention: its subgraphs run on the device.
pub(in crate::ops) fn flex(attributes: FlexAttributes) -> Result<DeviceForm, Stop> {
    Ok(Box::new(move |args, dx| {
        let ty = require_one_type(args, 1..3)?;
        let (query, key, value) = (args.tensor(0, dx)?, args.tensor(1, dx)?, args.tensor(2, dx)?);
        let dims = AttentionDims::of(query.dims(), key.dims(), value.dims())?;
        let compute_ty = precision(ty, attributes.softmax_precision)?;
        if dims.score_dims().contains(&0) || dims.output_dims().contains(&0) || dims.head_size == 0 {
            return host_only();
        }
        // The subgraphs compute in softmax_precision, by default in the type of the attention.
        let inner_ty = attributes.softmax_precision.unwrap_or(compute_ty);
        let cast = |x: &DeviceTensor| dx.cast(x, compute_ty);
        let keys = repeated(&cast(&key)?, dims.group_size, dx)?;
        let products = dx.matmul(&cast(&query)?, &dx.transpose(&keys)?)?;
        let scores = dx.affine(&products, attributes.scale.unwrap_or(dims.scale()), 0.0)?;
        let scores = modified(attributes.score.as_ref(), &dx.cast(&scores, inner_ty)?, args, dx)?;
        let weights = softmax(&cast(&scores)?, dx)?;
        let weights = modified(attributes.weight.as_ref(), &dx.cast(&weights, inner_ty)?, args, dx)?;
        let values = repeated(&cast(&value)?, dims.group_size, dx)?;
        one(&dx.matmul(&cast(&weights)?, &values)?, ty, dx)
    }))
}

/// The result of a subgraph, which must keep dimensions and type.
fn modified(
    graph: Option<&Subgraph>,
    x: &DeviceTensor,
    args: &DeviceArgs,
    dx: &DeviceContext<'_>,
) -> Result<DeviceTensor, Stop> {
    let Some(graph) = graph else { return Ok(x.clone()) };
    let mut inputs = vec![x.clone().into()];
    for &index in &graph.captures {
        inputs.push(args.get(index)?.clone());
    }
    let result = graph.graph.run_on_device(inputs, dx)?.into_iter().next();
    let result = result.ok_or_else(|| Error::runtime_error("a subgraph has no output"))?;
    check_kept((x.dims(), x.ty()), (result.dims(), result.ty()))?;
    DeviceArgs::new(vec![Some(result)]).tensor(0, dx)
}

pub(in crate::ops) fn rotary(attributes: RotarySizes) -> Result<DeviceForm, Stop> {
    Ok(Box::new(move |args, dx| {
        let ty = own_type(args, 0)?;
        if !matches!(ty, ElementType::F32 | ElementType::F16 | ElementType::Bf16) {
            return host_only();
        }
        let found = attributes.of(args.get(0)?.dims())?;
        let (cosines, sines) = (args.float(1, dx)?, args.float(2, dx)?);
        let half = found.rotary_dim / 2;
        let (batch, len) = (found.batch, found.len);
        let [cosines, sines] = if args.option(3).is_some() {
            let ids = args.host(3, dx)?;
            let &[rows, columns] = cosines.dims() else { return host_only() };
            if (columns, ids.dims()) != (half, &[batch, len]) || cosines.dims() != sines.dims() || half == 0 {
                return host_only();
            }
            let ids = ids.elements::<i64>()?;
            let (mut positions, _charge) = dx.cx.list::<u32>(ids.len())?;
            let mut checkpoint = Checkpoint::default();
            for &id in ids {
                checkpoint.step(1, dx.cx)?;
                let row = u32::try_from(id).ok().filter(|&row| (row as usize) < rows);
                let why = || format!("position id {id} is not below {rows}, the number of rows of the cosine cache");
                positions.push(row.ok_or_else(|| Error::invalid_argument(why()))?);
            }
            [&cosines, &sines].map(|cache| dx.reshape(&dx.take(cache, 0, &positions)?, &[batch, len, half]))
        } else {
            [Ok(cosines), Ok(sines)]
        };
        let (cosines, sines) = (cosines?, sines?);
        if cosines.dims() != [batch, len, half] || sines.dims() != cosines.dims() || half == 0 {
            return host_only();
        }
        let x = args.float(0, dx)?;
        let dims = x.dims().to_vec();
        if x.is_empty() {
            return host_only();
        }
        // As batch × length × heads × head size.
        let heads_last = if found.heads_first {
            dx.permute(&x, &[0, 2, 1, 3])?
        } else {
            dx.reshape(&x, &[batch, len, found.heads, found.size])?
        };
        let angles = |of: &DeviceTensor| dx.reshape(of, &[batch, len, 1, half]);
        let (cosines, sines) = (angles(&cosines)?, angles(&sines)?);
        let rotated = dx.narrow(&heads_last, 3, 0, found.rotary_dim)?;
        let pairs = [batch, len, found.heads, half, 2];
        let halves = [batch, len, found.heads, 2, half];
        let (pair_axis, split) = if attributes.interleaved { (4, pairs) } else { (3, halves) };
        let split_up = dx.reshape(&rotated, &split)?;
        let part =
            |which: usize| dx.reshape(&dx.narrow(&split_up, pair_axis, which, 1)?, &[batch, len, found.heads, half]);
        let (a, b) = (part(0)?, part(1)?);
        let first = dx.sub(&dx.mul(&cosines, &a)?, &dx.mul(&sines, &b)?)?;
        let second = dx.add(&dx.mul(&sines, &a)?, &dx.mul(&cosines, &b)?)?;
        let rotated = dx.reshape(&dx.stack(&[first, second], pair_axis)?, rotated.dims())?;
        let rest = dx.narrow(&heads_last, 3, found.rotary_dim, found.size - found.rotary_dim)?;
        let result = if rest.is_empty() { rotated } else { dx.join(&[rotated, rest], 3)? };
        let result = if found.heads_first { dx.permute(&result, &[0, 2, 1, 3])? } else { result };
        one(&dx.reshape(&result, &dims)?, ty, dx)
    }))
}

pub(in crate::ops) fn swiglu(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let alpha = f64::from(node.float("alpha", 1.0)?);
    Ok(Box::new(move |args, dx| {
        let ty = require_one_type(args, 1..2)?;
        let (a, b) = (args.float(0, dx)?, args.float(1, dx)?);
        if a.dims() != b.dims() {
            return host_only();
        }
        let gate = dx.mul(&a, &sigmoid_of(&dx.affine(&a, alpha, 0.0)?, dx)?)?;
        one(&dx.mul(&gate, &b)?, ty, dx)
    }))
}
