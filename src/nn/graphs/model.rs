//! A named model: a source, and the graph that was last built from it.
//!
//! * N1: builds of one name never overlap.
//! * N2: a version is only ever replaced by a later version, so a model that was loaded once stays available.
//! * N3: a call that finds a version takes no lock.
//! * N4: after the removal of its name, a model gets no further version from a reload.
//! * N5: if the backend can reconfigure graphs, those with guests' configurations are made from the version of their
//!   source. What does not depend on the configuration is in memory once.

#[cfg(feature = "watch")]
use std::path::Path;
use std::sync::{Arc as StdArc, PoisonError};

use crate::nn::graphs::build::BuildGraph;
use crate::nn::graphs::configured::{Configurations, Configured};
use crate::nn::graphs::flight::{Entered, Failed, Resume, SingleFlight};
use crate::nn::graphs::graph::Graph;
use crate::nn::graphs::resolved::Resolved;
use crate::nn::graphs::store::Listed;
use crate::nn::guest::check::Quoted;
use crate::nn::schedule::inside;
use crate::nn::schedule::waits::{Awaited, Holding};
use crate::nn::{Encoding, Error, ModelError, ModelSource, Target};
use crate::sync::{Arc, ArcSwapOption, Mutex, MutexGuard};

/// A named model is built without a guest's memory limit.
const ROOM: usize = usize::MAX;

/// A registered name.
pub(crate) struct NamedModel {
    name: String,
    encoding: Encoding,
    target: Target,
    current: ArcSwapOption<Version>,
    flight: SingleFlight<Arc<Version>>,
    configurations: Configurations,
    /// For a model that the host's resolver gave.
    resolved: Option<StdArc<Resolved>>,
    /// N1: held during a build.
    building: Mutex<()>,
    /// The same lock as a resource for the detection of wait cycles.
    awaited: Awaited,
    /// Held only to read it, or to change it and `current` together.
    state: Mutex<State>,
}

struct State {
    /// `None` once the model is built, if the source can't be read again without keeping its bytes in memory.
    source: Option<StdArc<ModelSource>>,
    /// The number of reloads that have changed the source.
    generation: u64,
    /// N4: the name was removed.
    removed: bool,
}

/// One version of a named model.
pub(crate) struct Version {
    pub(crate) graph: StdArc<Graph>,
    /// The number of the version, from 1.
    pub(crate) number: u64,
}

/// The result of a build of a name.
pub(crate) struct Built {
    pub(crate) version: Arc<Version>,
    /// Whether this build made a new version; `false` if nothing changed and the version before stays current.
    pub(crate) is_new: bool,
}

/// The cause of a build.
#[derive(Clone, Copy, PartialEq)]
enum Builder {
    /// A first load by guests, which may already have the model although its name was removed.
    FirstLoad,
    /// A reload or replacement by the host.
    Reload,
}

impl NamedModel {
    pub(crate) fn new(name: &str, source: ModelSource, encoding: Encoding, target: Target) -> Self {
        Self {
            name: name.to_owned(),
            encoding,
            target,
            current: ArcSwapOption::empty(),
            flight: SingleFlight::new(),
            configurations: Configurations::new(),
            resolved: None,
            building: Mutex::new(()),
            awaited: Awaited::new(),
            state: Mutex::new(State { source: Some(StdArc::new(source)), generation: 0, removed: false }),
        }
    }

    /// The same model, as one that the host's resolver gave.
    pub(crate) fn with_resolved(self, resolved: Resolved) -> Self {
        Self { resolved: Some(StdArc::new(resolved)), ..self }
    }

    /// What the model has if it came from the resolver. A context or a configured graph holds it, so that the model
    /// keeps its name meanwhile.
    pub(crate) fn resolved(&self) -> Option<&StdArc<Resolved>> {
        self.resolved.as_ref()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn encoding(&self) -> Encoding {
        self.encoding
    }

    pub(crate) fn target(&self) -> Target {
        self.target
    }

    /// The version for new contexts, once there is one.
    pub(crate) fn current(&self) -> Option<Arc<Version>> {
        self.current.load_full()
    }

    /// The current version; `engine` builds it if there is none yet. See [`SingleFlight`].
    pub(crate) fn get_or_build(&self, engine: &impl BuildGraph) -> Result<Arc<Version>, Error> {
        let outcome = self.flight.join(ROOM, || self.current(), || self.make(engine));
        outcome.result(|| Error::too_large("the model is too large"))
    }

    /// The graph of the current version, if it is of the source of that generation; `engine` builds it if there is
    /// none.
    pub(crate) fn get_or_build_of(
        &self,
        generation: u64,
        engine: &impl BuildGraph,
    ) -> Result<Option<StdArc<Graph>>, Error> {
        self.get_or_build(engine)?;
        // Under the lock under which both change.
        let state = lock(&self.state);
        let version = self.current().filter(|_| state.generation == generation);
        Ok(version.map(|version| StdArc::clone(&version.graph)))
    }

    /// Enters the model's [`SingleFlight`], whose leader must call [`make`](Self::make).
    pub(crate) fn enter(&self, resume: Resume<Arc<Version>>) -> Entered<Arc<Version>> {
        self.flight.enter(ROOM, || self.current(), resume)
    }

    /// The run of the flight's leader.
    pub(crate) fn make(&self, engine: &impl BuildGraph) -> Result<Arc<Version>, Failed> {
        self.build_first(engine).map_err(|error| Failed::ForAll(error.into()))
    }

    /// The graph of the model, which its guest calls `name`, with a guest's configuration; `engine` builds it if there
    /// is none.
    pub(crate) fn get_or_build_configured(
        &self,
        name: &str,
        config: &str,
        engine: &impl BuildGraph,
    ) -> Result<StdArc<Configured>, Error> {
        let (source, generation) = self.configurable(name)?;
        let build = |listed| self.build_configured((&source, generation), config, engine, listed);
        self.configurations.get_or_build(config, generation, build)
    }

    /// Builds the graph of that source with a guest's configuration.
    pub(crate) fn build_configured(
        &self,
        source: (&ModelSource, u64),
        config: &str,
        engine: &impl BuildGraph,
        listed: Listed<Configured>,
    ) -> Result<Configured, Failed> {
        let make = || self.configured_graph(source, config, engine);
        self.configurations.build(source.0.guest_configs(), self.resolved.as_ref(), listed, make)
    }

    /// N5.
    fn configured_graph(
        &self,
        (source, generation): (&ModelSource, u64),
        config: &str,
        engine: &impl BuildGraph,
    ) -> Result<StdArc<Graph>, Error> {
        if engine.reconfigures(self.encoding, self.target)?
            && let Some(base) = self.get_or_build_of(generation, engine)?
        {
            if source.config() == Some(config) {
                return Ok(base);
            }
            if let Some(graph) = engine.reconfigure(&base, config)? {
                return Ok(graph);
            }
        }
        Ok(engine.build_from(source, Some(config), self.encoding, self.target)?)
    }

    /// The current source and its generation, if guests may configure the model, which its guest calls `name`.
    pub(crate) fn configurable(&self, name: &str) -> Result<(StdArc<ModelSource>, u64), Error> {
        let (source, generation) = {
            let state = lock(&self.state);
            (state.source.clone(), state.generation)
        };
        let source = source.filter(|source| source.guest_configs() > 0).ok_or_else(|| {
            Error::security(format!("the host does not let guests configure the model {}", Quoted(name)))
        })?;
        Ok((source, generation))
    }

    /// The graphs with guests' configurations.
    pub(crate) fn configurations(&self) -> &Configurations {
        &self.configurations
    }

    /// The number of graphs with a guest's configuration.
    pub(crate) fn configured(&self) -> usize {
        self.configurations.count()
    }

    /// Builds the first version, if there is none yet.
    pub(crate) fn build_first(&self, engine: &impl BuildGraph) -> Result<Arc<Version>, ModelError> {
        let _building = self.start_building()?;
        // A reload may have built it already.
        if let Some(version) = self.current() {
            return Ok(version);
        }
        let source = lock(&self.state).source.clone();
        let source = source.ok_or_else(|| Error::runtime_error("the model has no source"))?;
        self.publish(source, engine, Builder::FirstLoad).map(|built| built.version)
    }

    /// Builds from `source`, or again from the model's own source, and makes the result the current version. The
    /// version before stays current during the build, and after it if the build fails or the name is removed.
    pub(crate) fn reload(&self, source: Option<ModelSource>, engine: &impl BuildGraph) -> Result<Built, ModelError> {
        let _building = self.start_building()?;
        let source = source.map(StdArc::new).or_else(|| lock(&self.state).source.clone());
        let source = source.ok_or_else(|| ModelError::BytesNotKept { name: self.name.clone() })?;
        self.publish(source, engine, Builder::Reload)
    }

    /// Reloads the model from its file, which may have changed or may have other parts beside it now. `None` if the
    /// model has another source, or is not built yet: then the first load will read the new content.
    #[cfg(feature = "watch")]
    pub(crate) fn follow(
        &self,
        file: &Path,
        source: ModelSource,
        engine: &impl BuildGraph,
    ) -> Result<Option<Built>, ModelError> {
        // A first load that is under way may have read the old content.
        let _building = self.start_building()?;
        let source = {
            let mut state = lock(&self.state);
            let Some(before) = state.source.as_ref().filter(|source| source.is_from(file)) else { return Ok(None) };
            let source = StdArc::new(source.with_configs_of(before));
            if self.current().is_none() {
                state.generation += 1;
                state.source = Some(source);
                return Ok(None);
            }
            source
        };
        self.publish(source, engine, Builder::Reload).map(Some)
    }

    /// Whether that file is its source.
    #[cfg(feature = "watch")]
    pub(crate) fn is_from(&self, file: &Path) -> bool {
        lock(&self.state).source.as_ref().is_some_and(|source| source.is_from(file))
    }

    /// N4: marks the name as removed. Guests that have the model, or wait for its first version, keep it.
    pub(crate) fn retire(&self) {
        lock(&self.state).removed = true;
    }

    /// N1: waits for another build of the name; an error if that build waits for this thread.
    fn start_building(&self) -> Result<(Holding, MutexGuard<'_, ()>), Error> {
        let waiting = self.awaited.wait()?;
        inside::give_up_permit();
        let building = lock(&self.building);
        drop(waiting);
        // Dropped before the lock, because it is taken first.
        Ok((self.awaited.hold(), building))
    }

    /// The caller must hold `building`.
    fn publish(
        &self,
        source: StdArc<ModelSource>,
        engine: &impl BuildGraph,
        builder: Builder,
    ) -> Result<Built, ModelError> {
        let graph = engine.build_from(&source, source.config(), self.encoding, self.target)?;
        let mut state = lock(&self.state);
        // N4: under the lock that `retire` takes, so that a version is published before the removal or never.
        if state.removed && builder == Builder::Reload {
            return Err(ModelError::Removed { name: self.name.clone() });
        }
        let built = match self.current() {
            // Nothing has changed.
            Some(before) if StdArc::ptr_eq(&before.graph, &graph) => Built { version: before, is_new: false },
            before => {
                let number = before.map_or(1, |before| before.number + 1);
                let version = Arc::new(Version { graph, number });
                self.current.store(Some(Arc::clone(&version)));
                Built { version, is_new: true }
            }
        };
        state.generation += u64::from(built.is_new && builder == Builder::Reload);
        state.source = (source.is_on_disk() || source.guest_configs() > 0).then_some(source);
        Ok(built)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
