//! A named model: a source, and the graph that was last built from it.
//!
//! * N1: no two builds of one name overlap.
//! * N2: a version is replaced by a later one, never by none; so what a guest has loaded once is there.
//! * N3: whoever finds a version takes no lock.

use std::sync::{Arc as StdArc, PoisonError};

use super::check::Quoted;
use super::flight::Flight;
use super::graph::Graph;
use super::{Encoding, Error, ModelSource, Target};
use crate::backend::LoadRequest;
use crate::sync::{Arc, ArcSwapOption, Mutex, MutexGuard};

/// What builds a graph for a name.
pub(super) type Build<'a> = &'a dyn Fn(&LoadRequest<'_>) -> Result<StdArc<Graph>, Error>;

/// A registered name.
pub(super) struct NamedModel {
    name: String,
    /// `None` once the model is built, where it would keep the bytes in memory a second time.
    source: Mutex<Option<StdArc<ModelSource>>>,
    encoding: Encoding,
    target: Target,
    current: ArcSwapOption<Version>,
    flight: Flight<Arc<Version>>,
    /// N1: held by whoever builds.
    building: Mutex<()>,
}

/// What a name stands for until it is reloaded.
pub(super) struct Version {
    pub(super) graph: StdArc<Graph>,
    /// From 1.
    pub(super) number: u64,
}

impl NamedModel {
    pub(super) fn new(name: &str, source: ModelSource, encoding: Encoding, target: Target) -> Self {
        Self {
            name: name.to_owned(),
            source: Mutex::new(Some(StdArc::new(source))),
            encoding,
            target,
            current: ArcSwapOption::empty(),
            flight: Flight::new(),
            building: Mutex::new(()),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    pub(super) fn target(&self) -> Target {
        self.target
    }

    /// The version that new contexts run on, once there is one.
    pub(super) fn current(&self) -> Option<Arc<Version>> {
        self.current.load_full()
    }

    /// The current version, which `build` makes where there is none yet; see [`Flight`].
    pub(super) fn get_or_build(&self, build: Build<'_>) -> Result<Arc<Version>, Error> {
        let make = || {
            let _building = lock(&self.building);
            // A reload may have been first.
            if let Some(version) = self.current() {
                return Ok(version);
            }
            let source = lock(&self.source).clone();
            let source = source.ok_or_else(|| Error::runtime_error("the model has no source"))?;
            self.publish(source, build)
        };
        self.flight.join(|| self.current(), make).result()
    }

    /// Builds from `source`, or once more from the one that the model has, and makes that the current version. The
    /// one before is the current one meanwhile, and stays it where the build fails.
    pub(super) fn reload(&self, source: Option<ModelSource>, build: Build<'_>) -> Result<Arc<Version>, Error> {
        let _building = lock(&self.building);
        let source = match source {
            Some(source) => StdArc::new(source),
            None => lock(&self.source).clone().ok_or_else(|| {
                let name = Quoted(&self.name);
                Error::invalid_argument(format!("the model {name} came from bytes, which are gone; replace it instead"))
            })?,
        };
        self.publish(source, build)
    }

    /// Only under `building`.
    fn publish(&self, source: StdArc<ModelSource>, build: Build<'_>) -> Result<Arc<Version>, Error> {
        let graph = {
            let parts = source.read(self.encoding)?;
            let parts: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
            let request = LoadRequest {
                config: source.config(),
                directory: source.base(),
                ..LoadRequest::new(&parts, self.encoding, self.target)
            };
            build(&request)?
        };
        let before = self.current();
        let version = match before {
            // Nothing has changed.
            Some(before) if StdArc::ptr_eq(&before.graph, &graph) => before,
            before => {
                let number = before.map_or(1, |before| before.number + 1);
                let version = Arc::new(Version { graph, number });
                self.current.store(Some(Arc::clone(&version)));
                version
            }
        };
        *lock(&self.source) = source.is_on_disk().then_some(source);
        Ok(version)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
