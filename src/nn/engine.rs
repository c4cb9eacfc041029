//! The engine: one per process, shared by all of its guests.

use std::fmt;
use std::sync::Arc as StdArc;
use std::time::Duration;

use crate::backend::Backend;
use crate::nn::graphs::backends::Backends;
use crate::nn::graphs::registry::Registry;
use crate::nn::graphs::resolver::{Resolve, Resolver};
use crate::nn::guest::pools::Pools;
use crate::nn::inner::Inner;
use crate::nn::limits::usage::Usage;
use crate::nn::schedule::admission::Admission;
use crate::nn::schedule::reaper::Reaper;
use crate::nn::schedule::workers::Workers;
use crate::nn::telemetry::stats::{Counters, Stats};
use crate::nn::{EngineLimits, Error, GraphInfo, Guest, GuestBuilder, Limits, ResolvedModel};

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
    backends: Vec<Box<dyn Backend>>,
    limits: Limits,
    ceiling: Option<Limits>,
    engine_limits: EngineLimits,
    resolver: Option<Box<Resolve>>,
    inline_bound: Duration,
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
            backends: Vec::new(),
            limits: Limits::default(),
            ceiling: None,
            engine_limits: EngineLimits::default(),
            resolver: None,
            inline_bound: Duration::ZERO,
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
        GuestBuilder::new(StdArc::clone(&self.inner))
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
        let ((computing, queued), suspended) = (admission.load(), admission.suspended());
        Stats {
            graph_handles: pools.graphs.len(),
            names: registry.len(),
            awaiting_reclamation: pools.awaiting_reclamation(),
            computing,
            suspended,
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
    /// Adds a backend. If several support an encoding and target, the one that was added first gets the model. If
    /// several have one name, [`Engine::replace_backend`] and [`Engine::remove_backend`] refer to the first.
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

    /// Sets the function that is asked for models that guests load by a name that is not registered: for a host with
    /// more models than it wants to register, or whose models come and go. It gets the name, and returns the model, or
    /// `None` if there is none. An engine has one resolver; a repeated call replaces it.
    ///
    /// The answer is registered under the name, as by [`Engine::register_model`], and the load goes on with it. The
    /// name stays until the host [removes](Engine::remove_model) it, or until
    /// [`EngineLimits::max_resolved_names`] asks for its place; then the next load asks again. `None` is not kept, so
    /// each load of a name that does not exist calls the resolver: it should be quick to say so.
    ///
    /// It is called on the thread of the load, without a lock, once for all concurrent loads of the name. Other loads
    /// go on meanwhile. It may call the engine: a name that it registers itself is found, too. A load of the name that
    /// it is asked for gives an error, since it would wait for itself, and so does the start of any asynchronous load.
    /// It is not called for names that are longer than
    /// [`Limits::max_name_bytes`] of the engine, and those that a guest [may not load](crate::nn::GuestPolicy). It
    /// gets the engine's name for a [mapped](crate::nn::GuestPolicy::with_name) one. The name may come from a guest,
    /// and is hostile: it may contain `..` and `/`.
    ///
    /// An error goes to each guest that waits, as it is, so its text must contain nothing that guests must not learn.
    /// The exception is [`NotFound`](crate::nn::ErrorKind::NotFound), which is the same as `None`. A panic gives
    /// [`RuntimeError`](crate::nn::ErrorKind::RuntimeError).
    ///
    /// A resolver that owns an [`Engine`] keeps it in memory forever, as the engine owns the resolver.
    ///
    /// ```
    /// # use graphpool::backend::Backend;
    /// use graphpool::nn::{Encoding, Engine, EngineBuilder, ModelSource, ResolvedModel, Target};
    ///
    /// fn with_directory(builder: EngineBuilder) -> EngineBuilder {
    ///     builder.with_resolver(|name| {
    ///         // Letters and digits only: the name may come from a guest.
    ///         let file = format!("models/{name}.onnx");
    ///         let found = name.chars().all(char::is_alphanumeric) && std::path::Path::new(&file).is_file();
    ///         Ok(found.then(|| ResolvedModel::new(ModelSource::path(file), Encoding::Onnx, Target::Cpu)))
    ///     })
    /// }
    /// # let _ = with_directory;
    /// ```
    pub fn with_resolver(
        mut self,
        resolver: impl Fn(&str) -> Result<Option<ResolvedModel>, Error> + Send + Sync + 'static,
    ) -> Self {
        self.resolver = Some(Box::new(resolver));
        self
    }

    /// Lets asynchronous computes run on the thread that polls them, if the graph is quick: its last 8 computes each
    /// took less than `bound`. This saves the way to a thread of the engine and back, which costs 5 to 20 µs. The
    /// default is zero, which allows none. A useful bound is what the host's executor can spare, such as 50 µs.
    ///
    /// Such a compute starts with the first poll of its [`Compute`](crate::nn::Compute), and not before: the host
    /// chooses the thread, and a future that is never polled costs nothing but its share of the limits. Its time limit
    /// begins with the call, as always. It takes one of [`EngineLimits::max_computing`] places; if none is free, it
    /// waits for its turn and runs on a thread of the engine.
    ///
    /// The bound is not exact: the time of a compute is known only afterwards, and may depend on its inputs, which may
    /// be hostile. A compute that takes 8 times the bound is cut off, by a deadline in its
    /// [`ComputeControl`](crate::backend::ComputeControl), and starts again on a thread of the engine. One that takes
    /// the bound or longer ends the permission, until 8 further computes of the graph have been quick. So a poll takes
    /// little more than 8 times the bound, if the backend checks its deadline that often.
    pub fn with_inline_computes(mut self, bound: Duration) -> Self {
        self.inline_bound = bound;
        self
    }

    /// Creates the engine.
    #[must_use]
    pub fn build(self) -> Engine {
        let Self { backends, limits, ceiling, engine_limits, resolver, inline_bound } = self;
        let ceiling = ceiling.unwrap_or(Limits::unlimited());
        let limits = limits.at_most(&ceiling);
        let (pools, counters) = (StdArc::new(Pools::new()), StdArc::<Counters>::default());
        let usage = Usage::of_engine(&engine_limits);
        let resolver = resolver.map(|resolve| Resolver::new(resolve, StdArc::clone(&usage), StdArc::clone(&counters)));
        let flushed = StdArc::clone(&pools);
        let reaper = StdArc::new(Reaper::new(move || {
            flushed.flush();
            flushed.awaiting_reclamation() > 0
        }));
        Engine {
            inner: StdArc::new(Inner {
                pools,
                registry: Registry::default(),
                resolver,
                store: StdArc::default(),
                admission: Admission::new(
                    engine_limits.max_computing(),
                    engine_limits.max_suspended(),
                    engine_limits.max_queued(),
                ),
                workers: Workers::new("graphpool-compute"),
                inline_bound,
                loading: Admission::new(engine_limits.max_loading(), 0, engine_limits.max_queued_loads()),
                loaders: Workers::new("graphpool-load"),
                usage,
                reaper,
                limits,
                ceiling,
                engine_limits,
                backends: Backends::new(backends, &counters),
                counters,
            }),
        }
    }
}

impl fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineBuilder").field("limits", &self.limits).finish_non_exhaustive()
    }
}
