//! Losses: NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::ops::cast::convert;
use crate::ops::integers::integers;
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::ops::real::{Real, promote, promote_to, with_reals};
use crate::tensor::dims::{Dims, product};
use crate::tensor::value::{Value, Values};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(12, "NegativeLogLikelihoodLoss", (2, 3), |node| loss(node, false))
        .device(form!(|node| on_device(node, false))),
    since(12, "SoftmaxCrossEntropyLoss", (2, 3), |node| loss(node, true)).device(form!(|node| on_device(node, true))),
];

#[derive(Clone, Copy, PartialEq)]
enum Reduction {
    None,
    Mean,
    Sum,
}

fn reduction(node: &Node<'_>) -> Result<Reduction, Error> {
    Ok(match node.string("reduction", "mean")? {
        "none" => Reduction::None,
        "mean" => Reduction::Mean,
        "sum" => Reduction::Sum,
        _ => return Err(Error::invalid_encoding("attribute reduction is not one of none, mean and sum")),
    })
}

#[cfg(feature = "candle")]
fn on_device(node: &Node<'_>, softmax: bool) -> Result<crate::device::args::DeviceForm, crate::device::args::Stop> {
    let mean = match reduction(node)? {
        Reduction::None => None,
        reduction => Some(reduction == Reduction::Mean),
    };
    let (log, ignored) = (softmax && node.outputs() > 1, node.int("ignore_index")?);
    crate::ops::device::loss::loss(crate::ops::device::loss::Loss { softmax, log, mean, ignored })
}

fn loss(node: &Node<'_>, softmax: bool) -> Result<OpFn, Error> {
    let reduction = reduction(node)?;
    let ignored = node.int("ignore_index")?;
    let log = softmax && node.outputs() > 1;
    node.limit_outputs(if softmax { 2 } else { 1 })?;
    Ok(Box::new(move |mut args, cx| {
        let (mut scores, ty) = promote(args.take(0)?, cx)?;
        if softmax {
            scores = with_reals!(scores, T => log_softmax::<T>(&scores, cx))?;
        }
        let loss = with_reals!(scores, T => likelihood::<T>(&scores, &mut args, reduction, ignored, cx))?;
        let mut outputs: Values = values![convert(loss, ty, cx)?];
        if log {
            outputs.push(convert(scores, ty, cx)?);
        }
        Ok(outputs)
    }))
}

/// Batch size, number of classes, and number of scores of each class.
fn sizes(scores: &Value) -> Result<(usize, usize, usize), Error> {
    let [n, classes, rest @ ..] = scores.dims() else {
        return Err(Error::invalid_argument("the scores must have at least two dimensions"));
    };
    Ok((*n, *classes, product(rest)))
}

/// The logarithm of softmax over the second dimension.
fn log_softmax<T: Real>(scores: &Value, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let (n, classes, positions) = sizes(scores)?;
    let (elements, mut checkpoint) = (scores.elements::<T>()?, Checkpoint::default());
    cx.output::<T>(scores.dims())?.write(T::default(), |out| {
        for batch in 0..n {
            for position in 0..positions {
                let at = |class: usize| (batch * classes + class) * positions + position;
                let (mut top, mut sum) = (T::NEG_INFINITY, T::default());
                for class in 0..classes {
                    checkpoint.step(1, cx)?;
                    top = top.max(elements[at(class)]);
                }
                for class in 0..classes {
                    checkpoint.step(1, cx)?;
                    sum += (elements[at(class)] - top).exp();
                }
                let log = sum.ln();
                for class in 0..classes {
                    checkpoint.step(1, cx)?;
                    out[at(class)] = elements[at(class)] - top - log;
                }
            }
        }
        Ok(())
    })
}

fn likelihood<T: Real>(
    scores: &Value,
    args: &mut Args,
    reduction: Reduction,
    ignored: Option<i64>,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let (n, classes, positions) = sizes(scores)?;
    let target = args.get(1)?;
    if target.dims() != [&[n], &scores.dims()[2..]].concat() {
        return Err(Error::invalid_argument(format!(
            "the targets {} do not fit the scores {}",
            Dims(target.dims()),
            Dims(scores.dims())
        )));
    }
    let weights = args.option(2).cloned().map(|weights| promote_to(weights, T::TYPE, cx)).transpose()?;
    let weights = weights.as_ref().map(Value::elements::<T>).transpose()?;
    if weights.is_some_and(|weights| weights.len() != classes) {
        return Err(Error::invalid_argument(format!(
            "the weights must have one element for each of the {classes} classes"
        )));
    }
    let elements = scores.elements::<T>()?;
    let targets = integers(target, cx)?;
    let mut checkpoint = Checkpoint::default();
    let mut total = T::default();
    let losses = cx.output::<T>(target.dims())?.append(|out| {
        for (index, &class) in targets.iter().enumerate() {
            checkpoint.step(1, cx)?;
            if Some(class) == ignored {
                out.push(T::default());
                continue;
            }
            let class = usize::try_from(class).ok().filter(|&class| class < classes);
            let class = class.ok_or_else(|| {
                Error::invalid_argument(format!("a target is not below {classes}, the number of classes"))
            })?;
            let weight = weights.map_or(T::ONE, |weights| weights[class]);
            total += weight;
            out.push(-weight * elements[(index / positions * classes + class) * positions + index % positions]);
        }
        Ok(())
    })?;
    if reduction == Reduction::None {
        return Ok(losses);
    }
    let mut sum = T::default();
    for &loss in losses.elements::<T>()? {
        checkpoint.step(1, cx)?;
        sum += loss;
    }
    Value::scalar(if reduction == Reduction::Mean { sum / total } else { sum })
}
