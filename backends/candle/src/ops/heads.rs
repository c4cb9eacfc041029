//! What attention operators and their device forms share: attributes and sizes, heads, their scores, and the softmax.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::loops;
use crate::math::product::{Matrices, Size, multiply};
use crate::ops::layout::permute;
use crate::ops::node::Node;
use crate::ops::real::Real;
use crate::tensor::budget::Charge;
use crate::tensor::dims::{Dims, count};
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// Scores of one block; a long sequence is computed in blocks, without the whole score matrix.
const BLOCK_SCORES: usize = 1 << 18;

/// The type to compute in for elements of `ty`; `requested` may ask for a wider one.
pub(super) fn precision(ty: ElementType, requested: Option<ElementType>) -> Result<ElementType, Error> {
    match ty {
        ElementType::F64 => Ok(ElementType::F64),
        ElementType::F32 | ElementType::F16 | ElementType::Bf16 if requested == Some(ElementType::F64) => {
            Ok(ElementType::F64)
        }
        ElementType::F32 | ElementType::F16 | ElementType::Bf16 => Ok(ElementType::F32),
        _ => Err(Error::unsupported(format!("attention of {ty:?} is not supported"))),
    }
}

/// The floating-point type that an attribute names, such as `softmax_precision`.
pub(super) fn float_type(node: &Node<'_>, name: &str) -> Result<Option<ElementType>, Error> {
    match node.int(name)? {
        None => Ok(None),
        Some(1) => Ok(Some(ElementType::F32)),
        Some(10) => Ok(Some(ElementType::F16)),
        Some(11) => Ok(Some(ElementType::F64)),
        Some(16) => Ok(Some(ElementType::Bf16)),
        Some(_) => Err(Error::invalid_encoding(format!("attribute {name} is not a floating-point type"))),
    }
}

/// A tensor as batch × heads × length × head size. A tensor of three dimensions is batch × length × hidden size.
pub(super) fn split_heads(value: Value, heads: Option<usize>, cx: &ExecContext<'_>) -> Result<Value, Error> {
    match (value.dims(), heads) {
        (&[_, found, _, _], heads) if heads.is_none_or(|heads| heads == found) => Ok(value),
        (&[batch, len, width], Some(heads)) if heads > 0 && width % heads == 0 => {
            permute(value.reshaped(vec![batch, len, heads, width / heads])?, &[0, 2, 1, 3], cx)
        }
        ([..], _) => {
            let dims = Dims(value.dims());
            Err(Error::invalid_argument(match heads {
                Some(heads) => format!("the tensor {dims} does not divide into {heads} heads"),
                None => format!("the tensor {dims} must have four dimensions, as the number of heads is not given"),
            }))
        }
    }
}

/// The sizes of queries, keys and values.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttentionDims {
    pub(super) batch: usize,
    /// Number of heads of the queries.
    pub(super) query_heads: usize,
    /// Number of heads of the queries that share one head of the keys.
    pub(super) group_size: usize,
    /// Number of queries.
    pub(super) query_len: usize,
    /// Number of keys.
    pub(super) key_len: usize,
    /// Elements of each query and each key.
    pub(super) head_size: usize,
    /// Elements of each value.
    pub(super) value_size: usize,
}

impl AttentionDims {
    /// The sizes of tensors of these dimensions, four each.
    pub(super) fn of(query: &[usize], key: &[usize], value: &[usize]) -> Result<Self, Error> {
        let found = match (query, key, value) {
            (&[batch, query_heads, query_len, head_size], &[b, key_heads, key_len, s], &[c, h, k, value_size])
                if (b, c, s, h, k) == (batch, batch, head_size, key_heads, key_len)
                    && key_heads.checked_mul(query_heads.checked_div(key_heads).unwrap_or(0)) == Some(query_heads) =>
            {
                Self {
                    batch,
                    query_heads,
                    group_size: query_heads.checked_div(key_heads).unwrap_or(1).max(1),
                    query_len,
                    key_len,
                    head_size,
                    value_size,
                }
            }
            (query, key, value) => {
                let why = format!(
                    "queries {}, keys {} and values {} do not fit each other",
                    Dims(query),
                    Dims(key),
                    Dims(value)
                );
                return Err(Error::invalid_argument(why));
            }
        };
        // The sizes of scores and output are checked before anything is computed.
        count(&[found.batch, found.query_heads, found.query_len, found.key_len])?;
        count(&found.output_dims())?;
        Ok(found)
    }

    /// The number of keys of each sequence that are not padding.
    pub(super) fn lens(&self, value: &Value) -> Result<Vec<usize>, Error> {
        let list = value.elements::<i64>()?;
        if value.dims() != [self.batch] {
            return Err(Error::invalid_argument(format!(
                "nonpad_kv_seqlen has dimensions {}, and the batch has {} sequences",
                Dims(value.dims()),
                self.batch
            )));
        }
        let len = |&len: &i64| usize::try_from(len).ok().filter(|&len| len <= self.key_len);
        let lens: Option<Vec<usize>> = list.iter().map(len).collect();
        lens.ok_or_else(|| {
            Error::invalid_argument(format!(
                "a length in nonpad_kv_seqlen is not between 0 and {}, the number of keys",
                self.key_len
            ))
        })
    }

    /// The dimensions of the result.
    pub(super) fn output_dims(&self) -> [usize; 4] {
        [self.batch, self.query_heads, self.query_len, self.value_size]
    }

    /// The dimensions of all scores.
    pub(super) fn score_dims(&self) -> [usize; 4] {
        [self.batch, self.query_heads, self.query_len, self.key_len]
    }

    /// The default factor of the scores: one over the square root of the head size.
    pub(super) fn scale(&self) -> f64 {
        if self.head_size == 0 { 1.0 } else { 1.0 / (self.head_size as f64).sqrt() }
    }

    /// Rows of scores of one head of the keys: the queries of all heads of its group.
    pub(super) fn shared_rows(&self) -> usize {
        self.group_size * self.query_len
    }

    /// Rows of scores of one block.
    pub(super) fn block(&self) -> usize {
        (BLOCK_SCORES / self.key_len.max(1)).clamp(1, self.shared_rows().max(1))
    }

    /// The products of `count` queries from `first` on with the keys of a head; heads are counted over the whole batch.
    pub(super) fn scores<T: Real>(
        &self,
        (query, key): (&Value, &Value),
        head: usize,
        (first, count): (usize, usize),
        cx: &ExecContext<'_>,
    ) -> Result<(Vec<T>, Charge), Error> {
        let start = (head * self.shared_rows() + first) * self.head_size;
        let left = Matrices { start, ..Matrices::row_major(query.elements::<T>()?, count, self.head_size) };
        let start = head * self.key_len * self.head_size;
        let right = Matrices { start, ..Matrices::row_major(key.elements::<T>()?, self.key_len, self.head_size) };
        multiply(left, right.transposed(), Size { batch: 1, m: count, n: self.key_len, k: self.head_size }, cx)
    }

    /// Writes the sum of the values of a head, weighted by each row of `weights`, to `out`.
    pub(super) fn weighted_sum<T: Real>(
        &self,
        weights: &Value,
        value: &Value,
        head: usize,
        out: &mut [T],
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let rows = weights.dims().first().copied().unwrap_or(0);
        let left = Matrices::row_major(weights.elements::<T>()?, rows, self.key_len);
        let start = head * self.key_len * self.value_size;
        let right = Matrices { start, ..Matrices::row_major(value.elements::<T>()?, self.key_len, self.value_size) };
        let (found, _charge) =
            multiply::<T>(left, right, Size { batch: 1, m: rows, n: self.value_size, k: self.key_len }, cx)?;
        overwrite(out, &found, &mut Checkpoint::default(), cx)
    }
}

/// Copies `elements` to `out`, which has the same length.
pub(super) fn overwrite<T: Copy>(
    out: &mut [T],
    elements: &[T],
    checkpoint: &mut Checkpoint,
    cx: &ExecContext<'_>,
) -> Result<(), Error> {
    for (out, elements) in out.chunks_mut(PIECE).zip(elements.chunks(PIECE)) {
        checkpoint.step(out.len(), cx)?;
        out.copy_from_slice(elements);
    }
    Ok(())
}

/// Calls `f` for each element of a row.
pub(super) fn for_each<T>(
    row: &mut [T],
    checkpoint: &mut Checkpoint,
    cx: &ExecContext<'_>,
    f: impl Fn(&mut T),
) -> Result<(), Error> {
    for piece in row.chunks_mut(PIECE) {
        checkpoint.step(piece.len(), cx)?;
        piece.iter_mut().for_each(&f);
    }
    Ok(())
}

/// The softmax of a row, in place. A row of -∞ attends to no key and becomes zeros.
pub(super) fn softmax<T: Real>(row: &mut [T], checkpoint: &mut Checkpoint, cx: &ExecContext<'_>) -> Result<(), Error> {
    let (mut tops, mut masked) = ([T::NEG_INFINITY; loops::PARTS], true);
    for piece in row.chunks(PIECE) {
        checkpoint.step(piece.len(), cx)?;
        loops::fold(&mut tops, piece, |top: T, x: T| if x > top { x } else { top });
        // A NaN is not a masked key.
        masked &= piece.iter().all(|&x| x == T::NEG_INFINITY);
    }
    if masked {
        return checkpoint.set(T::ZERO, row, cx);
    }
    let top = tops.into_iter().fold(T::NEG_INFINITY, |top, x| if x > top { x } else { top });
    let mut sums = [T::ZERO; loops::PARTS];
    for piece in row.chunks_mut(PIECE) {
        checkpoint.step(piece.len(), cx)?;
        T::map(piece, move |x| (x - top).exp());
        loops::fold(&mut sums, piece, T::plus);
    }
    let sum = sums.into_iter().fold(T::ZERO, T::plus);
    for_each(row, checkpoint, cx, move |x| *x = x.divided_by(sum))
}

/// The attributes of Attention.
pub(super) struct AttentionSettings {
    pub(super) opset: i64,
    pub(super) causal: bool,
    /// How many keys before and after its own position a query may attend to; `None` for all.
    pub(super) window: [Option<i64>; 2],
    pub(super) scale: Option<f64>,
    pub(super) softcap: f32,
    /// What the fourth output holds: the scores (0), with softcap (1), with softcap and mask (2), or the softmax (3).
    pub(super) mode: i64,
    pub(super) softmax_precision: Option<ElementType>,
    pub(super) query_heads: Option<usize>,
    pub(super) key_heads: Option<usize>,
    pub(super) outputs: usize,
}

fn heads(node: &Node<'_>, name: &str) -> Result<Option<usize>, Error> {
    let Some(number) = node.int(name)? else { return Ok(None) };
    let number = usize::try_from(number).ok().filter(|&number| number > 0);
    number.map(Some).ok_or_else(|| Error::invalid_encoding(format!("attribute {name} is not positive")))
}

fn window(node: &Node<'_>, name: &str) -> Result<Option<i64>, Error> {
    match if node.opset >= 25 { node.int(name)?.unwrap_or(-1) } else { -1 } {
        -1 => Ok(None),
        size if size >= 0 => Ok(Some(size)),
        _ => Err(Error::invalid_encoding(format!("attribute {name} is less than -1"))),
    }
}

impl AttentionSettings {
    pub(super) fn new(node: &Node<'_>) -> Result<Self, Error> {
        let operator = Self {
            opset: node.opset,
            causal: node.flag("is_causal", false)?,
            window: [window(node, "left_window_size")?, window(node, "right_window_size")?],
            scale: node.float_option("scale")?.map(f64::from),
            softcap: node.float("softcap", 0.0)?,
            mode: node.int("qk_matmul_output_mode")?.unwrap_or(0),
            softmax_precision: float_type(node, "softmax_precision")?,
            query_heads: heads(node, "q_num_heads")?,
            key_heads: heads(node, "kv_num_heads")?,
            outputs: node.outputs(),
        };
        node.limit_outputs(4)?;
        if !(0..=3).contains(&operator.mode) {
            return Err(Error::invalid_encoding("attribute qk_matmul_output_mode is not between 0 and 3"));
        }
        if !(operator.softcap >= 0.0 && operator.softcap.is_finite()) {
            return Err(Error::invalid_encoding("attribute softcap is negative or not finite"));
        }
        if operator.scale.is_some_and(|scale| !(scale >= 0.0 && scale.is_finite())) {
            return Err(Error::invalid_encoding("attribute scale is negative or not finite"));
        }
        if node.has_input(4) != node.has_input(5) {
            return Err(Error::invalid_encoding("past_key and past_value must be given together"));
        }
        if node.has_input(6) && node.has_input(4) {
            return Err(Error::invalid_encoding("nonpad_kv_seqlen and past_key cannot be given together"));
        }
        Ok(operator)
    }

    /// Whether a query may attend to some keys only, whatever the mask says.
    #[cfg(feature = "candle")]
    pub(super) fn limits(&self) -> bool {
        self.causal || self.window != [None, None]
    }

    /// The range of keys that a query may attend to before the mask applies: the first, and one past the last.
    pub(super) fn visible(
        &self,
        visible: &Visible<'_>,
        dims: &AttentionDims,
        batch: usize,
        query: usize,
    ) -> (usize, usize) {
        let len = visible.lens.map(|lens| lens[batch]);
        // Sums of tensor sizes do not overflow; sums with a window size saturate.
        let offset = len.map_or(visible.past as i64, |len| len as i64 - dims.query_len as i64);
        let position = offset + query as i64;
        let [left, right] = self.window;
        let mut high = len.unwrap_or(dims.key_len) as i64;
        if self.causal {
            high = high.min(position + 1);
        }
        if let Some(right) = right {
            high = high.min(position.saturating_add(right).saturating_add(1));
        }
        let low = left.map_or(0, |left| position.saturating_sub(left)).clamp(0, dims.key_len as i64);
        let high = high.clamp(low, dims.key_len as i64);
        (low as usize, high as usize)
    }
}

/// What limits the keys of a query besides the attributes.
pub(super) struct Visible<'a> {
    /// Number of keys of each sequence that are not padding.
    pub(super) lens: Option<&'a [usize]>,
    /// Number of past keys, which precede those of the call.
    pub(super) past: usize,
}

/// The attributes of `RotaryEmbedding`.
pub(super) struct RotarySizes {
    pub(super) interleaved: bool,
    /// Number of heads; needed for a tensor of three dimensions.
    heads: Option<usize>,
    /// Elements of each head that are rotated; 0 for all.
    embedding_dim: usize,
}

/// The sizes of the input of `RotaryEmbedding`.
pub(super) struct RotaryDims {
    pub(super) batch: usize,
    pub(super) len: usize,
    pub(super) heads: usize,
    /// Elements of a head.
    pub(super) size: usize,
    /// Whether the heads come before the positions.
    pub(super) heads_first: bool,
    /// Elements of a head that are rotated, an even number.
    pub(super) rotary_dim: usize,
}

impl RotarySizes {
    pub(super) fn new(node: &Node<'_>) -> Result<Self, Error> {
        let count = |name: &str| {
            let number = usize::try_from(node.int(name)?.unwrap_or(0));
            number.map_err(|_| Error::invalid_encoding(format!("attribute {name} is negative")))
        };
        let heads = Some(count("num_heads")?).filter(|&heads| heads > 0);
        let (interleaved, embedding_dim) = (node.flag("interleaved", false)?, count("rotary_embedding_dim")?);
        if !embedding_dim.is_multiple_of(2) {
            return Err(Error::invalid_encoding("attribute rotary_embedding_dim is odd"));
        }
        Ok(Self { interleaved, heads, embedding_dim })
    }

    /// The sizes of an input of these dimensions.
    pub(super) fn of(&self, dims: &[usize]) -> Result<RotaryDims, Error> {
        let wrong = || Error::invalid_argument(format!("the input {} does not divide into heads", Dims(dims)));
        let (batch, len, heads, size, heads_first) = match *dims {
            [batch, heads, len, size] if self.heads.is_none_or(|number| number == heads) => {
                (batch, len, heads, size, true)
            }
            [batch, len, width] => {
                let heads = self.heads.filter(|&heads| width % heads == 0).ok_or_else(wrong)?;
                (batch, len, heads, width / heads, false)
            }
            _ => return Err(wrong()),
        };
        let rotary_dim = if self.embedding_dim == 0 { size } else { self.embedding_dim };
        if rotary_dim % 2 != 0 || rotary_dim > size {
            let why = format!("{rotary_dim} elements of a head of {size} cannot be rotated in pairs");
            return Err(Error::invalid_argument(why));
        }
        Ok(RotaryDims { batch, len, heads, size, heads_first, rotary_dim })
    }
}
