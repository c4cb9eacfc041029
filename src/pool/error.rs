//! Why an insertion fails.

use std::fmt;

/// The pool stored nothing. Gives back what it could not store.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InsertError<V> {
    /// The pool has no vacant slot: each of its slots is live, or waits for the end of a grace period, or has served
    /// its last generation.
    #[error("the pool is full: it has no vacant slot for one more entry, and no room for more slots")]
    Full(V),
}

impl<V> InsertError<V> {
    /// What the pool could not store.
    #[must_use]
    pub fn into_inner(self) -> V {
        match self {
            Self::Full(value) => value,
        }
    }
}

impl<V> fmt::Debug for InsertError<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("Full(..)"),
        }
    }
}
