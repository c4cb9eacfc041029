//! Features of ai.onnx.ml: Scaler, Normalizer, Binarizer, Imputer, ArrayFeatureExtractor, FeatureVectorizer.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::ops::broadcast::map_into;
use crate::ops::cast::convert;
use crate::ops::elementwise::with_numbers;
use crate::ops::integers::integers;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{MANY, Operator, ml};
use crate::tensor::dims::{Dims, count};
use crate::tensor::element::{Element, ElementType, with_elements};
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    ml(1, "Scaler", (1, 1), scaler),
    ml(1, "Normalizer", (1, 1), normalizer),
    ml(1, "Binarizer", (1, 1), binarizer),
    ml(1, "Imputer", (1, 1), imputer),
    ml(1, "ArrayFeatureExtractor", (2, 2), array_feature_extractor),
    ml(1, "FeatureVectorizer", (1, MANY), feature_vectorizer),
];

/// The input as f32, and the length of its rows; a vector is one row.
fn matrix(value: Value, cx: &ExecContext<'_>) -> Result<(Value, usize), Error> {
    match value.ty() {
        ElementType::F32 | ElementType::F64 | ElementType::I32 | ElementType::I64 => {}
        _ => return Err(no_type(&value)),
    }
    let ([width] | [_, width]) = *value.dims() else {
        return Err(Error::invalid_argument(format!(
            "the input {} must have one or two dimensions",
            Dims(value.dims())
        )));
    };
    Ok((convert(value, ElementType::F32, cx)?, width))
}

/// Calls `row` for each row of the input and of the output.
fn by_rows(
    value: &Value,
    width: usize,
    cx: &ExecContext<'_>,
    mut row: impl FnMut(&[f32], &mut [f32]),
) -> Result<Value, Error> {
    let elements = value.elements::<f32>()?;
    let mut checkpoint = Checkpoint::default();
    cx.output::<f32>(value.dims())?.write(0.0, |out| {
        for (from, to) in elements.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            checkpoint.step(4 * width, cx)?;
            row(from, to);
        }
        Ok(())
    })
}

fn scaler(node: &Node<'_>) -> Result<OpFn, Error> {
    let list = |name| Ok::<_, Error>(node.floats(name)?.unwrap_or_default().to_vec());
    let (offset, scale) = (list("offset")?, list("scale")?);
    if offset.len() != scale.len() || offset.is_empty() {
        return Err(Error::invalid_encoding(format!(
            "there are {} offsets and {} scales; there must be as many, and at least one",
            offset.len(),
            scale.len()
        )));
    }
    node.charge((offset.len() + scale.len()) * size_of::<f32>())?;
    Ok(Box::new(move |mut args, cx| {
        let (value, width) = matrix(args.take(0)?, cx)?;
        if offset.len() != 1 && offset.len() != width {
            return Err(Error::invalid_argument(format!(
                "there are {} offsets, and a row has {width} features",
                offset.len()
            )));
        }
        Ok(values![by_rows(&value, width, cx, |from, to| {
            let factors = offset.iter().zip(&scale).cycle();
            to.iter_mut().zip(from).zip(factors).for_each(|((to, x), (offset, scale))| *to = (x - offset) * scale);
        })?])
    }))
}

fn normalizer(node: &Node<'_>) -> Result<OpFn, Error> {
    let norm: fn(&[f32]) -> f32 = match node.string("norm", "MAX")? {
        "MAX" => |row| row.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        "L1" => |row| row.iter().map(|x| x.abs()).sum(),
        "L2" => |row| row.iter().map(|x| x * x).sum::<f32>().sqrt(),
        _ => return Err(Error::invalid_encoding("attribute norm is not one of MAX, L1 and L2")),
    };
    Ok(Box::new(move |mut args, cx| {
        let (value, width) = matrix(args.take(0)?, cx)?;
        Ok(values![by_rows(&value, width, cx, |from, to| {
            let norm = norm(from);
            // A row of norm 0 is kept.
            let norm = if norm == 0.0 { 1.0 } else { norm };
            to.iter_mut().zip(from).for_each(|(to, x)| *to = x / norm);
        })?])
    }))
}

fn binarizer(node: &Node<'_>) -> Result<OpFn, Error> {
    let threshold = f64::from(node.float("threshold", 0.0)?);
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        with_numbers!(value, T => {
            use crate::ops::elementwise::Number;
            let (one, zero) = (<T as Number>::from_f64(1.0), T::default());
            map_into(value, cx, |x: T| if x.to_f64() > threshold { one } else { zero })
        })
        .map(|value| values![value])
    }))
}

/// Replaces missing elements by one value, or by one value for each feature.
fn impute<T: Element>(
    value: &Value,
    values: &[T],
    is_missing: impl Fn(T) -> bool,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let width = value.dims().last().copied().unwrap_or(1);
    if values.len() != 1 && values.len() != width {
        return Err(Error::invalid_argument(format!(
            "there are {} imputed values, and a row has {width} features",
            values.len()
        )));
    }
    let elements = value.elements::<T>()?;
    let replaced = |(position, &x): (usize, &T)| if is_missing(x) { values[position % values.len()] } else { x };
    cx.output::<T>(value.dims())?.collect(elements.iter().enumerate().map(replaced))
}

fn imputer(node: &Node<'_>) -> Result<OpFn, Error> {
    let floats = node.floats("imputed_value_floats")?.unwrap_or_default().to_vec();
    let ints = node.ints("imputed_value_int64s")?.unwrap_or_default().to_vec();
    let (float, int) = (node.float("replaced_value_float", 0.0)?, node.int("replaced_value_int64")?.unwrap_or(0));
    if floats.is_empty() == ints.is_empty() {
        return Err(Error::invalid_encoding(
            "exactly one of imputed_value_floats and imputed_value_int64s must be given",
        ));
    }
    node.charge(floats.len() * size_of::<f32>() + ints.len() * size_of::<i64>())?;
    Ok(Box::new(move |args, cx| {
        let value = args.get(0)?;
        match value.ty() {
            ElementType::F32 if ints.is_empty() => {
                impute(value, &floats, |x: f32| x == float || (x.is_nan() && float.is_nan()), cx)
            }
            ElementType::I64 if floats.is_empty() => impute(value, &ints, |x: i64| x == int, cx),
            _ => Err(no_type(value)),
        }
        .map(|value| values![value])
    }))
}

fn array_feature_extractor(_: &Node<'_>) -> Result<OpFn, Error> {
    Ok(Box::new(|args, cx| {
        let (value, positions) = (args.get(0)?, integers(args.get(1)?, cx)?);
        let Some((&width, outer)) = value.dims().split_last() else {
            return Err(Error::invalid_argument("the input is a scalar and has no features"));
        };
        if positions.is_empty()
            || positions
                .iter()
                .any(|&position| usize::try_from(position).is_ok_and(|position| position < width).eq(&false))
        {
            return Err(Error::invalid_argument(format!(
                "there are no indices, or one is not below {width}, the number of features"
            )));
        }
        let mut dims = outer.to_vec();
        // A vector is one row.
        if dims.is_empty() {
            dims.push(1);
        }
        dims.push(positions.len());
        count(&dims)?;
        let mut checkpoint = Checkpoint::default();
        Ok(values![with_elements!(value, |elements| cx.output(&dims)?.append(|out| {
            for row in elements.chunks_exact(width) {
                for positions in positions.chunks(PIECE) {
                    checkpoint.step(positions.len(), cx)?;
                    out.extend(positions.iter().map(|&position| row[position as usize]));
                }
            }
            Ok(())
        }))?])
    }))
}

fn feature_vectorizer(node: &Node<'_>) -> Result<OpFn, Error> {
    let widths = node.ints("inputdimensions")?.unwrap_or_default().iter().map(|&width| usize::try_from(width));
    let widths = widths
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| Error::invalid_encoding("attribute inputdimensions has a negative size"))?;
    if widths.len() != node.constants.len() {
        return Err(Error::invalid_encoding(format!(
            "attribute inputdimensions has {} sizes, and the node has {} inputs",
            widths.len(),
            node.constants.len()
        )));
    }
    let width = widths.iter().try_fold(0_usize, |sum, &width| sum.checked_add(width));
    let width = width.ok_or_else(|| Error::invalid_encoding("the sum of inputdimensions is too large"))?;
    Ok(Box::new(move |mut args, cx| {
        let inputs = (0..widths.len()).map(|index| matrix(args.take(index)?, cx)).collect::<Result<Vec<_>, Error>>()?;
        let rows = |value: &Value| if let [rows, _] = *value.dims() { rows } else { 1 };
        let height = inputs.first().map_or(0, |(value, _)| rows(value));
        if inputs.iter().any(|(value, _)| rows(value) != height) {
            return Err(Error::invalid_argument("the inputs have different numbers of rows"));
        }
        let mut checkpoint = Checkpoint::default();
        Ok(values![cx.output::<f32>(&[height, width])?.write(0.0, |out| {
            for (row, mut out) in out.chunks_exact_mut(width).enumerate() {
                for ((value, columns), &width) in inputs.iter().zip(&widths) {
                    checkpoint.step(width, cx)?;
                    // Longer rows are truncated, and shorter ones are padded with zeros.
                    let (to, rest) = out.split_at_mut(width);
                    let taken = width.min(*columns);
                    to[..taken].copy_from_slice(&value.elements::<f32>()?[row * columns..row * columns + taken]);
                    out = rest;
                }
            }
            Ok(())
        })?])
    }))
}
