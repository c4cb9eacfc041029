//! The enums of the header.
//!
//! C may pass any number where the header has an enum, so arguments are integers here, and the enums document them.

use graphpool::backend::wire::Dialect;
use graphpool::nn::Error;
use graphpool_ffi::Arguments;

/// A number of `gp_dialect`.
pub type DialectNumber = u32;

/// The numbers that a guest's calls use for encodings, targets and element types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum gp_dialect {
    /// The enums of this header, which are those of wasi-nn's component form (WIT).
    Component = 0,
    /// The specification's core-module form (witx), and Wasmtime's.
    Witx = 1,
    /// WasmEdge's.
    Wasmedge = 2,
    /// WAMR's, import module `wasi_ephemeral_nn`.
    Wamr = 3,
    /// WAMR's older one, import module `wasi_nn`.
    WamrLegacy = 4,
}

/// The encoding of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum gp_encoding {
    /// OpenVINO: a description in XML and its weights.
    Openvino = 0,
    /// ONNX.
    Onnx = 1,
    /// TensorFlow.
    Tensorflow = 2,
    /// PyTorch.
    Pytorch = 3,
    /// TensorFlow Lite.
    Tensorflowlite = 4,
    /// GGML and GGUF.
    Ggml = 5,
    /// Any encoding that a backend recognises by the bytes.
    Autodetect = 6,
}

/// The device that a graph runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum gp_target {
    /// CPU.
    Cpu = 0,
    /// GPU.
    Gpu = 1,
    /// TPU.
    Tpu = 2,
}

/// The type of a tensor's elements, which are little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum gp_type {
    /// IEEE 754 binary16.
    F16 = 0,
    /// IEEE 754 binary32: C's float.
    F32 = 1,
    /// IEEE 754 binary64: C's double.
    F64 = 2,
    /// bfloat16.
    Bf16 = 3,
    /// uint8_t.
    U8 = 4,
    /// int32_t.
    I32 = 5,
    /// int64_t.
    I64 = 6,
}

/// What stands for a number that a dialect does not have.
pub const GP_NO_NUMBER: u32 = u32::MAX;

/// The dialect of the header's own enums.
pub(crate) const HOST: Dialect = Dialect::Component;

pub(crate) fn dialect(arguments: &Arguments, number: DialectNumber) -> Result<Dialect, Error> {
    [Dialect::Component, Dialect::Witx, Dialect::WasmEdge, Dialect::Wamr, Dialect::WamrLegacy]
        .get(number as usize)
        .copied()
        .ok_or_else(|| arguments.invalid(format_args!("{number} is not a gp_dialect")))
}
