//! Tensors on the host, and the bytes that they are charged for.

pub(crate) mod budget;
pub(crate) mod dims;
pub(crate) mod element;
pub(crate) mod narrow;
pub(crate) mod string_table;
pub(crate) mod value;
