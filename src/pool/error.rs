//! What an insertion gives back where it can't store.

use std::fmt;

/// Nothing was stored. Holds what was to be.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InsertError<V> {
    /// Every slot of the pool is live, waits for a reader, or is used up.
    #[error("the pool is full: each of its slots is live, waits for a pinned thread, or is used up")]
    Full(V),
}

impl<V> InsertError<V> {
    /// What was to be stored.
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
