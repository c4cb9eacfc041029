//! Random numbers: RandomNormal, RandomNormalLike, RandomUniform, RandomUniformLike, Bernoulli, Multinomial.
//!
//! The generator is that of `compute::random`: other engines draw other numbers from the same seed, of the same
//! distribution. A node continues its sequence from one compute of a context to the next.

use half::{bf16, f16};

use crate::compute::context::{Checkpoint, ExecContext};
use crate::compute::random::Stream;
use crate::ops::cast::convert;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, since};
use crate::tensor::dims::{Dims, count};
use crate::tensor::element::{Element, ElementType};
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(1, "RandomNormal", (0, 0), |node| of_shape(node, Distribution::normal(node)?)),
    since(1, "RandomNormalLike", (1, 1), |node| of_input_shape(node, Distribution::normal(node)?)),
    since(1, "RandomUniform", (0, 0), |node| of_shape(node, Distribution::uniform(node)?)),
    since(1, "RandomUniformLike", (1, 1), |node| of_input_shape(node, Distribution::uniform(node)?)),
    since(15, "Bernoulli", (1, 1), bernoulli),
    since(7, "Multinomial", (1, 1), multinomial),
];

/// The distribution of the numbers of a tensor.
#[derive(Debug, Clone, Copy)]
enum Distribution {
    Normal { mean: f64, deviation: f64 },
    Uniform { low: f64, high: f64 },
}

impl Distribution {
    fn normal(node: &Node<'_>) -> Result<Self, Error> {
        let (mean, deviation) = (node.float("mean", 0.0)?, node.float("scale", 1.0)?);
        Ok(Self::Normal { mean: f64::from(mean), deviation: f64::from(deviation) })
    }

    fn uniform(node: &Node<'_>) -> Result<Self, Error> {
        let (low, high) = (node.float("low", 0.0)?, node.float("high", 1.0)?);
        Ok(Self::Uniform { low: f64::from(low), high: f64::from(high) })
    }

    /// A tensor of numbers of this distribution.
    fn tensor(self, dims: &[usize], ty: ElementType, source: &Source, cx: &ExecContext<'_>) -> Result<Value, Error> {
        match ty {
            ElementType::F32 => self.fill(dims, |x| x as f32, source, cx),
            ElementType::F64 => self.fill(dims, |x| x, source, cx),
            ElementType::F16 => self.fill(dims, f16::from_f64, source, cx),
            ElementType::Bf16 => self.fill(dims, bf16::from_f64, source, cx),
            other => Err(Error::unsupported(format!("random numbers of type {other:?} are not supported"))),
        }
    }

    fn fill<T: Element>(
        self,
        dims: &[usize],
        to: impl Fn(f64) -> T,
        source: &Source,
        cx: &ExecContext<'_>,
    ) -> Result<Value, Error> {
        let count = count(dims)?;
        let output = cx.output::<T>(dims)?;
        // A block of the generator gives two numbers.
        let mut stream = source.draw(count.div_ceil(2), cx)?;
        let mut second_normal = None;
        output.collect((0..count).map(|_| {
            to(match self {
                Self::Uniform { low, high } => low + (high - low) * stream.uniform(),
                Self::Normal { mean, deviation } => {
                    let normal = second_normal.take().unwrap_or_else(|| {
                        let [one, other] = stream.normals();
                        second_normal = Some(other);
                        one
                    });
                    mean + deviation * normal
                }
            })
        }))
    }
}

/// The random numbers of a node.
#[derive(Debug, Clone, Copy)]
struct Source {
    node: usize,
    seed: Option<f32>,
}

impl Source {
    fn new(node: &Node<'_>) -> Result<Self, Error> {
        Ok(Self { seed: node.float_option("seed")?, node: node.random_index() })
    }

    /// The next `blocks` blocks of the generator.
    fn draw(self, blocks: usize, cx: &ExecContext<'_>) -> Result<Stream, Error> {
        let stream = cx.random_states.and_then(|states| states.draw(self.node, self.seed, blocks));
        stream.ok_or_else(|| Error::unsupported("random numbers cannot be drawn while the model is loaded"))
    }
}

fn of_shape(node: &Node<'_>, distribution: Distribution) -> Result<OpFn, Error> {
    let dims = node.ints("shape")?.ok_or_else(|| Error::invalid_encoding("attribute shape is missing"))?;
    let dims = dims.iter().map(|&dim| usize::try_from(dim)).collect::<Result<Vec<_>, _>>();
    let dims = dims.map_err(|_| Error::invalid_encoding("attribute shape has a negative dimension"))?;
    count(&dims)?;
    let (ty, source) = (node.element_type("dtype")?.unwrap_or(ElementType::F32), Source::new(node)?);
    Ok(Box::new(move |_, cx| Ok(values![distribution.tensor(&dims, ty, &source, cx)?])))
}

fn of_input_shape(node: &Node<'_>, distribution: Distribution) -> Result<OpFn, Error> {
    let (ty, source) = (node.element_type("dtype")?, Source::new(node)?);
    Ok(Box::new(move |args, cx| {
        let value = args.get(0)?;
        Ok(values![distribution.tensor(value.dims(), ty.unwrap_or(value.ty()), &source, cx)?])
    }))
}

/// Draws true with the probability that each element gives.
fn bernoulli(node: &Node<'_>) -> Result<OpFn, Error> {
    let (ty, source) = (node.element_type("dtype")?, Source::new(node)?);
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        if !matches!(value.ty(), ElementType::F16 | ElementType::Bf16 | ElementType::F32 | ElementType::F64) {
            return Err(no_type(&value));
        }
        let ty = ty.unwrap_or(value.ty());
        let value = convert(value, ElementType::F64, cx)?;
        let elements = value.elements::<f64>()?;
        if elements.iter().any(|probability| !(0.0..=1.0).contains(probability)) {
            return Err(Error::invalid_argument("a probability is not between 0 and 1"));
        }
        let output = cx.output::<bool>(value.dims())?;
        let mut stream = source.draw(elements.len().div_ceil(2), cx)?;
        let drawn = output.collect(elements.iter().map(|&probability| stream.uniform() < probability))?;
        Ok(values![convert(drawn, ty, cx)?])
    }))
}

/// Draws classes; each row of the input holds unnormalized log-probabilities.
fn multinomial(node: &Node<'_>) -> Result<OpFn, Error> {
    let samples = usize::try_from(node.int("sample_size")?.unwrap_or(1));
    let samples = samples.map_err(|_| Error::invalid_encoding("attribute sample_size is negative"))?;
    let (ty, source) = (node.element_type("dtype")?.unwrap_or(ElementType::I32), Source::new(node)?);
    if !matches!(ty, ElementType::I32 | ElementType::I64) {
        return Err(Error::unsupported(format!("class indices of type {ty:?} are not supported")));
    }
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        if !matches!(value.ty(), ElementType::F16 | ElementType::F32 | ElementType::F64) {
            return Err(no_type(&value));
        }
        let value = convert(value, ElementType::F64, cx)?;
        let &[batch, classes] = value.dims() else {
            return Err(Error::invalid_argument(format!(
                "the input {} must have two dimensions: batch and classes",
                Dims(value.dims())
            )));
        };
        if classes == 0 {
            return Err(Error::invalid_argument("the input has no classes"));
        }
        let elements = value.elements::<f64>()?;
        let output = cx.output::<i64>(&[batch, samples])?;
        let (mut sums, _charge) = cx.scratch::<f64>(classes)?;
        let mut stream = source.draw(batch.saturating_mul(samples).div_ceil(2), cx)?;
        let mut checkpoint = Checkpoint::default();
        let drawn = output.append(|out| {
            for row in elements.chunks_exact(classes) {
                checkpoint.step(8 * classes, cx)?;
                let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let mut sum = 0.0;
                sums.clear();
                for logarithm in row {
                    sum += (logarithm - top).exp();
                    sums.push(sum);
                }
                if !sum.is_finite() {
                    return Err(Error::invalid_argument(
                        "a row of log-probabilities does not have a finite sum of probabilities",
                    ));
                }
                for _ in 0..samples {
                    checkpoint.step(64, cx)?;
                    let point = stream.uniform() * sum;
                    // A class of probability 0 is never drawn.
                    out.push(sums.partition_point(|&sum| sum <= point).min(classes - 1) as i64);
                }
            }
            Ok(())
        })?;
        Ok(values![convert(drawn, ty, cx)?])
    }))
}
