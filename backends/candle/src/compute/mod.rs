//! What one compute has at its disposal: a budget of memory, a token to be cancelled by, threads and random numbers.

pub(crate) mod context;
pub(crate) mod parallel;
pub(crate) mod random;
pub(crate) mod threads;
