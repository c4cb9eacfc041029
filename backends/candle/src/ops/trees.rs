//! Decision trees of ai.onnx.ml: TreeEnsembleRegressor, TreeEnsembleClassifier and TreeEnsemble.
//!
//! ONNX does not define a classifier of two classes with scores of one class. As in onnxruntime, these are the scores
//! of the second class, and the label is the second one if the sum exceeds 0.5, or 0 if a score is negative.

use crate::compute::context::ExecContext;
use crate::ops::cast::convert;
use crate::ops::forest::{Aggregate, Branch, Forest, Mode, Next, check_len, numbers, read_forest, tensor_numbers};
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::{Operator, ml};
use crate::ops::scores;
use crate::ops::scores::{Transform, argmax, binary_scores, collect, collect_as, labels, labels_at};
use crate::tensor::element::{Element, ElementType};
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    ml(1, "TreeEnsembleRegressor", (1, 1), regressor).heavy(),
    ml(1, "TreeEnsembleClassifier", (1, 1), classifier).heavy(),
    ml(5, "TreeEnsemble", (1, 1), ensemble).heavy(),
];

fn targets(node: &Node<'_>) -> Result<usize, Error> {
    let targets = node.int("n_targets")?.unwrap_or(1);
    usize::try_from(targets).map_err(|_| Error::invalid_encoding(format!("n_targets {targets} is negative")))
}

fn regressor(node: &Node<'_>) -> Result<OpFn, Error> {
    let aggregate = match node.string("aggregate_function", "SUM")? {
        "SUM" => Aggregate::Sum,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        _ => {
            return Err(Error::invalid_encoding(
                "attribute aggregate_function is not one of SUM, AVERAGE, MIN and MAX",
            ));
        }
    };
    let forest = read_forest(node, "target", targets(node)?, aggregate)?;
    let (base, transform) = (numbers(node, "base_values")?, Transform::named(node)?);
    if !base.is_empty() && base.len() != forest.targets {
        return Err(Error::invalid_encoding(format!(
            "there are {} base values and {} targets",
            base.len(),
            forest.targets
        )));
    }
    Ok(Box::new(move |args, cx| Ok(values![regress(&forest, &base, transform, |score| score as f32, args, cx)?])))
}

fn regress<T: Element>(
    forest: &Forest,
    base: &[f64],
    transform: Transform,
    rounded: impl Fn(f64) -> T,
    mut args: Args,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let (value, rows, columns) = scores::rows(args.take(0)?, cx)?;
    forest.fits(columns)?;
    let elements = value.elements::<f64>()?;
    let (mut seen, _charge) = cx.filled(false, forest.targets)?;
    // Like onnxruntime, only PROBIT is applied to a single score.
    let is_single = forest.targets == 1 && transform != Transform::Probit;
    collect_as(rounded, rows, forest.targets, cx, |row, scores, checkpoint| {
        forest.score(&elements[row * columns..(row + 1) * columns], scores, &mut seen, checkpoint, cx)?;
        scores.iter_mut().zip(base).for_each(|(score, base)| *score += base);
        if !is_single {
            transform.apply(scores);
        }
        Ok(())
    })
}

fn classifier(node: &Node<'_>) -> Result<OpFn, Error> {
    let labels = labels(node, "classlabels_int64s")?;
    let forest = read_forest(node, "class", labels.len(), Aggregate::Sum)?;
    let (base, transform) = (numbers(node, "base_values")?, Transform::named(node)?);
    let first = forest.weights.first().map(|&(class, _)| class);
    let one_class = forest.weights.iter().all(|&(class, _)| Some(class) == first);
    let positive = forest.weights.iter().all(|&(_, weight)| weight >= 0.0);
    let kind = match labels.len() {
        1 => Kind::One,
        2 if one_class && first == Some(0) => Kind::First { positive },
        2 if one_class => Kind::Second { positive },
        _ => Kind::Each,
    };
    let base_count = match kind {
        Kind::One | Kind::First { .. } => 1,
        Kind::Second { .. } => 0,
        Kind::Each => labels.len(),
    };
    if !base.is_empty() && base.len() != base_count {
        return Err(Error::unsupported(format!(
            "there are {} base values, and {base_count} are supported",
            base.len()
        )));
    }
    if kind == Kind::One && labels.ty() == ElementType::String {
        return Err(Error::unsupported(
            "a single label that is a string is not supported: the other class has no label",
        ));
    }
    if matches!(kind, Kind::First { .. }) && transform == Transform::Probit {
        return Err(Error::unsupported("post_transform PROBIT is not supported for two classes with one score"));
    }
    Ok(Box::new(move |mut args, cx| {
        let (value, rows, columns) = scores::rows(args.take(0)?, cx)?;
        forest.fits(columns)?;
        let elements = value.elements::<f64>()?;
        let (mut positions, _charge) = cx.list::<usize>(rows)?;
        let (mut seen, _charge) = cx.filled(false, forest.targets)?;
        let result = collect(rows, forest.targets, cx, |row, scores, checkpoint| {
            forest.score(&elements[row * columns..(row + 1) * columns], scores, &mut seen, checkpoint, cx)?;
            scores.iter_mut().zip(&base).for_each(|(score, base)| *score += base);
            let bound = |positive: bool| if positive { 0.5 } else { 0.0 };
            positions.push(match kind {
                Kind::One => usize::from(scores[0] > 0.0),
                Kind::First { positive } => usize::from(scores[0] > bound(positive)),
                Kind::Second { positive } => usize::from(scores[1] > bound(positive)),
                // A class without a score is chosen only if no class has one.
                Kind::Each if base.is_empty() => best(scores, &seen),
                Kind::Each => argmax(scores),
            });
            match kind {
                Kind::One if transform != Transform::Probit => {}
                Kind::First { positive } => scores.copy_from_slice(&binary_scores(scores[0], positive, transform)),
                _ => transform.apply(scores),
            }
            Ok(())
        })?;
        let labels = if kind == Kind::One {
            cx.output::<i64>(&[rows])?.collect(positions.iter().map(|&position| position as i64))?
        } else {
            labels_at(&labels, &positions, cx)?
        };
        Ok(values![labels, result])
    }))
}

/// The meaning of the scores of a classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One label, and one score: 1 or 0 is the answer.
    One,
    /// Two classes, and scores of the first alone.
    First { positive: bool },
    /// Two classes, and scores of the second alone.
    Second { positive: bool },
    /// Scores of each class.
    Each,
}

/// The index of the highest score among classes with a score.
fn best(scores: &[f64], seen: &[bool]) -> usize {
    let pairs = scores.iter().zip(seen).enumerate().filter(|(_, (_, seen))| **seen);
    let best = pairs.fold(None, |best, (position, (&score, _))| match best {
        Some((_, top)) if score <= top => best,
        _ => Some((position, score)),
    });
    best.map_or(0, |(position, _)| position)
}

/// The nodes of `ids`; an id is that of a leaf if its entry in `leaves` is not 0.
fn nodes_of(ids: &[i64], leaves: &[i64]) -> Result<Vec<Next>, Error> {
    let next = |(&id, &leaf): (&i64, &i64)| {
        let index = u32::try_from(id)
            .map_err(|_| Error::invalid_encoding(format!("a branch leads to node {id}, which is out of range")))?;
        Ok(if leaf == 0 { Next::Branch(index) } else { Next::Leaf(index) })
    };
    ids.iter().zip(leaves).map(next).collect()
}

fn ensemble(node: &Node<'_>) -> Result<OpFn, Error> {
    let ints = |name: &str| Ok::<_, Error>(node.ints(name)?.unwrap_or_default());
    let tensor =
        |name: &str| node.tensor(name)?.ok_or_else(|| Error::invalid_encoding(format!("attribute {name} is missing")));
    let (modes, splits, weights) = (tensor("nodes_modes")?, tensor("nodes_splits")?, tensor("leaf_weights")?);
    let float = weights.ty();
    if splits.ty() != float {
        return Err(Error::invalid_encoding("nodes_splits and leaf_weights have different types"));
    }
    let modes = modes.elements::<u8>()?.iter().map(|&mode| Mode::numbered(mode)).collect::<Result<Vec<_>, _>>()?;
    let (splits, weights) = (tensor_numbers(&splits)?, tensor_numbers(&weights)?);
    let (features, missing) = (ints("nodes_featureids")?, ints("nodes_missing_value_tracks_true")?);
    let (if_true, if_false) = (ints("nodes_truenodeids")?, ints("nodes_falsenodeids")?);
    let (yes_leaves, no_leaves) = (ints("nodes_trueleafs")?, ints("nodes_falseleafs")?);
    node.ignore(&["nodes_hitrates"]);
    for (name, found) in [
        ("nodes_splits", splits.len()),
        ("nodes_featureids", features.len()),
        ("nodes_truenodeids", if_true.len()),
        ("nodes_falsenodeids", if_false.len()),
        ("nodes_trueleafs", yes_leaves.len()),
        ("nodes_falseleafs", no_leaves.len()),
    ] {
        check_len(name, found, modes.len(), false)?;
    }
    check_len("nodes_missing_value_tracks_true", missing.len(), modes.len(), true)?;
    let (if_true, if_false) = (nodes_of(if_true, yes_leaves)?, nodes_of(if_false, no_leaves)?);
    // The sets are concatenated, each followed by a NaN.
    let members = node.tensor("membership_values")?.map_or(Ok(Vec::new()), |tensor| tensor_numbers(&tensor))?;
    let ended = match members.as_slice() {
        [sets @ .., last] if last.is_nan() => sets,
        all => all,
    };
    let mut sets = ended.split(|member| member.is_nan());
    let (mut branches, mut start) = (Vec::with_capacity(modes.len()), 0_u32);
    for (index, &mode) in modes.iter().enumerate() {
        let mut set = (0, 0);
        if mode == Mode::Member {
            let found = sets.next().ok_or_else(|| {
                Error::invalid_encoding("membership_values has fewer sets than branches that use one")
            })?;
            set = (start, start + found.len() as u32);
            start = set.1 + 1;
        }
        let feature = u32::try_from(features[index]);
        branches.push(Branch {
            feature: feature
                .map_err(|_| Error::invalid_encoding(format!("feature {} is out of range", features[index])))?,
            mode,
            missing: missing.get(index).is_some_and(|&missing| missing != 0),
            threshold: splits[index],
            set,
            if_true: if_true[index],
            if_false: if_false[index],
        });
    }
    let leaf_targets = ints("leaf_targetids")?;
    check_len("leaf_targetids", leaf_targets.len(), weights.len(), false)?;
    let target = |&target: &i64| u32::try_from(target);
    let leaf_targets = leaf_targets.iter().map(target).collect::<Result<Vec<_>, _>>();
    let leaf_targets =
        leaf_targets.map_err(|_| Error::invalid_encoding("a target in leaf_targetids is out of range"))?;
    let roots = ints("tree_roots")?;
    let forest = Forest {
        leaves: (0..weights.len() as u32).map(|leaf| (leaf, leaf + 1)).collect(),
        weights: leaf_targets.into_iter().zip(weights).collect(),
        roots: nodes_of(roots, &vec![0; roots.len()])?,
        targets: targets(node)?,
        aggregate: match node.int("aggregate_function")?.unwrap_or(1) {
            0 => Aggregate::Average,
            1 => Aggregate::Sum,
            2 => Aggregate::Min,
            3 => Aggregate::Max,
            other => return Err(Error::invalid_encoding(format!("aggregate_function {other} is not between 0 and 3"))),
        },
        branches,
        members,
    };
    forest.check(true)?;
    node.charge(forest.bytes())?;
    let transform = Transform::numbered(node.int("post_transform")?.unwrap_or(0))?;
    Ok(Box::new(move |args, cx| {
        let given = args.get(0)?.ty();
        if given != float {
            return Err(no_type(args.get(0)?));
        }
        // f32 holds every f16 exactly.
        let value = if given == ElementType::F16 {
            convert(args.get(0)?.clone(), ElementType::F32, cx)?
        } else {
            args.get(0)?.clone()
        };
        let args = Args::new(vec![Some(value)]);
        if float == ElementType::F64 {
            return Ok(values![regress(&forest, &[], transform, |score| score, args, cx)?]);
        }
        let result = regress(&forest, &[], transform, |score| score as f32, args, cx)?;
        Ok(values![convert(result, float, cx)?])
    }))
}
