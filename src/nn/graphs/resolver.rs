//! The host's resolver: it is asked for names that are not registered, and its answers are registered.
//!
//! * V1: concurrent loads of one unknown name share one call of the resolver. No lock is held during the call, and
//!   loads of other names do not wait for it.
//! * V2: a name has one model. The resolver's answer for a name that was registered meanwhile is discarded.
//! * V3: the models that came from the resolver never exceed the bound. A model counts until its name, its last
//!   handle and its last context are gone. One more takes the place of one that no guest holds.
//! * V4: the kept models are those in the registry that came from the resolver, except during a removal. So a name that
//!   is removed is not kept in memory, and each name can be evicted.
//!
//! An answer that no model has the name is not kept: the next load asks again.

use std::collections::BTreeMap;
use std::mem;
use std::ops::Bound;
use std::sync::{Arc as StdArc, PoisonError};

use crate::nn::graphs::flight::{Entered, Failed, Resume};
use crate::nn::graphs::model::NamedModel;
use crate::nn::graphs::registry::Registry;
use crate::nn::graphs::resolved::{Resolved, ResolvedModel};
use crate::nn::graphs::store::{Key, Listed, Store};
use crate::nn::ids::next_id;
use crate::nn::limits::usage::{Reservation, Usage};
use crate::nn::panics::shield_call;
use crate::nn::telemetry::observe;
use crate::nn::telemetry::stats::Counters;
use crate::nn::{Error, ErrorKind};
use crate::sync::{Arc, Mutex, MutexGuard};

/// The host's function.
pub(crate) type Resolve = dyn Fn(&str) -> Result<Option<ResolvedModel>, Error> + Send + Sync;

/// The host's resolver, and the models that came from it.
pub(crate) struct Resolver {
    resolve: Box<Resolve>,
    /// V1: the calls that are in progress, by the digests of their names.
    calls: StdArc<Store<Answer>>,
    /// V4: held only to change it, alone or with the registry.
    kept: Mutex<Kept>,
    usage: StdArc<Usage>,
    counters: StdArc<Counters>,
}

/// The model of a name, if it has one.
pub(crate) type Answer = Option<Arc<NamedModel>>;

/// The registered models that came from the resolver, by the numbers of their registrations.
#[derive(Default)]
struct Kept {
    models: BTreeMap<u64, Arc<NamedModel>>,
    /// The number of the last model that a search has looked at.
    hand: u64,
}

impl Kept {
    /// Takes a model that no guest holds, and that none has loaded since a search last looked at it: the clock
    /// algorithm.
    fn take_idle(&mut self) -> Answer {
        // The first round may find each of them used.
        for _ in 0..2 * self.models.len() {
            let mut later = self.models.range((Bound::Excluded(self.hand), Bound::Unbounded));
            let (id, model) = later.next().or_else(|| self.models.first_key_value())?;
            self.hand = *id;
            // The registry and this list hold the model, and a handle; a context and a configured graph hold what it
            // has from the resolver, as the model itself does. V3 holds even if a count is read late: the place is
            // theirs.
            let is_held = Arc::strong_count(model) > 2
                || model.resolved().is_some_and(|resolved| StdArc::strong_count(resolved) > 1);
            if !is_held && !model.resolved().is_some_and(|resolved| resolved.take_used()) {
                return self.models.remove(&self.hand);
            }
        }
        None
    }
}

impl Resolver {
    pub(crate) fn new(resolve: Box<Resolve>, usage: StdArc<Usage>, counters: StdArc<Counters>) -> Self {
        Self { resolve, calls: StdArc::default(), kept: Mutex::default(), usage, counters }
    }

    /// The model of a name that was not in `registry`: asks the resolver, or waits for a concurrent call that does.
    pub(crate) fn find(&self, name: &str, registry: &Registry) -> Result<Answer, Error> {
        let make = || self.make(name, registry);
        self.calls.share(Key::of_name(name), || found(name, registry), make).map(|answer| Answer::clone(&answer))
    }

    /// The entry of a name, for a call that waits without a thread.
    pub(crate) fn list(&self, name: &str) -> Listed<Answer> {
        self.calls.list(Key::of_name(name))
    }

    /// As [`find`](Self::find) without waiting; the leader must call [`make`](Self::make).
    pub(crate) fn enter(
        listed: &Listed<Answer>,
        name: &str,
        registry: &Registry,
        resume: Resume<StdArc<Answer>>,
    ) -> Result<Entered<StdArc<Answer>>, Error> {
        listed.enter_with(usize::MAX, || found(name, registry), resume)
    }

    /// Asks the resolver.
    pub(crate) fn make(&self, name: &str, registry: &Registry) -> Result<StdArc<Answer>, Failed> {
        self.ask(name, registry).map(StdArc::new).map_err(Failed::ForAll)
    }

    fn ask(&self, name: &str, registry: &Registry) -> Result<Answer, Error> {
        let answer = observe::resolve(name, || shield_call(&self.counters, "the resolver", || (self.resolve)(name)));
        let answer = match answer {
            // The same as `None`, so that the guest gets an error with its own name of the model.
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            answer => answer?,
        };
        // The resolver may have registered the name itself.
        let Some(ResolvedModel { source, encoding, target }) = answer else { return Ok(registry.find(name)) };
        let resolved = Resolved::new(next_id(), self.place(registry)?);
        let model = Arc::new(NamedModel::new(name, source, encoding, target).with_resolved(resolved));
        Ok(Some(self.register(&model, registry)))
    }

    /// V3: a place for one more model.
    fn place(&self, registry: &Registry) -> Result<Reservation, Error> {
        loop {
            match Reservation::of(&self.usage, |usage| &usage.resolved_names, 1) {
                Ok(place) => return Ok(place),
                Err(error) => drop(self.evict(registry).ok_or(error)?),
            }
        }
    }

    /// Removes the name of a model that no guest holds. The caller drops the model without the lock.
    fn evict(&self, registry: &Registry) -> Answer {
        let mut kept = self.lock();
        let model = kept.take_idle();
        model.inspect(|model| registry.remove_model(model))
    }

    /// V2: registers the model, unless the name has another one; returns the name's.
    fn register(&self, model: &Arc<NamedModel>, registry: &Registry) -> Arc<NamedModel> {
        // V4: a removal of the name waits for the lock, and finds the model.
        let mut kept = self.lock();
        let registered = registry.get_or_register(model);
        if let Some(resolved) = registered.resolved() {
            kept.models.insert(resolved.id, Arc::clone(&registered));
        }
        drop(kept);
        registered
    }

    /// V4: called after the removal of the name.
    pub(crate) fn removed(&self, model: &NamedModel) {
        if let Some(resolved) = model.resolved() {
            let removed = self.lock().models.remove(&resolved.id);
            // Without the lock.
            drop(removed);
        }
    }

    /// Called after all names were removed.
    pub(crate) fn clear(&self) {
        let kept = mem::take(&mut *self.lock());
        drop(kept);
    }

    #[cfg(all(test, loom))]
    pub(crate) fn kept(&self) -> usize {
        self.lock().models.len()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn found(name: &str, registry: &Registry) -> Option<StdArc<Answer>> {
    registry.find(name).map(|model| StdArc::new(Some(model)))
}

#[cfg(all(test, loom))]
mod models;
