//! What an asynchronous load loads: a model's bytes, a name, or a name with the guest's configuration.

use std::sync::Arc as StdArc;

use crate::backend::LoadRequest;
use crate::nn::graphs::backends::Candidates;
use crate::nn::graphs::bytes::ModelBytes;
use crate::nn::graphs::configured::Configured;
use crate::nn::graphs::flight::{Entered, Failed, Resume};
use crate::nn::graphs::graph::Graph;
use crate::nn::graphs::loaded::Named;
use crate::nn::graphs::model::{NamedModel, Version};
use crate::nn::graphs::registry::no_model;
use crate::nn::graphs::resolver::{Answer, Resolver};
use crate::nn::graphs::store::{Key, Listed, short_of};
use crate::nn::inner::{Inner, total_length};
use crate::nn::limits::usage::{Reservation, Usage};
use crate::nn::{Encoding, Error, ModelSource, Target};
use crate::sync::Arc;

/// The most bytes of a model that are hashed on the thread of the call.
pub(crate) const HASHED_AT_ONCE: usize = 64 << 10;

/// Enters the single flight of a plan; see [`SingleFlight::enter`](crate::nn::graphs::flight::SingleFlight::enter).
pub(crate) type Entry<'a, T> = Box<dyn FnOnce(Resume<T>) -> Result<Entered<T>, Error> + 'a>;

/// The end of a plan.
pub(crate) enum Finished<N> {
    /// What a handle refers to, and the number of its graph.
    There(Named, u64),
    /// The load goes on with another plan.
    Then(N),
}

/// What to load, in the steps of an asynchronous load.
pub(crate) trait Plan: Send + 'static {
    type Value: Clone + Send + 'static;
    /// The plan that follows; the plan itself if none does.
    type Next: Plan;

    /// The value, if it is there. Quick, and waits for nothing.
    fn find(&mut self, engine: &Inner) -> Option<Self::Value>;

    /// Prepares the search for the value and for its single flight. May take long.
    fn entry<'a>(&mut self, engine: &'a Inner) -> Result<Entry<'a, Self::Value>, Error>;

    /// Makes the value, as the leader of the flight.
    fn make(&mut self, engine: &Inner) -> Result<Self::Value, Failed>;

    /// The error where another load's build has shown that the guest's room is too small.
    fn short(&self) -> Error;

    /// Uses the value, and takes its share of the guest's bytes. Quick.
    fn finish(self, value: Self::Value, bytes: &mut Reservation) -> Result<Finished<Self::Next>, Error>;
}

/// A model from its bytes.
pub(crate) struct FromBytes {
    pub(crate) parts: Vec<ModelBytes>,
    pub(crate) encoding: Encoding,
    pub(crate) target: Target,
    pub(crate) usage: StdArc<Usage>,
    /// The engine's reservation of the parts.
    pub(crate) reserved: Option<Reservation>,
    /// The key and the backends, since the load began; `None` before.
    chosen: Option<Result<(Key, StdArc<Candidates>), Error>>,
    listed: Option<Listed<Graph>>,
    room: usize,
}

impl FromBytes {
    pub(crate) fn new(
        parts: Vec<ModelBytes>,
        encoding: Encoding,
        target: Target,
        usage: &StdArc<Usage>,
        reserved: Option<Reservation>,
    ) -> Self {
        let usage = StdArc::clone(usage);
        Self { parts, encoding, target, usage, reserved, chosen: None, listed: None, room: 0 }
    }

    /// Runs `f` with the request, which borrows the parts.
    fn with_request<R>(&self, f: impl FnOnce(&LoadRequest<'_>) -> R) -> R {
        let parts: Vec<&[u8]> = self.parts.iter().map(|part| &**part).collect();
        f(&LoadRequest { memory_limit: self.room, ..LoadRequest::new(&parts, self.encoding, self.target) })
    }

    fn chosen(&mut self, engine: &Inner) -> Result<(Key, StdArc<Candidates>), Error> {
        let choose = |request: &LoadRequest<'_>| {
            let candidates = engine.backends.candidates(request)?;
            Ok((Key::of(request, candidates.id(), &[], 0)?, StdArc::new(candidates)))
        };
        let chosen = self.chosen.take().unwrap_or_else(|| self.with_request(choose));
        self.chosen.insert(chosen).clone()
    }
}

impl Plan for FromBytes {
    type Value = StdArc<Graph>;
    type Next = Self;

    fn find(&mut self, engine: &Inner) -> Option<StdArc<Graph>> {
        if total_length(&self.parts) > HASHED_AT_ONCE {
            return None;
        }
        engine.store.find(self.chosen(engine).ok()?.0)
    }

    fn entry<'a>(&mut self, engine: &'a Inner) -> Result<Entry<'a, StdArc<Graph>>, Error> {
        let given = total_length(&self.parts);
        if self.reserved.is_none() {
            self.reserved = Some(engine.reserve_for_model(|usage| &usage.graph_bytes, given)?);
        }
        self.room = self.usage.graph_bytes.left().saturating_add(given);
        let (listed, room) = (engine.store.list(self.chosen(engine)?.0), self.room);
        self.listed = Some(listed.again());
        Ok(Box::new(move |resume| listed.enter(room, resume)))
    }

    fn make(&mut self, engine: &Inner) -> Result<StdArc<Graph>, Failed> {
        let reserved = self.reserved.take();
        let (_, candidates) = self.chosen(engine).map_err(Failed::ForAll)?;
        let listed = self.listed.as_ref().ok_or_else(|| Failed::ForAll(model_is_gone()))?;
        let build = |request: &LoadRequest<'_>, listed| engine.build_listed(&candidates, request, reserved, listed);
        self.with_request(|request| listed.make(|listed| build(request, listed)))
    }

    fn short(&self) -> Error {
        short_of(self.room)
    }

    fn finish(self, graph: StdArc<Graph>, bytes: &mut Reservation) -> Result<Finished<Self>, Error> {
        bytes.settle(graph.bytes())?;
        let number = graph.origin().id;
        Ok(Finished::There(Named::Graph(graph), number))
    }
}

/// A name of a model, and the model once it is known.
pub(crate) struct Wanted {
    /// The guest's name for the model.
    name: String,
    engine_name: String,
    model: Option<Arc<NamedModel>>,
}

impl Wanted {
    /// Finds the model if it is registered. An error if it is not and there is no resolver to ask.
    pub(crate) fn new(name: &str, engine_name: &str, engine: &Inner) -> Result<Self, Error> {
        let model = engine.registered_model(engine_name);
        if model.is_none() && engine.resolver_of(engine_name).is_none() {
            return Err(no_model(name).into());
        }
        Ok(Self { name: name.to_owned(), engine_name: engine_name.to_owned(), model })
    }

    /// The model. Asks the resolver if it is not known yet, on this thread and without a lock.
    pub(crate) fn get(&mut self, engine: &Inner) -> Result<Arc<NamedModel>, Error> {
        let model = match (self.model.take(), engine.resolver_of(&self.engine_name)) {
            (None, Some(resolver)) => resolver.find(&self.engine_name, &engine.registry)?,
            (model, _) => model,
        };
        self.model.clone_from(&model);
        // With the guest's own name.
        model.ok_or_else(|| no_model(&self.name).into())
    }
}

/// The model of a name, which the resolver is asked for if it is not known. The plan of the model follows.
pub(crate) struct Asked<P> {
    wanted: Wanted,
    then: Box<dyn FnOnce(Wanted) -> P + Send>,
    listed: Option<Listed<Answer>>,
}

impl<P> Asked<P> {
    pub(crate) fn new(wanted: Wanted, then: impl FnOnce(Wanted) -> P + Send + 'static) -> Self {
        Self { wanted, then: Box::new(then), listed: None }
    }

    fn resolver<'a>(&self, engine: &'a Inner) -> Result<&'a Resolver, Error> {
        engine.resolver_of(&self.wanted.engine_name).ok_or_else(|| no_model(&self.wanted.name).into())
    }
}

impl<P: Plan> Plan for Asked<P> {
    type Value = StdArc<Answer>;
    type Next = P;

    fn find(&mut self, _: &Inner) -> Option<StdArc<Answer>> {
        self.wanted.model.as_ref().map(|model| StdArc::new(Some(Arc::clone(model))))
    }

    fn entry<'a>(&mut self, engine: &'a Inner) -> Result<Entry<'a, StdArc<Answer>>, Error> {
        let resolver = self.resolver(engine)?;
        let (listed, name) = (resolver.list(&self.wanted.engine_name), self.wanted.engine_name.clone());
        self.listed = Some(listed.again());
        Ok(Box::new(move |resume| Resolver::enter(&listed, &name, &engine.registry, resume)))
    }

    fn make(&mut self, engine: &Inner) -> Result<StdArc<Answer>, Failed> {
        let resolver = self.resolver(engine).map_err(Failed::ForAll)?;
        resolver.make(&self.wanted.engine_name, &engine.registry)
    }

    fn short(&self) -> Error {
        Error::too_large("the model is too large")
    }

    fn finish(self, answer: StdArc<Answer>, _: &mut Reservation) -> Result<Finished<P>, Error> {
        let Self { mut wanted, then, .. } = self;
        wanted.model.clone_from(&answer);
        if wanted.model.is_none() {
            return Err(no_model(&wanted.name).into());
        }
        Ok(Finished::Then(then(wanted)))
    }
}

/// A model by its name.
pub(crate) struct FromName(pub(crate) Wanted);

impl Plan for FromName {
    type Value = Arc<Version>;
    type Next = Self;

    fn find(&mut self, _: &Inner) -> Option<Arc<Version>> {
        self.0.model.as_ref()?.current()
    }

    fn entry<'a>(&mut self, engine: &'a Inner) -> Result<Entry<'a, Arc<Version>>, Error> {
        let model = self.0.get(engine)?;
        Ok(Box::new(move |resume| Ok(model.enter(resume))))
    }

    fn make(&mut self, engine: &Inner) -> Result<Arc<Version>, Failed> {
        self.0.get(engine).map_err(Failed::ForAll)?.make(engine)
    }

    fn short(&self) -> Error {
        Error::too_large("the model is too large")
    }

    fn finish(self, version: Arc<Version>, _: &mut Reservation) -> Result<Finished<Self>, Error> {
        let model = self.0.model.ok_or_else(model_is_gone)?;
        Ok(Finished::There(Named::Model(model), version.graph.origin().id))
    }
}

/// A model by its name, with the guest's configuration.
pub(crate) struct FromConfig {
    wanted: Wanted,
    config: String,
    known: Option<KnownSource>,
    listed: Option<Listed<Configured>>,
}

/// The model and its source at the time of the load.
#[derive(Clone)]
struct KnownSource {
    model: Arc<NamedModel>,
    source: StdArc<ModelSource>,
    generation: u64,
}

impl FromConfig {
    pub(crate) fn new(wanted: Wanted, config: String) -> Self {
        Self { wanted, config, known: None, listed: None }
    }

    fn known(&mut self, engine: &Inner) -> Result<KnownSource, Error> {
        if let Some(known) = &self.known {
            return Ok(known.clone());
        }
        let model = self.wanted.get(engine)?;
        let (source, generation) = model.configurable(&self.wanted.name)?;
        let known = KnownSource { model, source, generation };
        self.known = Some(known.clone());
        Ok(known)
    }
}

impl Plan for FromConfig {
    type Value = StdArc<Configured>;
    type Next = Self;

    fn find(&mut self, engine: &Inner) -> Option<StdArc<Configured>> {
        // A model that the resolver is to be asked for is not in memory.
        self.wanted.model.as_ref()?;
        let KnownSource { model, generation, .. } = self.known(engine).ok()?;
        model.configurations().find(&self.config, generation)
    }

    fn entry<'a>(&mut self, engine: &'a Inner) -> Result<Entry<'a, StdArc<Configured>>, Error> {
        let KnownSource { model, generation, .. } = self.known(engine)?;
        let listed = model.configurations().list(&self.config, generation);
        self.listed = Some(listed.again());
        Ok(Box::new(move |resume| listed.enter(usize::MAX, resume)))
    }

    fn make(&mut self, engine: &Inner) -> Result<StdArc<Configured>, Failed> {
        let KnownSource { model, source, generation } = self.known(engine).map_err(Failed::ForAll)?;
        let listed = self.listed.as_ref().ok_or_else(|| Failed::ForAll(model_is_gone()))?;
        listed.make(|listed| model.build_configured((&source, generation), &self.config, engine, listed))
    }

    fn short(&self) -> Error {
        Error::too_large("the model is too large")
    }

    fn finish(self, configured: StdArc<Configured>, _: &mut Reservation) -> Result<Finished<Self>, Error> {
        let number = configured.graph().origin().id;
        Ok(Finished::There(Named::Configured(configured), number))
    }
}

fn model_is_gone() -> Error {
    Error::runtime_error("the model is gone")
}
