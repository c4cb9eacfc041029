//! The types of the interfaces, from their text. Of what is generated, the enums are used: the functions are added to
//! the linker by hand, so that lists are checked and counted before they are copied, and outputs are copied once.

wasmtime::component::bindgen!({
    path: "wit",
    world: "ml",
});

pub(super) use wasi::nn::errors::ErrorCode;
pub(super) use wasi::nn::graph::{ExecutionTarget, GraphEncoding};
pub(super) use wasi::nn::tensor::TensorType;
