//! Linear models of ai.onnx.ml: LinearRegressor and LinearClassifier.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, ml};
use crate::ops::scores;
use crate::ops::scores::{Transform, argmax, binary_scores, collect, labels, labels_at};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] =
    &[ml(1, "LinearRegressor", (1, 1), regressor).heavy(), ml(1, "LinearClassifier", (1, 1), classifier).heavy()];

/// Rows of coefficients, one for each score.
struct Linear {
    coefficients: Vec<f64>,
    intercepts: Vec<f64>,
    targets: usize,
}

impl Linear {
    fn new(node: &Node<'_>, targets: Option<usize>) -> Result<Self, Error> {
        let wide = |numbers: &[f32]| numbers.iter().map(|&number| f64::from(number)).collect::<Vec<_>>();
        let coefficients = node.floats("coefficients")?.unwrap_or_default();
        let intercepts = node.floats("intercepts")?.unwrap_or_default();
        let targets = targets.unwrap_or(intercepts.len());
        if targets == 0 || coefficients.is_empty() || coefficients.len() % targets != 0 {
            let why =
                format!("the {} coefficients are not a positive multiple of {targets} scores", coefficients.len());
            return Err(Error::invalid_encoding(why));
        }
        if !intercepts.is_empty() && intercepts.len() != targets {
            return Err(Error::invalid_encoding(format!(
                "there are {} intercepts and {targets} scores",
                intercepts.len()
            )));
        }
        node.charge((coefficients.len() + intercepts.len()).saturating_mul(size_of::<f64>()))?;
        Ok(Self { coefficients: wide(coefficients), intercepts: wide(intercepts), targets })
    }

    /// Checks the number of features of a row.
    fn check(&self, columns: usize) -> Result<(), Error> {
        let expected = self.coefficients.len() / self.targets;
        if columns == expected {
            return Ok(());
        }
        Err(Error::invalid_argument(format!("a row has {columns} features, and the model expects {expected}")))
    }

    fn scores(
        &self,
        row: &[f64],
        scores: &mut [f64],
        checkpoint: &mut Checkpoint,
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        for (target, (score, coefficients)) in
            scores.iter_mut().zip(self.coefficients.chunks_exact(row.len())).enumerate()
        {
            checkpoint.step(row.len(), cx)?;
            let sum: f64 = row.iter().zip(coefficients).map(|(x, coefficient)| x * coefficient).sum();
            *score = sum + self.intercepts.get(target).copied().unwrap_or(0.0);
        }
        Ok(())
    }
}

fn regressor(node: &Node<'_>) -> Result<OpFn, Error> {
    let targets = usize::try_from(node.int("targets")?.unwrap_or(1)).ok();
    let targets = targets.ok_or_else(|| Error::invalid_encoding("attribute targets is negative"))?;
    let (linear, transform) = (Linear::new(node, Some(targets))?, Transform::named(node)?);
    // Like onnxruntime, only PROBIT is applied to a single score.
    let transform = if targets == 1 && transform != Transform::Probit { Transform::None } else { transform };
    Ok(Box::new(move |mut args, cx| {
        let (value, rows, columns) = scores::rows(args.take(0)?, cx)?;
        linear.check(columns)?;
        let elements = value.elements::<f64>()?;
        Ok(values![collect(rows, linear.targets, cx, |row, scores, checkpoint| {
            linear.scores(&elements[row * columns..(row + 1) * columns], scores, checkpoint, cx)?;
            transform.apply(scores);
            Ok(())
        })?])
    }))
}

fn classifier(node: &Node<'_>) -> Result<OpFn, Error> {
    let (labels, transform) = (labels(node, "classlabels_ints")?, Transform::named(node)?);
    // The attribute does not change the scores.
    node.ignore(&["multi_class"]);
    let has_intercepts = node.floats("intercepts")?.is_some_and(|intercepts| !intercepts.is_empty());
    let linear = Linear::new(node, if has_intercepts { None } else { Some(labels.len()) })?;
    let two = linear.targets == 1 && labels.len() == 2;
    if !two && linear.targets != labels.len() || labels.len() < 2 {
        let why = format!(
            "the model has {} scores and {} labels, of which it needs at least 2",
            linear.targets,
            labels.len()
        );
        return Err(Error::invalid_encoding(why));
    }
    if two && transform == Transform::Probit {
        return Err(Error::unsupported("post_transform PROBIT is not supported for two classes with one score"));
    }
    Ok(Box::new(move |mut args, cx| {
        let (value, rows, columns) = scores::rows(args.take(0)?, cx)?;
        linear.check(columns)?;
        let elements = value.elements::<f64>()?;
        let (mut positions, _charge) = cx.list::<usize>(rows)?;
        let result = collect(rows, labels.len(), cx, |row, scores, checkpoint| {
            let row = &elements[row * columns..(row + 1) * columns];
            if two {
                linear.scores(row, &mut scores[..1], checkpoint, cx)?;
                positions.push(usize::from(scores[0] > 0.0));
                let pair = binary_scores(scores[0], true, transform);
                scores.copy_from_slice(&pair);
            } else {
                linear.scores(row, scores, checkpoint, cx)?;
                positions.push(argmax(scores));
                transform.apply(scores);
            }
            Ok(())
        })?;
        Ok(values![labels_at(&labels, &positions, cx)?, result])
    }))
}
