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
