//! Long histories under random schedules: `RUSTFLAGS="--cfg shuttle" cargo test --release --no-default-features --test
//! shuttle`.
//!
//! shuttle runs one thread at a time and has no weak memory. The models in `loom-tests/` explore all executions of a
//! few calls; these try random schedules of many calls. Each history is checked to be linearizable in real time, as a
//! whole. Every test prints its schedules and the seed, which `SHUTTLE_RANDOM_SEED` replaces. A failure prints the
//! schedule that `shuttle::replay` runs again.
#![cfg(shuttle)]

#[path = "../tests/history/mod.rs"]
mod history;
mod pool;
mod support;
mod table;
