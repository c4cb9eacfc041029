//! QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear.
//!
//! A number out of the range of the target type saturates.

use half::{bf16, f16};

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::ops::cast::{convert, encode};
use crate::ops::fusion::FusionRole;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, since};
use crate::ops::quantize_bytes;
use crate::ops::quantize_bytes::{Quantized, Runs};
use crate::tensor::dims::{Dims, axis, product};
use crate::tensor::element::ElementType;
use crate::tensor::narrow;
use crate::tensor::narrow::Rule;
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(10, "QuantizeLinear", (2, 3), quantize).quantization(|node| whole(node).then_some(FusionRole::Quantizer)),
    since(10, "DequantizeLinear", (2, 3), dequantize)
        .quantization(|node| whole(node).then_some(FusionRole::Dequantizer)),
    since(11, "DynamicQuantizeLinear", (1, 1), dynamic),
];

/// The shortest run of elements with the same parameter that has a loop of its own.
const SHORT: usize = 8;

/// Which scale and zero point an element uses: one for the tensor, one for each index of an axis, or one for each block
/// of indices.
pub(super) struct ParameterLayout {
    outer: usize,
    dim: usize,
    inner: usize,
    /// The number of blocks along the axis and the block size; (0, 1) for a parameter for each index, `None` for one
    /// for the tensor.
    blocks: Option<(usize, usize)>,
}

impl ParameterLayout {
    pub(super) fn new(value: &Value, scale: &Value, signed_axis: i64, block: usize) -> Result<Self, Error> {
        let wrong = || {
            Error::invalid_argument(format!(
                "the scales {} do not fit the input {}",
                Dims(scale.dims()),
                Dims(value.dims())
            ))
        };
        if scale.len() == 1 && block == 0 {
            return Ok(Self { outer: 1, dim: 1, inner: value.len(), blocks: None });
        }
        let axis = axis(signed_axis, value.rank())?;
        let (dim, inner) = (value.dims()[axis], product(&value.dims()[axis + 1..]));
        let outer = product(&value.dims()[..axis]);
        if block == 0 {
            let fits = scale.rank() == 1 && scale.len() == dim;
            return if fits { Ok(Self { outer, dim, inner, blocks: Some((0, 1)) }) } else { Err(wrong()) };
        }
        let mut scale_dims = value.dims().to_vec();
        scale_dims[axis] = dim.div_ceil(block);
        if scale.dims() == scale_dims {
            Ok(Self { outer, dim, inner, blocks: Some((scale_dims[axis], block)) })
        } else {
            Err(wrong())
        }
    }

    /// The runs of elements with the same parameter, unless there are blocks.
    fn runs(&self) -> Option<Runs> {
        match self.blocks {
            None => Some(Runs { len: self.outer * self.dim * self.inner, parameters: 1 }),
            // In shorter runs, loops cost more than they save.
            Some((0, _)) if self.inner >= SHORT => Some(Runs { len: self.inner, parameters: self.dim }),
            Some(_) => None,
        }
    }

    /// Dequantizes numbers of 8 bits, unless there are blocks or no run is worth a loop.
    fn dequantize_bytes<B: Quantized>(
        &self,
        value: &Value,
        parameters: (&[f32], Option<&[i32]>),
        cx: &ExecContext<'_>,
    ) -> Result<Option<Value>, Error> {
        if let Some(runs) = self.runs() {
            return quantize_bytes::dequantize::<B>(value, parameters, runs, cx).map(Some);
        }
        let by_column = matches!(self.blocks, Some((0, _))) && self.inner == 1 && self.dim >= SHORT;
        by_column.then(|| quantize_bytes::dequantize_columns::<B>(value, parameters, cx)).transpose()
    }

    /// Calls `visit` with the index of each element and that of its parameter.
    pub(super) fn visit(&self, cx: &ExecContext<'_>, mut visit: impl FnMut(usize, usize)) -> Result<(), Error> {
        let (mut element, mut checkpoint) = (0, Checkpoint::default());
        for outer in 0..self.outer {
            for index in 0..self.dim {
                for first in (0..self.inner).step_by(PIECE) {
                    let end = self.inner.min(first + PIECE);
                    checkpoint.step(end - first, cx)?;
                    for inner in first..end {
                        let parameter = match self.blocks {
                            None => 0,
                            Some((0, _)) => index,
                            Some((count, block)) => (outer * count + index / block) * self.inner + inner,
                        };
                        visit(element, parameter);
                        element += 1;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether a node has neither blocks nor types of its own.
fn whole(node: &Node<'_>) -> bool {
    ["block_size", "output_dtype", "precision"]
        .iter()
        .all(|name| node.int(name).is_ok_and(|value| value.unwrap_or(0) == 0))
}

fn block(node: &Node<'_>) -> Result<usize, Error> {
    let size = if node.opset >= 21 { node.int("block_size")?.unwrap_or(0) } else { 0 };
    usize::try_from(size).map_err(|_| Error::invalid_encoding("attribute block_size is negative"))
}

/// The element type of the output, which may be given from the opset `since` on; 0 stands for the default.
fn output_type(node: &Node<'_>, since: i64) -> Result<Option<ElementType>, Error> {
    let given = node.opset >= since && node.int("output_dtype")?.unwrap_or(0) != 0;
    if given { node.element_type("output_dtype") } else { Ok(None) }
}

/// Whether a type is an integer type of quantized tensors.
fn is_quantized(ty: ElementType) -> bool {
    matches!(ty, ElementType::U8 | ElementType::I8 | ElementType::U16 | ElementType::I16 | ElementType::I32)
        || narrow::integer(ty).is_some()
}

/// Whether a type is a float type of quantized tensors.
fn is_quantized_float(ty: ElementType) -> bool {
    ty.is_narrow() && ty != ElementType::F8E8M0 && narrow::integer(ty).is_none()
}

/// The nearest number that an integer type of up to 16 bits can hold.
pub(super) fn saturate(number: f64, ty: ElementType) -> i32 {
    if let Some((low, high)) = narrow::range(ty) {
        return number.clamp(f64::from(low), f64::from(high)) as i32;
    }
    let (low, high) = match ty {
        ElementType::U8 => (0.0, 255.0),
        ElementType::I8 => (-128.0, 127.0),
        ElementType::U16 => (0.0, 65535.0),
        _ => (-32768.0, 32767.0),
    };
    number.clamp(low, high) as i32
}

/// The type in which QuantizeLinear divides; `None` for that of the scale. Before opset 23 ONNX does not define it, and
/// other runtimes use f32.
fn precision(node: &Node<'_>) -> Result<Option<ElementType>, Error> {
    if node.opset < 23 {
        return Ok(Some(ElementType::F32));
    }
    match node.int("precision")?.unwrap_or(0) {
        0 => Ok(None),
        number => match i32::try_from(number).ok().and_then(ElementType::from_onnx) {
            Some(ty @ (ElementType::F32 | ElementType::F16 | ElementType::Bf16)) => Ok(Some(ty)),
            _ => Err(Error::unsupported(format!("a precision of element type {number} is not supported"))),
        },
    }
}

/// Rounds the elements to `precision` if that is f16 or bf16.
fn rounded(value: Value, precision: ElementType, cx: &ExecContext<'_>) -> Result<Value, Error> {
    match precision {
        ElementType::F16 | ElementType::Bf16 => convert(value, precision, cx),
        _ => Ok(value),
    }
}

fn quantize(node: &Node<'_>) -> Result<OpFn, Error> {
    let signed_axis = node.int("axis")?.unwrap_or(1);
    let (block, output_type) = (block(node)?, output_type(node, 21)?);
    // Opset 19 introduced it with the 8-bit floats.
    let rule = Rule { saturate: node.opset < 19 || node.flag("saturate", true)?, ..Rule::DEFAULT };
    node.ignore(&["saturate"]);
    let precision = precision(node)?;
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        let scale = args.take(1)?;
        let precision = precision.unwrap_or(scale.ty());
        let value = convert(rounded(value, precision, cx)?, ElementType::F32, cx)?;
        let scale = convert(rounded(scale, precision, cx)?, ElementType::F32, cx)?;
        let zero = args.option(2).cloned();
        let ty = zero.as_ref().map(Value::ty).or(output_type).unwrap_or(ElementType::U8);
        if (!is_quantized(ty) || ty == ElementType::I32) && !is_quantized_float(ty) {
            return Err(Error::unsupported(format!("a quantization to {ty:?} is not supported")));
        }
        let layout = ParameterLayout::new(&value, &scale, signed_axis, block)?;
        if zero.as_ref().is_some_and(|zero| zero.len() != scale.len()) {
            return Err(Error::invalid_argument("the zero points and the scales have different numbers of elements"));
        }
        if is_quantized_float(ty) {
            let result = floats(&value, &scale, zero, &layout, cx, |x, scale, zero| x / scale + zero)?;
            return Ok(values![encode(&result, ty, rule, cx)?]);
        }
        let zeros = zero.map(|zero| convert(zero, ElementType::I32, cx)).transpose()?;
        let zeros = zeros.as_ref().map(Value::elements::<i32>).transpose()?;
        let (elements, scales) = (value.elements::<f32>()?, scale.elements::<f32>()?);
        if precision == ElementType::F32
            && let Some(runs) = layout.runs()
        {
            match ty {
                ElementType::U8 => {
                    return Ok(values![quantize_bytes::quantize::<u8>(&value, (scales, zeros), runs, cx)?]);
                }
                ElementType::I8 => {
                    return Ok(values![quantize_bytes::quantize::<i8>(&value, (scales, zeros), runs, cx)?]);
                }
                _ => {}
            }
        }
        let result = cx.output::<i32>(value.dims())?.append(|out| {
            layout.visit(cx, |element, parameter| {
                let quotient = elements[element] / scales[parameter];
                // Rounding a quotient of two 16-bit floats to f32 first does not change how it rounds to 16 bits.
                let quotient = match precision {
                    ElementType::F16 => f16::from_f32(quotient).to_f32(),
                    ElementType::Bf16 => bf16::from_f32(quotient).to_f32(),
                    _ => quotient,
                };
                let steps = f64::from(quotient.round_ties_even());
                let zero = zeros.map_or(0, |zeros| zeros[parameter]);
                out.push(saturate(steps + f64::from(zero), ty));
            })
        })?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

/// What `f` makes of each element, its scale and its zero point, as f32.
fn floats(
    value: &Value,
    scale: &Value,
    zero: Option<Value>,
    layout: &ParameterLayout,
    cx: &ExecContext<'_>,
    f: impl Fn(f32, f32, f32) -> f32,
) -> Result<Value, Error> {
    let zeros = zero.map(|zero| convert(zero, ElementType::F32, cx)).transpose()?;
    let zeros = zeros.as_ref().map(Value::elements::<f32>).transpose()?;
    let (elements, scales) = (value.elements::<f32>()?, scale.elements::<f32>()?);
    cx.output::<f32>(value.dims())?.append(|out| {
        layout.visit(cx, |element, parameter| {
            let zero = zeros.map_or(0.0, |zeros| zeros[parameter]);
            out.push(f(elements[element], scales[parameter], zero));
        })
    })
}

fn dequantize(node: &Node<'_>) -> Result<OpFn, Error> {
    let signed_axis = node.int("axis")?.unwrap_or(1);
    let (block, output_type) = (block(node)?, output_type(node, 23)?);
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        let scale = args.take(1)?;
        let ty = output_type.unwrap_or(scale.ty());
        let float = is_quantized_float(value.ty());
        if !is_quantized(value.ty()) && !float {
            return Err(no_type(&value));
        }
        let layout = ParameterLayout::new(&value, &scale, signed_axis, block)?;
        let scale = convert(scale, ElementType::F32, cx)?;
        let zero = args.option(2).cloned();
        if zero.as_ref().is_some_and(|zero| zero.len() != scale.len() || zero.ty() != value.ty()) {
            return Err(Error::invalid_argument(
                "the zero points must be as many as the scales and of the type of the input",
            ));
        }
        if float {
            let value = convert(value, ElementType::F32, cx)?;
            let result = floats(&value, &scale, zero, &layout, cx, |x, scale, zero| (x - zero) * scale)?;
            return Ok(values![convert(result, ty, cx)?]);
        }
        let zeros = zero.map(|zero| convert(zero, ElementType::I32, cx)).transpose()?;
        let zeros = zeros.as_ref().map(Value::elements::<i32>).transpose()?;
        let scales = scale.elements::<f32>()?;
        let parameters = (scales, zeros);
        let result = match value.ty() {
            ElementType::U8 => layout.dequantize_bytes::<u8>(&value, parameters, cx)?,
            ElementType::I8 => layout.dequantize_bytes::<i8>(&value, parameters, cx)?,
            _ => None,
        };
        if let Some(result) = result {
            return Ok(values![convert(result, ty, cx)?]);
        }
        let value = convert(value, ElementType::I32, cx)?;
        let elements = value.elements::<i32>()?;
        let result = cx.output::<f32>(value.dims())?.append(|out| {
            layout.visit(cx, |element, parameter| {
                let zero = zeros.map_or(0, |zeros| zeros[parameter]);
                out.push((i64::from(elements[element]) - i64::from(zero)) as f32 * scales[parameter]);
            })
        })?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

/// The scale and the zero point of DynamicQuantizeLinear: 0 and all elements are within the range of a u8.
pub(super) fn dynamic_parameters(
    elements: &[f32],
    checkpoint: &mut Checkpoint,
    cx: &ExecContext<'_>,
) -> Result<(f32, f32), Error> {
    let (mut high, mut low) = (0.0_f32, 0.0_f32);
    for piece in elements.chunks(PIECE) {
        checkpoint.step(piece.len(), cx)?;
        (low, high) = quantize_bytes::range(piece, low, high);
    }
    let scale = if high > low { (high - low) / 255.0 } else { 1.0 };
    Ok((scale, (-low / scale).clamp(0.0, 255.0).round_ties_even()))
}

fn dynamic(_: &Node<'_>) -> Result<OpFn, Error> {
    Ok(Box::new(|args, cx| {
        let value = args.get(0)?;
        let (scale, zero) = dynamic_parameters(value.elements::<f32>()?, &mut Checkpoint::default(), cx)?;
        let result = quantize_bytes::quantize_dynamically(value, (scale, zero), cx)?;
        Ok(values![result, Value::scalar(scale)?, Value::scalar(zero as u8)?])
    }))
}
