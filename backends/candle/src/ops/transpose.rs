//! Transposes tensors whose last dimension moves, in tiles that fit the cache.

use smallvec::SmallVec;

use crate::compute::context::{Checkpoint, ExecContext};
use crate::math::tiles::{Strip, TILE};
use crate::tensor::dim_list::DimVec;
use crate::tensor::element::{Element, with_elements};
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// The most rows of a strip with fewer columns than a tile.
const TALL: usize = 256;

/// The most columns of a strip.
const WIDEST: usize = 1 << 12;

/// A dimension of the result: its size, and its strides in the source and in the result.
#[derive(Clone, Copy)]
struct Dim {
    size: usize,
    from: usize,
    to: usize,
}

/// The value with its dimensions in another order; `None` where the last one stays the last. `strides` are the
/// value's, and `dims` the result's.
pub(super) fn transposed(
    value: &Value,
    permutation: &[usize],
    strides: &[usize],
    dims: &[usize],
    cx: &ExecContext<'_>,
) -> Result<Option<Value>, Error> {
    if value.is_empty() {
        return Ok(None);
    }
    // The dimensions other than 1, adjacent ones merged that stay adjacent.
    let mut merged: SmallVec<[Dim; 6]> = SmallVec::new();
    for (&position, &size) in permutation.iter().zip(dims).filter(|(_, size)| **size != 1) {
        let from = strides[position];
        match merged.last_mut() {
            Some(last) if last.from == from * size => (last.size, last.from) = (last.size * size, from),
            _ => merged.push(Dim { size, from, to: 0 }),
        }
    }
    let mut to = 1;
    for dim in merged.iter_mut().rev() {
        dim.to = to;
        to *= dim.size;
    }
    let Some(columns) = merged.pop() else { return Ok(None) };
    let Some(at) = merged.iter().position(|dim| dim.from == 1) else { return Ok(None) };
    let rows = merged.remove(at);
    let (ty, value) = (value.ty(), value.plain());
    let (leading, middle) = merged.split_at(at);
    let dims_moved = Moved { leading, rows, middle, columns };
    let moved = with_elements!(value, |elements| cx.output(dims)?.append(|out| dims_moved.append(elements, out, cx)))?;
    Ok(Some(moved.retyped(ty)))
}

/// The dimensions of the result, in its order: `rows` are adjacent in the source, and `columns` in the result.
struct Moved<'a> {
    leading: &'a [Dim],
    rows: Dim,
    middle: &'a [Dim],
    columns: Dim,
}

impl Moved<'_> {
    /// Appends the elements in the order of the result, a strip of rows at a time.
    fn append<T: Element>(&self, elements: &[T], out: &mut Vec<T>, cx: &ExecContext<'_>) -> Result<(), Error> {
        let &Self { leading, rows, middle, columns } = self;
        let mut checkpoint = Checkpoint::default();
        let height = if columns.size < TILE { TALL } else { TILE };
        each(leading, |from, _| {
            for first in (0..rows.size).step_by(height) {
                let (count, start) = (height.min(rows.size - first), out.len());
                // Just before it is overwritten, so that it is in the cache then.
                checkpoint.fill(T::default(), start + count * rows.to, out, cx)?;
                let out = &mut out[start..];
                each(middle, |offset, to| {
                    for left in (0..columns.size).step_by(WIDEST) {
                        let width = WIDEST.min(columns.size - left);
                        checkpoint.step(count * width, cx)?;
                        let source = &elements[from + offset + first + left * columns.from..];
                        let target = &mut out[to + left..];
                        Strip { source, target, count, width, from: columns.from, to: rows.to }.transpose();
                    }
                    Ok(())
                })?;
            }
            Ok(())
        })
    }
}

/// Calls `f` with the offsets in the source and in the result of each index of `dims`, in order.
fn each(dims: &[Dim], mut f: impl FnMut(usize, usize) -> Result<(), Error>) -> Result<(), Error> {
    let mut index = DimVec::from_elem(0, dims.len());
    let (mut from, mut to) = (0, 0);
    loop {
        f(from, to)?;
        let mut moved = false;
        for (index, dim) in index.iter_mut().zip(dims).rev() {
            *index += 1;
            (from, to) = (from + dim.from, to + dim.to);
            if *index < dim.size {
                moved = true;
                break;
            }
            *index = 0;
            (from, to) = (from - dim.size * dim.from, to - dim.size * dim.to);
        }
        if !moved {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::compute::context::ExecContext;
    use crate::ops::layout::permute;
    use crate::tensor::budget::ComputeBudget;
    use crate::tensor::dims::strides;
    use crate::tensor::value::Value;
    use graphpool::backend::ComputeControl;

    #[test]
    fn every_element_moves_to_its_place() {
        let (control, budget) = (ComputeControl::default(), ComputeBudget::new(usize::MAX));
        let cx = ExecContext::new(&control, &budget);
        let orders: [&[usize]; 8] =
            [&[1, 0], &[0, 2, 1], &[2, 1, 0], &[2, 0, 1], &[0, 2, 3, 1], &[3, 1, 0, 2], &[0, 3, 1, 2], &[1, 0, 3, 2]];
        for order in orders {
            for sizes in [[2, 3, 4, 5], [17, 2, 33, 3], [5, 16, 1, 35], [1, 4, 37, 2], [2, 6, 20, 30], [3, 16, 20, 30]]
            {
                let dims = &sizes[..order.len()];
                let count: usize = dims.iter().product();
                let value = Value::new(dims.to_vec(), (0..count as i32).collect()).unwrap();
                let found = permute(value, order, &cx).unwrap();
                let wanted: Vec<usize> = order.iter().map(|&position| dims[position]).collect();
                assert_eq!(found.dims(), wanted);
                let (to, from) = (strides(&wanted), strides(dims));
                for (place, &element) in found.elements::<i32>().unwrap().iter().enumerate() {
                    let source: usize = (0..order.len()).map(|at| place / to[at] % wanted[at] * from[order[at]]).sum();
                    assert_eq!(element, source as i32, "{dims:?} {order:?} {place}");
                }
            }
        }
    }
}
