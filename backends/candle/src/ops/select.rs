//! Copies the selected indices of each dimension, in any order. Slice, Transpose, Tile, Compress, Pad and Resize use
//! it.
//!
//! Each dimension of the result has a list of offsets; an element of the result is the element of the source at the sum
//! of its offsets. Runs that are contiguous in the source are copied as one.

use smallvec::{SmallVec, smallvec};

use crate::compute::context::{CHECK_INTERVAL, Checkpoint, ExecContext, PIECE};
use crate::math::loops;
use crate::tensor::budget::Block;
use crate::tensor::dim_list::DimVec;
use crate::tensor::dims::count;
use crate::tensor::element::{Element, with_elements};
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// The offsets of the selected indices of one dimension.
pub(super) struct Offsets {
    list: Block<usize>,
}

/// The offsets of indices of a dimension whose elements are `stride` apart.
pub(super) fn offsets(
    mut indices: impl ExactSizeIterator<Item = usize>,
    stride: usize,
    cx: &ExecContext<'_>,
) -> Result<Offsets, Error> {
    let mut list = cx.block::<usize>(indices.len())?;
    let mut checkpoint = Checkpoint::default();
    while indices.len() > 0 {
        checkpoint.step(PIECE, cx)?;
        list.extend(indices.by_ref().take(PIECE).map(|index| index * stride));
    }
    Ok(Offsets { list })
}

/// The elements at the sums of `offsets`, all of which must be inside the value.
pub(super) fn select(value: &Value, offsets: &[Offsets], cx: &ExecContext<'_>) -> Result<Value, Error> {
    let offsets: SmallVec<[&[usize]; 6]> = offsets.iter().map(|offsets| offsets.list.as_slice()).collect();
    let dims: DimVec = offsets.iter().map(|offsets| offsets.len()).collect();
    let (ty, value) = (value.ty(), value.plain());
    let selected = with_elements!(value, |elements| cx.output(&dims)?.append(|out| copy(elements, &offsets, out, cx)))?;
    Ok(selected.retyped(ty))
}

/// Copies the selected elements of a result that is not empty.
fn copy<T: Element>(elements: &[T], offsets: &[&[usize]], out: &mut Vec<T>, cx: &ExecContext<'_>) -> Result<(), Error> {
    let mut checkpoint = Checkpoint::default();
    let mut outer = offsets;
    let (mut start, mut len) = (0, 1);
    // The last dimensions that are contiguous in the source become one run.
    while let [rest @ .., last] = outer {
        let first = last.first().copied().unwrap_or(0);
        if last.iter().enumerate().any(|(position, &offset)| offset != first + position * len) {
            break;
        }
        start += first;
        len *= last.len();
        outer = rest;
    }
    let mut index: DimVec = smallvec![0; outer.len().saturating_sub(1)];
    let [outer @ .., inner] = outer else {
        return checkpoint.copy(&elements[start..start + len], out, cx);
    };
    // Adjacent offsets of the innermost list are copied as one where runs are long.
    let follows = |pair: &[usize]| pair[0] + len == pair[1];
    let breaks = inner.windows(2).filter(|pair| !follows(pair)).count();
    let (mut list, _charge) = cx.list::<(usize, usize)>(if breaks < inner.len() / 8 { breaks + 1 } else { 0 })?;
    if breaks < inner.len() / 8 {
        list.extend(inner.chunk_by(|&a, &b| follows(&[a, b])).map(|run| (run[0], run.len() * len)));
    }
    let doubled = len == 1 && is_doubled(inner);
    let mut before = None;
    loop {
        let base = start + outer.iter().zip(&index).map(|(offsets, &index)| offsets[index]).sum::<usize>();
        let from = out.len();
        if let Some((_, at)) = before.filter(|&(last, _)| last == base && inner.len() * len <= CHECK_INTERVAL) {
            // The same row again.
            checkpoint.step(inner.len() * len, cx)?;
            out.extend_from_within(at..at + inner.len() * len);
        } else if !list.is_empty() {
            for &(offset, len) in &list {
                checkpoint.copy(&elements[base + offset..base + offset + len], out, cx)?;
            }
        } else if doubled {
            let row = &elements[base + inner[0]..][..inner.len() / 2];
            checkpoint.step(inner.len(), cx)?;
            out.resize(from + inner.len(), T::default());
            let pairs = out[from..].as_chunks_mut::<2>().0;
            loops::for_each(pairs.iter_mut().zip(row), |(pair, &x)| *pair = [x, x]);
        } else if len == 1 {
            for inner in inner.chunks(PIECE) {
                checkpoint.step(inner.len(), cx)?;
                out.extend(inner.iter().map(|offset| elements[base + offset]));
            }
        } else {
            for offset in *inner {
                checkpoint.copy(&elements[base + offset..base + offset + len], out, cx)?;
            }
        }
        before = Some((base, from));
        let mut moved = false;
        for (index, offsets) in index.iter_mut().zip(outer).rev() {
            *index += 1;
            if *index < offsets.len() {
                moved = true;
                break;
            }
            *index = 0;
        }
        if !moved {
            return Ok(());
        }
    }
}

/// Whether the offsets are those of adjacent elements, each of them twice, and so few that one step copies them.
fn is_doubled(offsets: &[usize]) -> bool {
    let (pairs, rest) = offsets.as_chunks::<2>();
    let adjacent = pairs.windows(2).all(|pairs| pairs[0][0] + 1 == pairs[1][0]);
    (1..=PIECE).contains(&offsets.len()) && rest.is_empty() && adjacent && pairs.iter().all(|pair| pair[0] == pair[1])
}

/// Checks that the budget holds a result of `dims`, before the lists of offsets are built.
pub(super) fn check_budget(dims: &[usize], value: &Value, cx: &ExecContext<'_>) -> Result<(), Error> {
    let bytes = count(dims)?.saturating_mul(value.ty().size());
    cx.budget.charge(bytes).map(drop)
}
