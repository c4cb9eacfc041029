//! Copies of parts of a tensor, in any order: what Slice, Transpose, Tile, Split and Pad come down to.
//!
//! Each dimension of the result has a list of offsets; an element of the result is the element of the source at the
//! sum of its offsets. Runs that lie together in the source are copied as one.

use super::super::meter::Cx;
use super::super::value::{Element, Value, count, with_elements};
use crate::nn::Error;

/// The offsets of `count` indices of a dimension whose elements are `stride` apart.
pub(super) fn offsets(
    indices: impl ExactSizeIterator<Item = usize>,
    stride: usize,
    cx: &Cx<'_>,
) -> Result<Vec<usize>, Error> {
    let mut list = Vec::new();
    // The list is as long as one dimension of the result, which may be refused for its size only afterwards.
    let _charge = cx.charge::<u64>(&[indices.len()])?;
    list.try_reserve_exact(indices.len()).map_err(|_| Error::too_large("no memory for a list of indices"))?;
    list.extend(indices.map(|index| index * stride));
    Ok(list)
}

/// The elements at the sums of `offsets`, which all lie within the value.
pub(super) fn select(value: &Value, offsets: &[Vec<usize>], cx: &Cx<'_>) -> Result<Value, Error> {
    let dims: Vec<usize> = offsets.iter().map(Vec::len).collect();
    with_elements!(value, |elements| cx.output(&dims)?.append(|out| copy(elements, offsets, out)))
}

fn copy<T: Element>(elements: &[T], offsets: &[Vec<usize>], out: &mut Vec<T>) {
    if offsets.iter().any(Vec::is_empty) {
        return;
    }
    let mut outer = offsets;
    let (mut start, mut len) = (0, 1);
    // Dimensions at the end that lie together in the source become one run.
    while let [rest @ .., last] = outer {
        let first = last.first().copied().unwrap_or(0);
        if last.iter().enumerate().any(|(place, &offset)| offset != first + place * len) {
            break;
        }
        start += first;
        len *= last.len();
        outer = rest;
    }
    let mut index = vec![0_usize; outer.len().saturating_sub(1)];
    let [outer @ .., inner] = outer else {
        out.extend_from_slice(&elements[start..start + len]);
        return;
    };
    loop {
        let base = start + outer.iter().zip(&index).map(|(offsets, &index)| offsets[index]).sum::<usize>();
        if len == 1 {
            out.extend(inner.iter().map(|offset| elements[base + offset]));
        } else {
            for offset in inner {
                out.extend_from_slice(&elements[base + offset..base + offset + len]);
            }
        }
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
            return;
        }
    }
}

/// Refuses dimensions of a result before the lists that lead to it are made.
pub(super) fn affordable(dims: &[usize], value: &Value, cx: &Cx<'_>) -> Result<(), Error> {
    let bytes = count(dims)?.saturating_mul(value.ty().size());
    cx.meter.charge(bytes).map(drop)
}
