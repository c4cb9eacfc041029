//! The file of a model: protobuf messages, their bounds, and what is checked of them before anything is compiled.

pub(crate) mod decode;
pub(crate) mod external;
pub mod messages;
pub(crate) mod ports;
pub(crate) mod scan;
pub(crate) mod tensors;
