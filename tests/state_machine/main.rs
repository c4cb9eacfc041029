//! Random sequences of calls against a plain map that says what each must answer.
//!
//! A sequence that fails is made as short as it can be, and its seed is kept in `tests/regressions/`, which belongs
//! into the repository: it is tried first from then on.
#![cfg(not(any(loom, shuttle)))]

#[path = "../history/mod.rs"]
mod history;
mod pool;
#[path = "../regressions/mod.rs"]
mod regressions;
mod table;
mod threads;
