//! Tensors on a device of candle's, and the operations that device forms of operators are made of.
//!
//! candle's own operations trust their caller: sizes are not bounded, and some panic on integers, empty dimensions or
//! kernels that are larger than the input. So nothing outside of this module calls candle's operations. Each operation
//! of [`DeviceContext`] checks the shapes, checks deadline and cancel token, and charges its result before candle
//! allocates it.

pub(crate) mod args;
pub(crate) mod context;
pub(crate) mod index;
pub(crate) mod math;
pub(crate) mod rows;
pub(crate) mod tensor;
