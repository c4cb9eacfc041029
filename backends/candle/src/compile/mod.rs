//! From the messages of a file to a plan.

pub(crate) mod compiler;
pub(crate) mod fold;
pub(crate) mod footprint;
pub(crate) mod function;
pub(crate) mod fuse;
pub(crate) mod order;
pub(crate) mod scope;
