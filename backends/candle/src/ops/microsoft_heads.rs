//! The attributes of com.microsoft's attentions, and the sizes and masks that follow from them: the same rules on the
//! host and on a device.

use crate::compute::context::ExecContext;
use crate::ops::node::Node;
use crate::tensor::dims::Dims;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// The attributes of an attention.
pub(super) struct HeadAttributes {
    /// Number of heads.
    pub(super) count: usize,
    pub(super) causal: bool,
    scale: Option<f32>,
    /// Added to the scores of keys that the mask excludes.
    masked: f32,
}

/// The sizes of queries, keys and values.
pub(super) struct HeadSizes {
    pub(super) batch: usize,
    /// Number of queries.
    pub(super) steps: usize,
    /// Number of keys.
    pub(super) keys: usize,
    /// Elements of a query of one head.
    pub(super) size: usize,
    /// Elements of a value of all heads.
    pub(super) out: usize,
    /// The factor of the scores.
    pub(super) scale: f32,
}

impl HeadAttributes {
    pub(super) fn new(node: &Node<'_>) -> Result<Self, Error> {
        let count = node.int("num_heads")?.and_then(|count| usize::try_from(count).ok()).filter(|&count| count > 0);
        Ok(Self {
            count: count.ok_or_else(|| Error::invalid_encoding("attribute num_heads is missing or not positive"))?,
            causal: node.flag("unidirectional", false)?,
            scale: node.float_option("scale")?.filter(|&scale| scale != 0.0),
            masked: node.float("mask_filter_value", -10000.0)?,
        })
    }

    /// Batch size, sequence length and hidden size of a tensor.
    pub(super) fn dims(&self, dims: &[usize]) -> Result<[usize; 3], Error> {
        match *dims {
            [batch, steps, width] if width % self.count == 0 => Ok([batch, steps, width]),
            _ => Err(Error::invalid_argument(format!(
                "the input {} must have three dimensions, the last one a multiple of {} heads",
                Dims(dims),
                self.count
            ))),
        }
    }

    /// The sizes of queries, keys and values of these dimensions, each batch × length × hidden size.
    pub(super) fn sizes(&self, [q, k, v]: [&[usize]; 3]) -> Result<HeadSizes, Error> {
        let ([batch, steps, width], [_, keys, _], [_, _, out]) = (self.dims(q)?, self.dims(k)?, self.dims(v)?);
        if k != [batch, keys, width] || v != [batch, keys, out] {
            let why = format!("keys {} and values {} do not fit queries {}", Dims(k), Dims(v), Dims(q));
            return Err(Error::invalid_argument(why));
        }
        let size = width / self.count;
        let scale = self.scale.unwrap_or_else(|| 1.0 / (size as f32).sqrt());
        Ok(HeadSizes { batch, steps, keys, size, out, scale })
    }

    /// The number that the mask adds to the scores of each sequence and key.
    pub(super) fn mask(&self, mask: &Value, sizes: &HeadSizes, cx: &ExecContext<'_>) -> Result<Value, Error> {
        let (batch, keys) = (sizes.batch, sizes.keys);
        let given = mask.elements::<i32>()?;
        let added = |kept: bool| if kept { 0.0 } else { self.masked };
        let output = cx.output::<f32>(&[batch, keys])?;
        match *mask.dims() {
            // The number of keys of each sequence.
            [rows] if rows == batch => {
                let kept = |index: usize| usize::try_from(given[index / keys]).is_ok_and(|end| index % keys < end);
                output.collect((0..batch * keys).map(|index| added(kept(index))))
            }
            [rows, columns] if (rows, columns) == (batch, keys) => {
                output.collect(given.iter().map(|&one| added(one != 0)))
            }
            _ => Err(Error::unsupported(format!(
                "a mask of dimensions {} is not supported: {} and {} are",
                Dims(mask.dims()),
                Dims(&[batch]),
                Dims(&[batch, keys])
            ))),
        }
    }
}

impl HeadSizes {
    /// The number of keys that a query may attend to under a causal mask. The last query is at the position of the last
    /// key.
    pub(super) fn visible(&self, step: usize) -> usize {
        (step + 1 + self.keys).saturating_sub(self.steps).min(self.keys)
    }
}

/// The error of a bias that does not broadcast to the scores.
pub(super) fn wrong_bias() -> Error {
    Error::invalid_argument("the attention bias does not broadcast to the dimensions of the scores")
}

/// The dimensions before the last of a tensor whose last dimension holds queries, keys and values of these sizes.
pub(super) fn check_qkv(dims: &[usize], sizes: [usize; 3]) -> Result<[usize; 2], Error> {
    let &[batch, steps, width] = dims else {
        return Err(Error::invalid_argument("the input must have three dimensions"));
    };
    if sizes.iter().try_fold(0_usize, |sum, &size| sum.checked_add(size)) != Some(width) {
        return Err(Error::invalid_argument(format!(
            "the last dimension of {} is not the sum of the sizes {sizes:?}",
            Dims(dims)
        )));
    }
    Ok([batch, steps])
}

/// Hidden sizes of queries, keys and values: those of the attribute, or a third each.
pub(super) fn sizes(hidden_sizes: Option<[usize; 3]>, width: usize) -> [usize; 3] {
    hidden_sizes.unwrap_or([width / 3, width / 3, width - 2 * (width / 3)])
}

/// The attribute that gives the hidden sizes of queries, keys and values.
pub(super) fn hidden_sizes(node: &Node<'_>) -> Result<Option<[usize; 3]>, Error> {
    match node.ints("qkv_hidden_sizes")?.unwrap_or_default() {
        [] => Ok(None),
        &[q, k, v] => {
            let size = |size: i64| {
                usize::try_from(size)
                    .map_err(|_| Error::invalid_encoding("attribute qkv_hidden_sizes has a negative size"))
            };
            Ok(Some([size(q)?, size(k)?, size(v)?]))
        }
        other => Err(Error::invalid_encoding(format!("attribute qkv_hidden_sizes has {} sizes, not 3", other.len()))),
    }
}
