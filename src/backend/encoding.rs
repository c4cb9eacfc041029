//! What a model's bytes are, and where its graph runs.

/// The encodings of a model that wasi-nn and its hosts know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encoding {
    /// `OpenVINO`: an XML description and its weights.
    OpenVino,
    /// ONNX: one protobuf message.
    Onnx,
    /// `TensorFlow`.
    TensorFlow,
    /// `PyTorch`.
    PyTorch,
    /// `TensorFlow` Lite.
    TensorFlowLite,
    /// GGML and GGUF.
    Ggml,
    /// Whatever a backend recognises.
    Autodetect,
}

impl Encoding {
    /// From the number that the core-module form has for it, with `ggml` 5 and `autodetect` 6 as WAMR, `WasmEdge`
    /// and Wasmtime number them.
    #[must_use]
    pub const fn from_witx(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::OpenVino,
            1 => Self::Onnx,
            2 => Self::TensorFlow,
            3 => Self::PyTorch,
            4 => Self::TensorFlowLite,
            5 => Self::Ggml,
            6 => Self::Autodetect,
            _ => return None,
        })
    }
}

/// Where a graph runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// The processor.
    Cpu,
    /// A graphics processor.
    Gpu,
    /// A tensor processor.
    Tpu,
}

impl Target {
    /// From the number that the core-module form has for it.
    #[must_use]
    pub const fn from_witx(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Cpu,
            1 => Self::Gpu,
            2 => Self::Tpu,
            _ => return None,
        })
    }
}
