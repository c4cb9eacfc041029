//! What the attention operators share: queries, keys and values by head, the scores of these, and their softmax.

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

/// Scores that are computed together, so that a long sequence takes no matrix of all of them.
const SCORES: usize = 1 << 18;

/// The type to compute in for elements of `ty`, where the model may ask for more.
pub(super) fn precision(ty: ElementType, asked: Option<ElementType>) -> Result<ElementType, Error> {
    match ty {
        ElementType::F64 => Ok(ElementType::F64),
        ElementType::F32 | ElementType::F16 | ElementType::Bf16 if asked == Some(ElementType::F64) => {
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

/// A tensor as batch, heads, places and the elements of each; of three dimensions it has its heads side by side.
pub(super) fn by_head(value: Value, heads: Option<usize>, cx: &ExecContext<'_>) -> Result<Value, Error> {
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

/// How queries, keys and values fit together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub(super) batch: usize,
    /// Heads of the queries.
    pub(super) queries: usize,
    /// Heads of the queries that share one of the keys.
    pub(super) group: usize,
    /// Queries.
    pub(super) rows: usize,
    /// Keys.
    pub(super) keys: usize,
    /// Elements of a query and of a key.
    pub(super) size: usize,
    /// Elements of a value.
    pub(super) depth: usize,
}

impl Heads {
    /// Of tensors of four dimensions.
    pub(super) fn new(query: &Value, key: &Value, value: &Value) -> Result<Self, Error> {
        let found = match (query.dims(), key.dims(), value.dims()) {
            (&[batch, heads, rows, size], &[b, shared, keys, s], &[c, also, k, depth])
                if (b, c, s, also, k) == (batch, batch, size, shared, keys)
                    && shared.checked_mul(heads.checked_div(shared).unwrap_or(0)) == Some(heads) =>
            {
                Self {
                    batch,
                    queries: heads,
                    group: heads.checked_div(shared).unwrap_or(1).max(1),
                    rows,
                    keys,
                    size,
                    depth,
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
        // All that is computed of them is bounded before any of it is.
        count(&[found.batch, found.queries, found.rows, found.keys])?;
        count(&found.output())?;
        Ok(found)
    }

    /// The dimensions of the result.
    pub(super) fn output(&self) -> [usize; 4] {
        [self.batch, self.queries, self.rows, self.depth]
    }

    /// The dimensions of all scores.
    pub(super) fn all(&self) -> [usize; 4] {
        [self.batch, self.queries, self.rows, self.keys]
    }

    /// One over the root of a key's size, by which scores are multiplied unless the model says otherwise.
    pub(super) fn scale(&self) -> f64 {
        if self.size == 0 { 1.0 } else { 1.0 / (self.size as f64).sqrt() }
    }

    /// Rows of scores to one head of the keys: those of every query of the group.
    pub(super) fn shared_rows(&self) -> usize {
        self.group * self.rows
    }

    /// Rows of scores that are computed together.
    pub(super) fn block(&self) -> usize {
        (SCORES / self.keys.max(1)).clamp(1, self.shared_rows().max(1))
    }

    /// The products of `count` queries from `first` on with the keys of a head, which is counted over the batch.
    pub(super) fn scores<T: Real>(
        &self,
        (query, key): (&Value, &Value),
        head: usize,
        (first, count): (usize, usize),
        cx: &ExecContext<'_>,
    ) -> Result<(Vec<T>, Charge), Error> {
        let start = (head * self.shared_rows() + first) * self.size;
        let left = Matrices { start, ..Matrices::rows(query.elements::<T>()?, count, self.size) };
        let start = head * self.keys * self.size;
        let right = Matrices { start, ..Matrices::rows(key.elements::<T>()?, self.keys, self.size) };
        multiply(left, right.transposed(), Size { batch: 1, m: count, n: self.keys, k: self.size }, cx)
    }

    /// The values of a head, weighted by each row of `weights`.
    pub(super) fn weigh<T: Real>(
        &self,
        weights: &Value,
        value: &Value,
        head: usize,
        out: &mut [T],
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let rows = weights.dims().first().copied().unwrap_or(0);
        let left = Matrices::rows(weights.elements::<T>()?, rows, self.keys);
        let start = head * self.keys * self.depth;
        let right = Matrices { start, ..Matrices::rows(value.elements::<T>()?, self.keys, self.depth) };
        let (found, _charge) = multiply::<T>(left, right, Size { batch: 1, m: rows, n: self.depth, k: self.keys }, cx)?;
        overwrite(out, &found, &mut Checkpoint::default(), cx)
    }
}

/// Makes `out` what `elements` are; both are as long.
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

/// Does something to each element of a row.
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

/// The softmax of a row, in place. A row that is -∞ everywhere has nothing to attend to and becomes zeros.
pub(super) fn softmax<T: Real>(row: &mut [T], checkpoint: &mut Checkpoint, cx: &ExecContext<'_>) -> Result<(), Error> {
    let (mut top, mut masked) = (T::NEG_INFINITY, true);
    for piece in row.chunks(PIECE) {
        checkpoint.step(piece.len(), cx)?;
        top = piece.iter().fold(top, |top, &x| if x > top { x } else { top });
        // A NaN is above nothing, but no mask put it there.
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
    for_each(row, checkpoint, cx, |x| *x = x.over(sum))
}
