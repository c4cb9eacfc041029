//! Operators of com.microsoft that fuse several of ai.onnx, and are composed of them here. The optimizer and the
//! converters of onnxruntime put them into transformer models. Attention is in `microsoft_attention`.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::ops::cast::convert;
use crate::ops::delegate::{activation, call, call_optional, float, onnx_operator, string};
use crate::ops::layout::permute;
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::{Operator, form, microsoft, since};
use crate::tensor::dims::product;
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, Values, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    microsoft("Gelu", (1, 1), |_| gelu("none")).device(form!(|_| fused::gelu("none"))),
    microsoft("BiasGelu", (2, 2), |_| gelu("none")).device(form!(|_| fused::gelu("none"))),
    microsoft("FastGelu", (1, 2), |_| gelu("tanh")).device(form!(|_| fused::gelu("tanh"))),
    microsoft("QuickGelu", (1, 1), quick_gelu).device(form!(fused::quick_gelu)),
    microsoft("FusedMatMul", (2, 2), matmul).heavy().device(form!(fused::matmul)),
    microsoft("FusedGemm", (2, 3), gemm).heavy().device(form!(fused::gemm)),
    microsoft("FusedConv", (2, 4), conv).heavy().device(form!(fused::conv)),
    microsoft("SkipLayerNormalization", (3, 5), skip_layer).device(form!(fused::skip_layer)),
    microsoft("SkipSimplifiedLayerNormalization", (3, 4), skip_root_mean_square)
        .device(form!(fused::skip_root_mean_square)),
    microsoft("EmbedLayerNormalization", (1, 9), embed).device(form!(|node| fused::embed(
        node,
        positions,
        mask_counts
    ))),
    // onnxruntime has both in ai.onnx, LayerNormalization since before ONNX defined it.
    since(1, "SimplifiedLayerNormalization", (2, 2), root_mean_square).device(form!(fused::root_mean_square)),
    since(1, "LayerNormalization", (2, 3), |node| {
        onnx_operator("LayerNormalization", 17, node.attributes(&["axis", "epsilon", "stash_type"]))
    })
    .until(16)
    .device(form!(norm::layer)),
];

fn gelu(approximate: &str) -> Result<OpFn, Error> {
    let (add, gelu) =
        (onnx_operator("Add", 13, Vec::new())?, onnx_operator("Gelu", 20, vec![string("approximate", approximate)])?);
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        let value = match args.take(1) {
            Ok(bias) => call(&add, [value, bias], cx)?,
            Err(_) => value,
        };
        Ok(values![call(&gelu, [value], cx)?])
    }))
}

fn quick_gelu(node: &Node<'_>) -> Result<OpFn, Error> {
    onnx_operator("Swish", 24, vec![float("alpha", node.float("alpha", 1.702)?)])
}

/// The value times a number.
fn scaled(value: Value, factor: f32, multiply: &OpFn, cx: &ExecContext<'_>) -> Result<Value, Error> {
    if factor == 1.0 {
        return Ok(value);
    }
    let factor = convert(Value::scalar(factor)?, value.ty(), cx)?;
    call(multiply, [value, factor], cx)
}

/// The value with its last two dimensions transposed.
fn transposed(value: Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let rank = value.rank();
    if rank < 2 {
        return Ok(value);
    }
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(rank - 2, rank - 1);
    permute(value, &order, cx)
}

fn matmul(node: &Node<'_>) -> Result<OpFn, Error> {
    let (alpha, a, b) = (node.float("alpha", 1.0)?, node.flag("transA", false)?, node.flag("transB", false)?);
    if node.flag("transBatchA", false)? || node.flag("transBatchB", false)? {
        return Err(Error::unsupported("attributes transBatchA and transBatchB are not supported"));
    }
    let (matmul, multiply) = (onnx_operator("MatMul", 13, Vec::new())?, onnx_operator("Mul", 13, Vec::new())?);
    Ok(Box::new(move |mut args, cx| {
        let mut operand = |index, flip| {
            let value = args.take(index)?;
            if flip { transposed(value, cx) } else { Ok(value) }
        };
        let (a, b) = (operand(0, a)?, operand(1, b)?);
        Ok(values![scaled(call(&matmul, [a, b], cx)?, alpha, &multiply, cx)?])
    }))
}

fn gemm(node: &Node<'_>) -> Result<OpFn, Error> {
    let gemm = onnx_operator("Gemm", 13, node.attributes(&["alpha", "beta", "transA", "transB"]))?;
    let name = node.string("activation", "Relu")?;
    let parameters = [node.float_option("activation_alpha")?, node.float_option("activation_beta")?];
    let (name, opset, attributes) = activation(name, &parameters.into_iter().flatten().collect::<Vec<_>>())?;
    let activation = onnx_operator(name, opset, attributes)?;
    Ok(Box::new(move |args, cx| {
        let outputs = gemm(args, cx)?;
        Ok(values![call_optional(&activation, outputs.into_iter().map(Some), cx)?])
    }))
}

fn conv(node: &Node<'_>) -> Result<OpFn, Error> {
    let attributes = node.attributes(&["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"]);
    let (conv, add) = (onnx_operator("Conv", 11, attributes)?, onnx_operator("Add", 13, Vec::new())?);
    let parameters = node.floats("activation_params")?.unwrap_or_default();
    let activation = match node.string("activation", "")? {
        "" => None,
        name => {
            let (name, opset, attributes) = activation(name, parameters)?;
            Some(onnx_operator(name, opset, attributes)?)
        }
    };
    Ok(Box::new(move |mut args, cx| {
        let addend = args.take(3).ok();
        let inputs = vec![Some(args.take(0)?), Some(args.take(1)?), args.take(2).ok()];
        let mut value = call_optional(&conv, inputs, cx)?;
        if let Some(addend) = addend {
            value = call(&add, [value, addend], cx)?;
        }
        Ok(values![match &activation {
            Some(activation) => call(activation, [value], cx)?,
            None => value,
        }])
    }))
}

/// Refuses the outputs of a skip normalization that are for training: the mean and the standard deviation.
fn refuse_training_outputs(node: &Node<'_>) -> Result<(), Error> {
    let is_used = |index: usize| node.proto.output.get(index).is_some_and(|name| !name.is_empty());
    if is_used(1) || is_used(2) {
        return Err(Error::unsupported("the mean and the standard deviation are not supported as outputs"));
    }
    node.limit_outputs(4)
}

fn skip_layer(node: &Node<'_>) -> Result<OpFn, Error> {
    refuse_training_outputs(node)?;
    let epsilon = node.float("epsilon", 1e-12)?;
    let (add, layer) = (
        onnx_operator("Add", 13, Vec::new())?,
        onnx_operator("LayerNormalization", 17, vec![float("epsilon", epsilon)])?,
    );
    Ok(Box::new(move |mut args, cx| {
        let sum = sum_with_skip(&mut args, 4, &add, cx)?;
        let result = call_optional(&layer, [Some(sum.clone()), Some(args.take(2)?), args.take(3).ok()], cx)?;
        Ok(skip_outputs(result, sum))
    }))
}

/// The four outputs of a skip normalization; the two in the middle are unused placeholders.
fn skip_outputs(result: Value, sum: Value) -> Values {
    values![result.clone(), result.clone(), result, sum]
}

/// The sum of the first two inputs and, if given, the bias at input `bias`.
fn sum_with_skip(args: &mut Args, bias: usize, add: &OpFn, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let (value, skip) = (args.take(0)?, args.take(1)?);
    let value = match args.take(bias) {
        Ok(bias) => call(add, [value, bias], cx)?,
        Err(_) => value,
    };
    let dims = value.dims().to_vec();
    let sum = call(add, [value, skip], cx)?;
    if sum.dims() == dims {
        return Ok(sum);
    }
    Err(Error::invalid_argument("the skip input does not broadcast to the dimensions of the input"))
}

/// Rows divided by their root mean square, times the scale.
fn rms_normalized(value: Value, scale: Value, axis: i64, epsilon: f32, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let ty = value.ty();
    if !matches!(ty, ElementType::F32 | ElementType::F16 | ElementType::Bf16) {
        return Err(no_type(&value));
    }
    let (value, scale) = (convert(value, ElementType::F32, cx)?, convert(scale, ElementType::F32, cx)?);
    let axis = crate::tensor::dims::axis(axis, value.rank())?;
    let width = product(&value.dims()[axis..]);
    let (elements, scale) = (value.elements::<f32>()?, scale.elements::<f32>()?);
    if scale.len() != width {
        return Err(Error::invalid_argument(format!("the scale has {} elements, and a row has {width}", scale.len())));
    }
    let mut checkpoint = Checkpoint::default();
    let result = cx.output::<f32>(value.dims())?.append(|out| {
        for row in elements.chunks_exact(width) {
            checkpoint.step(2 * width, cx)?;
            let squares: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            let inverse = (1.0 / (squares / width as f64 + f64::from(epsilon)).sqrt()) as f32;
            out.extend(row.iter().zip(scale).map(|(x, scale)| x * inverse * scale));
        }
        Ok(())
    })?;
    convert(result, ty, cx)
}

fn root_mean_square(node: &Node<'_>) -> Result<OpFn, Error> {
    let (axis, epsilon) = (node.int("axis")?.unwrap_or(-1), node.float("epsilon", 1e-5)?);
    if node.int("stash_type")?.unwrap_or(1) != 1 {
        return Err(Error::unsupported("a stash_type other than 1 (f32) is not supported"));
    }
    node.limit_outputs(1)?;
    Ok(Box::new(move |mut args, cx| Ok(values![rms_normalized(args.take(0)?, args.take(1)?, axis, epsilon, cx)?])))
}

fn skip_root_mean_square(node: &Node<'_>) -> Result<OpFn, Error> {
    refuse_training_outputs(node)?;
    let (epsilon, add) = (node.float("epsilon", 1e-12)?, onnx_operator("Add", 13, Vec::new())?);
    Ok(Box::new(move |mut args, cx| {
        let sum = sum_with_skip(&mut args, 3, &add, cx)?;
        let result = rms_normalized(sum.clone(), args.take(2)?, -1, epsilon, cx)?;
        Ok(skip_outputs(result, sum))
    }))
}

/// The positions of an EmbedLayerNormalization that has none as an input.
fn positions(steps: usize, cx: &ExecContext<'_>) -> Result<Value, Error> {
    cx.output::<i64>(&[1, steps])?.collect((0..steps).map(|step| step as i64))
}

/// The number of mask elements of each sequence, or zeros.
fn mask_counts(mask: Option<&Value>, [batch, steps]: [usize; 2], cx: &ExecContext<'_>) -> Result<Value, Error> {
    let Some(mask) = mask else { return cx.output::<i32>(&[batch])?.write(0, |_| Ok(())) };
    let mask = mask.elements::<i32>()?;
    if mask.len() != batch * steps {
        return Err(Error::invalid_argument("the mask and input_ids have different numbers of elements"));
    }
    let count = |row: &[i32]| row.iter().filter(|&&one| one == 1).count() as i32;
    cx.output::<i32>(&[batch])?.collect((0..batch).map(|row| count(&mask[row * steps..(row + 1) * steps])))
}

/// The embeddings of words, positions and segments, summed and normalized.
fn embed(node: &Node<'_>) -> Result<OpFn, Error> {
    node.limit_outputs(3)?;
    node.require_inputs(&[2, 3, 5, 6])?;
    let epsilon = node.float("epsilon", 1e-12)?;
    // Only the number of mask elements of each sequence is supported as output mask_index.
    if node.int("mask_index_type")?.unwrap_or(0) != 0 {
        return Err(Error::unsupported("a mask_index_type other than 0 is not supported"));
    }
    let (add, gather) = (onnx_operator("Add", 13, Vec::new())?, onnx_operator("Gather", 13, Vec::new())?);
    let layer = onnx_operator("LayerNormalization", 17, vec![float("epsilon", epsilon)])?;
    Ok(Box::new(move |mut args, cx| {
        let (ids, segments) = (args.take(0)?, args.take(1).ok());
        let &[batch, steps] = ids.dims() else {
            return Err(Error::invalid_argument("input_ids must have two dimensions"));
        };
        let positions = match args.take(8) {
            Ok(positions) => positions,
            Err(_) => positions(steps, cx)?,
        };
        let mut sum = call(&gather, [args.take(2)?, ids], cx)?;
        sum = call(&add, [sum, call(&gather, [args.take(3)?, positions], cx)?], cx)?;
        if let (Some(segments), Ok(embedding)) = (segments, args.take(4)) {
            sum = call(&add, [sum, call(&gather, [embedding, segments], cx)?], cx)?;
        }
        let result = call(&layer, [sum.clone(), args.take(5)?, args.take(6)?], cx)?;
        let counts = mask_counts(args.option(7), [batch, steps], cx)?;
        Ok(values![result, counts, sum])
    }))
}
