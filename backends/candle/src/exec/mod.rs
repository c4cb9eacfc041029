//! The compiled form of a graph, [`plan::Plan`], and its execution, [`run::run`].

pub(crate) mod plan;
pub(crate) mod run;
