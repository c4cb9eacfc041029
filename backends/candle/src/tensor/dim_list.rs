//! Short lists of dimensions that need no allocation.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use smallvec::SmallVec;

/// A list of one number for each dimension, which an operator works with. It allocates above six dimensions.
pub(crate) type DimVec = SmallVec<[usize; 6]>;

/// As [`DimVec`], of integers that a model gives: axes, pads, or a shape that may have a -1.
pub(crate) type IntVec = SmallVec<[i64; 8]>;

/// The most dimensions that are stored in place.
const IN_PLACE: usize = 5;

/// The dimensions of a value. Up to [`IN_PLACE`] are stored in place; the clones of a value share more.
#[derive(Clone)]
pub(crate) enum DimList {
    InPlace { len: u8, dims: [usize; IN_PLACE] },
    Shared(Arc<[usize]>),
}

impl DimList {
    /// The dimensions that clones share, if there are so many.
    pub(crate) fn shared(&self) -> Option<&[usize]> {
        match self {
            Self::InPlace { .. } => None,
            Self::Shared(dims) => Some(dims),
        }
    }
}

impl Default for DimList {
    fn default() -> Self {
        Self::InPlace { len: 0, dims: [0; IN_PLACE] }
    }
}

impl Deref for DimList {
    type Target = [usize];

    #[inline]
    fn deref(&self) -> &[usize] {
        match self {
            Self::InPlace { len, dims } => dims.get(..usize::from(*len)).unwrap_or_default(),
            Self::Shared(dims) => dims,
        }
    }
}

impl From<&[usize]> for DimList {
    #[inline]
    fn from(list: &[usize]) -> Self {
        let mut dims = [0; IN_PLACE];
        match dims.get_mut(..list.len()) {
            Some(place) => {
                place.copy_from_slice(list);
                Self::InPlace { len: list.len() as u8, dims }
            }
            None => Self::Shared(list.into()),
        }
    }
}

impl From<Vec<usize>> for DimList {
    fn from(list: Vec<usize>) -> Self {
        list.as_slice().into()
    }
}

impl From<DimVec> for DimList {
    fn from(list: DimVec) -> Self {
        list.as_slice().into()
    }
}

impl<const N: usize> From<[usize; N]> for DimList {
    fn from(list: [usize; N]) -> Self {
        list.as_slice().into()
    }
}

impl fmt::Debug for DimList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_any_length_is_kept_whole() {
        for len in 0..33 {
            let list: Vec<usize> = (0..len).map(|dim| usize::MAX - dim).collect();
            let dims = DimList::from(list.clone());
            assert_eq!(&*dims.clone(), list);
            assert_eq!(dims.shared().is_some(), len > IN_PLACE);
        }
    }
}
