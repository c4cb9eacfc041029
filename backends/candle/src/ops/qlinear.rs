//! Operators of com.microsoft on quantized tensors. Each dequantizes its inputs, calls an operator of ai.onnx, and
//! quantizes the result.

use crate::compute::context::ExecContext;
use crate::ops::byte_product::{PackedMatrix, multiply};
use crate::ops::delegate::{call, call_optional, int, onnx_operator};
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::{MANY, Operator, microsoft};
use crate::ops::quantize_bytes::{Scaling, combine};
use crate::ops::quantized_product::packer;
use crate::ops::requantize::{AsSums, Floats};
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    microsoft("QLinearAdd", (2, 8), |node| binary(node, "Add")),
    microsoft("QLinearMul", (2, 8), |node| binary(node, "Mul")),
    microsoft("QLinearSigmoid", (2, 5), |node| unary(node, "Sigmoid", 13, &[])),
    microsoft("QLinearLeakyRelu", (2, 5), |node| unary(node, "LeakyRelu", 16, &["alpha"])),
    microsoft("QLinearSoftmax", (2, 5), softmax),
    microsoft("QLinearAveragePool", (2, 5), |node| pool(node, "AveragePool", POOL_ATTRIBUTES)).heavy(),
    microsoft("QLinearGlobalAveragePool", (2, 5), |node| pool(node, "GlobalAveragePool", &[])),
    microsoft("QLinearConcat", (5, MANY), concat),
    microsoft("QuantizeLinear", (2, 3), |node| {
        onnx_operator("QuantizeLinear", 21, node.attributes(&["axis", "block_size"]))
    }),
    microsoft("DequantizeLinear", (2, 3), |node| {
        onnx_operator("DequantizeLinear", 21, node.attributes(&["axis", "block_size"]))
    }),
    microsoft("DynamicQuantizeMatMul", (3, 5), |_| dynamic_matmul(None))
        .heavy()
        .packer(|node| packer(node, 1, |packed| dynamic_matmul(packed).ok())),
    microsoft("MatMulIntegerToFloat", (4, 7), |_| matmul_to_float(None))
        .heavy()
        .packer(|node| packer(node, 1, |packed| matmul_to_float(packed).ok())),
];

/// The attributes of an average pool.
const POOL_ATTRIBUTES: &[&str] = &["auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"];

/// Dequantizes inputs and quantizes results.
pub(super) struct Quantizer {
    dequantize: OpFn,
    quantize: OpFn,
}

impl Quantizer {
    pub(super) fn new() -> Result<Self, Error> {
        let kernel = |name| onnx_operator(name, 13, Vec::new());
        Ok(Self { dequantize: kernel("DequantizeLinear")?, quantize: kernel("QuantizeLinear")? })
    }

    /// Dequantizes the input at `index`; its scale and zero point are the next two inputs.
    fn input(&self, args: &mut Args, index: usize, cx: &ExecContext<'_>) -> Result<Value, Error> {
        let (value, scale, zero_point) = (args.take(index)?, args.take(index + 1)?, args.option(index + 2).cloned());
        check_scalar(&scale)?;
        if !matches!(value.ty(), ElementType::U8 | ElementType::I8) {
            return Err(crate::tensor::value::no_type(&value));
        }
        call_optional(&self.dequantize, [Some(value), Some(scale), zero_point], cx)
    }

    /// Quantizes a result; the scale is the input at `index`, and the zero point the next one.
    fn output(&self, value: Value, args: &mut Args, index: usize, cx: &ExecContext<'_>) -> Result<Value, Error> {
        let (scale, zero_point) = (args.take(index)?, args.option(index + 1).cloned());
        check_scalar(&scale)?;
        call_optional(&self.quantize, [Some(value), Some(scale), zero_point], cx)
    }
}

/// Refuses a scale for each index of an axis.
fn check_scalar(scale: &Value) -> Result<(), Error> {
    match scale.elements::<f32>()? {
        [_] => Ok(()),
        other => Err(Error::unsupported(format!("a tensor with {} scales is not supported", other.len()))),
    }
}

fn binary(node: &Node<'_>, name: &str) -> Result<OpFn, Error> {
    node.require_inputs(&[3, 4, 6])?;
    let (quantizer, inner) = (Quantizer::new()?, onnx_operator(name, 13, Vec::new())?);
    let products = name == "Mul";
    Ok(Box::new(move |mut args, cx| {
        if let Some(result) = in_one_pass(&args, products, cx)? {
            return Ok(values![result]);
        }
        let (a, b) = (quantizer.input(&mut args, 0, cx)?, quantizer.input(&mut args, 3, cx)?);
        let result = call(&inner, [a, b], cx)?;
        Ok(values![quantizer.output(result, &mut args, 6, cx)?])
    }))
}

/// The sum or the product of tensors of one type and the same dimensions, with one scale each. `None` for others.
fn in_one_pass(args: &Args, products: bool, cx: &ExecContext<'_>) -> Result<Option<Value>, Error> {
    let (a, b) = (args.get(0)?, args.get(3)?);
    let ty = a.ty();
    let scaling = |index: usize| {
        let scale = args.get(index).ok().filter(|scale| scale.rank() == 0)?;
        let zero = match args.option(index + 1) {
            Some(zero) if zero.ty() != ty || zero.rank() > 0 => return None,
            Some(zero) if ty == ElementType::U8 => i32::from(*zero.elements::<u8>().ok()?.first()?),
            Some(zero) => i32::from(*zero.elements::<i8>().ok()?.first()?),
            None => 0,
        };
        Some(Scaling { scale: *scale.elements::<f32>().ok()?.first()?, zero })
    };
    // Without a zero point, the result is of U8.
    let fits = a.dims() == b.dims() && b.ty() == ty && (ty == ElementType::U8 || args.option(7).is_some());
    let (true, Some(of_a), Some(of_b), Some(of_result)) = (fits, scaling(1), scaling(4), scaling(6)) else {
        return Ok(None);
    };
    let scalings = [of_a, of_b, of_result];
    match (ty, products) {
        (ElementType::U8, false) => combine::<u8, false>([a, b], scalings, cx).map(Some),
        (ElementType::U8, true) => combine::<u8, true>([a, b], scalings, cx).map(Some),
        (ElementType::I8, false) => combine::<i8, false>([a, b], scalings, cx).map(Some),
        (ElementType::I8, true) => combine::<i8, true>([a, b], scalings, cx).map(Some),
        _ => Ok(None),
    }
}

fn unary(node: &Node<'_>, name: &str, opset: i64, attributes: &[&str]) -> Result<OpFn, Error> {
    unary_of(node, onnx_operator(name, opset, node.attributes(attributes))?)
}

fn unary_of(node: &Node<'_>, inner: OpFn) -> Result<OpFn, Error> {
    node.require_inputs(&[3])?;
    let quantizer = Quantizer::new()?;
    Ok(Box::new(move |mut args, cx| {
        let value = quantizer.input(&mut args, 0, cx)?;
        let result = call(&inner, [value], cx)?;
        Ok(values![quantizer.output(result, &mut args, 3, cx)?])
    }))
}

fn softmax(node: &Node<'_>) -> Result<OpFn, Error> {
    // The opset that defines the softmax.
    let opset = node.int("opset")?.ok_or_else(|| Error::invalid_encoding("attribute opset is missing"))?;
    // The default is the last axis at every opset.
    let axis = int("axis", node.int("axis")?.unwrap_or(-1));
    unary_of(node, onnx_operator("Softmax", opset, vec![axis])?)
}

fn pool(node: &Node<'_>, name: &str, attributes: &[&str]) -> Result<OpFn, Error> {
    if node.flag("channels_last", false)? {
        return Err(Error::unsupported("attribute channels_last is not supported"));
    }
    unary(node, name, 19, attributes)
}

fn concat(node: &Node<'_>) -> Result<OpFn, Error> {
    let (quantizer, inner) = (Quantizer::new()?, onnx_operator("Concat", 13, node.attributes(&["axis"]))?);
    let count = (node.constants.len() - 2) / 3;
    if node.constants.len() != 2 + 3 * count {
        return Err(Error::invalid_encoding(format!(
            "the node has {} inputs, not 2 and 3 more for each tensor",
            node.constants.len()
        )));
    }
    Ok(Box::new(move |mut args, cx| {
        let values = (0..count).map(|index| quantizer.input(&mut args, 2 + 3 * index, cx).map(Some));
        let values = values.collect::<Result<Vec<_>, Error>>()?;
        let result = call_optional(&inner, values, cx)?;
        Ok(values![quantizer.output(result, &mut args, 0, cx)?])
    }))
}

/// Products of quantized matrices, dequantized.
pub(super) struct QuantizedProduct {
    /// The right operand, if it was packed at load.
    packed: Option<PackedMatrix>,
    cast: OpFn,
    multiply: OpFn,
    add: OpFn,
}

/// A quantized operand.
pub(super) struct Quantized {
    /// Its elements; `None` if they were packed at load.
    pub(super) value: Option<Value>,
    pub(super) scale: Value,
    pub(super) zero_point: Option<Value>,
}

impl QuantizedProduct {
    pub(super) fn new(packed: Option<PackedMatrix>) -> Result<Self, Error> {
        Ok(Self {
            packed,
            cast: onnx_operator("Cast", 13, vec![int("to", 1)])?,
            multiply: onnx_operator("Mul", 13, Vec::new())?,
            add: onnx_operator("Add", 13, Vec::new())?,
        })
    }

    /// The dequantized product, plus the bias if it is given.
    pub(super) fn multiply(
        &self,
        a: Quantized,
        b: Quantized,
        bias: Option<Value>,
        cx: &ExecContext<'_>,
    ) -> Result<Value, Error> {
        check_scalar(&a.scale)?;
        let left = a.value.ok_or_else(|| Error::invalid_argument("the left operand is missing"))?;
        let scale = call(&self.multiply, [a.scale, b.scale], cx)?;
        let columns = match (&self.packed, &b.value) {
            (Some(matrix), _) => Some(matrix.dims()[1]),
            (None, Some(b)) if b.rank() > 1 => b.dims().last().copied(),
            _ => None,
        };
        let operands = (left, b.value);
        let (packed, zeros) = (self.packed.as_ref(), [a.zero_point.as_ref(), b.zero_point.as_ref()]);
        // One scale and one bias for each column, or one scale for all.
        let fits = |value: &Value| value.rank() == 1 && Some(value.len()) == columns;
        if columns.is_some() && (scale.len() == 1 && scale.rank() < 2 || fits(&scale)) && bias.as_ref().is_none_or(fits)
        {
            let bias = bias.as_ref().map(Value::elements).transpose()?.unwrap_or_default();
            return multiply(operands, packed, zeros, Floats { scales: scale.elements()?, bias }, cx);
        }
        let sums = multiply(operands, packed, zeros, AsSums, cx)?;
        let result = call(&self.multiply, [call(&self.cast, [sums], cx)?, scale], cx)?;
        bias.map_or_else(|| Ok(result.clone()), |bias| call(&self.add, [result.clone(), bias], cx))
    }
}

fn dynamic_matmul(packed: Option<PackedMatrix>) -> Result<OpFn, Error> {
    let (product, dynamic) = (QuantizedProduct::new(packed)?, onnx_operator("DynamicQuantizeLinear", 11, Vec::new())?);
    Ok(Box::new(move |mut args, cx| {
        let outputs = dynamic(Args::new(vec![Some(args.take(0)?)]), cx)?;
        let [value, scale, zero_point] = outputs
            .into_inner()
            .map_err(|_| Error::runtime_error("DynamicQuantizeLinear did not return three outputs"))?;
        let a = Quantized { value: Some(value), scale, zero_point: Some(zero_point) };
        let b = Quantized { value: args.take(1).ok(), scale: args.take(2)?, zero_point: args.option(3).cloned() };
        Ok(values![product.multiply(a, b, args.option(4).cloned(), cx)?])
    }))
}

fn matmul_to_float(packed: Option<PackedMatrix>) -> Result<OpFn, Error> {
    let product = QuantizedProduct::new(packed)?;
    Ok(Box::new(move |mut args, cx| {
        let a = Quantized { value: args.take(0).ok(), scale: args.take(2)?, zero_point: args.option(4).cloned() };
        let b = Quantized { value: args.take(1).ok(), scale: args.take(3)?, zero_point: args.option(5).cloned() };
        Ok(values![product.multiply(a, b, args.option(6).cloned(), cx)?])
    }))
}
