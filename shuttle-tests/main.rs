//! Long histories under random schedules: `RUSTFLAGS="--cfg shuttle" cargo test --release --no-default-features --test
//! shuttle`.
//!
//! shuttle runs one thread at a time and knows no weak memory; what the models in `loom-tests/` go through to the end
//! for a few calls, these try at random for many. Each history is checked to be linearizable in real time, as a
//! whole. Every test prints its schedules and the seed, which `SHUTTLE_RANDOM_SEED` replaces; a failure prints the
//! schedule that `shuttle::replay` runs again.
#![cfg(shuttle)]

#[path = "../tests/history/mod.rs"]
mod history;
mod pool;
mod support;
mod table;
