//! What turns a model's bytes into something that computes: the traits that a backend implements.
//!
//! A [`Backend`] loads a [`BackendGraph`], which is immutable and shared by every guest and thread; a graph opens
//! [`BackendContext`]s, each of which is used by one call at a time. The engine checks what can be checked without
//! the backend (handles, indexes, lengths, limits) before it calls one, and catches its panics.

#[cfg(feature = "conformance")]
pub mod conformance;
mod control;
mod element;
mod encoding;
mod error;
mod tensor;
pub mod wire;
mod words;

pub use control::{CancelToken, ComputeControl};
pub use element::{Bf16Bits, Element, F16Bits, TensorType};
pub use encoding::{Encoding, Target};
pub use error::{Error, ErrorCode, ErrorKind, MESSAGE_BYTES};
pub use tensor::{Shape, Tensor, TensorDescription, TensorView, element_count};

use std::path::{Path, PathBuf};

/// Loads graphs of some encodings for some targets.
pub trait Backend: Send + Sync + 'static {
    /// A short name for logs and statistics.
    fn name(&self) -> &str;

    /// Whether this backend takes models of `encoding` for `target`. Cheap: asked at every load.
    fn supports(&self, encoding: Encoding, target: Target) -> bool;

    /// Builds a graph. Called without any lock held, and from several threads at once. It may load others from the same
    /// engine, but not this one: on this thread that is refused, as the load would wait for itself.
    ///
    /// # Errors
    ///
    /// [`InvalidEncoding`](ErrorKind::InvalidEncoding) for bytes that are no such model,
    /// [`UnsupportedOperation`](ErrorKind::UnsupportedOperation) for a model that this backend can't run,
    /// [`TooLarge`](ErrorKind::TooLarge) where it would take more than
    /// [`memory_limit`](LoadRequest::memory_limit).
    fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error>;

    /// The files in the request's [`directory`](LoadRequest::directory) that the model keeps its weights in, beside its
    /// parts. Asked before [`load`](Self::load), and only where there is a directory; the engine takes their content
    /// into account when it tells models apart. A backend that reads no such files has none.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), and [`InvalidArgument`](ErrorKind::InvalidArgument) for a file that a model
    /// may not name.
    fn files(&self, _request: &LoadRequest<'_>) -> Result<Vec<PathBuf>, Error> {
        Ok(Vec::new())
    }
}

/// What is to be loaded.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct LoadRequest<'a> {
    /// The model's bytes, in as many parts as its encoding has (ONNX: one). A guest may have written them: they
    /// are an attack until checked.
    pub parts: &'a [&'a [u8]],
    /// What the bytes claim to be.
    pub encoding: Encoding,
    /// Where the graph is to run.
    pub target: Target,
    /// The configuration of a named model, in whatever form the backend documents. Where the host lets guests configure
    /// the model, a guest may have written it: it is an attack until checked, as the parts are.
    pub config: Option<&'a str>,
    /// Where the model's file lies, where the host has named the model by its path. A model may keep weights in other
    /// files there. `None` for bytes, so that no guest's model reads a file of the host.
    pub directory: Option<&'a Path>,
    /// Bytes that the graph may take once it is loaded.
    pub memory_limit: usize,
}

impl<'a> LoadRequest<'a> {
    /// A request without a configuration and without a bound on memory.
    #[must_use]
    pub const fn new(parts: &'a [&'a [u8]], encoding: Encoding, target: Target) -> Self {
        Self { parts, encoding, target, config: None, directory: None, memory_limit: usize::MAX }
    }

    /// The same with a configuration, or with none.
    #[must_use]
    pub fn with_config(self, config: impl Into<Option<&'a str>>) -> Self {
        Self { config: config.into(), ..self }
    }

    /// The same with a directory for further files, or with none.
    #[must_use]
    pub fn with_directory(self, directory: impl Into<Option<&'a Path>>) -> Self {
        Self { directory: directory.into(), ..self }
    }

    /// The same with a bound on memory, in bytes.
    #[must_use]
    pub const fn with_memory_limit(self, memory_limit: usize) -> Self {
        Self { memory_limit, ..self }
    }
}

/// A loaded model.
pub trait BackendGraph: Send + Sync + 'static {
    /// The inputs, in the order of their indexes.
    fn inputs(&self) -> &[TensorDescription];

    /// The outputs, in the order of their indexes.
    fn outputs(&self) -> &[TensorDescription];

    /// Opens a context. It keeps alive whatever of the graph it needs.
    ///
    /// # Errors
    ///
    /// Whatever keeps the backend from opening one.
    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error>;

    /// Bytes that the graph holds, for accounting; an estimate will do.
    fn memory(&self) -> usize;
}

/// The inputs, scratch memory and outputs of one stream of inferences.
pub trait BackendContext: Send + 'static {
    /// Takes a copy of `tensor` as the input at `index`, which is less than the number of inputs.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a type or shape that the model does not take.
    fn set_input(&mut self, index: usize, tensor: TensorView<'_>) -> Result<(), Error>;

    /// Computes every output from the inputs. Called without any lock or epoch guard held.
    ///
    /// It may start computes of the same engine on this thread, which are refused where they would have to wait for
    /// their turn: that may be the one that this compute has. One that it starts on another thread and waits for is not
    /// recognised, and waits until its time is over.
    ///
    /// A context keeps its inputs: a second call computes from the same ones.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) where an input is missing,
    /// [`TooLarge`](ErrorKind::TooLarge) past the control's memory limit, and what
    /// [`ComputeControl::check`] gives, which a backend asks between operators.
    fn compute(&mut self, control: &ComputeControl) -> Result<(), Error>;

    /// The output at `index`, which is less than the number of outputs, of the last successful `compute`.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) before the first successful `compute`.
    fn output(&self, index: usize) -> Result<TensorView<'_>, Error>;

    /// Bytes that the context holds between calls, inputs and outputs with them, for accounting; an estimate will do.
    /// Asked at the opening and after each `set_input` and `compute`, so cheap. A backend that does not count is taken
    /// to hold its inputs. What is more than a limit allows costs the context.
    fn memory(&self) -> usize {
        0
    }
}
