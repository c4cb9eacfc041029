//! The resources of one compute: memory budget, deadline and cancel token, threads, random number states.
//!
//! [`context::ExecContext`] has them all; each operator gets it as an argument.

pub(crate) mod context;
#[expect(unsafe_code, reason = "threads write different parts of a vector before its length is set")]
pub(crate) mod parallel;
pub(crate) mod random;
pub(crate) mod threads;
