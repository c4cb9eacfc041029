//! A compiled graph and its run.

pub(crate) mod plan;
pub(crate) mod run;
