//! Dimensions: how many elements they make, and how far apart these lie.
//!
//! [`count`] is where every size that a model or a tensor chooses is bounded.

use graphpool::backend::Error;
pub(crate) use graphpool::backend::Shape as Dims;

/// Dimensions that a value may have at the most.
pub const MAX_RANK: usize = 32;

/// Elements that a value may have at the most: few enough that 16 bytes of each can be addressed.
pub const MAX_ELEMENTS: usize = isize::MAX as usize / 16;

/// Elements of a value of these dimensions.
///
/// # Errors
///
/// [`TooLarge`](graphpool::backend::ErrorKind::TooLarge) past [`MAX_RANK`] or [`MAX_ELEMENTS`], zeros counted as ones.
pub(crate) fn count(dims: &[usize]) -> Result<usize, Error> {
    if dims.len() > MAX_RANK {
        return Err(Error::too_large(format!("{} dimensions, {MAX_RANK} at the most", dims.len())));
    }
    dims.iter()
        .try_fold(1_usize, |count, &dim| count.checked_mul(dim.max(1)))
        .filter(|&count| count <= MAX_ELEMENTS)
        .map(|count| if dims.contains(&0) { 0 } else { count })
        .ok_or_else(|| Error::too_large(format!("{} has more elements than can be addressed", Dims(dims))))
}

/// Elements from one index of each dimension to the next.
pub(crate) fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    let mut step = 1;
    for (stride, &dim) in strides.iter_mut().zip(dims).rev() {
        *stride = step;
        step *= dim.max(1);
    }
    strides
}

/// An axis of a tensor of `rank` dimensions, counted from the end where it is negative.
pub(crate) fn axis(axis: i64, rank: usize) -> Result<usize, Error> {
    let counted = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    let found = counted.and_then(|axis| usize::try_from(axis).ok()).filter(|&axis| axis < rank);
    found.ok_or_else(|| Error::invalid_argument(format!("axis {axis} of {rank} dimensions")))
}

/// A set of axes, sorted, each once.
pub(crate) fn axes(axes: &[i64], rank: usize) -> Result<Vec<usize>, Error> {
    if axes.len() > rank {
        return Err(Error::invalid_argument(format!("{} axes of {rank} dimensions", axes.len())));
    }
    let mut sorted = axes.iter().map(|&one| axis(one, rank)).collect::<Result<Vec<_>, _>>()?;
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(Error::invalid_argument("an axis is named twice"));
    }
    Ok(sorted)
}

/// The product of some dimensions of a value; no overflow, as V2 says.
pub(crate) fn product(dims: &[usize]) -> usize {
    dims.iter().product()
}
