//! Device forms of com.microsoft's Attention and `MultiHeadAttention`.

use crate::compute::context::Checkpoint;
use crate::device::args::{DeviceArgs, DeviceForm, Outputs, Stop};
use crate::device::context::DeviceContext;
use crate::device::tensor::DeviceTensor;
use crate::ops::delegate::onnx_form;
use crate::ops::device::fused::{call, optional, placed, tensor};
use crate::ops::device::host_only;
use crate::ops::device::reduce::softmax_of;
use crate::ops::microsoft_heads::{HeadAttributes, HeadSizes, check_qkv, hidden_sizes, sizes, wrong_bias};
use crate::ops::node::Node;
use crate::tensor::dims::count;
use crate::tensor::element::ElementType;

/// The attention of queries to keys with values, each batch × length × hidden size. `mask` and `bias`, the number
/// that is added to the scores, are the indexes of inputs that may be left out.
fn attend(
    attributes: &HeadAttributes,
    [q, k, v]: [DeviceTensor; 3],
    (mask, bias): (usize, usize),
    args: &mut DeviceArgs,
    dx: &DeviceContext<'_>,
) -> Outputs {
    // The host refuses other types.
    if [&q, &k, &v].iter().any(|value| value.ty() != ElementType::F32) {
        return host_only();
    }
    let (heads, sizes) = (attributes.count, attributes.sizes([q.dims(), k.dims(), v.dims()])?);
    let HeadSizes { batch, steps, keys, size, out, scale } = sizes;
    let score_dims = [batch, heads, steps, keys];
    count(&score_dims)?;
    if score_dims.contains(&0) || size == 0 || out == 0 {
        return host_only();
    }
    let split = |x: &DeviceTensor, len: usize, size: usize| {
        dx.permute(&dx.reshape(x, &[batch, len, heads, size])?, &[0, 2, 1, 3])
    };
    let products = dx.matmul(&split(&q, steps, size)?, &dx.transpose(&split(&k, keys, size)?)?)?;
    let mut scores = dx.affine(&products, f64::from(scale), 0.0)?;
    if args.option(mask).is_some() {
        let added = attributes.mask(&args.host(mask, dx)?, &sizes, dx.cx)?;
        let Some(added) = dx.upload(&added)? else { return host_only() };
        scores = dx.add(&scores, &dx.reshape(&added, &[batch, 1, 1, keys])?)?;
    }
    if attributes.causal {
        let shown = dx.cx.output::<bool>(&[steps, keys])?.append(|shown| {
            let mut checkpoint = Checkpoint::default();
            for step in 0..steps {
                checkpoint.fill(true, step * keys + sizes.visible(step), shown, dx.cx)?;
                checkpoint.fill(false, (step + 1) * keys, shown, dx.cx)?;
            }
            Ok(())
        })?;
        let Some(shown) = dx.upload(&shown)? else { return host_only() };
        scores = dx.select(&shown, &scores, &dx.number(f64::from(f32::MIN), ElementType::F32)?)?;
    }
    if let Some(bias) = optional(args, bias, dx)? {
        let bias = tensor(bias, dx)?;
        if bias.ty() != ElementType::F32 {
            return host_only();
        }
        scores = dx.add(&scores, &bias)?;
        if scores.dims() != score_dims {
            return Err(wrong_bias().into());
        }
    }
    let result = dx.matmul(&softmax_of(&scores, &[3], dx)?, &split(&v, keys, out / heads)?)?;
    Ok(vec![dx.reshape(&dx.permute(&result, &[0, 2, 1, 3])?, &[batch, steps, out])?.into()])
}

/// Splits the last dimension into queries, keys and values.
fn split_qkv(value: &DeviceTensor, sizes: [usize; 3], dx: &DeviceContext<'_>) -> Result<[DeviceTensor; 3], Stop> {
    check_qkv(value.dims(), sizes)?;
    let [q, k, v] = sizes;
    Ok([dx.narrow(value, 2, 0, q)?, dx.narrow(value, 2, q, k)?, dx.narrow(value, 2, q + k, v)?])
}

pub(in crate::ops) fn attention(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let (attributes, hidden_sizes) = (HeadAttributes::new(node)?, hidden_sizes(node)?);
    let (matmul, add) = (onnx_form("MatMul", 13, Vec::new())?, onnx_form("Add", 13, Vec::new())?);
    Ok(Box::new(move |args, dx| {
        let mut projected = call(&matmul, [placed(args, 0, dx)?, placed(args, 1, dx)?], dx)?;
        if let Some(bias) = optional(args, 2, dx)? {
            projected = call(&add, [projected, bias], dx)?;
        }
        let projected = tensor(projected, dx)?;
        let width = projected.dims().last().copied().unwrap_or(0);
        let qkv = split_qkv(&projected, sizes(hidden_sizes, width), dx)?;
        // Between mask and bias are the past keys and values, which the host refuses.
        attend(&attributes, qkv, (3, 5), args, dx)
    }))
}

pub(in crate::ops) fn multi_head(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let (attributes, add) = (HeadAttributes::new(node)?, onnx_form("Add", 13, Vec::new())?);
    Ok(Box::new(move |args, dx| {
        let mut values = [args.tensor(0, dx)?, args.tensor(1, dx)?, args.tensor(2, dx)?];
        if args.option(3).is_some() {
            let bias = args.tensor(3, dx)?;
            let widths = [0, 1, 2].map(|index: usize| values[index].dims().last().copied().unwrap_or(0));
            let biases = split_qkv(&dx.reshape(&bias, &[1, 1, bias.len()])?, widths, dx)?;
            for (value, bias) in values.iter_mut().zip(biases) {
                *value = tensor(call(&add, [value.clone().into(), bias.into()], dx)?, dx)?;
            }
        }
        attend(&attributes, values, (4, 5), args, dx)
    }))
}
