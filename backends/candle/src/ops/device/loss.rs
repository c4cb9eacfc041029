//! Device forms of losses.

use crate::compute::context::Checkpoint;
use crate::device::args::{DeviceForm, Stop};
use crate::device::math::Unary;
use crate::ops::device::reduce::log_softmax_of;
use crate::ops::device::{host_only, own_type};
use crate::ops::integers::integers;
use crate::tensor::dims::{Dims, product};
use graphpool::backend::Error;

/// The attributes of a loss.
#[derive(Debug, Clone, Copy)]
pub(in crate::ops) struct Loss {
    /// Whether the scores are normalized first.
    pub(in crate::ops) softmax: bool,
    /// Whether the normalized scores are an output too.
    pub(in crate::ops) log: bool,
    /// Whether the losses are averaged, or added; `None` if they are neither.
    pub(in crate::ops) mean: Option<bool>,
    /// The class whose losses are 0 and do not count.
    pub(in crate::ops) ignored: Option<i64>,
}

pub(in crate::ops) fn loss(loss: Loss) -> Result<DeviceForm, Stop> {
    Ok(Box::new(move |args, dx| {
        let (ty, mut scores) = (own_type(args, 0)?, args.float(0, dx)?);
        let [n, classes, rest @ ..] = scores.dims() else {
            return Err(Error::invalid_argument("the scores must have at least two dimensions").into());
        };
        let (n, classes, positions) = (*n, *classes, product(rest));
        let target = args.host(1, dx)?;
        if target.dims() != [&[n], &scores.dims()[2..]].concat() {
            let (target, scores) = (Dims(target.dims()), Dims(scores.dims()));
            return Err(Error::invalid_argument(format!("the targets {target} do not fit the scores {scores}")).into());
        }
        if scores.is_empty() || u32::try_from(scores.len()).is_err() {
            return host_only();
        }
        if loss.softmax {
            scores = log_softmax_of(&scores, &[1], dx)?;
        }
        // Of each target: its score and its class, both counted from 1, and 0 for an ignored one.
        let (mut picks, _picks) = dx.cx.scratch::<u32>(target.len())?;
        let (mut found, _found) = dx.cx.scratch::<u32>(target.len())?;
        let mut checkpoint = Checkpoint::default();
        for (index, &class) in integers(&target, dx.cx)?.iter().enumerate() {
            checkpoint.step(1, dx.cx)?;
            if Some(class) == loss.ignored {
                picks.push(0);
                found.push(0);
                continue;
            }
            let class = usize::try_from(class).ok().filter(|&class| class < classes);
            let class = class.ok_or_else(|| {
                Error::invalid_argument(format!("a target is not below {classes}, the number of classes"))
            })?;
            let place = (index / positions * classes + class) * positions + index % positions;
            picks.push(place as u32 + 1);
            found.push(class as u32 + 1);
        }
        let weights = match args.optional_float(2, dx)? {
            Some(weights) if weights.len() != classes => {
                let why = format!("the weights must have one element for each of the {classes} classes");
                return Err(Error::invalid_argument(why).into());
            }
            Some(weights) => dx.cast(&dx.flatten(&weights)?, scores.ty())?,
            None => dx.filled(&[classes], 1.0, scores.ty())?,
        };
        let zero = dx.filled(&[1], 0.0, scores.ty())?;
        let weights = dx.take(&dx.join(&[zero.clone(), weights], 0)?, 0, &found)?;
        let picked = dx.take(&dx.join(&[zero, dx.flatten(&scores)?], 0)?, 0, &picks)?;
        let losses = dx.unary(Unary::Neg, &dx.mul(&weights, &picked)?)?;
        let result = match loss.mean {
            None => dx.reshape(&losses, target.dims())?,
            Some(mean) => {
                let sum = dx.sum(&losses, &[0])?;
                let sum = if mean { dx.div(&sum, &dx.sum(&weights, &[0])?)? } else { sum };
                dx.reshape(&sum, &[])?
            }
        };
        let mut outputs = vec![dx.cast(&result, ty)?.into()];
        if loss.log {
            outputs.push(dx.cast(&scores, ty)?.into());
        }
        Ok(outputs)
    }))
}
