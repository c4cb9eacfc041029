//! What an insertion gives back where it can't store.

use std::fmt;

use super::MAX_INSERTING_THREADS;

/// Nothing was stored. Holds what was to be.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InsertError<V> {
    /// This thread's part of the pool has no slot left: all are live, wait for a reader, or are used up.
    #[error("this thread's part of the pool is full")]
    Full(V),
    /// More than [`MAX_INSERTING_THREADS`] threads of the process insert, or this one is being torn down.
    #[error("more than {MAX_INSERTING_THREADS} threads insert")]
    TooManyThreads(V),
}

impl<V> InsertError<V> {
    /// What was to be stored.
    pub fn into_inner(self) -> V {
        match self {
            Self::Full(value) | Self::TooManyThreads(value) => value,
        }
    }
}

impl<V> fmt::Debug for InsertError<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::TooManyThreads(_) => "TooManyThreads(..)",
        })
    }
}
