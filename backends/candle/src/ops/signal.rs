//! Signal processing: DFT, STFT, HannWindow, HammingWindow, BlackmanWindow, MelWeightMatrix.
//!
//! Computed in f64 and rounded at the end. The transforms are in `math::fourier`.

use std::f64::consts::PI;

use crate::compute::context::{Checkpoint, ExecContext};
use crate::math::fourier::{Complex, Transform};
use crate::ops::cast::convert;
use crate::ops::integers::integer;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::tensor::dims::{Dims, axis, count, product};
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(17, "HannWindow", (1, 1), |node| window(node, [0.5, 0.5, 0.0]))
        .device(form!(|node| moving::from_parameters(node, |node| window(node, [0.5, 0.5, 0.0])))),
    since(17, "HammingWindow", (1, 1), |node| window(node, [25.0 / 46.0, 21.0 / 46.0, 0.0]))
        .device(form!(|node| moving::from_parameters(node, |node| window(node, [25.0 / 46.0, 21.0 / 46.0, 0.0])))),
    since(17, "BlackmanWindow", (1, 1), |node| window(node, [0.42, 0.5, 0.08]))
        .device(form!(|node| moving::from_parameters(node, |node| window(node, [0.42, 0.5, 0.08])))),
    since(17, "DFT", (1, 2), dft).until(19).heavy(),
    since(20, "DFT", (1, 3), dft).heavy(),
    since(17, "STFT", (2, 4), stft).heavy(),
    since(17, "MelWeightMatrix", (5, 5), mel).heavy(),
];

fn output_type(node: &Node<'_>) -> Result<ElementType, Error> {
    Ok(node.element_type("output_datatype")?.unwrap_or(ElementType::F32))
}

/// A window that is a sum of cosines.
fn window(node: &Node<'_>, [a, b, c]: [f64; 3]) -> Result<OpFn, Error> {
    let (ty, periodic) = (output_type(node)?, node.flag("periodic", true)?);
    Ok(Box::new(move |args, cx| {
        let size = integer(args.get(0)?)?;
        let size = usize::try_from(size).map_err(|_| Error::invalid_argument(format!("size {size} is negative")))?;
        let whole = if periodic { size } else { size.saturating_sub(1) } as f64;
        let at = |index: usize| {
            let angle = 2.0 * PI * index as f64 / whole;
            a - b * angle.cos() + c * (2.0 * angle).cos()
        };
        let value = cx.output::<f64>(&[size])?.collect((0..size).map(at))?;
        Ok(values![convert(value, ty, cx)?])
    }))
}

/// A length given as a tensor of one integer.
fn length(value: &Value) -> Result<usize, Error> {
    let length = integer(value)?;
    let found = usize::try_from(length).ok().filter(|&length| length > 0);
    found.ok_or_else(|| Error::invalid_argument(format!("length {length} is not positive")))
}

fn promote_to_f64(value: Value, cx: &ExecContext<'_>) -> Result<(Value, ElementType), Error> {
    let ty = value.ty();
    match ty {
        ElementType::F32 | ElementType::F64 | ElementType::F16 | ElementType::Bf16 => {
            Ok((convert(value, ElementType::F64, cx)?, ty))
        }
        _ => Err(no_type(&value)),
    }
}

fn dft(node: &Node<'_>) -> Result<OpFn, Error> {
    let (inverse, one_sided) = (node.flag("inverse", false)?, node.flag("onesided", false)?);
    let fixed = if node.opset < 20 { Some(node.int("axis")?.unwrap_or(1)) } else { None };
    if inverse && one_sided {
        return Err(Error::unsupported("an inverse transform of one side is not supported"));
    }
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = promote_to_f64(args.take(0)?, cx)?;
        let at = match (fixed, args.option(2)) {
            (Some(at), _) => at,
            (None, Some(at)) => integer(at)?,
            (None, None) => -2,
        };
        let at = axis(at, value.rank())?;
        let Some((&parts @ (1 | 2), rest)) = value.dims().split_last() else {
            return Err(Error::invalid_argument(format!(
                "the last dimension of {} is neither 1 (real) nor 2 (complex)",
                Dims(value.dims())
            )));
        };
        if at >= rest.len() || value.is_empty() {
            return Err(Error::invalid_argument(
                "the axis is that of the real and imaginary parts, or the input is empty",
            ));
        }
        let given = rest[at];
        let len = args.option(1).map(length).transpose()?.unwrap_or(given);
        let output_len = if one_sided { len / 2 + 1 } else { len };
        let mut dims = value.dims().to_vec();
        dims[at] = output_len;
        dims[rest.len()] = 2;
        count(&dims)?;
        let (outer, inner) = (product(&rest[..at]), product(&rest[at + 1..]));
        let elements = value.elements::<f64>()?;
        let mut transform = Transform::new(len, inverse, cx)?;
        let result = cx.output::<f64>(&dims)?.write(0.0, |out| {
            for row in 0..outer * inner {
                let (block, position) = (row / inner, row % inner);
                let source = |index: usize| {
                    if index >= given {
                        return Complex::default();
                    }
                    let start = ((block * given + index) * inner + position) * parts;
                    Complex { re: elements[start], im: if parts == 2 { elements[start + 1] } else { 0.0 } }
                };
                let (re, im) = transform.run(source, output_len, cx)?;
                for (index, (re, im)) in re.iter().zip(im).enumerate() {
                    let start = ((block * output_len + index) * inner + position) * 2;
                    (out[start], out[start + 1]) = (*re, *im);
                }
            }
            Ok(())
        })?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

fn stft(node: &Node<'_>) -> Result<OpFn, Error> {
    let one_sided = node.flag("onesided", true)?;
    Ok(Box::new(move |mut args, cx| {
        let (signal, ty) = promote_to_f64(args.take(0)?, cx)?;
        let step = length(args.get(1)?)?;
        let window = args.take(2).ok().map(|window| promote_to_f64(window, cx)).transpose()?.map(|(window, _)| window);
        let frame = args.option(3).map(length).transpose()?;
        let (batch, samples, parts) = match *signal.dims() {
            [batch, samples] => (batch, samples, 1),
            [batch, samples, parts @ (1 | 2)] => (batch, samples, parts),
            _ => {
                return Err(Error::invalid_argument(format!(
                    "the signal {} must have the dimensions batch, length and, if any, 1 or 2",
                    Dims(signal.dims())
                )));
            }
        };
        let len = frame.or(window.as_ref().map(Value::len)).unwrap_or(samples);
        if len == 0 || len > samples || window.as_ref().is_some_and(|window| window.len() != len) {
            return Err(Error::invalid_argument(format!(
                "a frame of {len} does not fit {samples} samples or the window"
            )));
        }
        let frames = (samples - len) / step + 1;
        let output_len = if one_sided { len / 2 + 1 } else { len };
        let elements = signal.elements::<f64>()?;
        let weights = window.as_ref().map(Value::elements::<f64>).transpose()?;
        let mut transform = Transform::new(len, false, cx)?;
        let result = cx.output::<f64>(&[batch, frames, output_len, 2])?.append(|out| {
            for row in 0..batch * frames {
                let start = row / frames * samples + row % frames * step;
                let source = |index: usize| {
                    let weight = weights.map_or(1.0, |weights| weights[index]);
                    let at = (start + index) * parts;
                    let im = if parts == 2 { elements[at + 1] } else { 0.0 };
                    Complex { re: elements[at] * weight, im: im * weight }
                };
                let (re, im) = transform.run(source, output_len, cx)?;
                for (&re, &im) in re.iter().zip(im) {
                    out.extend_from_slice(&[re, im]);
                }
            }
            Ok(())
        })?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

fn mel(node: &Node<'_>) -> Result<OpFn, Error> {
    let ty = output_type(node)?;
    Ok(Box::new(move |mut args, cx| {
        let (bins, len) = (length(args.get(0)?)?, length(args.get(1)?)?);
        let rate = integer(args.get(2)?)? as f64;
        let mut edge = |index: usize| -> Result<f64, Error> {
            match convert(args.take(index)?, ElementType::F64, cx)?.elements::<f64>()? {
                [edge] => Ok(2595.0 * (1.0 + edge / 700.0).log10()),
                other => Err(Error::invalid_argument(format!(
                    "an edge frequency must have one element, not {}",
                    other.len()
                ))),
            }
        };
        let (low, high) = (edge(3)?, edge(4)?);
        let rows = len / 2 + 1;
        let step = (high - low) / (bins as f64 + 2.0);
        let row_of = |index: usize| {
            let frequency = 700.0 * (10_f64.powf((index as f64 * step + low) / 2595.0) - 1.0);
            // The conversion of a negative number or NaN gives 0.
            ((len as f64 + 1.0) * frequency / rate).floor() as usize
        };
        let mut checkpoint = Checkpoint::default();
        let result = cx.output::<f64>(&[rows, bins])?.write(0.0, |out| {
            for bin in 0..bins {
                let (left, center, right) = (row_of(bin), row_of(bin + 1), row_of(bin + 2));
                checkpoint.step(1, cx)?;
                if left > center || center > right || right > rows {
                    return Err(Error::invalid_argument(
                        "the edge frequencies are not ascending, or exceed half the sample rate",
                    ));
                }
                if left == center && center < rows {
                    out[center * bins + bin] = 1.0;
                }
                for row in left..rows.min(center + 1) {
                    checkpoint.step(1, cx)?;
                    if center > left {
                        out[row * bins + bin] = (row - left) as f64 / (center - left) as f64;
                    }
                }
                for row in center..right {
                    checkpoint.step(1, cx)?;
                    out[row * bins + bin] = (right - row) as f64 / (right - center) as f64;
                }
            }
            Ok(())
        })?;
        Ok(values![convert(result, ty, cx)?])
    }))
}
