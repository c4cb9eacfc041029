//! When computes run: admission, threads, and the work that the engine does in the background.

pub(crate) mod admission;
pub(crate) mod future;
pub(crate) mod inside;
pub(crate) mod reaper;
pub(crate) mod threads;
pub(crate) mod waits;
pub(crate) mod workers;
