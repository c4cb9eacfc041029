//! Random sequences of calls against a plain map that says what each must answer.
//!
//! A sequence that fails is made as short as it can be, and its seed is kept in `tests/regressions/`, which belongs
//! into the repository: it is tried first from then on.
#![cfg(not(any(loom, shuttle)))]

#[path = "../history/mod.rs"]
mod history;
mod pool;
mod table;
mod threads;

use proptest::prelude::ProptestConfig;
use proptest::test_runner::FileFailurePersistence;

/// Failures are kept in the file of this name.
fn config(kept_in: &'static str) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept_in))),
        ..ProptestConfig::default()
    }
}
