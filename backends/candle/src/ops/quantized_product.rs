//! Products and convolutions of quantized tensors, in i32, which wraps around as in ONNX.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::ops::cast::convert;
use crate::ops::matmul::integer_product;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, since};
use crate::ops::quantize::{ParameterLayout, saturate};
use crate::ops::window::{ConvShape, Window, groups};
use crate::tensor::dims::{count, product};
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(10, "MatMulInteger", (2, 4), matmul_integer).heavy(),
    since(10, "ConvInteger", (2, 4), conv_integer).heavy(),
    since(10, "QLinearMatMul", (8, 8), quantized_matmul).heavy(),
    since(10, "QLinearConv", (8, 9), quantized_conv).heavy(),
];

/// The elements minus their zero point, as i32. There is one zero point, or one for each index of `signed_axis`.
fn subtract_zero_point(
    value: Value,
    zero: Option<&Value>,
    signed_axis: i64,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    if !matches!(value.ty(), ElementType::U8 | ElementType::I8) {
        return Err(no_type(&value));
    }
    let value = convert(value, ElementType::I32, cx)?;
    let Some(zero) = zero else { return Ok(value) };
    if !matches!(zero.ty(), ElementType::U8 | ElementType::I8) {
        return Err(no_type(zero));
    }
    let layout = ParameterLayout::new(&value, zero, signed_axis, 0)?;
    let zero = convert(zero.clone(), ElementType::I32, cx)?;
    let (elements, zeros) = (value.elements::<i32>()?, zero.elements::<i32>()?);
    cx.output::<i32>(value.dims())?
        .append(|out| layout.visit(cx, |element, parameter| out.push(elements[element] - zeros[parameter])))
}

fn matmul_integer(_: &Node<'_>) -> Result<OpFn, Error> {
    Ok(Box::new(|mut args, cx| {
        let (a, b) = (args.take(0)?, args.take(1)?);
        let rows = if a.rank() > 1 { -2 } else { -1 };
        let a = subtract_zero_point(a, args.option(2), rows, cx)?;
        let b = subtract_zero_point(b, args.option(3), -1, cx)?;
        Ok(values![integer_product(a, b, cx)?])
    }))
}

/// Quantizes sums of products with the scale and the zero point of the output.
fn requantize(
    sums: &Value,
    scales: (&[f32], &[f32], f32),
    zero: &Value,
    signed_axis: i64,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let (a, b, y) = scales;
    let ([a], true) = (a, y != 0.0) else {
        return Err(Error::unsupported(
            "a scale for each row of the left operand and an output scale of 0 are not supported",
        ));
    };
    let ty = zero.ty();
    if !matches!(ty, ElementType::U8 | ElementType::I8) || zero.len() != 1 {
        return Err(no_type(zero));
    }
    let zero = convert(zero.clone(), ElementType::I32, cx)?.elements::<i32>()?[0];
    let factors = cx.output::<f32>(&[b.len()])?.collect(b.iter().map(|b| a * b / y))?;
    let layout = ParameterLayout::new(sums, &factors, signed_axis, 0)?;
    let factors = factors.elements::<f32>()?;
    let elements = sums.elements::<i32>()?;
    let result = cx.output::<i32>(sums.dims())?.append(|out| {
        layout.visit(cx, |element, parameter| {
            let number = f64::from(elements[element]) * f64::from(factors[parameter]);
            out.push(saturate((number + f64::from(zero)).round_ties_even(), ty));
        })
    })?;
    convert(result, ty, cx)
}

fn quantized_matmul(_: &Node<'_>) -> Result<OpFn, Error> {
    Ok(Box::new(|mut args, cx| {
        let (a, b) = (args.take(0)?, args.take(3)?);
        let rows = if a.rank() > 1 { -2 } else { -1 };
        let a = subtract_zero_point(a, Some(args.get(2)?), rows, cx)?;
        let b = subtract_zero_point(b, Some(args.get(5)?), -1, cx)?;
        let sums = integer_product(a, b, cx)?;
        let scale = |value: Value| convert(value, ElementType::F32, cx);
        let (a, b, y) = (scale(args.take(1)?)?, scale(args.take(4)?)?, scale(args.take(6)?)?);
        let &[y] = y.elements::<f32>()? else {
            return Err(Error::unsupported("more than one output scale is not supported"));
        };
        Ok(values![requantize(&sums, (a.elements()?, b.elements()?, y), args.get(7)?, -1, cx)?])
    }))
}

fn conv_integer(node: &Node<'_>) -> Result<OpFn, Error> {
    let (window, groups) = (Window::new(node)?, groups(node, "group")?);
    Ok(Box::new(move |mut args, cx| {
        let (x, w) = (args.take(0)?, args.take(1)?);
        let x = subtract_zero_point(x, args.option(2), 0, cx)?;
        let w = subtract_zero_point(w, args.option(3), 0, cx)?;
        Ok(values![convolve(&x, &w, None, &window, groups, cx)?])
    }))
}

fn quantized_conv(node: &Node<'_>) -> Result<OpFn, Error> {
    let (window, groups) = (Window::new(node)?, groups(node, "group")?);
    Ok(Box::new(move |mut args, cx| {
        let (x, w) = (args.take(0)?, args.take(3)?);
        let x = subtract_zero_point(x, Some(args.get(2)?), 0, cx)?;
        let w = subtract_zero_point(w, Some(args.get(5)?), 0, cx)?;
        let bias = args.option(8).map(Value::elements::<i32>).transpose()?;
        let sums = convolve(&x, &w, bias, &window, groups, cx)?;
        let (a, b, y) = (args.get(1)?.elements()?, args.get(4)?.elements()?, args.get(6)?.elements::<f32>()?);
        let &[y] = y else { return Err(Error::unsupported("more than one output scale is not supported")) };
        Ok(values![requantize(&sums, (a, b, y), args.get(7)?, 1, cx)?])
    }))
}

/// A convolution of integers, output by output, which is exact in i32.
fn convolve(
    x: &Value,
    w: &Value,
    bias: Option<&[i32]>,
    window: &Window,
    groups: usize,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let ConvShape { channels, filters, depth, spatial, kernel, slides: [zs, ys, xs], output: dims, .. } =
        ConvShape::new(x.dims(), w.dims(), window, groups)?;
    if bias.is_some_and(|bias| bias.len() != filters) {
        return Err(Error::invalid_argument(format!("the bias must have one element for each of {filters} filters")));
    }
    let positions = count(&[zs.output, ys.output, xs.output])?;
    let (elements, taps) = (x.elements::<i32>()?, w.elements::<i32>()?);
    let (plane, size, each) = (product(spatial), product(kernel), filters / groups);
    let mut checkpoint = Checkpoint::default();
    cx.output::<i32>(&dims)?.write(0, |out| {
        for (index, out) in out.chunks_exact_mut(positions).enumerate() {
            let (batch, filter) = (index / filters, index % filters);
            checkpoint.set(bias.map_or(0, |bias| bias[filter]), out, cx)?;
            for channel in 0..depth {
                let from = (batch * channels + filter / each * depth + channel) * plane;
                let (image, taps) = (&elements[from..from + plane], &taps[(filter * depth + channel) * size..][..size]);
                for (position, out) in out.iter_mut().enumerate() {
                    checkpoint.step(1, cx)?;
                    let (z, rest) = (position / (ys.output * xs.output), position % (ys.output * xs.output));
                    let (y, x) = (rest / xs.output, rest % xs.output);
                    let ((z0, z1), (y0, y1), (x0, x1)) = (zs.kernel_range(z), ys.kernel_range(y), xs.kernel_range(x));
                    for dz in z0..z1 {
                        for dy in y0..y1 {
                            checkpoint.step(x1 - x0, cx)?;
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
