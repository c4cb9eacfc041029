//! Shapes: element counts, strides and axes.
//!
//! [`count`] bounds every shape that a model or a guest chooses, so that arithmetic on shapes can't overflow.

use smallvec::smallvec;

use crate::tensor::dim_list::DimVec;
use graphpool::backend::Error;
pub(crate) use graphpool::backend::Shape as Dims;

/// The most dimensions that a value can have.
pub const MAX_RANK: usize = 32;

/// The most elements that a value can have. A buffer of 16 bytes for each of them still fits the address space.
pub const MAX_ELEMENTS: usize = isize::MAX as usize / 16;

/// The number of elements of a value of these dimensions.
///
/// # Errors
///
/// [`TooLarge`](graphpool::backend::ErrorKind::TooLarge) for more than [`MAX_RANK`] dimensions or [`MAX_ELEMENTS`]
/// elements. A dimension of 0 counts as 1 here, so that the product of any of the dimensions is bounded too.
pub(crate) fn count(dims: &[usize]) -> Result<usize, Error> {
    if dims.len() > MAX_RANK {
        return Err(Error::too_large(format!(
            "a tensor has {} dimensions, and at most {MAX_RANK} are supported",
            dims.len()
        )));
    }
    dims.iter()
        .try_fold(1_usize, |count, &dim| count.checked_mul(dim.max(1)))
        .filter(|&count| count <= MAX_ELEMENTS)
        .map(|count| if dims.contains(&0) { 0 } else { count })
        .ok_or_else(|| Error::too_large(format!("a tensor of {} has more than {MAX_ELEMENTS} elements", Dims(dims))))
}

/// The row-major strides, in elements.
pub(crate) fn strides(dims: &[usize]) -> DimVec {
    let mut strides: DimVec = smallvec![1; dims.len()];
    let mut step = 1;
    for (stride, &dim) in strides.iter_mut().zip(dims).rev() {
        *stride = step;
        step *= dim.max(1);
    }
    strides
}

/// The index of an axis of a tensor of `rank` dimensions. A negative axis counts from the end.
pub(crate) fn axis(axis: i64, rank: usize) -> Result<usize, Error> {
    let counted = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    let found = counted.and_then(|axis| usize::try_from(axis).ok()).filter(|&axis| axis < rank);
    found.ok_or_else(|| Error::invalid_argument(format!("axis {axis} is out of range for {rank} dimensions")))
}

/// The sorted indexes of distinct axes.
pub(crate) fn axes(axes: &[i64], rank: usize) -> Result<DimVec, Error> {
    if axes.len() > rank {
        return Err(Error::invalid_argument(format!("{} axes are too many for {rank} dimensions", axes.len())));
    }
    let mut sorted = axes.iter().map(|&one| axis(one, rank)).collect::<Result<DimVec, _>>()?;
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(Error::invalid_argument("an axis is given twice"));
    }
    Ok(sorted)
}

/// The product of some dimensions of a value. It can't overflow (V2).
pub(crate) fn product(dims: &[usize]) -> usize {
    dims.iter().product()
}

/// The shape that two shapes broadcast to.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Result<DimVec, Error> {
    let rank = a.len().max(b.len());
    let dim = |dims: &[usize], position: usize| {
        (position + dims.len()).checked_sub(rank).and_then(|position| dims.get(position)).copied().unwrap_or(1)
    };
    (0..rank)
        .map(|position| match (dim(a, position), dim(b, position)) {
            (a, b) if a == b => Ok(a),
            (1, dim) | (dim, 1) => Ok(dim),
            _ => Err(Error::invalid_argument(format!("{} and {} do not broadcast", Dims(a), Dims(b)))),
        })
        .collect()
}
