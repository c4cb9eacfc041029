//! The traits that a backend implements: load a model, open contexts, compute.
//!
//! A [`Backend`] loads a [`BackendGraph`], which is immutable and shared by all guests and threads. A graph opens
//! [`BackendContext`]s, and each of these is used by one call at a time. The engine validates handles, indexes, lengths
//! and limits before it calls a backend, and catches the backend's panics.

#[cfg(feature = "conformance")]
pub mod conformance;
mod control;
mod element;
mod encoding;
mod error;
mod placement;
mod tensor;
pub mod wire;
mod words;

pub use control::{CancelToken, ComputeControl};
pub use element::{Bf16Bits, Element, F16Bits, TensorType};
pub use encoding::{Encoding, Target};
pub use error::{Error, ErrorCode, ErrorKind, MESSAGE_BYTES};
pub use placement::Placement;
pub use tensor::{Shape, Tensor, TensorDescription, TensorView, element_count};

use std::path::{Path, PathBuf};

/// A backend: loads graphs of some encodings for some targets.
pub trait Backend: Send + Sync + 'static {
    /// A short name for logs and statistics.
    fn name(&self) -> &str;

    /// Whether this backend loads models of `encoding` for `target`. Called at every load, so it must be cheap.
    fn supports(&self, encoding: Encoding, target: Target) -> bool;

    /// Builds a graph. The engine holds no lock during this call, and several threads may call it at once. The backend
    /// may load other models from the same engine here. A load of the same model on this thread is refused, because it
    /// would wait for itself.
    ///
    /// # Errors
    ///
    /// [`InvalidEncoding`](ErrorKind::InvalidEncoding) if the bytes are not a valid model,
    /// [`UnsupportedOperation`](ErrorKind::UnsupportedOperation) if this backend can't run the model,
    /// [`TooLarge`](ErrorKind::TooLarge) if the graph would take more than [`memory_limit`](LoadRequest::memory_limit),
    /// marked as [`by_limit`](Error::by_limit): the guest gets [`Busy`](ErrorKind::Busy) where other models use the
    /// room.
    fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error>;

    /// The files in the request's [`directory`](LoadRequest::directory) from which the model reads weights, beside its
    /// parts. Called before [`load`](Self::load), and only if the request has a directory. The engine hashes their
    /// content to tell models apart. The default is no files.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), and [`InvalidArgument`](ErrorKind::InvalidArgument) if the model names a file that it
    /// may not read.
    fn files(&self, _request: &LoadRequest<'_>) -> Result<Vec<PathBuf>, Error> {
        Ok(Vec::new())
    }
}

/// A request to load a model.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct LoadRequest<'a> {
    /// The model's bytes, in as many parts as its encoding has (ONNX: one). A guest may have written them: treat them
    /// as hostile input. Empty if the request has a [`name`](Self::name).
    pub parts: &'a [&'a [u8]],
    /// The name of a model that the backend itself finds. Only the host gives such names
    /// ([`ModelSource::of_backend`](crate::nn::ModelSource::of_backend)).
    pub name: Option<&'a str>,
    /// The stated encoding of the bytes.
    pub encoding: Encoding,
    /// The device that the graph is to run on.
    pub target: Target,
    /// The configuration of a named model, in the format that the backend documents. If the host lets guests configure
    /// the model, a guest may have written it: treat it as hostile input, like the parts.
    pub config: Option<&'a str>,
    /// The directory of the model's file, if the host registered the model by its path. A model may keep weights in
    /// other files there. `None` for models from bytes, so that a guest's model cannot read files of the host.
    pub directory: Option<&'a Path>,
    /// The most bytes that the loaded graph may take.
    pub memory_limit: usize,
}

impl<'a> LoadRequest<'a> {
    /// A request without a configuration and without a memory limit.
    #[must_use]
    pub const fn new(parts: &'a [&'a [u8]], encoding: Encoding, target: Target) -> Self {
        Self { parts, name: None, encoding, target, config: None, directory: None, memory_limit: usize::MAX }
    }

    /// Sets the name of a model that the backend finds, or removes it.
    #[must_use]
    pub fn with_name(self, name: impl Into<Option<&'a str>>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Sets the configuration, or removes it.
    #[must_use]
    pub fn with_config(self, config: impl Into<Option<&'a str>>) -> Self {
        Self { config: config.into(), ..self }
    }

    /// Sets the directory for further files, or removes it.
    #[must_use]
    pub fn with_directory(self, directory: impl Into<Option<&'a Path>>) -> Self {
        Self { directory: directory.into(), ..self }
    }

    /// Sets the memory limit, in bytes.
    #[must_use]
    pub const fn with_memory_limit(self, memory_limit: usize) -> Self {
        Self { memory_limit, ..self }
    }
}

/// A loaded model: immutable, shared by all of its contexts.
pub trait BackendGraph: Send + Sync + 'static {
    /// The inputs, in the order of their indexes.
    fn inputs(&self) -> &[TensorDescription];

    /// The outputs, in the order of their indexes.
    fn outputs(&self) -> &[TensorDescription];

    /// Opens a context. The context must keep alive what it needs of the graph.
    ///
    /// # Errors
    ///
    /// Any error that keeps the backend from opening a context.
    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error>;

    /// The bytes that the graph holds on the host and on its device, for accounting; an estimate is enough.
    fn memory(&self) -> usize;

    /// Where the graph's steps run, if it is on a device. The default is `None`: on the host, or not known.
    fn placement(&self) -> Option<Placement> {
        None
    }
}

/// The inputs, scratch memory and outputs of one stream of inferences.
pub trait BackendContext: Send + 'static {
    /// Copies `tensor` as the input at `index`. The engine has checked that `index` is less than the number of inputs.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if the model does not take this type or shape.
    fn set_input(&mut self, index: usize, tensor: TensorView<'_>) -> Result<(), Error>;

    /// Unsets every input and frees its memory. The outputs stay. A `compute` then lacks its inputs, as in a new
    /// context: the engine relies on it so that an inference never runs on an input of an earlier one.
    fn clear_inputs(&mut self);

    /// Computes every output from the inputs. The engine holds no lock and no epoch guard during this call.
    ///
    /// The backend may start computes of the same engine on this thread. Such a compute is refused if it would have to
    /// wait for its turn, because this compute may hold that turn. A compute that is started on another thread and
    /// waited for is not recognised: it waits until its deadline.
    ///
    /// A context keeps its inputs: a second call computes from the same ones.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) if an input is missing, [`TooLarge`](ErrorKind::TooLarge) past
    /// the control's memory limit, and the errors of [`ComputeControl::check`], which a backend calls between
    /// operators.
    fn compute(&mut self, control: &ComputeControl) -> Result<(), Error>;

    /// The output at `index` of the last successful `compute`. The engine has checked that `index` is less than the
    /// number of outputs.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) before the first successful `compute`.
    fn output(&self, index: usize) -> Result<TensorView<'_>, Error>;

    /// The output at `index` of the last successful `compute`, moved out of the context where the backend can do that.
    /// The engine takes each output once, and reads none between the first that it takes and the next successful
    /// `compute`. The default copies the output and leaves it in the context.
    ///
    /// # Errors
    ///
    /// Those of [`output`](Self::output).
    fn take_output(&mut self, index: usize) -> Result<Tensor, Error> {
        Ok(self.output(index)?.to_owned())
    }

    /// The bytes that the context holds between calls, with its inputs and outputs, for accounting; an estimate is
    /// enough. Called when the context is opened and after each call that changes it, so it must be cheap. By default
    /// the engine counts the inputs alone. A context that exceeds a limit is lost.
    fn memory(&self) -> usize {
        0
    }
}
