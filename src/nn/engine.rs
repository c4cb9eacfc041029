//! The engine: one for a process, shared by all of its guests.

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

/// The process-wide home of graphs: backends, named models, and the pools that its guests' handles lead to.
///
/// Clones are the same engine. It lives until the last clone and the last [`Guest`] are gone; then the names go, and
/// the drop returns when every model is released, which happens on a thread of the engine's own.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: StdArc<Inner>,
}

/// Collects what an [`Engine`] is made of; from [`Engine::builder`].
#[must_use]
pub struct EngineBuilder {
    backends: Backends,
    limits: Limits,
    ceiling: Option<Limits>,
    engine_limits: EngineLimits,
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
        .with_backend(backend)
    }

    /// A guest with the engine's limits: one for each wasm instance.
    #[must_use]
    pub fn guest(&self) -> Guest {
        self.guest_with(self.inner.limits)
    }

    /// A guest with limits of its own.
    #[must_use]
    pub fn guest_with(&self, limits: Limits) -> Guest {
        self.guest_builder().with_limits(limits).build()
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
    pub fn with_backend(mut self, backend: impl Backend) -> Self {
        self.backends.push(Box::new(backend));
        self
    }

    /// Sets what a guest may have where it is given no limits of its own.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets what no guest may have more of, whatever limits it is given; no bound where this is not called.
    pub fn with_ceiling(mut self, ceiling: Limits) -> Self {
        self.ceiling = Some(ceiling);
        self
    }

    /// Sets the bounds of all guests together.
    pub fn with_engine_limits(mut self, limits: EngineLimits) -> Self {
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
                admission: Admission::new(engine_limits.max_computing(), engine_limits.max_queued()),
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
