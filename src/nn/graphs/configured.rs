//! The graphs of one named model that guests have loaded with their own configurations.
//!
//! * K1: one configuration and one source of the model have at most one graph, and its builds never overlap.
//! * K2: their number never exceeds the bound of the source. A graph counts until its last handle and context are gone.
//! * K3: a graph never changes. A reload gives the model another source, so later loads use another graph.

use std::sync::Arc;

use crate::nn::graphs::flight::Failed;
use crate::nn::graphs::graph::Graph;
use crate::nn::graphs::resolved::Resolved;
use crate::nn::graphs::store::{Key, Listed, Store};
use crate::nn::{Error, ErrorKind};
use crate::sync::atomic::{AtomicUsize, Ordering};

/// A graph with a guest's configuration.
pub(crate) struct Configured {
    graph: Arc<Graph>,
    _place: Place,
    /// K2: the model that the resolver gave keeps its name, and with it this count, while the graph is in use.
    _resolved: Option<Arc<Resolved>>,
    _listed: Listed<Self>,
}

impl Configured {
    pub(crate) fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }
}

/// K2: one of the graphs that the source allows; the drop gives the place back.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(count: &Arc<AtomicUsize>, bound: usize) -> Option<Self> {
        // Relaxed: the count carries no data.
        count
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < bound).then(|| count + 1))
            .ok()
            .map(|_| Self(Arc::clone(count)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The configured graphs of one model.
pub(crate) struct Configurations {
    store: Arc<Store<Configured>>,
    count: Arc<AtomicUsize>,
}

impl Configurations {
    pub(crate) fn new() -> Self {
        Self { store: Arc::default(), count: Arc::new(AtomicUsize::new(0)) }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The graph of a source of that generation with `config`; `build` makes it by [`build`](Self::build) if there is
    /// none.
    pub(crate) fn get_or_build(
        &self,
        config: &str,
        generation: u64,
        build: impl FnOnce(Listed<Configured>) -> Result<Configured, Failed>,
    ) -> Result<Arc<Configured>, Error> {
        // Built without a guest's memory limit, like the model itself.
        self.store.get_or_build(Key::of_config(config, generation), usize::MAX, build)
    }

    /// The graph of a source of that generation with `config`, if it is alive. Does not wait for builds.
    pub(crate) fn find(&self, config: &str, generation: u64) -> Option<Arc<Configured>> {
        self.store.find(Key::of_config(config, generation))
    }

    /// The entry of that graph, for a [`build`](Self::build).
    pub(crate) fn list(&self, config: &str, generation: u64) -> Listed<Configured> {
        self.store.list(Key::of_config(config, generation))
    }

    /// K2: takes one of `bound` places for the graph that `make` makes, of a model that the resolver gave if `resolved`.
    pub(crate) fn build(
        &self,
        bound: usize,
        resolved: Option<&Arc<Resolved>>,
        listed: Listed<Configured>,
        make: impl FnOnce() -> Result<Arc<Graph>, Error>,
    ) -> Result<Configured, Failed> {
        let place = Place::take(&self.count, bound).ok_or_else(|| {
            let used = self.count();
            let error = format!("configured graph limit exceeded: {used} of {bound} graphs in use, 1 more requested");
            Failed::ForAll(Error::limit(ErrorKind::Busy, error))
        })?;
        let graph = make().map_err(Failed::ForAll)?;
        Ok(Configured { graph, _place: place, _resolved: resolved.cloned(), _listed: listed })
    }
}
