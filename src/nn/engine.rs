//! The engine: one for a process, shared by all of its guests.

use std::cell::Cell;
use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fmt, mem};

use super::admission::Admission;
use super::backends::Backends;
use super::check::Quoted;
use super::flight::Failed;
use super::graph::{Graph, GraphResources, Origin};
use super::observe;
use super::panics::shield;
use super::pools::Pools;
use super::reaper::Reaper;
use super::registry::Registry;
use super::stats::{Counters, Stats};
use super::store::{Key, Listed, Store};
use super::usage::{Budget, Reservation, Usage};
use super::workers::Workers;
use super::{Encoding, EngineLimits, Error, ErrorKind, GraphInfo, Guest, GuestBuilder, Limits, ModelSource, Target};
use crate::backend::{Backend, LoadRequest};

/// The process-wide home of graphs: backends, named models, and the pools that its guests' handles lead to.
///
/// Clones are the same engine. It lives until the last clone and the last [`Guest`] are gone; then the names go, and
/// the drop returns when every model is released, which happens on a thread of the engine's own.
#[derive(Clone)]
pub struct Engine {
    pub(super) inner: StdArc<Inner>,
}

/// Collects what an [`Engine`] is made of; from [`Engine::builder`].
#[must_use]
pub struct EngineBuilder {
    backends: Backends,
    limits: Limits,
    ceiling: Option<Limits>,
    engine_limits: EngineLimits,
}

/// What guests share.
pub(super) struct Inner {
    pub(super) pools: StdArc<Pools>,
    pub(super) registry: Registry,
    pub(super) counters: StdArc<Counters>,
    pub(super) store: StdArc<Store>,
    pub(super) admission: StdArc<Admission>,
    pub(super) workers: Workers,
    usage: StdArc<Usage>,
    reaper: StdArc<Reaper>,
    limits: Limits,
    pub(super) ceiling: Limits,
    engine_limits: EngineLimits,
    backends: Backends,
}

impl Engine {
    /// An engine with one backend and the default [`Limits`].
    #[must_use]
    pub fn new(backend: impl Backend) -> Self {
        Self::builder(backend).build()
    }

    /// A builder with one backend and the default [`Limits`].
    pub fn builder(backend: impl Backend) -> EngineBuilder {
        EngineBuilder {
            backends: Backends::default(),
            limits: Limits::default(),
            ceiling: None,
            engine_limits: EngineLimits::default(),
        }
        .backend(backend)
    }

    /// A guest with the engine's limits: one for each wasm instance.
    #[must_use]
    pub fn guest(&self) -> Guest {
        self.guest_with(self.inner.limits)
    }

    /// A guest with limits of its own.
    #[must_use]
    pub fn guest_with(&self, limits: Limits) -> Guest {
        self.guest_builder().limits(limits).build()
    }

    /// A builder for a guest that differs from others in more than its limits.
    pub fn guest_builder(&self) -> GuestBuilder {
        GuestBuilder::new(StdArc::clone(&self.inner), self.inner.limits)
    }

    /// The graphs in memory that something still uses, in no order. One that is listed may be gone by the time that
    /// the caller reads of it. Waits for no build.
    #[must_use]
    pub fn list_graphs(&self) -> Vec<GraphInfo> {
        self.inner.store.graphs().iter().map(|graph| GraphInfo::of(graph)).collect()
    }

    /// The limits of a guest from [`guest`](Self::guest).
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// The limits of the engine itself.
    #[must_use]
    pub fn engine_limits(&self) -> &EngineLimits {
        &self.inner.engine_limits
    }

    /// Numbers of this engine. Costs a few loads for every live thread that has used the pools.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let Inner { pools, registry, counters, admission, .. } = &*self.inner;
        let (computing, queued) = admission.load();
        Stats {
            graph_handles: pools.graphs.len(),
            names: registry.len(),
            awaiting_reclamation: pools.awaiting_reclamation(),
            computing,
            queued,
            ..counters.read()
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("limits", self.limits()).field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl EngineBuilder {
    /// Adds another backend. Of several that take an encoding for a target, the one added first gets the model.
    pub fn backend(mut self, backend: impl Backend) -> Self {
        self.backends.push(Box::new(backend));
        self
    }

    /// Sets what a guest may have where it is given no limits of its own.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets what no guest may have more of, whatever limits it is given; no bound where this is not called.
    pub fn ceiling(mut self, ceiling: Limits) -> Self {
        self.ceiling = Some(ceiling);
        self
    }

    /// Sets what all guests may have together.
    pub fn engine_limits(mut self, limits: EngineLimits) -> Self {
        self.engine_limits = limits;
        self
    }

    /// The engine.
    #[must_use]
    pub fn build(self) -> Engine {
        let Self { backends, limits, ceiling, engine_limits } = self;
        let ceiling = ceiling.unwrap_or(Limits::unlimited());
        let limits = limits.at_most(&ceiling);
        let (pools, counters) = (StdArc::new(Pools::new()), StdArc::<Counters>::default());
        let flushed = StdArc::clone(&pools);
        let reaper = StdArc::new(Reaper::new(move || {
            flushed.flush();
            flushed.awaiting_reclamation() > 0
        }));
        Engine {
            inner: StdArc::new(Inner {
                pools,
                registry: Registry::default(),
                counters,
                store: StdArc::default(),
                admission: Admission::new(engine_limits.max_computes(), engine_limits.max_queue()),
                workers: Workers::default(),
                usage: Usage::of_engine(&engine_limits),
                reaper,
                limits,
                ceiling,
                engine_limits,
                backends,
            }),
        }
    }
}

impl fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineBuilder").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Inner {
    /// The graph of `request`: one that is loaded, or one that is built now, on this thread and without any lock.
    pub(super) fn build(&self, request: &LoadRequest<'_>) -> Result<StdArc<Graph>, Error> {
        self.build_with(request, None)
    }

    /// As [`build`](Self::build), of a named model's source. Its files count before a byte of them is read.
    pub(super) fn build_from(
        &self,
        source: &ModelSource,
        encoding: Encoding,
        target: Target,
    ) -> Result<StdArc<Graph>, Error> {
        let opened = source.open(encoding)?;
        let read = self.reserve_for_model(|usage| &usage.model_bytes, opened.length_of_files())?;
        let parts = opened.read()?;
        let parts: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
        let request = LoadRequest {
            config: source.config(),
            directory: source.base(),
            ..LoadRequest::new(&parts, encoding, target)
        };
        self.build_with(&request, Some(read))
    }

    /// Builds, with what is reserved for the request's bytes already.
    fn build_with(&self, request: &LoadRequest<'_>, reserved: Option<Reservation>) -> Result<StdArc<Graph>, Error> {
        let LoadRequest { parts, encoding, target, .. } = *request;
        if parts.is_empty() {
            return Err(Error::invalid_argument("the model has 0 parts; it needs 1 or more"));
        }
        let given = parts.iter().map(|part| part.len()).fold(0, usize::saturating_add);
        let files = match request.directory {
            Some(_) => self.backends.files(&self.counters, request)?,
            None => Vec::new(),
        };
        let key = Key::of(request, &files, request.memory_limit.min(self.usage.model_bytes.left()))?;
        let reserved = Cell::new(reserved);
        let build = |listed: Listed| {
            let seen = self.reaper.progress();
            match self.build_once(request, given, reserved.take(), listed.again()) {
                // Once more, where room was on its way.
                Err(Failed::ForAll(error)) if error.is_by_limit() && self.reaper.wait(seen, seen.handed_over) => {
                    self.build_once(request, given, None, listed)
                }
                built => built,
            }
        };
        let room = request.memory_limit;
        self.store.get_or_build(key, room, |listed| observe::build(encoding, target, given, || build(listed)))
    }

    fn build_once(
        &self,
        request: &LoadRequest<'_>,
        given: usize,
        reserved: Option<Reservation>,
        listed: Listed,
    ) -> Result<Graph, Failed> {
        let LoadRequest { encoding, target, memory_limit, .. } = *request;
        let slot = self.reserve_for_model(|usage| &usage.graphs, 1).map_err(Failed::ForAll)?;
        let bytes = match reserved.filter(|reserved| reserved.amount() == given) {
            Some(reserved) => reserved,
            None => self.reserve_for_model(|usage| &usage.model_bytes, given).map_err(Failed::ForAll)?,
        };
        let left = self.usage.model_bytes.left().saturating_add(given);
        let bounded = LoadRequest { memory_limit: memory_limit.min(left), ..*request };
        let (backend, graph) = self.backends.load(&self.counters, &bounded).map_err(|error| match error.kind() {
            ErrorKind::TooLarge if memory_limit <= left => Failed::Short(error),
            // What others have keeps it out: that is the same for everyone, and perhaps not for long.
            ErrorKind::TooLarge if left < self.engine_limits.max_model_bytes() => {
                let bound = self.engine_limits.max_model_bytes();
                let error =
                    format!("engine model memory limit exceeded: the model needs more than {left} of {bound} bytes");
                Failed::ForAll(Error::limit(ErrorKind::Busy, error))
            }
            _ => Failed::ForAll(error),
        })?;
        let origin = Origin { id: next_id(), key: listed.key(), backend, encoding, target };
        let resources = GraphResources { bytes: 0, listed: Some(listed), room: Some((slot, bytes)) };
        let graph = Graph::new(graph, origin, resources, &self.counters, &self.reaper).map_err(Failed::ForAll)?;
        observe::built(graph.origin().id, &graph.origin().backend, graph.bytes());
        Ok(graph)
    }

    /// Takes `amount` of what the models of all guests may have together; waits for what models that are being
    /// released have of it, where that is what is lacking.
    fn reserve_for_model(&self, budget: fn(&Usage) -> &Budget, amount: usize) -> Result<Reservation, Error> {
        let mut seen = self.reaper.progress();
        loop {
            match self.reserve(budget, amount) {
                Err(error) if error.kind() == ErrorKind::Busy && self.reaper.wait(seen, seen.dropped + 1) => {
                    seen = self.reaper.progress_since(seen);
                }
                reserved => return reserved,
            }
        }
    }

    /// Takes `amount` of what all guests may have together.
    pub(super) fn reserve(&self, budget: fn(&Usage) -> &Budget, amount: usize) -> Result<Reservation, Error> {
        Reservation::of(&self.usage, budget, amount)
    }

    /// To be called after removals from the pools: their slots are used again without a further call by anyone.
    pub(super) fn entries_removed(&self) {
        self.reaper.flush_soon();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.admission.close();
        self.registry.clear();
        self.reaper.finish();
        // Last: whatever a backend has made is gone before it. A panic must not reach the guest that happens to be the
        // last to go.
        let backends = mem::take(&mut self.backends);
        let _ = shield(&self.counters, || drop(backends));
    }
}

/// A number that no other call of this gives.
pub(super) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Whether a name is short enough to be looked up.
pub(super) fn check_name(call: &str, name: &str, limits: &Limits) -> Result<(), Error> {
    let (bytes, bound) = (name.len(), limits.max_name_bytes());
    if bytes <= bound {
        return Ok(());
    }
    let why = format!("{call}: the name {} has {bytes} bytes; the limit is {bound}", Quoted(name));
    Err(Error::limit(ErrorKind::TooLarge, why))
}
