//! Parts that the classifiers and regressors of ai.onnx.ml share: rows of features, labels, transformations of scores.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::ops::cast::convert;
use crate::ops::node::Node;
use crate::tensor::dims::Dims;
use crate::tensor::element::{Element, ElementType, with_elements};
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

/// The post_transform of the scores of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transform {
    None,
    Softmax,
    Logistic,
    /// The softmax over the scores that are not 0; those that are stay 0.
    SoftmaxZero,
    Probit,
}

impl Transform {
    /// The transformation that attribute post_transform names.
    pub(super) fn named(node: &Node<'_>) -> Result<Self, Error> {
        Ok(match node.string("post_transform", "NONE")? {
            "NONE" => Self::None,
            "SOFTMAX" => Self::Softmax,
            "LOGISTIC" => Self::Logistic,
            "SOFTMAX_ZERO" => Self::SoftmaxZero,
            "PROBIT" => Self::Probit,
            _ => {
                return Err(Error::invalid_encoding(
                    "attribute post_transform is not one of NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO and PROBIT",
                ));
            }
        })
    }

    /// The transformation of a number in TreeEnsemble.
    pub(super) fn numbered(number: i64) -> Result<Self, Error> {
        Ok(match number {
            0 => Self::None,
            1 => Self::Softmax,
            2 => Self::Logistic,
            3 => Self::SoftmaxZero,
            4 => Self::Probit,
            _ => return Err(Error::invalid_encoding(format!("post_transform {number} is not between 0 and 4"))),
        })
    }

    /// Transforms the scores of one row.
    pub(super) fn apply(self, scores: &mut [f64]) {
        match self {
            Self::None => {}
            Self::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            Self::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
            Self::Softmax => softmax(scores, |_| true),
            // onnxruntime treats smaller scores as 0.
            Self::SoftmaxZero => softmax(scores, |score| score.abs() > 1e-7),
        }
    }
}

pub(super) fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn softmax(scores: &mut [f64], is_included: impl Fn(f64) -> bool) {
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for score in &mut *scores {
        *score = if is_included(*score) { (*score - top).exp() } else { 0.0 };
        sum += *score;
    }
    if sum > 0.0 {
        scores.iter_mut().for_each(|score| *score /= sum);
    }
}

/// The inverse of the normal distribution, by S. Winitzki's approximation of the inverse error function (2008), which
/// onnxruntime has too.
fn probit(x: f64) -> f64 {
    const A: f64 = 0.147;
    let y = 2.0 * x - 1.0;
    let log = ((1.0 - y) * (1.0 + y)).ln();
    let half = 2.0 / (std::f64::consts::PI * A) + 0.5 * log;
    let inverse = (-half + (half * half - log / A).sqrt()).sqrt();
    std::f64::consts::SQRT_2 * if y < 0.0 { -inverse } else { inverse }
}

/// Rows of features as f64, the number of rows, and that of columns. A vector is one row.
pub(super) fn rows(value: Value, cx: &ExecContext<'_>) -> Result<(Value, usize, usize), Error> {
    match value.ty() {
        ElementType::F32 | ElementType::F64 | ElementType::I32 | ElementType::I64 => {}
        _ => return Err(no_type(&value)),
    }
    let (rows, columns) = match *value.dims() {
        [columns] => (1, columns),
        [rows, columns] => (rows, columns),
        _ => {
            return Err(Error::invalid_argument(format!(
                "the input {} must have one or two dimensions",
                Dims(value.dims())
            )));
        }
    };
    Ok((convert(value, ElementType::F64, cx)?, rows, columns))
}

/// The labels of classes: integers or strings.
pub(super) fn labels(node: &Node<'_>, integers: &str) -> Result<Value, Error> {
    let integers = node.ints(integers)?.unwrap_or_default();
    let strings = node.string_ids("classlabels_strings")?.unwrap_or_default();
    if integers.is_empty() == strings.is_empty() {
        return Err(Error::invalid_encoding("the class labels must be either integers or strings"));
    }
    let labels = if strings.is_empty() {
        Value::new(vec![integers.len()], integers.to_vec())?
    } else {
        Value::new(vec![strings.len()], strings)?
    };
    node.charge(labels.bytes())?;
    Ok(labels)
}

/// The label of each row, by its index in `labels`.
pub(super) fn labels_at(labels: &Value, positions: &[usize], cx: &ExecContext<'_>) -> Result<Value, Error> {
    with_elements!(labels, |labels| {
        cx.output(&[positions.len()])?
            .collect(positions.iter().map(|&position| labels.get(position).copied().unwrap_or_default()))
    })
}

/// The index of the highest score, the first of equal ones.
pub(super) fn argmax(scores: &[f64]) -> usize {
    let best = scores.iter().enumerate().fold(None, |best, (position, &score)| match best {
        Some((_, top)) if score <= top => best,
        _ => Some((position, score)),
    });
    best.map_or(0, |(position, _)| position)
}

/// The scores of both classes of a classifier that has one score, for the second class. With `complements` the first
/// score is one minus the second, otherwise its negative.
pub(super) fn binary_scores(score: f64, complements: bool, transform: Transform) -> [f64; 2] {
    match transform {
        Transform::Logistic => [logistic(-score), logistic(score)],
        _ if complements => [1.0 - score, score],
        _ => [-score, score],
    }
}

/// Collects rows of scores as f32.
pub(super) fn collect(
    rows: usize,
    width: usize,
    cx: &ExecContext<'_>,
    row: impl FnMut(usize, &mut [f64], &mut Checkpoint) -> Result<(), Error>,
) -> Result<Value, Error> {
    collect_as(|score| score as f32, rows, width, cx, row)
}

/// Collects rows of scores, each converted by `rounded`.
pub(super) fn collect_as<T: Element>(
    rounded: impl Fn(f64) -> T,
    rows: usize,
    width: usize,
    cx: &ExecContext<'_>,
    mut row: impl FnMut(usize, &mut [f64], &mut Checkpoint) -> Result<(), Error>,
) -> Result<Value, Error> {
    let (mut scores, _charge) = cx.filled(0.0_f64, width)?;
    let mut checkpoint = Checkpoint::default();
    cx.output::<T>(&[rows, width])?.append(|out| {
        for index in 0..rows {
            checkpoint.step(width, cx)?;
            scores.fill(0.0);
            row(index, &mut scores, &mut checkpoint)?;
            out.extend(scores.iter().map(|&score| rounded(score)));
        }
        Ok(())
    })
}
