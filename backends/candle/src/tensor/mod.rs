//! Tensors: values, element types and shapes, and the memory budgets that tensors are charged to.
//!
//! * [`value`]: a tensor, immutable and cheap to clone.
//! * [`element`]: element types and the Rust types of their elements.
//! * [`dims`]: shapes, strides and axes, with bounds.
//! * [`narrow`]: conversions of the types of at most 8 bits that Rust lacks.
//! * [`string_table`]: the strings of a model, which tensors of strings refer to.
//! * [`budget`]: the memory budgets of a load and of a compute.
//! * [`recycler`]: what a context keeps of the memory of its computes.
//! * [`dim_list`]: dimensions that are stored in place.
//! * `candle`: conversions from and to candle's tensors.

pub(crate) mod allocation;
pub(crate) mod budget;
#[cfg(feature = "candle")]
pub(crate) mod candle;
pub(crate) mod dim_list;
pub(crate) mod dims;
pub(crate) mod element;
pub(crate) mod narrow;
pub(crate) mod recycler;
pub(crate) mod string_table;
pub(crate) mod value;
