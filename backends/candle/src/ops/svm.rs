//! Support vector machines of ai.onnx.ml: SVMRegressor and SVMClassifier.
//!
//! Probabilities of several classes are computed from those of pairs, as by libsvm (T.-F. Wu, C.-J. Lin, R. Weng:
//! "Probability estimates for multi-class classification by pairwise coupling", 2004, second method).

use crate::compute::context::{Checkpoint, ExecContext};
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, ml};
use crate::ops::scores;
use crate::ops::scores::{Transform, argmax, binary_scores, collect, labels, labels_at, logistic};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] =
    &[ml(1, "SVMRegressor", (1, 1), regressor).heavy(), ml(1, "SVMClassifier", (1, 1), classifier).heavy()];

/// The largest number of classes; each pair of classes has a score.
const MAX_CLASSES: usize = 1 << 12;

/// The type of a kernel function.
#[derive(Debug, Clone, Copy)]
enum KernelType {
    Linear,
    Poly,
    Rbf,
    Sigmoid,
}

/// The kernel function of two vectors, with its parameters.
#[derive(Debug, Clone, Copy)]
struct Kernel {
    function: KernelType,
    gamma: f64,
    offset: f64,
    degree: f64,
}

impl Kernel {
    fn new(node: &Node<'_>) -> Result<Self, Error> {
        let kernel_type = match node.string("kernel_type", "LINEAR")? {
            "LINEAR" => KernelType::Linear,
            "POLY" => KernelType::Poly,
            "RBF" => KernelType::Rbf,
            "SIGMOID" => KernelType::Sigmoid,
            _ => {
                return Err(Error::invalid_encoding(
                    "attribute kernel_type is not one of LINEAR, POLY, RBF and SIGMOID",
                ));
            }
        };
        let (gamma, offset, degree) = match node.floats("kernel_params")?.unwrap_or_default() {
            [] => (0.0, 0.0, 0.0),
            &[gamma, offset, degree] => (gamma, offset, degree),
            other => {
                return Err(Error::invalid_encoding(format!(
                    "attribute kernel_params has {} numbers, not 3",
                    other.len()
                )));
            }
        };
        Ok(Self {
            function: kernel_type,
            gamma: f64::from(gamma),
            offset: f64::from(offset),
            degree: f64::from(degree),
        })
    }

    fn apply(self, a: &[f64], b: &[f64]) -> f64 {
        let dot = || a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        match self.function {
            KernelType::Linear => dot(),
            KernelType::Poly => (self.gamma * dot() + self.offset).powf(self.degree),
            KernelType::Rbf => (-self.gamma * a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>()).exp(),
            KernelType::Sigmoid => (self.gamma * dot() + self.offset).tanh(),
        }
    }
}

fn float_list(node: &Node<'_>, name: &str) -> Result<Vec<f64>, Error> {
    let numbers: Vec<f64> = node.floats(name)?.unwrap_or_default().iter().map(|&number| f64::from(number)).collect();
    node.charge(size_of_val(&*numbers))?;
    Ok(numbers)
}

/// The length of each of `count` vectors.
fn length(vectors: &[f64], count: usize) -> Result<usize, Error> {
    if count == 0 || vectors.is_empty() || !vectors.len().is_multiple_of(count) {
        return Err(Error::invalid_encoding(format!(
            "{} numbers do not divide into {count} support vectors",
            vectors.len()
        )));
    }
    Ok(vectors.len() / count)
}

fn check_features(columns: usize, expected: usize) -> Result<(), Error> {
    if columns == expected {
        return Ok(());
    }
    Err(Error::invalid_argument(format!("a row has {columns} features, and the model expects {expected}")))
}

fn regressor(node: &Node<'_>) -> Result<OpFn, Error> {
    let (kernel, transform) = (Kernel::new(node)?, Transform::named(node)?);
    let supports = node.int("n_supports")?.unwrap_or(0);
    let supports =
        usize::try_from(supports).map_err(|_| Error::invalid_encoding("attribute n_supports is negative"))?;
    let (coefficients, vectors) = (float_list(node, "coefficients")?, float_list(node, "support_vectors")?);
    let rho =
        float_list(node, "rho")?.first().copied().ok_or_else(|| Error::invalid_encoding("attribute rho is empty"))?;
    let one_class = node.flag("one_class", false)?;
    // Without support vectors, the coefficients are the only vector.
    let (vectors, coefficients) = if supports == 0 { (coefficients, vec![1.0]) } else { (vectors, coefficients) };
    let width = length(&vectors, supports.max(1))?;
    if coefficients.len() != supports.max(1) {
        return Err(Error::invalid_encoding(format!(
            "there are {} coefficients and {supports} support vectors",
            coefficients.len()
        )));
    }
    Ok(Box::new(move |mut args, cx| {
        let (value, rows, columns) = scores::rows(args.take(0)?, cx)?;
        check_features(columns, width)?;
        let elements = value.elements::<f64>()?;
        Ok(values![collect(rows, 1, cx, |row, scores, checkpoint| {
            let row = &elements[row * columns..(row + 1) * columns];
            let mut sum = rho;
            for (vector, coefficient) in vectors.chunks_exact(width).zip(&coefficients) {
                checkpoint.step(width, cx)?;
                sum += coefficient * kernel.apply(row, vector);
            }
            scores[0] = match (one_class, sum > 0.0) {
                (false, _) => sum,
                (true, true) => 1.0,
                (true, false) => -1.0,
            };
            if transform == Transform::Probit {
                transform.apply(scores);
            }
            Ok(())
        })?])
    }))
}

/// A classifier by support vectors, with a score for each pair of classes.
struct PairwiseClassifier {
    kernel: Kernel,
    vectors: Vec<f64>,
    width: usize,
    /// One row less than there are classes, each with a number for each vector.
    coefficients: Vec<f64>,
    rho: Vec<f64>,
    /// The start of the vectors of each class, and the end of the last one.
    starts: Vec<usize>,
    /// Slopes and offsets of the sigmoids that give the probabilities of pairs, if the model has probabilities.
    sigmoids: Option<(Vec<f64>, Vec<f64>)>,
}

impl PairwiseClassifier {
    fn new(
        node: &Node<'_>,
        classes: usize,
        counts: &[i64],
        coefficients: Vec<f64>,
        rho: Vec<f64>,
    ) -> Result<Self, Error> {
        let mut starts = vec![0_usize];
        for &count in counts {
            let last = starts.last().copied().unwrap_or(0);
            let end = usize::try_from(count).ok().and_then(|count| last.checked_add(count));
            starts.push(end.ok_or_else(|| {
                Error::invalid_encoding(format!("a class has {count} support vectors, which is out of range"))
            })?);
        }
        let total = starts.last().copied().unwrap_or(0);
        let vectors = float_list(node, "support_vectors")?;
        let (width, pairs) = (length(&vectors, total)?, classes * (classes - 1) / 2);
        if counts.len() != classes || coefficients.len() != total.saturating_mul(classes - 1) || rho.len() != pairs {
            let why = format!(
                "{} coefficients and {} elements of rho do not fit {total} support vectors of {classes} classes",
                coefficients.len(),
                rho.len()
            );
            return Err(Error::invalid_encoding(why));
        }
        let (slopes, offsets) = (float_list(node, "prob_a")?, float_list(node, "prob_b")?);
        if slopes.len() != offsets.len() || ![0, pairs].contains(&slopes.len()) {
            return Err(Error::invalid_encoding(format!(
                "prob_a has {} elements and prob_b has {}; each must have none or {pairs}",
                slopes.len(),
                offsets.len()
            )));
        }
        let sigmoids = (!slopes.is_empty()).then_some((slopes, offsets));
        Ok(Self { kernel: Kernel::new(node)?, vectors, width, coefficients, rho, starts, sigmoids })
    }

    /// Computes the scores of all pairs and the votes for each class; `products` is scratch for the kernel products.
    fn scores(
        &self,
        row: &[f64],
        products: &mut Vec<f64>,
        votes: &mut [f64],
        pairs: &mut [f64],
        (checkpoint, cx): (&mut Checkpoint, &ExecContext<'_>),
    ) -> Result<(), Error> {
        products.clear();
        for vector in self.vectors.chunks_exact(self.width) {
            checkpoint.step(self.width, cx)?;
            products.push(self.kernel.apply(row, vector));
        }
        votes.fill(0.0);
        let (count, classes, mut pair) = (products.len(), votes.len(), 0);
        for i in 0..classes {
            for j in i + 1..classes {
                let sum = |class: usize, line: usize| {
                    let range = self.starts[class]..self.starts[class + 1];
                    let coefficients = &self.coefficients[line * count..(line + 1) * count][range.clone()];
                    coefficients.iter().zip(&products[range]).map(|(a, b)| a * b).sum::<f64>()
                };
                let vectors = self.starts[i + 1] - self.starts[i] + self.starts[j + 1] - self.starts[j];
                checkpoint.step(vectors, cx)?;
                pairs[pair] = self.rho[pair] + sum(i, j - 1) + sum(j, i);
                votes[if pairs[pair] > 0.0 { i } else { j }] += 1.0;
                pair += 1;
            }
        }
        Ok(())
    }
}

/// Scratch for pairwise coupling: the matrix Q, and its product with the estimates.
struct Coupling {
    q: Vec<f64>,
    qp: Vec<f64>,
}

impl Coupling {
    /// Computes the class probabilities `p` from the pairwise probabilities `r`; that of (j, i) is 1 minus that of (i,
    /// j).
    fn solve(
        &mut self,
        r: &[f64],
        p: &mut [f64],
        checkpoint: &mut Checkpoint,
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let k = p.len();
        for t in 0..k {
            checkpoint.step(2 * k, cx)?;
            p[t] = 1.0 / k as f64;
            let squares = (0..k).filter(|&j| j != t).map(|j| r[j * k + t] * r[j * k + t]);
            self.q[t * k + t] = squares.sum();
            for j in (0..k).filter(|&j| j != t) {
                self.q[t * k + j] = -r[j * k + t] * r[t * k + j];
            }
        }
        for _ in 0..k.max(100) {
            let mut total = 0.0;
            for t in 0..k {
                checkpoint.step(k, cx)?;
                self.qp[t] = (0..k).map(|j| self.q[t * k + j] * p[j]).sum();
                total += p[t] * self.qp[t];
            }
            if self.qp.iter().all(|qp| (qp - total).abs() < 0.005 / k as f64) {
                break;
            }
            for t in 0..k {
                checkpoint.step(3 * k, cx)?;
                let own = self.q[t * k + t];
                let step = (total - self.qp[t]) / own;
                p[t] += step;
                total = (total + step * (step * own + 2.0 * self.qp[t])) / ((1.0 + step) * (1.0 + step));
                for (j, p) in p.iter_mut().enumerate() {
                    self.qp[j] = (self.qp[j] + step * self.q[t * k + j]) / (1.0 + step);
                    *p /= 1.0 + step;
                }
            }
        }
        Ok(())
    }
}

fn classifier(node: &Node<'_>) -> Result<OpFn, Error> {
    let (labels, transform) = (labels(node, "classlabels_ints")?, Transform::named(node)?);
    let classes = labels.len();
    if !(2..=MAX_CLASSES).contains(&classes) {
        return Err(Error::unsupported(format!(
            "there are {classes} classes; the number must be between 2 and {MAX_CLASSES}"
        )));
    }
    let (coefficients, rho) = (float_list(node, "coefficients")?, float_list(node, "rho")?);
    let counts = node.ints("vectors_per_class")?.unwrap_or_default();
    if counts.iter().all(|&count| count == 0) {
        return linear_classifier(node, labels, transform, coefficients, &rho);
    }
    let pairs = PairwiseClassifier::new(node, classes, counts, coefficients, rho)?;
    if classes == 2 && pairs.sigmoids.is_none() && transform == Transform::Probit {
        return Err(Error::unsupported("post_transform PROBIT is not supported for two classes with one score"));
    }
    Ok(Box::new(move |mut args, cx| {
        let (value, rows, columns) = scores::rows(args.take(0)?, cx)?;
        check_features(columns, pairs.width)?;
        let elements = value.elements::<f64>()?;
        let count = pairs.rho.len();
        let (mut positions, _positions) = cx.list::<usize>(rows)?;
        let (mut products, _products) = cx.scratch::<f64>(pairs.vectors.len() / pairs.width)?;
        let ((mut votes, _votes), (mut pair_scores, _each)) =
            (cx.filled(0.0_f64, classes)?, cx.filled(0.0_f64, count)?);
        let square = if pairs.sigmoids.is_some() { classes * classes } else { 0 };
        let ((mut r, _r), (q, _q), (qp, _qp)) =
            (cx.filled(0.0_f64, square)?, cx.filled(0.0_f64, square)?, cx.filled(0.0_f64, classes)?);
        let mut coupling = Coupling { q, qp };
        let width = if pairs.sigmoids.is_some() { classes } else { count.max(2) };
        let result = collect(rows, width, cx, |row, scores, checkpoint| {
            let row = &elements[row * columns..(row + 1) * columns];
            pairs.scores(row, &mut products, &mut votes, &mut pair_scores, (checkpoint, cx))?;
            // The votes decide on the label, not the probabilities.
            positions.push(argmax(&votes));
            if let Some((slopes, offsets)) = &pairs.sigmoids {
                let mut pair = 0;
                for i in 0..classes {
                    for j in i + 1..classes {
                        let one = 1.0 - logistic(pair_scores[pair] * slopes[pair] + offsets[pair]);
                        let one = one.clamp(1e-7, 1.0 - 1e-7);
                        (r[i * classes + j], r[j * classes + i]) = (one, 1.0 - one);
                        pair += 1;
                    }
                }
                coupling.solve(&r, scores, checkpoint, cx)?;
                transform.apply(scores);
                return Ok(());
            }
            if classes == 2 {
                // As in onnxruntime, the second score is that of the first class against the second.
                let complements = matches!(transform, Transform::Softmax | Transform::SoftmaxZero);
                scores.copy_from_slice(&binary_scores(pair_scores[0], complements, transform));
            } else {
                scores.copy_from_slice(&pair_scores);
                transform.apply(scores);
            }
            Ok(())
        })?;
        Ok(values![labels_at(&labels, &positions, cx)?, result])
    }))
}

/// A classifier without support vectors: a row of coefficients for each class.
fn linear_classifier(
    node: &Node<'_>,
    labels: crate::tensor::value::Value,
    transform: Transform,
    coefficients: Vec<f64>,
    rho: &[f64],
) -> Result<OpFn, Error> {
    let kernel = Kernel::new(node)?;
    node.ignore(&["support_vectors", "prob_a", "prob_b"]);
    let (classes, width) = (labels.len(), length(&coefficients, labels.len())?);
    let rho = rho.first().copied().ok_or_else(|| Error::invalid_encoding("attribute rho is empty"))?;
    Ok(Box::new(move |mut args, cx| {
        let (value, rows, columns) = scores::rows(args.take(0)?, cx)?;
        check_features(columns, width)?;
        let elements = value.elements::<f64>()?;
        let (mut positions, _charge) = cx.list::<usize>(rows)?;
        let result = collect(rows, classes, cx, |row, scores, checkpoint| {
            let row = &elements[row * columns..(row + 1) * columns];
            for (score, coefficients) in scores.iter_mut().zip(coefficients.chunks_exact(width)) {
                checkpoint.step(width, cx)?;
                *score = rho + kernel.apply(row, coefficients);
            }
            positions.push(argmax(scores));
            transform.apply(scores);
            Ok(())
        })?;
        Ok(values![labels_at(&labels, &positions, cx)?, result])
    }))
}
