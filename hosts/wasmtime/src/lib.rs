//! wasi-nn for Wasmtime, where stores share models.

mod ctx;

pub use ctx::WasiNnCtx;
