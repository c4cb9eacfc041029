//! A backend for [graphpool]'s wasi-nn engine that loads ONNX models and runs them on the CPU, or with a feature on a
//! GPU.
//!
//! The package reads ONNX files itself, compiles a model's graph to a plan, and runs the plan. Give [`CandleBackend`]
//! to an engine:
//!
//! ```
//! use graphpool::nn::Engine;
//! use graphpool_candle::CandleBackend;
//! let engine = Engine::new(CandleBackend::new());
//! # let _ = engine;
//! ```
//!
//! Callers who want ONNX's element types without the engine use [`CandleBackend::load_graph`] and [`CandleGraph::run`].
//!
//! # From a model's bytes to a run
//!
//! ```text
//!  load, once                                           run, once for each compute
//!
//!  bytes of a model                                     inputs of a guest
//!    │ format::scan      the memory that it needs         │ context     wasi-nn types to ONNX types
//!    │ format::decode    bytes to messages                ▼
//!    │ format::external  weights in other files         values ◄───────┐
//!    │ format::tensors   messages to values               │ exec::run  │ the steps of the plan in order
//!    │ compile           names, constant folding,         │ ops        │ the operator of a step
//!    ▼                   fusion, packed weights           │ math       │ its loops and products
//!  Plan (exec::plan)                                      │ ───────────┘
//!    in a Model, which all contexts share                 │ context     ONNX types to wasi-nn types
//!                                                         ▼
//!                                                       outputs of a guest
//! ```
//!
//! The source is in modules, each of which uses only modules below it:
//!
//! ```text
//!  graph, context    CandleGraph: the load, and a run without a context; CandleContext: inputs and outputs
//!  model, strings    what contexts share; strings for guests
//!  place, gpu, cuda  where a model runs: the host, a device, a GPU; the libraries of CUDA
//!  compile           from messages to a plan: names, functions, constant folding, fusion
//!  exec              the plan and its execution
//!  ops               the operators, with a file for each family, and their table; ops::device has their device forms
//!  device            tensors on a device, and the operations that device forms are made of
//!  chat, llm         chat templates; language models: weights, the pass through the layers, sessions
//!  grammar           grammars of the host's, which texts follow
//!  quant, text       matrices of quantized weights; tokenizers and the choice of tokens
//!  math              vector loops, matrix products, fused elementwise operators
//!  compute           the resources of one compute: memory, deadline, threads, random numbers
//!  profile           how long steps take, where a host asks for it
//!  format, gguf      the files; of ONNX: messages, tensors, external data, inputs and outputs
//!  tensor, quote     values, element types, shapes, memory budgets; names in error messages
//! ```
//!
//! # Language models
//!
//! With the feature `ggml`, the backend loads GGUF files ([`Encoding::Ggml`]) of the architectures llama (also Mistral,
//! `SmolLM`, `TinyLlama`), qwen2, qwen3, gemma3 and phi3, for the CPU. A graph is the weights, in the types of the
//! file, which all guests share. A context is a session.
//!
//! | | |
//! | --- | --- |
//! | input 0 | the prompt: bytes of UTF-8, in which names of control tokens stand for those tokens |
//! | input 1 | options in JSON, with the keys of llama.cpp's hosts; may be left out |
//! | output 0 | the text; with the option `embedding`, a JSON object with `n_embedding` and `embedding` |
//! | output 1 | a JSON object with `input_tokens` and `output_tokens`; can be read before a compute |
//!
//! ```
//! # #[cfg(feature = "ggml")]
//! # fn run(file: &[u8]) -> Result<(), graphpool::nn::Error> {
//! use graphpool::nn::{Encoding, Engine, Step, Target, TensorType, TensorView};
//! use graphpool_candle::CandleBackend;
//!
//! let guest = Engine::new(CandleBackend::new()).guest();
//! let graph = guest.load(&[file], Encoding::Ggml, Target::Cpu)?;
//! let session = guest.init_execution_context(graph)?;
//! guest.set_input(session, 0, TensorView::new(&[22], TensorType::U8, b"The capital of France ")?)?;
//! guest.set_input(session, 1, TensorView::new(&[31], TensorType::U8, br#"{"temp": 0.2, "n-predict": 100}"#)?)?;
//! let mut piece = [0; 256];
//! while guest.compute_single(session)? == Step::More {
//!     let length = guest.get_output_single(session, 0, &mut piece)?;
//!     print!("{}", String::from_utf8_lossy(&piece[..length]));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! * A compute goes on to a token that ends the answer, to `n-predict` tokens, or to one of the strings
//!   `reverse-prompt`. It fails with [`ContextFull`](graphpool::backend::ErrorKind::ContextFull) where the context of
//!   `ctx-size` tokens ends, and its text can be read all the same. A prompt must leave 4 tokens of the context.
//! * The cache of keys and values grows in pages of 32 positions. Each is charged to the limits of the compute and the
//!   context before it is allocated. A prompt that begins as the last sequence did passes only what is new.
//! * Options that are not known are ignored, and those that name files or addresses of the host refused.
//! * The configuration of a named model, or a second part at load, has options that its sessions begin with. Graphs of
//!   one named model with configurations of guests share its weights, and are made in no time.
//! * The file of a named model is read piece by piece, and not mapped.
//! * With the feature `grammar`, the option `grammar` names a grammar or a JSON schema of the host's, which the text
//!   follows: `CandleBackend::with_grammar`. A guest's own grammars are refused.
//! * Sessions share equal beginnings of prompts, unless a host switches that off: `CandleBackend::with_shared_prompts`.
//! * With `chat-template`, a host writes conversations by the template of a model's file: `ChatTemplate`.
//!
//! # Devices
//!
//! With the feature `candle`, `CandleBackend::with_device` runs models on a device of
//! [candle-core](https://docs.rs/candle-core): a GPU, or candle's CPU, on which the device forms are tested. With the
//! feature `cuda` or `metal`, `CandleBackend::with_gpu` opens a GPU by itself. Only `cuda` is built and tested here;
//! `metal` passes the same calls to candle's Metal, which has no f64.
//!
//! ```text
//!  Plan ──► exec::run      each step by its host kernel                 (new, with_threads)
//!       └─► exec::device   each step by its device form, where its      (with_device)
//!           operator has one, and by its host kernel otherwise
//! ```
//!
//! What this crate takes from candle is its devices: allocation, transfers, and tensor operations with kernels for each
//! kind of device. It does not take its ONNX reader, nor its CPU kernels for models on the host, which are slower than
//! those here. A guest's bytes reach candle as tensors alone, whose sizes were checked and charged before.
//!
//! * A form refuses what the host kernel refuses. An operator that only moves elements asks the host kernel where they
//!   go.
//! * Floats of 16 bits are computed in f32. Integers are moved and compared on the device; arithmetic with them runs on
//!   the host, because devices differ in what overflow and a division by zero do.
//! * Shapes and other integer lists of up to 64 elements stay on the host, where a plan computes them.
//! * Steps are not fused, and weights are not packed.
//! * On CUDA, each thread that computes has a stream of its own, so contexts on several threads run side by side. The
//!   weights are shared by all streams.
//! * Integers of 16 and 32 bits with a sign take 8 bytes on a device, for candle has no kernels for them on a GPU.
//! * A tensor on a GPU has at most 2,147,483,647 elements, as candle's kernels count them in 32 bits.
//! * The deadline and the cancel token are checked before each operation. One operation can't be interrupted.
//!
//! [`operators`] says which operators have a device form. The engine's listing of graphs and its event `built` tell how
//! many steps of a graph have one.
//!
//! # What a model can cost
//!
//! A guest can pass any bytes as a model, so nothing in them is trusted:
//!
//! * No number in a model or a tensor makes the process panic, abort or allocate more than the limit.
//!   [`LoadRequest::memory_limit`] bounds a load and the loaded graph, [`ComputeControl::memory_limit`] bounds a
//!   compute. Memory is charged before it is allocated. What a context keeps for its next compute gives way to that
//!   limit, and counts as the context's memory.
//! * A compute checks its cancel token before each operator, its deadline before one of eight operators, and both
//!   within operators that can take long.
//! * A load refuses what is not supported, with the operator's name and opset; [`operators`] lists what is supported.
//! * Work at load is bounded too: constants are folded for at most half a second, function calls expand to at most
//!   131,072 nodes, and weights are packed into at most four times the file's length and 1 MiB. What exceeds a bound is
//!   left for the run or refused.
//!
//! A graph is immutable. Its contexts share the weights and never wait for each other. A compute runs on the thread
//! that calls it, unless the host asks for more threads ([`CandleBackend::with_threads`]).
//!
//! # What is supported
//!
//! ai.onnx up to opset [`LATEST_OPSET`], ai.onnx.ml, and the operators of com.microsoft that exporters of quantized and
//! optimized transformers use, as [`operators`] lists them. In addition:
//!
//! * Strings, for labels and categories. [`CandleContext`] describes how a guest passes them. No operator creates a
//!   string that the model does not contain.
//! * `ZipMap`: its sequence of maps is returned as a matrix of scores with one column for each class.
//! * Functions that a model defines. They take precedence over operators of the same name.
//! * Inputs with a default: an input that is an initializer too can be set or left out, and comes after the inputs that
//!   must be set. In files of IR version 3 and older it is an initializer only, as in onnxruntime.
//! * Random numbers. A node with a seed draws the same sequence in every context, other nodes draw from a seed of the
//!   context. A context that computes again continues its sequences. The numbers differ from onnxruntime's for the same
//!   seed.
//! * Data in other files, if the host has registered the model by its path. The files must be in the model's directory.
//!
//! # Numbers
//!
//! Values are computed in their own type: f64 in f64, f32 in f32. The 16-bit floats are computed in f32 and rounded
//! once, when a tensor is written. Vector instructions up to AVX-512 are chosen at run time. An integer index that
//! depends on a coordinate is computed with exact fractions in Resize, and in f64 in `GridSample` and Range.
//!
//! The maximum and the minimum of elements with a NaN among them is NaN, for every operator. Its index is that of the
//! first NaN, or of the last one where `ArgMax` and `ArgMin` select the last index. `TopK` sorts NaN above every
//! number.
//!
//! [`LoadRequest::memory_limit`]: graphpool::backend::LoadRequest::memory_limit
//! [`ComputeControl::memory_limit`]: graphpool::backend::ComputeControl::memory_limit

#![deny(unsafe_code)]

#[cfg(feature = "chat-template")]
mod chat;
mod compile;
mod compute;
mod context;
#[cfg(cuda_at_run_time)]
mod cuda;
mod decode;
#[cfg(feature = "candle")]
mod device;
mod exec;
mod format;
#[cfg(feature = "ggml")]
mod gguf;
#[cfg(any(feature = "cuda", feature = "metal"))]
mod gpu;
#[cfg(feature = "ggml")]
mod grammar;
mod graph;
#[cfg(feature = "grammar")]
mod host_grammars;
#[cfg(feature = "ggml")]
mod llm;
mod math;
mod model;
#[cfg(feature = "candle")]
mod on_device;
mod ops;
mod place;
mod profile;
mod profiling;
#[cfg(feature = "ggml")]
mod quant;
mod quote;
#[cfg(feature = "ggml")]
mod sharing;
mod strings;
mod tensor;
#[cfg(test)]
mod tests;
#[cfg(feature = "ggml")]
mod text;

#[cfg(feature = "chat-template")]
pub use chat::{ChatMessage, ChatTemplate};
pub use context::CandleContext;
pub use decode::decode_tensor;
#[cfg(feature = "candle")]
pub use exec::device::DeviceReport;
#[doc(hidden)]
pub use format::messages;
pub use format::ports::Port;
#[cfg(feature = "grammar")]
pub use grammar::Grammar;
pub use graph::CandleGraph;
pub use ops::operator::{Cost, LATEST_OPSET, Operator};
pub use ops::operators;
pub use profile::collector::Profile;
pub use profile::report::{ModelProfile, ProfileReport, StepProfile, Timing};
pub use tensor::dims::{MAX_ELEMENTS, MAX_RANK};
pub use tensor::element::{Element, ElementType};
pub use tensor::value::Value;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use compute::threads::Threads;
use format::external;
use place::Place;
use quote::quote;

use graphpool::backend::{Backend, BackendGraph, Encoding, Error, LoadRequest, Target};

/// Loads ONNX models for the CPU, or for a device, and with the feature `ggml` language models in GGUF files for the
/// CPU.
///
/// For ONNX models the backend has no settings: a load with a configuration that is not blank is refused. Clones share
/// their threads.
///
/// A compute runs on the thread that calls it and on no other, whatever the process does with rayon. This gives the
/// highest throughput for many guests. [`with_threads`](Self::with_threads) is for few guests that wait for large
/// models.
#[derive(Debug, Clone)]
pub struct CandleBackend {
    threads: Option<Arc<Threads>>,
    place: Place,
    profile: Option<Profile>,
    #[cfg(feature = "ggml")]
    shares_prompts: bool,
    #[cfg(feature = "ggml")]
    grammars: grammar::Grammars,
}

// The public types that hosts share between threads or move to other threads.
const _: () = {
    const fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<CandleBackend>();
    is_send_and_sync::<CandleGraph>();
    is_send_and_sync::<CandleContext>();
    is_send_and_sync::<Value>();
    is_send_and_sync::<Port>();
};

impl CandleBackend {
    /// A backend whose computes run on the thread that calls them.
    #[must_use]
    pub const fn new() -> Self {
        Self::at(None, Place::Host)
    }

    /// A backend whose computes run on up to `threads` threads each, including the thread that calls them.
    ///
    /// `threads - 1` threads are started here. They end when the backend, its graphs and their contexts are dropped.
    /// All computes share them: a compute takes those that are free and never waits for one.
    ///
    /// * Only matrix products and convolutions of millions of multiplications are split, so small models gain nothing.
    /// * Each part has scratch memory of its own, which counts towards the compute's memory limit.
    /// * A thread spins for a millisecond after its last part before it sleeps.
    /// * A compute on a thread of a rayon pool stays on that thread.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`](graphpool::backend::ErrorKind::RuntimeError) if the threads can't be started.
    pub fn with_threads(threads: NonZeroUsize) -> Result<Self, Error> {
        Ok(Self::at(Threads::new(threads)?, Place::Host))
    }

    const fn at(threads: Option<Arc<Threads>>, place: Place) -> Self {
        #[cfg(feature = "ggml")]
        return Self { threads, place, profile: None, shares_prompts: true, grammars: grammar::Grammars::new() };
        #[cfg(not(feature = "ggml"))]
        Self { threads, place, profile: None }
    }
}

impl Default for CandleBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for CandleBackend {
    fn name(&self) -> &'static str {
        if self.place.target() == Target::Gpu { "candle-gpu" } else { "candle" }
    }

    fn supports(&self, encoding: Encoding, target: Target) -> bool {
        let is_supported = match encoding {
            Encoding::Onnx | Encoding::Autodetect => true,
            // Language models run on the host.
            Encoding::Ggml => cfg!(feature = "ggml") && !self.place.is_device(),
            _ => false,
        };
        is_supported && target == self.place.target()
    }

    fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        if !self.supports(request.encoding, request.target) {
            let (encoding, target) = (request.encoding, request.target);
            let why = format!("this candle backend runs no models of the encoding {encoding} on the target {target}");
            return Err(Error::unsupported(why));
        }
        #[cfg(feature = "ggml")]
        if llm::is_for(request, !self.place.is_device()) {
            let graph = llm::graph::LanguageGraph::from_request(request, self.shares_prompts, &self.grammars)?;
            return Ok(Box::new(graph));
        }
        // A setting without an effect would mislead the person who wrote it.
        if let Some(config) = request.config.filter(|config| !config.trim().is_empty()) {
            let why = format!("the candle backend has no settings, and the configuration is {}", quote(config));
            return Err(Error::invalid_argument(why));
        }
        let [model] = request.parts else {
            return Err(Error::invalid_encoding(format!("an ONNX model has 1 part, not {}", request.parts.len())));
        };
        let (directory, limit) = (request.directory, request.memory_limit);
        Ok(Box::new(CandleGraph::load(model, directory, limit, self)?))
    }

    fn reads_file(&self, encoding: Encoding, target: Target) -> bool {
        encoding == Encoding::Ggml && self.supports(encoding, target)
    }

    fn reconfigures(&self, encoding: Encoding, target: Target) -> bool {
        encoding == Encoding::Ggml && self.supports(encoding, target)
    }

    fn files(&self, request: &LoadRequest<'_>) -> Result<Vec<PathBuf>, Error> {
        match (request.parts, request.directory) {
            ([model], Some(directory)) => external::files(model, directory),
            _ => Ok(Vec::new()),
        }
    }
}
