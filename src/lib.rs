//! One process-wide, lock-free pool of graph handles, and a wasi-nn engine on top of it.

#[cfg(feature = "nn")]
pub mod backend;
#[cfg(feature = "nn")]
pub mod nn;
