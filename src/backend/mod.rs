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
mod file;
mod placement;
mod step;
mod tensor;
pub mod wire;
mod words;

pub use control::{CancelToken, ComputeControl, Suspension};
pub(crate) use control::{Room, Suspender};
pub use element::{Bf16Bits, Element, F16Bits, TensorType};
pub use encoding::{Encoding, Target};
pub use error::{Error, ErrorCode, ErrorKind, MESSAGE_BYTES};
pub use file::ModelFile;
pub use placement::Placement;
pub use step::Step;
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

    /// Whether the backend reads the file of a model of `encoding` itself, piece by piece. The request of a named model
    /// that is one file then has the [`file`](LoadRequest::file) and no parts, so that it is never in memory as a
    /// whole. Models from bytes have parts all the same, and so has a model of several parts and one of
    /// [`Encoding::Autodetect`]. The default is `false`.
    fn reads_file(&self, _encoding: Encoding, _target: Target) -> bool {
        false
    }

    /// Whether this backend's graphs of `encoding` for `target` can be [reconfigured](BackendGraph::reconfigure). The
    /// graphs of one named model with the configurations of guests then share what is the same in all of them, such as
    /// the weights. The default is `false`: each configuration is loaded from the model's bytes.
    fn reconfigures(&self, _encoding: Encoding, _target: Target) -> bool {
        false
    }
}

/// A request to load a model.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct LoadRequest<'a> {
    /// The model's bytes, in as many parts as its encoding has (ONNX: one). A guest may have written them: treat them
    /// as hostile input. Empty if the request has a [`name`](Self::name) or a [`file`](Self::file).
    pub parts: &'a [&'a [u8]],
    /// The model's file, for a backend that [reads files](Backend::reads_file) itself. Who writes to the file while it
    /// is read makes the load fail.
    pub file: Option<&'a ModelFile>,
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
        Self {
            parts,
            file: None,
            name: None,
            encoding,
            target,
            config: None,
            directory: None,
            memory_limit: usize::MAX,
        }
    }

    /// Sets the file that the backend reads, or removes it.
    #[must_use]
    pub fn with_file(self, file: impl Into<Option<&'a ModelFile>>) -> Self {
        Self { file: file.into(), ..self }
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

    /// The bytes of the model: of its parts and its file together.
    pub(crate) fn given(&self) -> usize {
        let parts = self.parts.iter().map(|part| part.len()).fold(0, usize::saturating_add);
        self.file.map_or(0, ModelFile::len).saturating_add(parts)
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

    /// Makes the graph that a load of the same model with `config` in place of this graph's configuration would give,
    /// and shares with it what the configuration does not change. A guest may have written the text: treat it as
    /// hostile input. The engine calls this only if the backend [says that it can](Backend::reconfigures), and keeps
    /// this graph, and its memory counted, as long as the new one. The default refuses.
    ///
    /// The [memory](Self::memory) of the new graph is what it takes beside this one, at most `memory_limit` bytes.
    ///
    /// # Errors
    ///
    /// Those of [`Backend::load`].
    fn reconfigure(&self, _config: &str, _memory_limit: usize) -> Result<Box<dyn BackendGraph>, Error> {
        Err(Error::unsupported("the backend can't give a loaded model another configuration"))
    }

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

    /// As [`set_input`](Self::set_input), for an input that takes time or memory to be set, such as a prompt that is
    /// taken apart into tokens: within the deadline, the cancel token and the limits of `control`. The engine calls
    /// this one. The default calls [`set_input`](Self::set_input).
    ///
    /// # Errors
    ///
    /// Those of [`set_input`](Self::set_input), [`TooLarge`](ErrorKind::TooLarge) past a memory limit, and the errors
    /// of [`ComputeControl::check`].
    fn set_input_within(
        &mut self,
        index: usize,
        tensor: TensorView<'_>,
        _control: &ComputeControl,
    ) -> Result<(), Error> {
        self.set_input(index, tensor)
    }

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
    /// operators. A language model gives [`ContextFull`](ErrorKind::ContextFull) and
    /// [`PromptTooLong`](ErrorKind::PromptTooLong); the end of its sequence is success.
    fn compute(&mut self, control: &ComputeControl) -> Result<(), Error>;

    /// Makes the next piece of the outputs, such as a language model's next token. The first step begins a run from the
    /// inputs, and the pieces of a run are together what [`compute`](Self::compute) gives. The default refuses: a
    /// backend whose outputs come as a whole has no steps.
    ///
    /// An outcome other than [`Step::More`] ends the run. Before the engine begins another, changes an input or
    /// computes, it calls [`end_steps`](Self::end_steps), also for a run that is over. A step that has failed is made
    /// again by the next one.
    ///
    /// # Errors
    ///
    /// Those of [`compute`](Self::compute), and [`UnsupportedOperation`](ErrorKind::UnsupportedOperation) if the model
    /// has no steps. No outcome of a run is an error here.
    fn step(&mut self, _control: &ComputeControl) -> Result<Step, Error> {
        Err(Error::unsupported("the model's outputs come as a whole, and not in steps"))
    }

    /// The newest piece of the output at `index`: what the last successful [`step`](Self::step) has added to it. It is
    /// empty after a step that has ended the run. Of an output that is not made of pieces it is the whole as it is now.
    /// The engine calls it between a successful step and `end_steps` only. The default is [`output`](Self::output).
    ///
    /// # Errors
    ///
    /// Those of [`output`](Self::output).
    fn step_output(&self, index: usize) -> Result<TensorView<'_>, Error> {
        self.output(index)
    }

    /// Ends the run of steps and frees what belongs to it alone; the inputs stay. The outputs of the run may be gone
    /// then. Called once for each run that has begun, also if its first step has failed, but for a run that the context
    /// has when it is dropped. The default does nothing.
    fn end_steps(&mut self) {}

    /// The output at `index` of the last successful `compute`, or the pieces of the run of steps so far, together. The
    /// engine has checked that `index` is less than the number of outputs. An output that is described as readable
    /// [before a compute](TensorDescription::before_compute) is that of the inputs that are set.
    ///
    /// A `compute` that fails with [`ContextFull`](ErrorKind::ContextFull) leaves what it has made until then as its
    /// outputs.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) before the first successful `compute`.
    fn output(&self, index: usize) -> Result<TensorView<'_>, Error>;

    /// The output at `index` of the last successful `compute`, moved out of the context where the backend can do that.
    /// The engine takes each output once, and reads none between the first that it takes and the next successful
    /// `compute` or `step`. It takes none that can be read before a compute: it copies those. The default copies the
    /// output and leaves it in the context.
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

    /// Of the bytes of [`memory`](Self::memory), those that the graph counts in [its own](BackendGraph::memory),
    /// because several contexts share them. They count against the guest's limit in each context, so that its limits
    /// hold as if nothing was shared, and against the engine's limits once. Called after [`memory`](Self::memory). The
    /// default is 0.
    fn shared_memory(&self) -> usize {
        0
    }
}
