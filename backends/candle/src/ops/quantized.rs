//! Quantized tensors: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear, and products and convolutions of them.
//!
//! Products add up in i32, which wraps around, as ONNX says. A number that the target can't hold becomes the end of
//! its range.

use half::{bf16, f16};

use super::super::meter::{Cx, PIECE, Pace};
use super::super::narrow::{self, Rule};
use super::super::node::Node;
use super::super::value::{Dims, ElementType, Value, count};
use super::broadcast::map;
use super::cast::{convert, encode};
use super::matmul::integer_product;
use super::window::{Slide, Window};
use super::{Kernel, Operator, axis, no_type, product, since};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(10, "QuantizeLinear", (2, 3), quantize),
    since(10, "DequantizeLinear", (2, 3), dequantize),
    since(11, "DynamicQuantizeLinear", (1, 1), dynamic),
    since(10, "MatMulInteger", (2, 4), matmul_integer),
    since(10, "ConvInteger", (2, 4), conv_integer),
    since(10, "QLinearMatMul", (8, 8), quantized_matmul),
    since(10, "QLinearConv", (8, 9), quantized_conv),
];

/// Which of its parameters an element takes: one for all, one for each index of an axis, or one for each block of them.
struct Grid {
    outer: usize,
    dim: usize,
    inner: usize,
    /// How many parameters lie along the axis; none where there is one for all.
    along: Option<(usize, usize)>,
}

impl Grid {
    fn new(value: &Value, scale: &Value, at: i64, block: usize) -> Result<Self, Error> {
        let wrong = || Error::invalid_argument(format!("scales {} of {}", Dims(scale.dims()), Dims(value.dims())));
        if scale.len() == 1 && block == 0 {
            return Ok(Self { outer: 1, dim: 1, inner: value.len(), along: None });
        }
        let at = axis(at, value.rank())?;
        let (dim, inner) = (value.dims()[at], product(&value.dims()[at + 1..]));
        let outer = product(&value.dims()[..at]);
        if block == 0 {
            let fits = scale.rank() == 1 && scale.len() == dim;
            return if fits { Ok(Self { outer, dim, inner, along: Some((0, 1)) }) } else { Err(wrong()) };
        }
        let mut wanted = value.dims().to_vec();
        wanted[at] = dim.div_ceil(block);
        if scale.dims() == wanted {
            Ok(Self { outer, dim, inner, along: Some((wanted[at], block)) })
        } else {
            Err(wrong())
        }
    }

    /// Visits every element with the place of its parameter, in the elements' order.
    fn visit(&self, cx: &Cx<'_>, mut visit: impl FnMut(usize, usize)) -> Result<(), Error> {
        let (mut element, mut pace) = (0, Pace::default());
        for outer in 0..self.outer {
            for index in 0..self.dim {
                for first in (0..self.inner).step_by(PIECE) {
                    let end = self.inner.min(first + PIECE);
                    pace.step(end - first, cx)?;
                    for inner in first..end {
                        let parameter = match self.along {
                            None => 0,
                            Some((0, _)) => index,
                            Some((blocks, block)) => (outer * blocks + index / block) * self.inner + inner,
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

fn block(node: &Node<'_>) -> Result<usize, Error> {
    let size = if node.opset >= 21 { node.int("block_size")?.unwrap_or(0) } else { 0 };
    usize::try_from(size).map_err(|_| Error::invalid_encoding("attribute block_size is negative"))
}

fn listed_type(node: &Node<'_>, since: i64) -> Result<Option<ElementType>, Error> {
    let number = if node.opset >= since { node.int("output_dtype")?.unwrap_or(0) } else { 0 };
    if number == 0 {
        return Ok(None);
    }
    let ty = i32::try_from(number).ok().and_then(ElementType::from_onnx);
    ty.map(Some).ok_or_else(|| Error::unsupported(format!("element type {number}")))
}

/// The integers that a zero point is one of.
fn is_quantized(ty: ElementType) -> bool {
    matches!(ty, ElementType::U8 | ElementType::I8 | ElementType::U16 | ElementType::I16 | ElementType::I32)
        || narrow::integer(ty).is_some()
}

/// The floats that a zero point is one of.
fn is_quantized_float(ty: ElementType) -> bool {
    ty.is_narrow() && ty != ElementType::F8E8M0 && narrow::integer(ty).is_none()
}

/// Whether a type of up to 16 bits can hold a number, and the nearest one that it can.
fn saturated(number: f64, ty: ElementType) -> i32 {
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

/// The type in which QuantizeLinear divides, `None` for that of the scale. Before opset 23 nothing is said of it, and
/// f32 is what it is elsewhere.
fn precision(node: &Node<'_>) -> Result<Option<ElementType>, Error> {
    if node.opset < 23 {
        return Ok(Some(ElementType::F32));
    }
    match node.int("precision")?.unwrap_or(0) {
        0 => Ok(None),
        number => match i32::try_from(number).ok().and_then(ElementType::from_onnx) {
            Some(ty @ (ElementType::F32 | ElementType::F16 | ElementType::Bf16)) => Ok(Some(ty)),
            _ => Err(Error::unsupported(format!("a precision of element type {number}"))),
        },
    }
}

/// The elements as f16 or bf16 hold them, where one of these is `precision`.
fn rounded(value: Value, precision: ElementType, cx: &Cx<'_>) -> Result<Value, Error> {
    match precision {
        ElementType::F16 | ElementType::Bf16 => convert(value, precision, cx),
        _ => Ok(value),
    }
}

fn quantize(node: &Node<'_>) -> Result<Kernel, Error> {
    let at = node.int("axis")?.unwrap_or(1);
    let (block, listed) = (block(node)?, listed_type(node, 21)?);
    // It came with 8-bit floats.
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
        let ty = zero.as_ref().map(Value::ty).or(listed).unwrap_or(ElementType::U8);
        if (!is_quantized(ty) || ty == ElementType::I32) && !is_quantized_float(ty) {
            return Err(Error::unsupported(format!("a quantization to {ty:?}")));
        }
        let grid = Grid::new(&value, &scale, at, block)?;
        if zero.as_ref().is_some_and(|zero| zero.len() != scale.len()) {
            return Err(Error::invalid_argument("another number of zero points than of scales"));
        }
        if is_quantized_float(ty) {
            return Ok(vec![encode(&divided(&value, &scale, zero, &grid, cx)?, ty, rule, cx)?]);
        }
        let zeros = zero.map(|zero| convert(zero, ElementType::I32, cx)).transpose()?;
        let zeros = zeros.as_ref().map(Value::elements::<i32>).transpose()?;
        let (elements, scales) = (value.elements::<f32>()?, scale.elements::<f32>()?);
        let result = cx.output::<i32>(value.dims())?.append(|out| {
            grid.visit(cx, |element, parameter| {
                let quotient = elements[element] / scales[parameter];
                // A quotient of two numbers of 16 bits that f32 has rounded is rounded to 16 bits as if exact.
                let quotient = match precision {
                    ElementType::F16 => f16::from_f32(quotient).to_f32(),
                    ElementType::Bf16 => bf16::from_f32(quotient).to_f32(),
                    _ => quotient,
                };
                let steps = f64::from(quotient.round_ties_even());
                let zero = zeros.map_or(0, |zeros| zeros[parameter]);
                out.push(saturated(steps + f64::from(zero), ty));
            })
        })?;
        Ok(vec![convert(result, ty, cx)?])
    }))
}

/// Elements divided by their scales, with their zero points added: what a float type then holds as nearly as it can.
fn divided(value: &Value, scale: &Value, zero: Option<Value>, grid: &Grid, cx: &Cx<'_>) -> Result<Value, Error> {
    let zeros = zero.map(|zero| convert(zero, ElementType::F32, cx)).transpose()?;
    let zeros = zeros.as_ref().map(Value::elements::<f32>).transpose()?;
    let (elements, scales) = (value.elements::<f32>()?, scale.elements::<f32>()?);
    cx.output::<f32>(value.dims())?.append(|out| {
        grid.visit(cx, |element, parameter| {
            out.push(elements[element] / scales[parameter] + zeros.map_or(0.0, |zeros| zeros[parameter]));
        })
    })
}

/// Elements of a float type less their zero points, by their scales.
fn multiplied(value: &Value, scale: &Value, zero: Option<Value>, grid: &Grid, cx: &Cx<'_>) -> Result<Value, Error> {
    let zeros = zero.map(|zero| convert(zero, ElementType::F32, cx)).transpose()?;
    let zeros = zeros.as_ref().map(Value::elements::<f32>).transpose()?;
    let (elements, scales) = (value.elements::<f32>()?, scale.elements::<f32>()?);
    cx.output::<f32>(value.dims())?.append(|out| {
        grid.visit(cx, |element, parameter| {
            out.push((elements[element] - zeros.map_or(0.0, |zeros| zeros[parameter])) * scales[parameter]);
        })
    })
}

fn dequantize(node: &Node<'_>) -> Result<Kernel, Error> {
    let at = node.int("axis")?.unwrap_or(1);
    let (block, listed) = (block(node)?, listed_type(node, 23)?);
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        let scale = args.take(1)?;
        let ty = listed.unwrap_or(scale.ty());
        let float = is_quantized_float(value.ty());
        if !is_quantized(value.ty()) && !float {
            return Err(no_type(&value));
        }
        let grid = Grid::new(&value, &scale, at, block)?;
        let scale = convert(scale, ElementType::F32, cx)?;
        let zero = args.option(2).cloned();
        if zero.as_ref().is_some_and(|zero| zero.len() != scale.len() || zero.ty() != value.ty()) {
            return Err(Error::invalid_argument("zero points of another number or type than the elements want"));
        }
        if float {
            let value = convert(value, ElementType::F32, cx)?;
            return Ok(vec![convert(multiplied(&value, &scale, zero, &grid, cx)?, ty, cx)?]);
        }
        let zeros = zero.map(|zero| convert(zero, ElementType::I32, cx)).transpose()?;
        let zeros = zeros.as_ref().map(Value::elements::<i32>).transpose()?;
        let value = convert(value, ElementType::I32, cx)?;
        let (elements, scales) = (value.elements::<i32>()?, scale.elements::<f32>()?);
        let result = cx.output::<f32>(value.dims())?.append(|out| {
            grid.visit(cx, |element, parameter| {
                let zero = zeros.map_or(0, |zeros| zeros[parameter]);
                out.push((i64::from(elements[element]) - i64::from(zero)) as f32 * scales[parameter]);
            })
        })?;
        Ok(vec![convert(result, ty, cx)?])
    }))
}

fn dynamic(_: &Node<'_>) -> Result<Kernel, Error> {
    Ok(Box::new(|args, cx| {
        let value = args.get(0)?;
        let elements = value.elements::<f32>()?;
        let (mut high, mut low, mut pace) = (0.0, 0.0, Pace::default());
        for piece in elements.chunks(PIECE) {
            pace.step(piece.len(), cx)?;
            high = piece.iter().copied().fold(high, f32::max);
            low = piece.iter().copied().fold(low, f32::min);
        }
        let scale = if high > low { (high - low) / 255.0 } else { 1.0 };
        let zero = (-low / scale).clamp(0.0, 255.0).round_ties_even();
        let result = map(value, cx, |x: f32| ((x / scale).round_ties_even() + zero).clamp(0.0, 255.0) as u8)?;
        Ok(vec![result, Value::scalar(scale)?, Value::scalar(zero as u8)?])
    }))
}

/// The elements less their zero point, as i32; one for all, or one for each index of the axis at `at`.
fn centered(value: Value, zero: Option<&Value>, at: i64, cx: &Cx<'_>) -> Result<Value, Error> {
    if !matches!(value.ty(), ElementType::U8 | ElementType::I8) {
        return Err(no_type(&value));
    }
    let value = convert(value, ElementType::I32, cx)?;
    let Some(zero) = zero else { return Ok(value) };
    if !matches!(zero.ty(), ElementType::U8 | ElementType::I8) {
        return Err(no_type(zero));
    }
    let grid = Grid::new(&value, zero, at, 0)?;
    let zero = convert(zero.clone(), ElementType::I32, cx)?;
    let (elements, zeros) = (value.elements::<i32>()?, zero.elements::<i32>()?);
    cx.output::<i32>(value.dims())?
        .append(|out| grid.visit(cx, |element, parameter| out.push(elements[element] - zeros[parameter])))
}

fn matmul_integer(_: &Node<'_>) -> Result<Kernel, Error> {
    Ok(Box::new(|mut args, cx| {
        let (a, b) = (args.take(0)?, args.take(1)?);
        let rows = if a.rank() > 1 { -2 } else { -1 };
        let a = centered(a, args.option(2), rows, cx)?;
        let b = centered(b, args.option(3), -1, cx)?;
        Ok(vec![integer_product(a, b, cx)?])
    }))
}

/// Turns sums back into steps of the result's scale.
fn requantized(
    sums: &Value,
    scales: (&[f32], &[f32], f32),
    zero: &Value,
    at: i64,
    cx: &Cx<'_>,
) -> Result<Value, Error> {
    let (a, b, y) = scales;
    let ([a], true) = (a, y != 0.0) else {
        return Err(Error::unsupported("a left scale for each row, or a scale of 0"));
    };
    let ty = zero.ty();
    if !matches!(ty, ElementType::U8 | ElementType::I8) || zero.len() != 1 {
        return Err(no_type(zero));
    }
    let zero = convert(zero.clone(), ElementType::I32, cx)?.elements::<i32>()?[0];
    let factors = cx.output::<f32>(&[b.len()])?.collect(b.iter().map(|b| a * b / y))?;
    let grid = Grid::new(sums, &factors, at, 0)?;
    let factors = factors.elements::<f32>()?;
    let elements = sums.elements::<i32>()?;
    let result = cx.output::<i32>(sums.dims())?.append(|out| {
        grid.visit(cx, |element, parameter| {
            let number = f64::from(elements[element]) * f64::from(factors[parameter]);
            out.push(saturated((number + f64::from(zero)).round_ties_even(), ty));
        })
    })?;
    convert(result, ty, cx)
}

fn quantized_matmul(_: &Node<'_>) -> Result<Kernel, Error> {
    Ok(Box::new(|mut args, cx| {
        let (a, b) = (args.take(0)?, args.take(3)?);
        let rows = if a.rank() > 1 { -2 } else { -1 };
        let a = centered(a, Some(args.get(2)?), rows, cx)?;
        let b = centered(b, Some(args.get(5)?), -1, cx)?;
        let sums = integer_product(a, b, cx)?;
        let scale = |value: Value| convert(value, ElementType::F32, cx);
        let (a, b, y) = (scale(args.take(1)?)?, scale(args.take(4)?)?, scale(args.take(6)?)?);
        let &[y] = y.elements::<f32>()? else {
            return Err(Error::unsupported("more than one scale of the result"));
        };
        Ok(vec![requantized(&sums, (a.elements()?, b.elements()?, y), args.get(7)?, -1, cx)?])
    }))
}

fn groups(node: &Node<'_>) -> Result<usize, Error> {
    let group = usize::try_from(node.int("group")?.unwrap_or(1)).ok().filter(|&group| (1..=1 << 24).contains(&group));
    group.ok_or_else(|| Error::invalid_encoding("attribute group is out of range"))
}

fn conv_integer(node: &Node<'_>) -> Result<Kernel, Error> {
    let (window, groups) = (Window::new(node)?, groups(node)?);
    Ok(Box::new(move |mut args, cx| {
        let (x, w) = (args.take(0)?, args.take(1)?);
        let x = centered(x, args.option(2), 0, cx)?;
        let w = centered(w, args.option(3), 0, cx)?;
        Ok(vec![convolve(&x, &w, None, &window, groups, cx)?])
    }))
}

fn quantized_conv(node: &Node<'_>) -> Result<Kernel, Error> {
    let (window, groups) = (Window::new(node)?, groups(node)?);
    Ok(Box::new(move |mut args, cx| {
        let (x, w) = (args.take(0)?, args.take(3)?);
        let x = centered(x, Some(args.get(2)?), 0, cx)?;
        let w = centered(w, Some(args.get(5)?), 0, cx)?;
        let bias = args.option(8).map(Value::elements::<i32>).transpose()?;
        let sums = convolve(&x, &w, bias, &window, groups, cx)?;
        let (a, b, y) = (args.get(1)?.elements()?, args.get(4)?.elements()?, args.get(6)?.elements::<f32>()?);
        let &[y] = y else { return Err(Error::unsupported("more than one scale of the result")) };
        Ok(vec![requantized(&sums, (a, b, y), args.get(7)?, 1, cx)?])
    }))
}

/// A convolution of integers, place by place: exact, where one in floats would not be.
fn convolve(
    x: &Value,
    w: &Value,
    bias: Option<&[i32]>,
    window: &Window,
    groups: usize,
    cx: &Cx<'_>,
) -> Result<Value, Error> {
    let (&[n, channels, ref spatial @ ..], &[filters, depth, ref kernel @ ..]) = (x.dims(), w.dims()) else {
        return Err(Error::invalid_argument("tensors without spatial dimensions"));
    };
    let fits = depth.checked_mul(groups) == Some(channels) && filters % groups == 0 && kernel.len() == spatial.len();
    if !fits || bias.is_some_and(|bias| bias.len() != filters) {
        let why = format!("{} by {} in {groups} groups", Dims(x.dims()), Dims(w.dims()));
        return Err(Error::invalid_argument(why));
    }
    let over = window.over(spatial, kernel)?;
    let [zs, ys, xs] = Slide::three(&over)?;
    let mut dims = vec![n, filters];
    dims.extend(over.iter().map(|slide| slide.output));
    let places = count(&[zs.output, ys.output, xs.output])?;
    let (elements, taps) = (x.elements::<i32>()?, w.elements::<i32>()?);
    let (plane, size, each) = (product(spatial), product(kernel), filters / groups);
    let mut pace = Pace::default();
    cx.output::<i32>(&dims)?.write(0, |out| {
        for (index, out) in out.chunks_exact_mut(places).enumerate() {
            let (batch, filter) = (index / filters, index % filters);
            pace.set(bias.map_or(0, |bias| bias[filter]), out, cx)?;
            for channel in 0..depth {
                let from = (batch * channels + filter / each * depth + channel) * plane;
                let (image, taps) = (&elements[from..from + plane], &taps[(filter * depth + channel) * size..][..size]);
                for (place, out) in out.iter_mut().enumerate() {
                    pace.step(1, cx)?;
                    let (z, rest) = (place / (ys.output * xs.output), place % (ys.output * xs.output));
                    let (y, x) = (rest / xs.output, rest % xs.output);
                    let ((z0, z1), (y0, y1), (x0, x1)) = (zs.inside(z), ys.inside(y), xs.inside(x));
                    for dz in z0..z1 {
                        for dy in y0..y1 {
                            pace.step(x1 - x0, cx)?;
                            let line = (zs.source(z, dz) * ys.input + ys.source(y, dy)) * xs.input;
                            let tap = (dz * ys.kernel + dy) * xs.kernel;
                            for dx in x0..x1 {
                                let product = image[line + xs.source(x, dx)].wrapping_mul(taps[tap + dx]);
                                *out = out.wrapping_add(product);
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    })
}
