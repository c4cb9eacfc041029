//! The engine: one per process, shared by all of its guests.

use std::fmt;
use std::sync::Arc as StdArc;

use crate::backend::Backend;
use crate::nn::graphs::backends::Backends;
use crate::nn::graphs::registry::Registry;
use crate::nn::guest::pools::Pools;
use crate::nn::inner::Inner;
use crate::nn::limits::usage::Usage;
use crate::nn::schedule::admission::Admission;
use crate::nn::schedule::reaper::Reaper;
use crate::nn::schedule::workers::Workers;
use crate::nn::telemetry::stats::{Counters, Stats};
use crate::nn::{EngineLimits, GraphInfo, Guest, GuestBuilder, Limits};

/// The engine of a process: it owns the backends, the named models and the pools that guest handles refer to.
///
/// Clones share one engine. The engine ends with its last clone and its last [`Guest`]: that drop removes the names,
/// waits until a background thread has released every model, and then returns.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: StdArc<Inner>,
}

/// Builds an [`Engine`]; from [`Engine::builder`].
#[must_use]
pub struct EngineBuilder {
    backends: Backends,
    limits: Limits,
    ceiling: Option<Limits>,
    engine_limits: EngineLimits,
}

impl Engine {
    /// Creates an engine with one backend and the default [`Limits`].
    #[must_use]
    pub fn new(backend: impl Backend) -> Self {
        Self::builder(backend).build()
    }

    /// Starts a builder with one backend and the default [`Limits`].
    pub fn builder(backend: impl Backend) -> EngineBuilder {
        EngineBuilder {
            backends: Backends::default(),
            limits: Limits::default(),
            ceiling: None,
            engine_limits: EngineLimits::default(),
        }
        .with_backend(backend)
    }

    /// Creates a guest with the engine's limits: one for each wasm instance.
    #[must_use]
    pub fn guest(&self) -> Guest {
        self.guest_with(self.inner.limits)
    }

    /// Creates a guest with limits of its own.
    #[must_use]
    pub fn guest_with(&self, limits: Limits) -> Guest {
        self.guest_builder().with_limits(limits).build()
    }

    /// Starts a builder for a guest with limits or permissions of its own.
    pub fn guest_builder(&self) -> GuestBuilder {
        GuestBuilder::new(StdArc::clone(&self.inner), self.inner.limits)
    }

    /// Lists the graphs in memory that are in use, in no particular order. A graph may be released before the caller
    /// reads its entry. Does not wait for builds.
    #[must_use]
    pub fn list_graphs(&self) -> Vec<GraphInfo> {
        self.inner.store.graphs().iter().map(|graph| GraphInfo::of(graph)).collect()
    }

    /// The limits of a guest created by [`guest`](Self::guest).
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// The limits of the engine itself.
    #[must_use]
    pub fn engine_limits(&self) -> &EngineLimits {
        &self.inner.engine_limits
    }

    /// Statistics of this engine. Costs a few atomic loads for each live thread that has used the pools.
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
    /// Adds a backend. If several support an encoding and target, the one that was added first gets the model.
    pub fn with_backend(mut self, backend: impl Backend) -> Self {
        self.backends.push(Box::new(backend));
        self
    }

    /// Sets the limits of guests that are created without their own.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the upper bound of every guest's limits; unbounded by default.
    pub fn with_ceiling(mut self, ceiling: Limits) -> Self {
        self.ceiling = Some(ceiling);
        self
    }

    /// Sets the limits over all guests together.
    pub fn with_engine_limits(mut self, limits: EngineLimits) -> Self {
        self.engine_limits = limits;
        self
    }

    /// Creates the engine.
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
                admission: Admission::new(engine_limits.max_computing(), engine_limits.max_queued()),
                workers: Workers::new("graphpool-compute"),
                loading: Admission::new(engine_limits.max_loading(), engine_limits.max_queued_loads()),
                loaders: Workers::new("graphpool-load"),
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
