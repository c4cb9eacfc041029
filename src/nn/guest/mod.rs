//! A guest: the view of the engine that one wasm instance has.
//!
//! Every call resolves its handle with a few atomic loads (the guest's table, then the engine's pool) to a reference of
//! its own, and holds no lock and no epoch guard while it is inside a backend.

pub(crate) mod account;
pub(crate) mod builder;
pub(crate) mod check;
pub(crate) mod claimed;
pub(crate) mod closing;
pub(crate) mod compute;
pub(crate) mod context;
pub(crate) mod holdings;
pub(crate) mod host_bytes;
pub(crate) mod host_calls;
pub(crate) mod inference;
pub(crate) mod load;
pub(crate) mod load_state;
pub(crate) mod loading;
pub(crate) mod memory_charge;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod pools;
pub(crate) mod single;
pub(crate) mod steps;
pub(crate) mod stream;
pub(crate) mod use_lock;

use std::fmt;
use std::sync::Arc as StdArc;
use std::time::Instant;

use crate::backend::ComputeControl;
use crate::nn::graphs::graph::Graph;
use crate::nn::guest::account::Account;
use crate::nn::guest::check::TensorId;
use crate::nn::guest::claimed::Claimed;
use crate::nn::guest::closing::Closing;
use crate::nn::guest::context::Context;
use crate::nn::guest::holdings::GuestInner;
use crate::nn::guest::load_state::Loads;
use crate::nn::guest::policy::AllowedNames;
use crate::nn::inner::Inner;
use crate::nn::limits::usage::Usage;
use crate::nn::telemetry::observe;
use crate::nn::telemetry::stats::Counters;
use crate::nn::{Encoding, Error, Limits, Target, Tensor, TensorDescription, TensorType, TensorView};
use crate::{GuestHandle, HandleTable};

/// One wasm instance's view of an [`Engine`](crate::nn::Engine), with its own handles and limits.
///
/// Clones share one guest, for the threads of one instance; every call may be made from any of them at any time.
/// Handles are valid in their own guest only, like file descriptors: in another guest the same number refers to
/// something of that guest, or to nothing. A handle of the wrong kind (graph or context) is refused. A handle that was
/// given back is refused until about 2^31 others have been given out.
///
/// Dropping the last clone cancels the guest's computes and loads, and releases everything that it holds.
#[derive(Clone)]
pub struct Guest {
    pub(super) inner: StdArc<GuestInner>,
}

/// Graphs.
impl Guest {
    /// Loads a model from its bytes, in as many parts as its encoding has. The bytes may be hostile.
    ///
    /// # Errors
    ///
    /// [`InvalidEncoding`](crate::nn::ErrorKind::InvalidEncoding) if the bytes are not a valid model,
    /// [`UnsupportedOperation`](crate::nn::ErrorKind::UnsupportedOperation) if no backend supports the encoding for the
    /// target, or the backend can't run the model, [`TooLarge`](crate::nn::ErrorKind::TooLarge) past
    /// [`Limits::max_graphs`] or [`Limits::max_graph_bytes`],
    /// [`InvalidArgument`](crate::nn::ErrorKind::InvalidArgument) for a model without parts,
    /// [`RuntimeError`](crate::nn::ErrorKind::RuntimeError) if the backend panics, and if a backend makes this call
    /// inside the load that it would have to wait for.
    pub fn load(&self, parts: &[&[u8]], encoding: Encoding, target: Target) -> Result<GuestHandle, Error> {
        let call = "load";
        let Self { inner } = self;
        inner.report(call, observe::load_span(&inner.account).in_scope(|| inner.load(call, parts, encoding, target)))
    }

    /// Loads a model that the host has registered. Builds it if it has no version yet, or waits for a concurrent build
    /// of it; loads of other models go on meanwhile. The handle refers to the name: a context runs on the version that
    /// is current when it is opened; see [`Engine::reload_model`](crate::nn::Engine::reload_model).
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::nn::ErrorKind::NotFound) if no model has the name, or the guest may not load it,
    /// [`TooLarge`](crate::nn::ErrorKind::TooLarge) past [`Limits::max_graphs`] or [`Limits::max_name_bytes`], and the
    /// errors of the build.
    pub fn load_by_name(&self, name: &str) -> Result<GuestHandle, Error> {
        let call = "load_by_name";
        let Self { inner } = self;
        let load = || inner.load_by_name(call, name);
        inner.report(call, observe::load_by_name_span(&inner.account, name).in_scope(load))
    }

    /// Loads a model that the host has registered, with the guest's configuration in place of the host's, if the host
    /// allows that for the name ([`ModelSource::with_guest_configs`](crate::nn::ModelSource::with_guest_configs)). The
    /// backend defines the meaning of the text.
    ///
    /// The handle refers to a graph separate from the name's own. All guests that load the name with the same text,
    /// byte for byte, share that graph. Graphs with different texts share their weights if the backend can
    /// [reconfigure](crate::backend::Backend::reconfigures) graphs. A reload or removal of the name does not change the
    /// graph, and it is released with its last handle and context. After a reload, a load with the same text gives
    /// another graph, of the new version. A text that is empty or only whitespace is no configuration: the call is then
    /// [`load_by_name`](Self::load_by_name), which needs no permission.
    ///
    /// # Errors
    ///
    /// Those of [`load_by_name`](Self::load_by_name); [`Security`](crate::nn::ErrorKind::Security) if the host does not
    /// allow it for the name; [`TooLarge`](crate::nn::ErrorKind::TooLarge) past [`Limits::max_config_bytes`];
    /// [`Busy`](crate::nn::ErrorKind::Busy) if the name has its maximum of graphs with configurations.
    pub fn load_by_name_with_config(&self, name: &str, config: &str) -> Result<GuestHandle, Error> {
        let call = "load_by_name_with_config";
        let Self { inner } = self;
        let load = || inner.load_by_name_with_config(call, name, config);
        inner.report(call, observe::load_by_name_span(&inner.account, name).in_scope(load))
    }

    /// Opens a context of the graph. It keeps the model alive, even after the graph is unloaded.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::nn::ErrorKind::InvalidArgument) if the guest has no such graph,
    /// [`TooLarge`](crate::nn::ErrorKind::TooLarge) past [`Limits::max_contexts`], and the errors of the backend.
    pub fn init_execution_context(&self, graph: GuestHandle) -> Result<GuestHandle, Error> {
        let call = "init_execution_context";
        self.inner.report(call, self.inner.init_execution_context(call, graph))
    }

    /// Releases the graph's handle. Its contexts stay usable.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::nn::ErrorKind::InvalidArgument) if the guest has no such graph.
    pub fn unload(&self, graph: GuestHandle) -> Result<(), Error> {
        let Self { inner } = self;
        let handle = inner.graphs.unbind(graph).ok_or_else(|| inner.unknown_handle("unload", "graph", graph));
        let handle = inner.report("unload", handle)?;
        inner.remove_graph(handle);
        inner.engine.entries_removed();
        Ok(())
    }
}

/// Contexts.
///
/// A context is used by one call at a time: a concurrent call gets [`Busy`](crate::nn::ErrorKind::Busy) at once. Calls
/// on different contexts do not block each other. Each call gives
/// [`InvalidArgument`](crate::nn::ErrorKind::InvalidArgument) if the guest has no such context, and
/// [`RuntimeError`](crate::nn::ErrorKind::RuntimeError) if the backend panics; the context is then lost, and every
/// later call on it gives this error, too. A context that exceeds a memory limit gives
/// [`TooLarge`](crate::nn::ErrorKind::TooLarge) or [`Busy`](crate::nn::ErrorKind::Busy) once, and is lost in the same
/// way.
impl Guest {
    /// Copies `tensor` (a [`TensorView`] or a `&Tensor`) as the context's input `input`: a `u32` for its index or a
    /// `&str` for its name. A run of [single steps](Self::compute_single) ends.
    ///
    /// A [string of bytes](TensorDescription::byte_string), such as a prompt, may be taken apart here. That ends by
    /// [`Limits::max_compute_time`] and by [`cancel`](Self::cancel), as a compute does, and takes at most
    /// [`Limits::max_compute_bytes`].
    ///
    /// # Errors
    ///
    /// Those of every call on a context; [`InvalidArgument`](crate::nn::ErrorKind::InvalidArgument) if there is no such
    /// input, or it has another type or other fixed sizes; [`TooLarge`](crate::nn::ErrorKind::TooLarge) past
    /// [`Limits::max_tensor_rank`], [`Limits::max_tensor_bytes`] or [`Limits::max_context_bytes`].
    pub fn set_input<'a>(
        &self,
        context: GuestHandle,
        input: impl Into<TensorId<'a>>,
        tensor: impl Into<TensorView<'a>>,
    ) -> Result<(), Error> {
        let call = "set_input";
        let tensor = tensor.into();
        let set = |input: TensorId<'_>| {
            let (handle, context) = (context, self.inner.context(call, context)?);
            let (index, description) = check::place(call, "input", input, context.inputs())?;
            check::input(call, &self.inner.limits, index, description, tensor)?;
            let mut control = ComputeControl::default();
            // A backend may have to work on it, as for a prompt. Other inputs are only copied.
            let bounds = description.byte_string.then(|| {
                control.deadline = Instant::now().checked_add(self.inner.limits.max_compute_time());
                control.memory_limit = self.inner.limits.max_compute_bytes();
                control.cancel.clone()
            });
            Claimed::new(&*context, handle, bounds.as_ref())?.set_inputs(call, &[(index, tensor)], &mut control)
        };
        self.inner.report(call, set(input.into()))
    }

    /// As [`set_input`](Self::set_input), for a tensor as a guest gives it: its sizes, type and bytes, which are
    /// checked against each other here. An input that is a [string of bytes](TensorDescription::byte_string) may have
    /// the dimensions `[1]` and any length.
    ///
    /// # Errors
    ///
    /// Those of [`set_input`](Self::set_input), and [`InvalidArgument`](crate::nn::ErrorKind::InvalidArgument) if the
    /// bytes do not match the sizes.
    pub fn set_input_given<'a>(
        &self,
        context: GuestHandle,
        input: impl Into<TensorId<'a>>,
        dimensions: &[u32],
        ty: TensorType,
        data: &[u8],
    ) -> Result<(), Error> {
        let (call, input) = ("set_input", input.into());
        let described = || {
            let context = self.inner.context(call, context)?;
            let (index, description) = check::place(call, "input", input, context.inputs())?;
            Ok((index as u32, description.given_dimensions(dimensions, ty, data.len())))
        };
        let (index, dimensions) = self.inner.report(call, described())?;
        let tensor = self.inner.report(call, TensorView::new(&dimensions, ty, data))?;
        self.set_input(context, index, tensor)
    }

    /// Unsets every input of the context, and releases its memory. The outputs of the last compute stay. A model's
    /// default for an input applies again. A run of [single steps](Self::compute_single) ends.
    ///
    /// # Errors
    ///
    /// Those of every call on a context.
    pub fn clear_inputs(&self, context: GuestHandle) -> Result<(), Error> {
        let call = "clear_inputs";
        let clear = || Claimed::new(&*self.inner.context(call, context)?, context, None)?.clear_inputs(call);
        self.inner.report(call, clear())
    }

    /// Copies the data of an output of the last compute into `buffer`, and returns the number of bytes copied. Of a run
    /// of [single steps](Self::compute_single) it is what they have made so far, together. An output that is described
    /// as readable [before a compute](TensorDescription::before_compute) is that of the inputs that are set.
    ///
    /// # Errors
    ///
    /// Those of every call on a context; [`InvalidArgument`](crate::nn::ErrorKind::InvalidArgument) if there is no such
    /// output, if nothing was computed yet, or if [`infer`](Self::infer) has returned the outputs of the last compute;
    /// [`TooLarge`](crate::nn::ErrorKind::TooLarge) if `buffer` is shorter than the data: then nothing is written, and
    /// [`Error::needed_bytes`] is the length of the data.
    pub fn get_output<'a>(
        &self,
        context: GuestHandle,
        output: impl Into<TensorId<'a>>,
        buffer: &mut [u8],
    ) -> Result<usize, Error> {
        self.with_output(context, output, |tensor| tensor.copy_to(buffer))
    }

    /// An output of the last compute, with its dimensions.
    ///
    /// # Errors
    ///
    /// Those of [`get_output`](Self::get_output) except for a short buffer.
    pub fn output<'a>(&self, context: GuestHandle, output: impl Into<TensorId<'a>>) -> Result<Tensor, Error> {
        self.read_output("output", context, output.into(), |tensor| Ok(tensor.to_owned()))
    }

    /// Calls `read` with an output of the last compute, where it lies in the backend: for a `get_output` that writes
    /// into a memory which the engine cannot see as a slice. `read` runs on this thread, under the claim of the
    /// context: a call on the same context gets [`Busy`](crate::nn::ErrorKind::Busy) meanwhile. An error of `read`
    /// ([`Error::short_buffer`] and others) is reported as the guest's.
    ///
    /// # Errors
    ///
    /// Those of [`get_output`](Self::get_output), whose name they carry, except for a short buffer; and those of
    /// `read`.
    ///
    /// # Panics
    ///
    /// If `read` panics. The context stays as it was.
    pub fn with_output<'a, R>(
        &self,
        context: GuestHandle,
        output: impl Into<TensorId<'a>>,
        read: impl FnOnce(TensorView<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.read_output("get_output", context, output.into(), read)
    }

    /// Closes the context. A compute that waits for its turn is cancelled: no compute of the context begins after this
    /// has returned. So is a prompt that is being [set](Self::set_input). Any other call that is inside completes
    /// normally, and the context's memory is released after it. A running compute still belongs to the guest, and is
    /// cancelled when the guest is dropped.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::nn::ErrorKind::InvalidArgument) if the guest has no such context.
    pub fn drop_context(&self, context: GuestHandle) -> Result<(), Error> {
        let Self { inner } = self;
        let call = "drop_context";
        let dropped = inner.drop_context(context).ok_or_else(|| inner.unknown_handle(call, "context", context));
        inner.report(call, dropped)
    }

    fn read_output<R>(
        &self,
        call: &'static str,
        context: GuestHandle,
        output: TensorId<'_>,
        read: impl FnOnce(TensorView<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let read = || {
            let (handle, context) = (context, self.inner.context(call, context)?);
            let (index, _) = check::place(call, "output", output, context.outputs())?;
            Claimed::new(&*context, handle, None)?.read(call, index, read)
        };
        self.inner.report(call, read())
    }
}

/// Descriptions.
impl Guest {
    /// The inputs of a graph, or of the graph of a context, in the order of their indexes.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::nn::ErrorKind::InvalidArgument) if the guest has neither.
    pub fn inputs(&self, graph_or_context: GuestHandle) -> Result<StdArc<[TensorDescription]>, Error> {
        self.describe("inputs", graph_or_context, Graph::inputs, Context::inputs)
    }

    /// The outputs of a graph, or of the graph of a context, in the order of their indexes.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](crate::nn::ErrorKind::InvalidArgument) if the guest has neither.
    pub fn outputs(&self, graph_or_context: GuestHandle) -> Result<StdArc<[TensorDescription]>, Error> {
        self.describe("outputs", graph_or_context, Graph::outputs, Context::outputs)
    }

    fn describe(
        &self,
        call: &'static str,
        handle: GuestHandle,
        of_graph: fn(&Graph) -> &StdArc<[TensorDescription]>,
        of_context: fn(&Context) -> &StdArc<[TensorDescription]>,
    ) -> Result<StdArc<[TensorDescription]>, Error> {
        // A handle contains its kind, so at most one of the tables has it.
        let described = if let Some(loaded) = self.inner.find_graph(handle) {
            loaded.graph().map(|graph| StdArc::clone(of_graph(&graph)))
        } else {
            let context = self.inner.find_context(handle);
            let context = context.ok_or_else(|| self.inner.unknown_handle(call, "graph or context", handle));
            context.map(|context| StdArc::clone(of_context(&context)))
        };
        self.inner.report(call, described)
    }

    pub(super) fn new(engine: StdArc<Inner>, limits: Limits, names: AllowedNames, label: Option<Box<str>>) -> Self {
        Counters::increment(&engine.counters.guests, 1);
        let graphs = HandleTable::new(&engine.pools.graphs, pools::GRAPH);
        let contexts = HandleTable::new(&engine.pools.contexts, pools::CONTEXT);
        let (usage, account) = (Usage::new(&limits), StdArc::new(Account::new(label)));
        let (closing, loads) = (Closing::default(), Loads::default());
        let inner = GuestInner { engine, graphs, contexts, usage, limits, names, account, closing, loads };
        Self { inner: StdArc::new(inner) }
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GuestInner { graphs, contexts, limits, .. } = &*self.inner;
        f.debug_struct("Guest")
            .field("graphs", &graphs.len())
            .field("contexts", &contexts.len())
            .field("limits", limits)
            .finish_non_exhaustive()
    }
}
