//! graphpool as the library that WAMR opens for ONNX models, `libwasi_nn_onnx.so`, and for language models in GGUF files,
//! `libwasi_nn_llamacpp.so`. The second is a link to the first, so that the process has one library and one engine.
//!
//! WAMR calls nine functions of a backend library. Here they share one engine of the process: each `init_backend` makes
//! a guest of it, whose graphs and contexts are limited by configuration alone, and models are shared by all of them.
//!
//! * W1: a context is the number of a guest, which is looked up and never dereferenced. Any pointer is safe to pass.
//! * W2: what the functions are given may lie in a guest's memory, unaligned, while other threads write it. It is
//!   copied once through [`Arguments`], and the copy is checked.
//! * W3: a guest names models of the host's directory, by their registered names; none of its bytes becomes a path.
//! * W4: the library stays mapped after `dlclose`: it is linked with `-z nodelete`. A host may close it while a call is
//!   inside (WAMR closes and opens libraries outside of its lock), and the engine's thread, and destructors of
//!   thread-local values, run its code later. Opened again, it is the same library with the same engine. The engine
//!   lives as long as the process, so models that are loaded by name stay built between instances.

#![allow(
    clippy::missing_safety_doc,
    reason = "the functions are WAMR's to call; `graphpool_ffi::Arguments::new` has the rules for their pointers"
)]

mod config;
mod engine;
mod interface;
mod layout;

pub use interface::*;
pub use layout::{Pair, Tensor};

#[cfg(doc)]
use graphpool_ffi::Arguments;
