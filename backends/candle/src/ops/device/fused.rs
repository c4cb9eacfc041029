//! Device forms of com.microsoft's operators that fuse several of ai.onnx. Each is composed of the forms of the same
//! operators as its kernel on the host, so that both round, check and refuse alike.

use crate::compute::context::ExecContext;
use crate::device::args::{DeviceArgs, DeviceForm, Outputs, Stop};
use crate::device::context::DeviceContext;
use crate::device::math::Unary;
use crate::device::tensor::{DeviceTensor, Placed};
use crate::ops::cast::convert;
use crate::ops::delegate::{activation, float, onnx_form, string};
use crate::ops::device::host_only;
use crate::ops::node::Node;
use crate::tensor::dims::{axis, product};
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// The first output of a form; an omitted input is `None`.
fn call_optional(form: &DeviceForm, inputs: Vec<Option<Placed>>, dx: &DeviceContext<'_>) -> Result<Placed, Stop> {
    let outputs = form(&mut DeviceArgs::new(inputs), dx)?;
    outputs.into_iter().next().ok_or_else(|| Error::runtime_error("an operator returned no output").into())
}

/// The first output of a form with all of its inputs.
pub(super) fn call<const N: usize>(
    form: &DeviceForm,
    inputs: [Placed; N],
    dx: &DeviceContext<'_>,
) -> Result<Placed, Stop> {
    call_optional(form, inputs.map(Some).into(), dx)
}

/// A value on the device.
pub(super) fn tensor(value: Placed, dx: &DeviceContext<'_>) -> Result<DeviceTensor, Stop> {
    DeviceArgs::new(vec![Some(value)]).tensor(0, dx)
}

/// The input at `index`, which has been moved to the device. Later steps find it there.
pub(super) fn placed(args: &mut DeviceArgs, index: usize, dx: &DeviceContext<'_>) -> Result<Placed, Stop> {
    args.tensor(index, dx).map(Placed::from)
}

/// As [`placed`], for an input that may be left out.
pub(super) fn optional(args: &mut DeviceArgs, index: usize, dx: &DeviceContext<'_>) -> Result<Option<Placed>, Stop> {
    if args.option(index).is_some() { placed(args, index, dx).map(Some) } else { Ok(None) }
}

pub(in crate::ops) fn gelu(approximate: &str) -> Result<DeviceForm, Stop> {
    let (add, gelu) =
        (onnx_form("Add", 13, Vec::new())?, onnx_form("Gelu", 20, vec![string("approximate", approximate)])?);
    Ok(Box::new(move |args, dx| {
        let mut value = placed(args, 0, dx)?;
        if let Some(bias) = optional(args, 1, dx)? {
            value = call(&add, [value, bias], dx)?;
        }
        Ok(vec![call(&gelu, [value], dx)?])
    }))
}

pub(in crate::ops) fn quick_gelu(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    onnx_form("Swish", 24, vec![float("alpha", node.float("alpha", 1.702)?)])
}

pub(in crate::ops) fn matmul(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let alpha = node.float("alpha", 1.0)?;
    let flips = [node.flag("transA", false)?, node.flag("transB", false)?];
    let (matmul, multiply) = (onnx_form("MatMul", 13, Vec::new())?, onnx_form("Mul", 13, Vec::new())?);
    Ok(Box::new(move |args, dx| {
        let mut operand = |index: usize| -> Result<Placed, Stop> {
            let value = args.tensor(index, dx)?;
            let flip = flips[index] && value.rank() > 1;
            Ok(if flip { dx.transpose(&value)? } else { value }.into())
        };
        let result = call(&matmul, [operand(0)?, operand(1)?], dx)?;
        if alpha == 1.0 {
            return Ok(vec![result]);
        }
        let alpha = convert(Value::scalar(alpha)?, result.ty(), dx.cx)?;
        Ok(vec![call(&multiply, [result, alpha.into()], dx)?])
    }))
}

/// The form of an activation with these parameters.
fn activation_form(name: &str, parameters: &[f32]) -> Result<DeviceForm, Stop> {
    let (name, opset, attributes) = activation(name, parameters)?;
    onnx_form(name, opset, attributes)
}

pub(in crate::ops) fn gemm(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let gemm = onnx_form("Gemm", 13, node.attributes(&["alpha", "beta", "transA", "transB"]))?;
    let parameters = [node.float_option("activation_alpha")?, node.float_option("activation_beta")?];
    let parameters: Vec<f32> = parameters.into_iter().flatten().collect();
    let activation = activation_form(node.string("activation", "Relu")?, &parameters)?;
    Ok(Box::new(move |args, dx| {
        let inputs = (0..args.len()).map(|index| optional(args, index, dx)).collect::<Result<_, _>>()?;
        Ok(vec![call(&activation, [call_optional(&gemm, inputs, dx)?], dx)?])
    }))
}

pub(in crate::ops) fn conv(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let attributes = node.attributes(&["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"]);
    let (conv, add) = (onnx_form("Conv", 11, attributes)?, onnx_form("Add", 13, Vec::new())?);
    let parameters = node.floats("activation_params")?.unwrap_or_default();
    let activation = match node.string("activation", "")? {
        "" => None,
        name => Some(activation_form(name, parameters)?),
    };
    Ok(Box::new(move |args, dx| {
        let inputs = (0..3).map(|index| optional(args, index, dx)).collect::<Result<_, _>>()?;
        let mut value = call_optional(&conv, inputs, dx)?;
        if let Some(addend) = optional(args, 3, dx)? {
            value = call(&add, [value, addend], dx)?;
        }
        Ok(vec![match &activation {
            Some(activation) => call(activation, [value], dx)?,
            None => value,
        }])
    }))
}

/// The sum of the first two inputs and, if given, the bias at input `bias`.
fn sum_with_skip(args: &mut DeviceArgs, bias: usize, add: &DeviceForm, dx: &DeviceContext<'_>) -> Result<Placed, Stop> {
    let mut value = placed(args, 0, dx)?;
    if let Some(bias) = optional(args, bias, dx)? {
        value = call(add, [value, bias], dx)?;
    }
    let dims = value.dims().to_vec();
    let sum = call(add, [value, placed(args, 1, dx)?], dx)?;
    if sum.dims() == dims {
        return Ok(sum);
    }
    Err(Error::invalid_argument("the skip input does not broadcast to the dimensions of the input").into())
}

/// The four outputs of a skip normalization; the two in the middle are unused placeholders.
fn skip_outputs(result: Placed, sum: Placed) -> Outputs {
    Ok(vec![result.clone(), result.clone(), result, sum])
}

pub(in crate::ops) fn skip_layer(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let epsilon = float("epsilon", node.float("epsilon", 1e-12)?);
    let (add, layer) = (onnx_form("Add", 13, Vec::new())?, onnx_form("LayerNormalization", 17, vec![epsilon])?);
    Ok(Box::new(move |args, dx| {
        let sum = sum_with_skip(args, 4, &add, dx)?;
        let inputs = vec![Some(sum.clone()), Some(placed(args, 2, dx)?), optional(args, 3, dx)?];
        skip_outputs(call_optional(&layer, inputs, dx)?, sum)
    }))
}

/// Rows divided by their root mean square, times the scale.
fn rms_normalized(
    value: Placed,
    scale: Placed,
    signed_axis: i64,
    epsilon: f64,
    dx: &DeviceContext<'_>,
) -> Result<Placed, Stop> {
    let ty = value.ty();
    if !matches!(ty, ElementType::F32 | ElementType::F16 | ElementType::Bf16) {
        return host_only();
    }
    let mut args = DeviceArgs::new(vec![Some(value), Some(scale)]);
    let (x, scale) = (args.float(0, dx)?, dx.cast(&args.float(1, dx)?, ElementType::F32)?);
    let axis = axis(signed_axis, x.rank())?;
    let inner = x.dims()[axis..].to_vec();
    let width = product(&inner);
    if scale.len() != width {
        let why = format!("the scale has {} elements, and a row has {width}", scale.len());
        return Err(Error::invalid_argument(why).into());
    }
    if x.is_empty() {
        return host_only();
    }
    let last: Vec<usize> = (axis..x.rank()).collect();
    let square = dx.mean(&dx.unary(Unary::Square, &x)?, &last)?;
    let inverse = dx.unary(Unary::Reciprocal, &dx.unary(Unary::Sqrt, &dx.affine(&square, 1.0, epsilon)?)?)?;
    let result = dx.mul(&dx.mul(&x, &inverse)?, &dx.reshape(&scale, &inner)?)?;
    Ok(dx.cast(&result, ty)?.into())
}

pub(in crate::ops) fn root_mean_square(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let (axis, epsilon) = (node.int("axis")?.unwrap_or(-1), f64::from(node.float("epsilon", 1e-5)?));
    node.ignore(&["stash_type"]);
    Ok(Box::new(move |args, dx| {
        Ok(vec![rms_normalized(placed(args, 0, dx)?, placed(args, 1, dx)?, axis, epsilon, dx)?])
    }))
}

pub(in crate::ops) fn skip_root_mean_square(node: &Node<'_>) -> Result<DeviceForm, Stop> {
    let (epsilon, add) = (f64::from(node.float("epsilon", 1e-12)?), onnx_form("Add", 13, Vec::new())?);
    Ok(Box::new(move |args, dx| {
        let sum = sum_with_skip(args, 3, &add, dx)?;
        skip_outputs(rms_normalized(sum.clone(), placed(args, 2, dx)?, -1, epsilon, dx)?, sum)
    }))
}

/// The positions of a number of steps, on the host.
type Positions = fn(usize, &ExecContext<'_>) -> Result<Value, Error>;

/// The number of mask elements of each sequence, on the host.
type MaskCounts = fn(Option<&Value>, [usize; 2], &ExecContext<'_>) -> Result<Value, Error>;

pub(in crate::ops) fn embed(node: &Node<'_>, positions: Positions, counts: MaskCounts) -> Result<DeviceForm, Stop> {
    let epsilon = float("epsilon", node.float("epsilon", 1e-12)?);
    let (add, gather) = (onnx_form("Add", 13, Vec::new())?, onnx_form("Gather", 13, Vec::new())?);
    let layer = onnx_form("LayerNormalization", 17, vec![epsilon])?;
    Ok(Box::new(move |args, dx| {
        let ids = args.get(0)?.clone();
        let &[batch, steps] = ids.dims() else {
            return Err(Error::invalid_argument("input_ids must have two dimensions").into());
        };
        let positions = match args.option(8) {
            Some(positions) => positions.clone(),
            None => positions(steps, dx.cx)?.into(),
        };
        let mut sum = call(&gather, [placed(args, 2, dx)?, ids], dx)?;
        sum = call(&add, [sum, call(&gather, [placed(args, 3, dx)?, positions], dx)?], dx)?;
        if let (Some(segments), Some(embedding)) = (args.option(1).cloned(), optional(args, 4, dx)?) {
            sum = call(&add, [sum, call(&gather, [embedding, segments], dx)?], dx)?;
        }
        let result = call(&layer, [sum.clone(), placed(args, 5, dx)?, placed(args, 6, dx)?], dx)?;
        let mask = if args.option(7).is_some() { Some(args.host(7, dx)?) } else { None };
        Ok(vec![result, counts(mask.as_ref(), [batch, steps], dx.cx)?.into(), sum])
    }))
}
