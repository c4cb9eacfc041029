//! The encodings of models, and the targets that graphs run on.

/// A model encoding that wasi-nn and its hosts know.
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
    /// Any encoding that a backend recognises by the bytes.
    Autodetect,
}

/// The device that a graph runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// CPU.
    Cpu,
    /// GPU.
    Gpu,
    /// TPU.
    Tpu,
}
