//! A named model: a source, and the graph that was last built from it.
//!
//! * N1: no two builds of one name overlap.
//! * N2: a version is replaced by a later one, never by none; so what a guest has loaded once is there.
//! * N3: whoever finds a version takes no lock.
//! * N4: once its name is removed, no reload gives the model another version.

#[cfg(feature = "watch")]
use std::path::Path;
use std::sync::{Arc as StdArc, PoisonError};

use crate::nn::graphs::build::BuildGraph;
use crate::nn::graphs::configured::{Configurable, Configurations, Configured};
use crate::nn::graphs::flight::{Failed, SingleFlight};
use crate::nn::graphs::graph::Graph;
use crate::nn::guest::check::Quoted;
use crate::nn::schedule::waits::{Awaited, Holding};
use crate::nn::{Encoding, Error, ModelError, ModelSource, Target};
use crate::sync::{Arc, ArcSwapOption, Mutex, MutexGuard};

/// A registered name.
pub(crate) struct NamedModel {
    name: String,
    encoding: Encoding,
    target: Target,
    current: ArcSwapOption<Version>,
    flight: SingleFlight<Arc<Version>>,
    configurations: Configurations,
    /// N1: held by whoever builds.
    building: Mutex<()>,
    /// The same for whoever looks for rings of threads.
    awaited: Awaited,
    /// Held for no longer than it takes to look at it, or to change it and `current` together.
    state: Mutex<State>,
}

struct State {
    /// `None` once the model is built, where it would keep the bytes in memory a second time and nobody needs them.
    source: Option<StdArc<ModelSource>>,
    /// How often a reload has changed what the source gives.
    generation: u64,
    /// N4.
    removed: bool,
}

/// What a name stands for until it is reloaded.
pub(crate) struct Version {
    pub(crate) graph: StdArc<Graph>,
    /// From 1.
    pub(crate) number: u64,
}

/// What a build of a name came to.
pub(crate) struct Built {
    pub(crate) version: Arc<Version>,
    /// Whether this build has made the version: otherwise it is the one before, as nothing has changed.
    pub(crate) is_new: bool,
}

/// Who builds.
#[derive(Clone, Copy, PartialEq)]
enum Builder {
    /// Guests that have the model already, though its name may be gone.
    FirstLoad,
    /// The host, by the name.
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
            building: Mutex::new(()),
            awaited: Awaited::new(),
            state: Mutex::new(State { source: Some(StdArc::new(source)), generation: 0, removed: false }),
        }
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

    /// The version that new contexts run on, once there is one.
    pub(crate) fn current(&self) -> Option<Arc<Version>> {
        self.current.load_full()
    }

    /// The current version, which `engine` builds where there is none yet; see [`SingleFlight`].
    pub(crate) fn get_or_build(&self, engine: &impl BuildGraph) -> Result<Arc<Version>, Error> {
        let make = || self.build_first(engine).map_err(|error| Failed::ForAll(error.into()));
        // A named model is built with no guest's bound.
        let outcome = self.flight.join(usize::MAX, || self.current(), make);
        outcome.result(|| Error::too_large("the model is too large"))
    }

    /// The graph of the model with a guest's configuration, which `engine` builds where there is none.
    pub(crate) fn get_or_build_configured(
        &self,
        config: &str,
        engine: &impl BuildGraph,
    ) -> Result<StdArc<Configured>, Error> {
        let (source, generation) = {
            let state = lock(&self.state);
            (state.source.clone(), state.generation)
        };
        let source = source.filter(|source| source.guest_configs() > 0).ok_or_else(|| {
            Error::security(format!("the host does not let guests configure the model {}", Quoted(&self.name)))
        })?;
        let model = Configurable { source: &source, generation, encoding: self.encoding, target: self.target };
        self.configurations.get_or_build(&model, config, engine)
    }

    /// Graphs with a guest's configuration.
    pub(crate) fn configured(&self) -> usize {
        self.configurations.count()
    }

    /// Builds the first version, where there is none yet.
    pub(crate) fn build_first(&self, engine: &impl BuildGraph) -> Result<Arc<Version>, ModelError> {
        let _building = self.start_building()?;
        // A reload may have been first.
        if let Some(version) = self.current() {
            return Ok(version);
        }
        let source = lock(&self.state).source.clone();
        let source = source.ok_or_else(|| Error::runtime_error("the model has no source"))?;
        self.publish(source, engine, Builder::FirstLoad).map(|built| built.version)
    }

    /// Builds from `source`, or once more from the one that the model has, and makes that the current version. The
    /// one before is the current one meanwhile, and stays it where the build fails or the name is removed.
    pub(crate) fn reload(&self, source: Option<ModelSource>, engine: &impl BuildGraph) -> Result<Built, ModelError> {
        let _building = self.start_building()?;
        let source = source.map(StdArc::new).or_else(|| lock(&self.state).source.clone());
        let source = source.ok_or_else(|| ModelError::BytesNotKept { name: self.name.clone() })?;
        self.publish(source, engine, Builder::Reload)
    }

    /// Follows the file that it comes from, which may have changed, and may have other parts beside it now. `None`
    /// where it does not come from that file, or is not built yet: then the first load will read what is there.
    #[cfg(feature = "watch")]
    pub(crate) fn follow(
        &self,
        file: &Path,
        source: ModelSource,
        engine: &impl BuildGraph,
    ) -> Result<Option<Built>, ModelError> {
        // Where a first load is under way, it may have read what was there before the change.
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

    /// Whether it comes from that file.
    #[cfg(feature = "watch")]
    pub(crate) fn is_from(&self, file: &Path) -> bool {
        lock(&self.state).source.as_ref().is_some_and(|source| source.is_from(file))
    }

    /// N4: its name is gone. Those who have the model, or wait for its first version, keep it.
    pub(crate) fn retire(&self) {
        lock(&self.state).removed = true;
    }

    /// N1: waits for another build of the name, unless that waits for this thread.
    fn start_building(&self) -> Result<(Holding<'_>, MutexGuard<'_, ()>), Error> {
        let waiting = self.awaited.wait()?;
        let building = lock(&self.building);
        drop(waiting);
        // Let go of before the lock, as it comes first.
        Ok((self.awaited.hold(), building))
    }

    /// Only under `building`.
    fn publish(
        &self,
        source: StdArc<ModelSource>,
        engine: &impl BuildGraph,
        builder: Builder,
    ) -> Result<Built, ModelError> {
        let graph = engine.build_from(&source, source.config(), self.encoding, self.target)?;
        let mut state = lock(&self.state);
        // N4: under the lock that `retire` takes, so that a version is published before that or not at all.
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
