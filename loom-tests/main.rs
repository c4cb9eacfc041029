//! The core under loom: `RUSTFLAGS="--cfg loom" cargo test --release`.
//!
//! Each model names the invariants that it checks. Every test prints how many executions it explored, whether those
//! were all executions or all within a bound, and in how many of them memory was reclaimed.
#![cfg(loom)]

// These do not depend on which collector keeps the contract.
#[cfg(not(crossbeam_loom))]
mod batches;
#[cfg(not(crossbeam_loom))]
mod boundaries;
#[cfg(not(crossbeam_loom))]
mod chunks;
#[cfg(not(crossbeam_loom))]
mod destructors;
mod epoch;
mod growth;
mod guessed;
#[cfg(not(crossbeam_loom))]
mod handover;
#[cfg(not(crossbeam_loom))]
#[path = "../tests/history/mod.rs"]
mod history;
mod indexes;
#[cfg(not(crossbeam_loom))]
mod lanes;
#[cfg(not(crossbeam_loom))]
mod linearizability;
mod pool;
mod session;
mod support;
mod table;
