//! A guest: what one wasm instance sees of the engine.
//!
//! Every call resolves its handle with a few atomic loads (the guest's table, then the engine's pool) to a reference
//! of its own, and holds no lock and no epoch guard while it is inside a backend.

pub(crate) mod builder;
pub(crate) mod check;
pub(crate) mod compute;
pub(crate) mod context;
pub(crate) mod holdings;
pub(crate) mod inference;
pub(crate) mod pools;
pub(crate) mod use_lock;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc as StdArc, Mutex};

use crate::nn::graphs::graph::Graph;
use crate::nn::guest::check::TensorId;
use crate::nn::guest::context::{Claimed, Context};
use crate::nn::guest::holdings::{GuestInner, unknown_handle};
use crate::nn::ids::next_id;
use crate::nn::inner::Inner;
use crate::nn::limits::usage::Usage;
use crate::nn::telemetry::observe;
use crate::nn::telemetry::stats::Counters;
use crate::nn::{Encoding, Error, Limits, Target, Tensor, TensorDescription, TensorView};
use crate::{GuestHandle, HandleTable};

/// One wasm instance's view of an [`Engine`](super::Engine): its own handles, its own limits.
///
/// Clones are the same guest, for the threads of one instance; every call may be made from any of them at any time.
/// Like file descriptors, handles mean something in their guest alone: the same number in another names something of
/// that one's own, or nothing. A graph's handle is refused where a context is wanted, and one that was given back is
/// refused until some 2^31 others were given out.
///
/// Dropping the last clone cancels what the guest still computes and gives back everything that it still holds.
#[derive(Clone)]
pub struct Guest {
    pub(super) inner: StdArc<GuestInner>,
}

/// Graphs.
impl Guest {
    /// Loads a model from its bytes, in as many parts as its encoding has. The bytes may be anything at all.
    ///
    /// # Errors
    ///
    /// [`InvalidEncoding`](super::ErrorKind::InvalidEncoding) for bytes that are no such model,
    /// [`UnsupportedOperation`](super::ErrorKind::UnsupportedOperation) where no backend takes the encoding for the
    /// target, or the backend can't run the model, [`TooLarge`](super::ErrorKind::TooLarge) past
    /// [`Limits::max_graphs`] or [`Limits::max_graph_bytes`],
    /// [`InvalidArgument`](super::ErrorKind::InvalidArgument) for no parts at all,
    /// [`RuntimeError`](super::ErrorKind::RuntimeError) where the backend panics, and where a backend calls this inside
    /// the load that it would have to wait for.
    pub fn load(&self, parts: &[&[u8]], encoding: Encoding, target: Target) -> Result<GuestHandle, Error> {
        let call = "load";
        let Self { inner } = self;
        inner.report(call, observe::load_span(inner.id).in_scope(|| inner.load(call, parts, encoding, target)))
    }

    /// Loads a model that the host has registered. Builds it where no guest has loaded it before, or waits for the
    /// guest that does; loads of other models go on meanwhile. The handle means the name: a context runs on the version
    /// that is current when it is opened; see [`Engine::reload_model`](super::Engine::reload_model).
    ///
    /// # Errors
    ///
    /// [`NotFound`](super::ErrorKind::NotFound) where no model has the name, or the guest may not load it,
    /// [`TooLarge`](super::ErrorKind::TooLarge) past [`Limits::max_graphs`] or [`Limits::max_name_bytes`],
    /// and what the build gives.
    pub fn load_by_name(&self, name: &str) -> Result<GuestHandle, Error> {
        let call = "load_by_name";
        let Self { inner } = self;
        let load = || inner.load_by_name(call, name);
        inner.report(call, observe::load_by_name_span(inner.id, name).in_scope(load))
    }

    /// Loads a model that the host has registered, with a configuration of the guest's in the place of the host's, where
    /// the host allows that for the name ([`ModelSource::with_guest_configs`](super::ModelSource::with_guest_configs)).
    /// What the text means is the backend's.
    ///
    /// The handle means a graph beside the name's own. It is shared by all guests that load the name with the same text,
    /// byte for byte; it stays what it is when the name is reloaded or removed, and goes with its last handle and
    /// context. After a reload, a load with the same text gives another graph, of the new version. A text of nothing but
    /// blanks is none: then this is [`load_by_name`](Self::load_by_name), which needs no permission.
    ///
    /// # Errors
    ///
    /// Those of [`load_by_name`](Self::load_by_name); [`Security`](super::ErrorKind::Security) where the host does not
    /// allow it for the name; [`TooLarge`](super::ErrorKind::TooLarge) past [`Limits::max_config_bytes`];
    /// [`Busy`](super::ErrorKind::Busy) where as many graphs with configurations of the name exist as the host allows.
    pub fn load_by_name_with_config(&self, name: &str, config: &str) -> Result<GuestHandle, Error> {
        let call = "load_by_name_with_config";
        let Self { inner } = self;
        let load = || inner.load_by_name_with_config(call, name, config);
        inner.report(call, observe::load_by_name_span(inner.id, name).in_scope(load))
    }

    /// Opens a context of the graph. It keeps the model alive, even after the graph is unloaded.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](super::ErrorKind::InvalidArgument) where the guest has no such graph,
    /// [`TooLarge`](super::ErrorKind::TooLarge) past [`Limits::max_contexts`], and what the backend gives.
    pub fn init_execution_context(&self, graph: GuestHandle) -> Result<GuestHandle, Error> {
        let call = "init_execution_context";
        self.inner.report(call, self.inner.init_execution_context(call, graph))
    }

    /// Gives the graph's handle back. Its contexts go on.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](super::ErrorKind::InvalidArgument) where the guest has no such graph.
    pub fn unload(&self, graph: GuestHandle) -> Result<(), Error> {
        let Self { inner } = self;
        let handle = inner.graphs.unbind(graph).ok_or_else(|| unknown_handle("unload", "graph", graph));
        let handle = inner.report("unload", handle)?;
        inner.remove_graph(handle);
        inner.engine.entries_removed();
        Ok(())
    }
}

/// Contexts.
///
/// A context is used by one call at a time: a second one meets [`Busy`](super::ErrorKind::Busy) at once. Different
/// contexts never wait for each other. Each call gives [`InvalidArgument`](super::ErrorKind::InvalidArgument) where
/// the guest has no such context, and [`RuntimeError`](super::ErrorKind::RuntimeError) where the backend panics, and
/// at every call after that. A context that is found to hold more than a limit lets it gives
/// [`TooLarge`](super::ErrorKind::TooLarge) or [`Busy`](super::ErrorKind::Busy) once and is lost like that, too.
impl Guest {
    /// Gives the context a copy of `tensor` (a [`TensorView`] or a `&Tensor`) as its input `input`: a `u32` for its index
    /// or a `&str` for its name.
    ///
    /// # Errors
    ///
    /// Those of every call on a context; [`InvalidArgument`](super::ErrorKind::InvalidArgument) where there is no
    /// such input, or it has another type or other fixed sizes; [`TooLarge`](super::ErrorKind::TooLarge) past
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
            let bytes = tensor.data().len();
            Claimed::new(&*context, handle, None)?
                .set_input(call, index, bytes, |backend| backend.set_input(index, tensor))
        };
        self.inner.report(call, set(input.into()))
    }

    /// Copies the data of an output of the last compute into `buffer`, and says how many bytes that were.
    ///
    /// # Errors
    ///
    /// Those of every call on a context; [`InvalidArgument`](super::ErrorKind::InvalidArgument) where there is no
    /// such output, or nothing was computed yet; [`TooLarge`](super::ErrorKind::TooLarge) where `buffer` is shorter
    /// than the data: then nothing is written, and [`Error::needed_bytes`] is the length of the data.
    pub fn get_output<'a>(
        &self,
        context: GuestHandle,
        output: impl Into<TensorId<'a>>,
        buffer: &mut [u8],
    ) -> Result<usize, Error> {
        self.with_output("get_output", context, output.into(), |tensor| {
            let (data, room) = (tensor.data(), buffer.len());
            let start = buffer.get_mut(..data.len()).ok_or_else(|| Error::short_buffer(data.len(), room))?;
            start.copy_from_slice(data);
            Ok(data.len())
        })
    }

    /// An output of the last compute, with its dimensions.
    ///
    /// # Errors
    ///
    /// Those of [`get_output`](Self::get_output) except for a short buffer.
    pub fn output<'a>(&self, context: GuestHandle, output: impl Into<TensorId<'a>>) -> Result<Tensor, Error> {
        self.with_output("output", context, output.into(), |tensor| Ok(tensor.to_owned()))
    }

    /// Gives the context back. A compute that waits for its turn is cancelled: nothing of the context begins after this
    /// has returned. A call that is inside it ends as it would have, and only then its memory goes; what it computes is
    /// the guest's still, and is cancelled when that is dropped.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](super::ErrorKind::InvalidArgument) where the guest has no such context.
    pub fn drop_context(&self, context: GuestHandle) -> Result<(), Error> {
        let Self { inner } = self;
        let handle = inner.contexts.unbind(context).ok_or_else(|| unknown_handle("drop_context", "context", context));
        let handle = inner.report("drop_context", handle)?;
        inner.remove_context(handle);
        inner.engine.entries_removed();
        Ok(())
    }

    fn with_output<R>(
        &self,
        call: &'static str,
        context: GuestHandle,
        output: TensorId<'_>,
        f: impl FnOnce(TensorView<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let read = || {
            let (handle, context) = (context, self.inner.context(call, context)?);
            let (index, _) = check::place(call, "output", output, context.outputs())?;
            Claimed::new(&*context, handle, None)?.read(call, |backend| f(backend.output(index)?))
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
    /// [`InvalidArgument`](super::ErrorKind::InvalidArgument) where the guest has neither.
    pub fn inputs(&self, graph_or_context: GuestHandle) -> Result<StdArc<[TensorDescription]>, Error> {
        self.describe("inputs", graph_or_context, Graph::inputs, Context::inputs)
    }

    /// The outputs of a graph, or of the graph of a context, in the order of their indexes.
    ///
    /// # Errors
    ///
    /// [`InvalidArgument`](super::ErrorKind::InvalidArgument) where the guest has neither.
    pub fn outputs(&self, graph_or_context: GuestHandle) -> Result<StdArc<[TensorDescription]>, Error> {
        self.describe("outputs", graph_or_context, Graph::outputs, Context::outputs)
    }

    /// What this guest may have.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    fn describe(
        &self,
        call: &'static str,
        handle: GuestHandle,
        of_graph: fn(&Graph) -> &StdArc<[TensorDescription]>,
        of_context: fn(&Context) -> &StdArc<[TensorDescription]>,
    ) -> Result<StdArc<[TensorDescription]>, Error> {
        // A handle says which kind it is: at most one of the tables knows it.
        let described = if let Some(loaded) = self.inner.find_graph(handle) {
            loaded.graph().map(|graph| StdArc::clone(of_graph(&graph)))
        } else {
            let context = self.inner.find_context(handle);
            let context = context.ok_or_else(|| unknown_handle(call, "graph or context", handle));
            context.map(|context| StdArc::clone(of_context(&context)))
        };
        self.inner.report(call, described)
    }

    pub(super) fn new(engine: StdArc<Inner>, limits: Limits, models: Option<HashSet<String>>) -> Self {
        Counters::increment(&engine.counters.guests, 1);
        let graphs = HandleTable::new(&engine.pools.graphs, pools::GRAPH);
        let contexts = HandleTable::new(&engine.pools.contexts, pools::CONTEXT);
        let usage = Usage::new(&limits);
        let (id, leaving) = (next_id(), Mutex::default());
        let inner = GuestInner { engine, graphs, contexts, usage, limits, models, id, leaving };
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
