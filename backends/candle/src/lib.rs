//! ONNX models on the CPU: an ONNX front end of our own over candle-core.
//!
//! A guest hands the host any bytes, so that a model is an attack until it is checked: [`decode`] bounds what
//! decoding allocates, `check` looks at every tensor, `plan` compiles the graph once into steps that every context
//! shares, and `run` charges each operator's memory to the compute's budget before the operator allocates it. What
//! isn't supported is refused at load, by name and opset; [`operators`] lists what is.
//!
//! Weights are laid out once, at load, as their product takes them (`pack`), in a budget of four times the file's
//! length and 1 MiB, and no more than the load's limit leaves; past it a step runs on them as they are. A convolution
//! or a product by weights takes with it the elementwise operators that follow (`fuse`, `tail`), batch normalization
//! among them, so that their values go to memory once. Vector instructions up to AVX-512 are chosen at run time.
//!
//! What lies outside of plain tensors and ai.onnx:
//!
//! * Operators of ai.onnx.ml and com.microsoft, as far as [`operators`] lists them.
//! * Strings, which labels and categories are: a guest gives and gets them as [`CandleContext`] says. No operator makes
//!   a string that the model doesn't name.
//! * A sequence of maps, which `ZipMap` makes, is given as the matrix of its scores, a column for each class.
//! * Functions that a model defines are compiled where they are used; they come before operators of the same name.
//! * An input that is an initializer too may be given or not, and comes after those that have to be given. In files of
//!   IR version 3 and older it is a weight and no input, as onnxruntime has it.
//! * Numbers at random follow the seed of their node and otherwise one of the context's own; a context that computes
//!   again goes on. They are other ones than onnxruntime draws of the same seed.
//! * Data in other files is read where the host has named the model by its path: the files are in the model's
//!   directory.
//!
//! Values are computed in the type that they have: f64 in f64, f32 in f32, and the 16-bit floats in f32, rounded once
//! where a tensor is written. The largest and the smallest of elements with a NaN among them is NaN, whatever the
//! operator, and its index is that of the first NaN (the last, where `ArgMax` and `ArgMin` are asked for the last of
//! equal ones); `TopK` takes a NaN for larger than every number. An index that depends on a coordinate is found by
//! exact fractions in Resize, and in f64 in `GridSample` and Range.
//!
//! * No number in a model or a tensor makes the process panic, abort or allocate beyond its budget.
//! * A graph is immutable; contexts of one graph share its weights and wait for nothing.
//! * One compute uses the thread that called it and no other, unless the host asks for more
//!   ([`CandleBackend::with_threads`]).

#![deny(unsafe_code)]

mod compile;
mod compute;
mod context;
mod exec;
mod format;
mod graph;
mod math;
mod model;
mod ops;
mod quote;
mod strings;
mod tensor;

#[cfg(test)]
mod tests;

pub use context::CandleContext;
pub use format::messages;
pub use format::ports::Port;
pub use graph::CandleGraph;
pub use ops::operator::{Cost, LATEST_OPSET, Operator};
pub use ops::operators;
pub use tensor::dims::{MAX_ELEMENTS, MAX_RANK};
pub use tensor::element::{Element, ElementType};
pub use tensor::value::Value;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use compute::threads::Threads;
use format::messages::TensorProto;
use format::{external, tensors};
use quote::quote;
use tensor::string_table::StringTable;

use graphpool::backend::{Backend, BackendGraph, Encoding, Error, LoadRequest, Target};

/// Loads ONNX models for the CPU. It has no settings: a model's configuration is refused unless it is empty.
///
/// Each compute uses the thread that called it and no other, whatever the process does with rayon's threads: many
/// guests are served best so. [`with_threads`](Self::with_threads) is for few guests who wait for large models.
#[derive(Debug, Clone)]
pub struct CandleBackend {
    threads: Option<Arc<Threads>>,
}

impl CandleBackend {
    /// The backend, with each compute on the thread that called it.
    #[must_use]
    pub const fn new() -> Self {
        Self { threads: None }
    }

    /// The backend with each compute spread over `threads` threads, the one that called it among them.
    ///
    /// The others are started here, and end when the backend, its graphs and their contexts are gone. All computes
    /// share them, none waits for one that another has, and each is kept busy for a millisecond after its last part.
    /// Only products of millions of multiplications are spread, so that small models gain nothing, and each part has
    /// room of its own, which its compute's memory limit counts. A compute on a thread of one of rayon's pools stays on
    /// it.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`](graphpool::backend::ErrorKind::RuntimeError) where the threads can't be started.
    pub fn with_threads(threads: NonZeroUsize) -> Result<Self, Error> {
        Ok(Self { threads: Threads::new(threads)? })
    }

    /// Loads a model and gives its graph as it is, for callers that want more types than wasi-nn has.
    ///
    /// # Errors
    ///
    /// As [`Backend::load`].
    pub fn load_graph(&self, model: &[u8], memory_limit: usize) -> Result<CandleGraph, Error> {
        CandleGraph::load(model, None, memory_limit, self.threads.clone())
    }
}

/// The tensor in a file of its own, as the test data of ONNX has them: one `TensorProto`.
///
/// # Errors
///
/// [`InvalidEncoding`](graphpool::backend::ErrorKind::InvalidEncoding) for bytes that are no such tensor,
/// [`UnsupportedOperation`](graphpool::backend::ErrorKind::UnsupportedOperation) for one of another element type.
pub fn decode_tensor(bytes: &[u8]) -> Result<Value, Error> {
    let tensor = <TensorProto as prost::Message>::decode(bytes);
    let tensor = tensor.map_err(|error| Error::invalid_encoding(format!("no tensor: {error}")))?;
    // A string is one of a graph's, and there is none.
    if tensor.data_type == Some(8) {
        return Err(Error::unsupported("strings outside of a model"));
    }
    tensors::tensor(&tensor, &std::cell::RefCell::new(StringTable::new()))
}

impl Default for CandleBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for CandleBackend {
    fn name(&self) -> &'static str {
        "candle"
    }

    fn supports(&self, encoding: Encoding, target: Target) -> bool {
        matches!(encoding, Encoding::Onnx | Encoding::Autodetect) && target == Target::Cpu
    }

    fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        if !self.supports(request.encoding, request.target) {
            return Err(Error::unsupported("the candle backend runs ONNX models on the CPU"));
        }
        // It would ask for what is not done.
        if let Some(config) = request.config.filter(|config| !config.trim().is_empty()) {
            let why = format!("configuration {}: the candle backend has no settings", quote(config));
            return Err(Error::invalid_argument(why));
        }
        let [model] = request.parts else {
            return Err(Error::invalid_encoding(format!("an ONNX model is 1 part, not {}", request.parts.len())));
        };
        let (directory, limit) = (request.directory, request.memory_limit);
        Ok(Box::new(CandleGraph::load(model, directory, limit, self.threads.clone())?))
    }

    fn files(&self, request: &LoadRequest<'_>) -> Result<Vec<PathBuf>, Error> {
        match (request.parts, request.directory) {
            ([model], Some(directory)) => external::files(model, directory),
            _ => Ok(Vec::new()),
        }
    }
}
