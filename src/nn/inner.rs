//! The state that the guests of an engine share: pools, models, backends and the limits over all guests.

use std::ops::Deref;
use std::sync::Arc as StdArc;
use std::time::Duration;

use crate::backend::{LoadRequest, ModelFile};
use crate::nn::graphs::backends::{Backends, Candidates, Loaded};
use crate::nn::graphs::build::BuildGraph;
use crate::nn::graphs::flight::Failed;
use crate::nn::graphs::graph::{Graph, GraphResources, Origin};
use crate::nn::graphs::model::NamedModel;
use crate::nn::graphs::registry::Registry;
use crate::nn::graphs::resolver::Resolver;
use crate::nn::graphs::store::{Key, Listed, Store};
use crate::nn::guest::pools::Pools;
use crate::nn::ids::next_id;
use crate::nn::limits::usage::{Budget, Reservation, Usage};
use crate::nn::panics::shield;
use crate::nn::schedule::admission::Admission;
use crate::nn::schedule::reaper::Reaper;
use crate::nn::schedule::workers::Workers;
use crate::nn::telemetry::observe;
use crate::nn::telemetry::stats::Counters;
use crate::nn::{Encoding, EngineLimits, Error, ErrorKind, Limits, ModelError, ModelSource, Target};
use crate::sync::Arc;

/// The shared state of an engine.
pub(crate) struct Inner {
    pub(crate) pools: StdArc<Pools>,
    pub(crate) registry: Registry,
    pub(crate) resolver: Option<Resolver>,
    pub(crate) counters: StdArc<Counters>,
    pub(crate) store: StdArc<Store<Graph>>,
    pub(crate) admission: StdArc<Admission>,
    pub(crate) workers: Workers,
    /// Computes of graphs that are quicker run where they are polled.
    pub(crate) inline_bound: Duration,
    /// The admission control and the threads of asynchronous loads.
    pub(crate) loading: StdArc<Admission>,
    pub(crate) loaders: Workers,
    pub(crate) usage: StdArc<Usage>,
    pub(crate) reaper: StdArc<Reaper>,
    pub(crate) limits: Limits,
    pub(crate) ceiling: Limits,
    pub(crate) engine_limits: EngineLimits,
    pub(crate) backends: Backends,
}

impl Inner {
    /// The model that guests load by the engine's `name`, if the name is registered.
    pub(crate) fn registered_model(&self, name: &str) -> Option<Arc<NamedModel>> {
        let model = self.registry.find(name)?;
        model.resolved().inspect(|resolved| resolved.touch());
        Some(model)
    }

    /// The resolver for the name, if it is asked for such names.
    pub(crate) fn resolver_of(&self, name: &str) -> Option<&Resolver> {
        // A longer name cannot be registered.
        self.resolver.as_ref().filter(|_| name.len() <= self.limits.max_name_bytes())
    }

    pub(crate) fn remove_model(&self, name: &str) -> Result<(), ModelError> {
        let model = self.registry.remove(name)?;
        self.resolver.iter().for_each(|resolver| resolver.removed(&model));
        Ok(())
    }

    /// The graph of `request`: an equal one that is in memory, or one that is built now, on this thread and without a
    /// lock.
    pub(crate) fn build(&self, request: &LoadRequest<'_>) -> Result<StdArc<Graph>, Error> {
        let candidates = self.backends.candidates(request)?;
        Ok(self.build_with(&candidates, request, None)?)
    }

    /// Builds the graph; `request`'s bytes are reserved already.
    fn build_with(
        &self,
        candidates: &Candidates,
        request: &LoadRequest<'_>,
        reserved: Option<Reservation>,
    ) -> Result<StdArc<Graph>, ModelError> {
        if request.parts.is_empty() && request.name.is_none() && request.file.is_none() {
            return Err(no_parts().into());
        }
        let files = match request.directory {
            Some(_) => candidates.files(request)?,
            None => Vec::new(),
        };
        let bound = request.memory_limit.min(self.usage.graph_bytes.left());
        let key = Key::of(request, candidates.id(), &files, bound)?;
        let build = |listed| self.build_listed(candidates, request, reserved, listed);
        Ok(self.store.get_or_build(key, request.memory_limit, build)?)
    }

    /// Builds a graph for its entry in the store; `request`'s bytes are reserved already if `reserved` says so.
    pub(crate) fn build_listed(
        &self,
        candidates: &Candidates,
        request: &LoadRequest<'_>,
        reserved: Option<Reservation>,
        listed: Listed<Graph>,
    ) -> Result<Graph, Failed> {
        let given = request.given();
        observe::build(request.encoding, request.target, given, || {
            let seen = self.reaper.progress();
            match self.build_once(candidates, request, given, reserved, listed.again()) {
                // Built again, because models that were being released have freed room.
                Err(Failed::ForAll(error)) if error.is_by_limit() && self.reaper.wait(seen, seen.handed_over) => {
                    self.build_once(candidates, request, given, None, listed)
                }
                built => built,
            }
        })
    }

    fn build_once(
        &self,
        candidates: &Candidates,
        request: &LoadRequest<'_>,
        given: usize,
        reserved: Option<Reservation>,
        listed: Listed<Graph>,
    ) -> Result<Graph, Failed> {
        let LoadRequest { encoding, target, memory_limit, .. } = *request;
        let slot = self.reserve_for_model(|usage| &usage.graphs, 1).map_err(Failed::ForAll)?;
        let bytes = match reserved.filter(|reserved| reserved.amount() == given) {
            Some(reserved) => reserved,
            None => self.reserve_for_model(|usage| &usage.graph_bytes, given).map_err(Failed::ForAll)?,
        };
        let left = self.usage.graph_bytes.left().saturating_add(given);
        let bounded = LoadRequest { memory_limit: memory_limit.min(left), ..*request };
        // A file that was changed meanwhile is not the one that the key is of.
        let loaded = candidates.load(&bounded).and_then(|loaded| {
            request.file.map_or(Ok(()), ModelFile::check_unchanged)?;
            Ok(loaded)
        });
        let Loaded { graph, name, backend } = loaded.map_err(|error| match error.kind() {
            ErrorKind::TooLarge if memory_limit <= left => Failed::Short(error),
            _ => Failed::ForAll(self.without_room(error, left)),
        })?;
        let origin = Origin { id: next_id(), key: listed.key(), backend: name, encoding, target };
        let resources =
            GraphResources { bytes: 0, listed: Some(listed), room: Some((slot, bytes)), backend: Some(backend) };
        let graph = Graph::new(graph, origin, resources, &self.counters, &self.reaper).map_err(Failed::ForAll)?;
        observe::built(graph.origin().id, &graph.origin().backend, graph.bytes(), graph.placement());
        Ok(graph)
    }

    /// Makes a graph from `base`, for its entry in the store.
    fn reconfigure_listed(&self, base: &StdArc<Graph>, config: &str, listed: Listed<Graph>) -> Result<Graph, Error> {
        let slot = self.reserve_for_model(|usage| &usage.graphs, 1)?;
        let bytes = self.reserve_for_model(|usage| &usage.graph_bytes, 0)?;
        let left = self.usage.graph_bytes.left();
        let (graph, backend) = base.reconfigure(config, left).map_err(|error| self.without_room(error, left))?;
        let Origin { backend: ref name, encoding, target, .. } = *base.origin();
        let origin = Origin { id: next_id(), key: listed.key(), backend: name.clone(), encoding, target };
        let resources = GraphResources { bytes: 0, listed: Some(listed), room: Some((slot, bytes)), backend };
        let graph = Graph::new(graph, origin, resources, &self.counters, &self.reaper)?.with_base(base);
        observe::built(graph.origin().id, &graph.origin().backend, graph.bytes(), graph.placement());
        Ok(graph)
    }

    /// The error of a build that had `left` bytes. Where other models use the room it may have more soon; a model that
    /// is too large for its backend stays that.
    fn without_room(&self, error: Error, left: usize) -> Error {
        let bound = self.engine_limits.max_graph_bytes();
        if error.kind() != ErrorKind::TooLarge || !error.is_by_limit() || left >= bound {
            return error;
        }
        let error = format!("engine graph bytes limit exceeded: the model needs more than {left} of {bound} bytes");
        Error::limit(ErrorKind::Busy, error)
    }

    /// Reserves `amount` of the engine's budget for models. If it is short, waits for models that are being released.
    pub(crate) fn reserve_for_model(&self, budget: fn(&Usage) -> &Budget, amount: usize) -> Result<Reservation, Error> {
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

    /// Reserves `amount` of an engine budget.
    pub(crate) fn reserve(&self, budget: fn(&Usage) -> &Budget, amount: usize) -> Result<Reservation, Error> {
        Reservation::of(&self.usage, budget, amount)
    }

    /// Called after removals from the pools: their slots become free without a further call.
    pub(crate) fn entries_removed(&self) {
        self.reaper.flush_soon();
    }
}

/// The error for a model without bytes.
pub(crate) fn no_parts() -> Error {
    Error::invalid_argument("the model has 0 parts; it needs 1 or more")
}

/// The bytes of all parts together.
pub(crate) fn total_length(parts: &[impl Deref<Target = [u8]>]) -> usize {
    parts.iter().map(|part| part.len()).fold(0, usize::saturating_add)
}

impl BuildGraph for Inner {
    /// The files are counted before any of them is read.
    fn build_from(
        &self,
        source: &ModelSource,
        config: Option<&str>,
        encoding: Encoding,
        target: Target,
    ) -> Result<StdArc<Graph>, ModelError> {
        let opened = source.open(encoding)?;
        let read = self.reserve_for_model(|usage| &usage.graph_bytes, opened.length_of_files())?;
        let request = LoadRequest::new(&[], encoding, target)
            .with_name(source.backend_name())
            .with_config(config)
            .with_directory(source.base());
        let candidates = self.backends.candidates(&request)?;
        let opened = if candidates.reads_file(encoding, target)? {
            match opened.file()? {
                Ok(file) => return self.build_with(&candidates, &request.with_file(&file), Some(read)),
                Err(opened) => opened,
            }
        } else {
            opened
        };
        let parts = opened.read()?;
        let parts: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
        self.build_with(&candidates, &LoadRequest { parts: &parts, ..request }, Some(read))
    }

    fn reconfigures(&self, encoding: Encoding, target: Target) -> Result<bool, Error> {
        self.backends.candidates(&LoadRequest::new(&[], encoding, target))?.reconfigures(encoding, target)
    }

    fn reconfigure(&self, base: &StdArc<Graph>, config: &str) -> Result<Option<StdArc<Graph>>, Error> {
        let Origin { key, encoding, target, .. } = *base.origin();
        let candidates = self.backends.candidates(&LoadRequest::new(&[], encoding, target))?;
        // B1: `base` may be of a backend that was removed since.
        if candidates.id() != key.backends() {
            return Ok(None);
        }
        let build = |listed| {
            observe::build(encoding, target, 0, || self.reconfigure_listed(base, config, listed))
                .map_err(Failed::ForAll)
        };
        self.store.get_or_build(key.reconfigured(config), usize::MAX, build).map(Some)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.admission.close();
        self.loading.close();
        self.registry.clear();
        self.resolver.iter().for_each(Resolver::clear);
        self.reaper.finish();
        // A panic must not reach the guest that happens to be dropped last.
        let resolver = self.resolver.take();
        let _ = shield(&self.counters, || drop(resolver));
        // Last, so that everything a backend has made is gone before it.
        self.backends.clear();
    }
}
