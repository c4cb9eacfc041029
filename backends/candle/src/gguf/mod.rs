//! The GGUF file: metadata and a table of tensors, read without a copy of the bytes.
//!
//! * [`cursor`]: the bytes in front of the reader, each read held against what is left.
//! * [`kind`]: the types of tensors in a file, with the bytes of their blocks.
//! * [`value`]: metadata values and arrays.
//! * [`file`]: the whole header, checked.
//! * [`source`]: where the bytes are, in memory or in a file that is read piece by piece.
//!
//! A file may come from a guest. Counts are held against the bytes that are left before anything is allocated for them,
//! products are checked, and what the reader allocates is charged to the load. After [`file::Gguf::read_head`] every
//! string, array and tensor of the file is known to lie within it, and no two tensors share a byte.
//!
//! Versions 2 and 3 of the [format], little-endian.
//!
//! [format]: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

pub(crate) mod cursor;
pub(crate) mod file;
pub(crate) mod kind;
pub(crate) mod source;
pub(crate) mod value;
