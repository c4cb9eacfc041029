//! TopK: the largest or smallest elements along an axis.
//!
//! NaN is larger than every number. Of equal elements, the one with the smaller index comes first.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::ops::elementwise::{Number, with_numbers};
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::ops::order::{nan_last, sort};
use crate::ops::top::Top;
use crate::tensor::dims::product;
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, Values};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(1, "TopK", (1, 1), top_k).until(9).heavy().device(form!(|node| top::top(Top::new(node)?))),
    since(10, "TopK", (2, 2), top_k).heavy().device(form!(|node| top::top(Top::new(node)?))),
];

/// The most elements that [`few`](Rows::few) selects.
const FEW: usize = 32;

/// Elements that [`few`](Rows::few) compares at a time with the last of the best.
const GROUP: usize = 16;

fn top_k(node: &Node<'_>) -> Result<OpFn, Error> {
    let top = Top::new(node)?;
    Ok(Box::new(move |args, cx| {
        let value = args.get(0)?;
        let (at, k) = top.of(value.dims(), args.option(1))?;
        let dim = value.dims()[at];
        let mut dims = value.dims().to_vec();
        dims[at] = k;
        let (outer, inner) = (product(&dims[..at]), product(&dims[at + 1..]));
        let rows = Rows { dim, k, outer, inner, largest: top.largest };
        // Of longer rows, the best elements are selected piece by piece.
        let most = if k <= PIECE { dim.min(k + PIECE) } else { dim };
        if value.ty() == ElementType::F32 && k > FEW && u32::try_from(dim).is_ok() {
            let mut keys = cx.block::<u64>(most)?;
            return rows.select::<f32>(value, &dims, cx, |row, best, checkpoint| {
                rows.by_keys(row, &mut keys, best, checkpoint, cx)
            });
        }
        with_numbers!(value, T => rows.select::<T>(value, &dims, cx, |row, best, checkpoint| {
            if k <= FEW { rows.few(row, best, checkpoint, cx) } else { rows.by_comparisons(row, best, checkpoint, cx) }
        }))
    }))
}

/// What is selected: `k` of the `dim` elements of each row. Elements of a row are `inner` elements apart.
struct Rows {
    dim: usize,
    k: usize,
    outer: usize,
    inner: usize,
    largest: bool,
}

impl Rows {
    /// The values and the indices that `find` appends for each row, whose elements are adjacent.
    fn select<T: Number>(
        &self,
        value: &Value,
        dims: &[usize],
        cx: &ExecContext<'_>,
        mut find: impl FnMut(&[T], &mut Vec<usize>, &mut Checkpoint) -> Result<(), Error>,
    ) -> Result<Values, Error> {
        let &Self { dim, k, outer, inner, .. } = self;
        let elements = value.elements::<T>()?;
        let mut best = cx.block::<usize>(if k <= PIECE { dim.min(k + PIECE) } else { dim })?;
        let mut column = cx.block::<T>(if inner > 1 { dim } else { 0 })?;
        let mut checkpoint = Checkpoint::default();
        let (mut tops, charge) = cx.filled(T::default(), outer * k * inner)?;
        let indices = cx.output::<i64>(dims)?.write(0, |found| {
            for index in 0..outer * inner {
                let (block, at) = (index / inner, index % inner);
                let row = if inner == 1 {
                    &elements[block * dim..(block + 1) * dim]
                } else {
                    column.clear();
                    for first in (0..dim).step_by(PIECE) {
                        let end = dim.min(first + PIECE);
                        checkpoint.step(end - first, cx)?;
                        column.extend((first..end).map(|place| elements[(block * dim + place) * inner + at]));
                    }
                    &column[..]
                };
                best.clear();
                find(row, &mut best, &mut checkpoint)?;
                for (rank, &place) in best.iter().enumerate() {
                    checkpoint.step(1, cx)?;
                    let to = (block * k + rank) * inner + at;
                    (tops[to], found[to]) = (row[place], place as i64);
                }
            }
            Ok(())
        })?;
        Ok(values![Value::charged(dims.to_vec(), tops, charge)?, indices])
    }

    /// At most [`FEW`] elements, each inserted where it belongs.
    fn few<T: Number>(
        &self,
        row: &[T],
        best: &mut Vec<usize>,
        checkpoint: &mut Checkpoint,
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let Some(last) = self.k.checked_sub(1) else { return Ok(()) };
        let largest = self.largest;
        let before = |a: T, b: T| if largest { nan_last(&a, &b).is_gt() } else { nan_last(&a, &b).is_lt() };
        // A NaN is not behind.
        let behind = |x: T, worst: T| if largest { x <= worst } else { x >= worst };
        for (piece, elements) in row.chunks(PIECE).enumerate() {
            checkpoint.step(elements.len(), cx)?;
            for (group, elements) in elements.chunks(GROUP).enumerate() {
                // Groups of elements that are all behind the last of the best are skipped.
                let worst = best.get(last).map(|&worst| row[worst]);
                if let (Some(worst), Some(group)) = (worst, elements.first_chunk::<GROUP>())
                    && group.iter().fold(true, |all, &x| all & behind(x, worst))
                {
                    continue;
                }
                let first = piece * PIECE + group * GROUP;
                for (index, &x) in (first..).zip(elements) {
                    if let Some(&worst) = best.get(last) {
                        if behind(x, row[worst]) || !before(x, row[worst]) {
                            continue;
                        }
                        best.truncate(last);
                    }
                    // Equal elements stay in the order of their indices.
                    let place = best.partition_point(|&other| !before(x, row[other]));
                    best.insert(place, index);
                }
            }
        }
        Ok(())
    }

    /// Elements of f32 as integers, whose order is that of TopK. The lower half of a key is the element's index.
    fn by_keys(
        &self,
        row: &[f32],
        keys: &mut Vec<u64>,
        best: &mut Vec<usize>,
        checkpoint: &mut Checkpoint,
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let (k, flip) = (self.k, if self.largest { u32::MAX } else { 0 });
        keys.clear();
        for (piece, elements) in row.chunks(PIECE).enumerate() {
            checkpoint.step(2 * elements.len(), cx)?;
            keys.extend((piece * PIECE..).zip(elements).map(|(index, &x)| {
                // A negative zero becomes a positive one.
                let bits = (x + 0.0).to_bits();
                let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
                let ordered = if x.is_nan() { u32::MAX } else { ordered };
                u64::from(ordered ^ flip) << 32 | index as u64
            }));
            if keys.len() > k && k <= PIECE {
                checkpoint.step(4 * keys.len(), cx)?;
                keys.select_nth_unstable(k - 1);
                keys.truncate(k);
            }
        }
        sort(keys, 1, u64::cmp, cx)?;
        best.extend(keys.iter().take(k).map(|&key| (key & u64::from(u32::MAX)) as usize));
        Ok(())
    }

    /// Elements of any type.
    fn by_comparisons<T: Number>(
        &self,
        row: &[T],
        best: &mut Vec<usize>,
        checkpoint: &mut Checkpoint,
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let k = self.k;
        let compare = |a: &usize, b: &usize| {
            let order = nan_last(&row[*a], &row[*b]);
            (if self.largest { order.reverse() } else { order }).then(a.cmp(b))
        };
        // After each piece, only the first k elements so far remain.
        for first in (0..row.len()).step_by(PIECE) {
            let end = row.len().min(first + PIECE);
            best.extend(first..end);
            checkpoint.step(end - first, cx)?;
            if best.len() > k && k <= PIECE {
                checkpoint.step(4 * best.len(), cx)?;
                best.select_nth_unstable_by(k - 1, compare);
                best.truncate(k);
            }
        }
        sort(best, 1, compare, cx)?;
        best.truncate(k);
        Ok(())
    }
}
