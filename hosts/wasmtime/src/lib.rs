//! wasi-nn for Wasmtime, where stores share models.
//!
//! The models, their limits and the scheduling are those of one [`graphpool::nn::Engine`] for the process. Each store
//! has a [`WasiNnCtx`], which is one [guest](graphpool::nn::Guest) of that engine. This crate adds the functions of
//! wasi-nn to a linker: [`witx`] for core modules, [`wit`] for components.
//!
//! ```
//! use graphpool::nn::{Encoding, Engine, ModelSource, Target};
//! use graphpool_candle::CandleBackend;
//! use graphpool_wasmtime::{WasiNnCtx, witx};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let engine = wasmtime::Engine::default();
//! # let guest = r#"(module
//! #     (import "wasi_ephemeral_nn" "load_by_name" (func $load (param i32 i32 i32) (result i32)))
//! #     (memory (export "memory") 1)
//! #     (data (i32.const 0) "digits")
//! #     (func (export "load") (result i32) (call $load (i32.const 0) (i32.const 6) (i32.const 8))))"#;
//! # let module = wasmtime::Module::new(&engine, guest)?;
//! let nn = Engine::new(CandleBackend::new());
//! let digits = ModelSource::path("../../examples/models/digits/digits.onnx");
//! nn.register_model("digits", digits, Encoding::Onnx, Target::Cpu)?;
//! let mut linker = wasmtime::Linker::new(&engine);
//! witx::add_to_linker(&mut linker, |ctx: &mut WasiNnCtx| ctx)?;
//!
//! // Two stores load the model: one is in memory.
//! for mut store in [0, 1].map(|_| wasmtime::Store::new(&engine, WasiNnCtx::new(nn.guest()))) {
//!     let instance = linker.instantiate(&mut store, &module)?;
//!     assert_eq!(instance.get_typed_func::<(), i32>(&mut store, "load")?.call(&mut store, ())?, 0);
//! }
//! assert_eq!(nn.stats().builds, 1);
//! # Ok(())
//! # }
//! ```
//!
//! What a guest can take of the host is bounded by its [limits](graphpool::nn::Limits) and the engine's:
//! `graphpool::docs::guide` goes through them. The component form has three more bounds, which belong to the store (its
//! table, its handles and the fuel of host calls). A refusal is an event of the engine's and counts in its statistics.

mod ctx;
#[cfg(any(feature = "witx", feature = "wit"))]
mod limits;
mod preload;
#[cfg(any(feature = "witx", feature = "wit"))]
mod span;
#[cfg(feature = "wit")]
pub mod wit;
#[cfg(feature = "witx")]
pub mod witx;

pub use ctx::WasiNnCtx;
pub use preload::{preload, preload_with, split_graph};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
