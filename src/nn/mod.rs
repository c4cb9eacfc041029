//! wasi-nn for hosts: an [`Engine`](self) for the process, a guest for each wasm instance.

mod encoding;
mod error;
mod tensor;

pub use encoding::{Encoding, Target};
pub use error::{Error, ErrorCode, ErrorKind, MESSAGE_BYTES};
pub use tensor::{Tensor, TensorDescription, TensorType, TensorView, element_count};
