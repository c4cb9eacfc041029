//! From a model's bytes to checked messages: decoding, external data, tensors, inputs and outputs.
//!
//! * [`scan`] computes how much memory decoding will take, without allocating.
//! * [`decode`] refuses other file formats, charges that memory and decodes [`messages`].
//! * [`external`] reads tensor data from other files into the messages.
//! * [`tensors`] checks a tensor's message and converts it to a value.
//! * [`ports`] checks the inputs and outputs of a graph.

pub(crate) mod decode;
pub(crate) mod external;
pub mod messages;
pub(crate) mod ports;
pub(crate) mod scan;
pub(crate) mod tensors;
