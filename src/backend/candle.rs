//! ONNX models on the CPU.
