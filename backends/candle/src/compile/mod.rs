//! Compiles the messages of a graph into a plan, once, at load.
//!
//! ```text
//! GraphProto
//!    │ order       nodes sorted so that each comes after what it reads
//!    │ scope       names resolved to constants and slots; functions expanded in place (function)
//!    │ fold        nodes with constant inputs computed now
//!    │ prune       steps removed that no output needs (exec::plan)
//!    │ fuse        a product by weights and the elementwise operators after it become one step, and so do quantized
//!    │             products with what quantizes around them (quantized)
//!    │ channels    values between convolutions have their channels as the last dimension
//!    ▼
//!   Plan           footprint computes the bytes that it takes
//! ```

pub(crate) mod channels;
pub(crate) mod compiler;
pub(crate) mod fold;
pub(crate) mod footprint;
pub(crate) mod function;
pub(crate) mod fuse;
pub(crate) mod order;
mod quantized;
mod readers;
pub(crate) mod scope;
