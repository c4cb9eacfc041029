//! Parts that the attention operators share: queries, keys and values by head, their scores, and the softmax.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
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
    /// The sizes of tensors of four dimensions.
    pub(super) fn new(query: &Value, key: &Value, value: &Value) -> Result<Self, Error> {
        let found = match (query.dims(), key.dims(), value.dims()) {
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
    let (mut top, mut masked) = (T::NEG_INFINITY, true);
    for piece in row.chunks(PIECE) {
        checkpoint.step(piece.len(), cx)?;
        top = piece.iter().fold(top, |top, &x| if x > top { x } else { top });
        // A NaN is not a masked key.
        masked &= piece.iter().all(|&x| x == T::NEG_INFINITY);
    }
    if masked {
        return checkpoint.set(T::ZERO, row, cx);
    }
    let mut sums = [T::ZERO; 8];
    for piece in row.chunks_mut(PIECE) {
        checkpoint.step(piece.len(), cx)?;
        T::map(piece, |x| (x - top).exp());
        for chunk in piece.chunks(8) {
            sums.iter_mut().zip(chunk).for_each(|(sum, &x)| *sum = sum.plus(x));
        }
    }
    let sum = sums.into_iter().fold(T::ZERO, T::plus);
    for_each(row, checkpoint, cx, |x| *x = x.divided_by(sum))
}
