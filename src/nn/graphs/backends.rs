//! The backends of an engine: a list that changes while it is read, and the choice of backends for a model.
//!
//! * B1: a load calls the backends of one snapshot, the newest when it began: no load that begins after a removal has
//!   returned calls the removed backend, and every load that begins after a registration has returned may call the
//!   registered one. A load that waits for a build that had begun before, and one of a configured graph that is in
//!   memory, get what that was built with.
//! * B2: a backend lives as long as a load that may call it, a graph that it has built, or a context of such a graph.
//! * B3: a backend that was removed, or never got into the list, is dropped once, by its last user. No lock is held
//!   then, and a panic is only counted.
//! * B4: of concurrent changes none is lost, and no two backends that were registered in a running engine have the same
//!   name at one time.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::sync::Arc as StdArc;

use crate::backend::{Backend, BackendGraph, LoadRequest};
use crate::nn::graphs::backend_error::BackendError;
use crate::nn::ids::next_id;
use crate::nn::panics::shield;
use crate::nn::telemetry::stats::Counters;
use crate::nn::{Encoding, Error, ErrorKind, Target};
use crate::sync::{Arc, ArcSwap};

/// The backends, in the order in which they are tried.
#[derive(Default)]
pub(crate) struct Backends {
    list: ArcSwap<Vec<Arc<Registered>>>,
}

/// A backend of an engine. B3: its drop drops the backend.
pub(crate) struct Registered {
    /// Unique in the process, unlike the name.
    id: u64,
    /// An error if the backend panicked when it was asked.
    name: Result<String, Error>,
    /// `None` only during the drop.
    backend: Option<Box<dyn Backend>>,
    counters: StdArc<Counters>,
}

impl Registered {
    pub(crate) fn new(backend: Box<dyn Backend>, counters: &StdArc<Counters>) -> Arc<Self> {
        let name = shield(counters, || backend.name().to_owned());
        Arc::new(Self { id: next_id(), name, backend: Some(backend), counters: StdArc::clone(counters) })
    }

    fn name(&self) -> Result<&str, Error> {
        self.name.as_deref().map_err(Error::clone)
    }

    fn call<R>(&self, f: impl FnOnce(&dyn Backend) -> Result<R, Error>) -> Result<R, Error> {
        let backend = self.backend.as_deref().ok_or_else(|| Error::runtime_error("the backend is gone"))?;
        shield(&self.counters, || f(backend))?
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let backend = self.backend.take();
        // No guest call can get the error.
        let _ = shield(&self.counters, || drop(backend));
    }
}

impl Backends {
    /// The list of a new engine.
    pub(crate) fn new(backends: Vec<Box<dyn Backend>>, counters: &StdArc<Counters>) -> Self {
        let list: Vec<_> = backends.into_iter().map(|backend| Registered::new(backend, counters)).collect();
        let backends = Self::default();
        backends.list.store(Arc::new(list));
        backends
    }

    /// Adds a backend behind the others, unless its name is taken. Returns the name.
    pub(crate) fn register(&self, backend: &Arc<Registered>) -> Result<String, BackendError> {
        let name = backend.name()?.to_owned();
        let mut taken = false;
        self.list.rcu(|list| {
            taken = position(list, &name).is_some();
            if taken { Arc::clone(list) } else { Arc::new([list, &[Arc::clone(backend)][..]].concat()) }
        });
        if taken { Err(BackendError::NameTaken { name }) } else { Ok(name) }
    }

    /// Puts a backend in the place of the one with its name. Returns the name.
    pub(crate) fn replace(&self, backend: &Arc<Registered>) -> Result<String, BackendError> {
        let name = backend.name()?.to_owned();
        self.change(&name, |list, place| list[place] = Arc::clone(backend))?;
        Ok(name)
    }

    /// Removes the backend of that name.
    pub(crate) fn remove(&self, name: &str) -> Result<(), BackendError> {
        self.change(name, |list, place| drop(list.remove(place)))
    }

    /// Removes every backend.
    pub(crate) fn clear(&self) {
        self.list.store(Arc::default());
    }

    /// The names, in the order in which the backends are tried. A backend that panicked when it was asked has none.
    pub(crate) fn names(&self) -> Vec<String> {
        self.list.load().iter().filter_map(|backend| backend.name.clone().ok()).collect()
    }

    fn change(&self, name: &str, change: impl Fn(&mut Vec<Arc<Registered>>, usize)) -> Result<(), BackendError> {
        let mut found = false;
        self.list.rcu(|list| {
            let place = position(list, name);
            found = place.is_some();
            let Some(place) = place else { return Arc::clone(list) };
            let mut changed = Vec::clone(list);
            change(&mut changed, place);
            Arc::new(changed)
        });
        if found { Ok(()) } else { Err(BackendError::NotFound { name: name.to_owned() }) }
    }

    /// Whether a backend supports the encoding and target. True if one panics, so that the load reports it.
    pub(crate) fn support(&self, encoding: Encoding, target: Target) -> bool {
        let supports = |backend: &Registered| backend.call(|backend| Ok(backend.supports(encoding, target)));
        self.list.load_full().iter().any(|backend| supports(backend).unwrap_or(true))
    }

    /// B1: the backends for a load that begins now: the first that supports the encoding and target, or with
    /// [`Encoding::Autodetect`] all of those.
    pub(crate) fn candidates(&self, request: &LoadRequest<'_>) -> Result<Candidates, Error> {
        let LoadRequest { encoding, target, .. } = *request;
        let mut candidates = Vec::new();
        for backend in &*self.list.load_full() {
            if backend.call(|backend| Ok(backend.supports(encoding, target)))? {
                candidates.push(Arc::clone(backend));
                if encoding != Encoding::Autodetect {
                    break;
                }
            }
        }
        Ok(Candidates(candidates))
    }
}

fn position(list: &[Arc<Registered>], name: &str) -> Option<usize> {
    list.iter().position(|backend| backend.name.as_deref() == Ok(name))
}

/// The backends for one load, in the order in which they are tried.
pub(crate) struct Candidates(Vec<Arc<Registered>>);

impl Candidates {
    /// A number that differs for different backends, or another order of them.
    pub(crate) fn id(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.iter().for_each(|backend| backend.id.hash(&mut hasher));
        hasher.finish()
    }

    /// Whether the first backend reads the file of a model itself. With [`Encoding::Autodetect`] none does, as several
    /// may be tried.
    pub(crate) fn reads_file(&self, encoding: Encoding, target: Target) -> Result<bool, Error> {
        match self.0.first().filter(|_| encoding != Encoding::Autodetect) {
            Some(backend) => backend.call(|backend| Ok(backend.reads_file(encoding, target))),
            None => Ok(false),
        }
    }

    /// Whether the first backend's graphs can be reconfigured. With [`Encoding::Autodetect`] none is, as several may be
    /// tried.
    pub(crate) fn reconfigures(&self, encoding: Encoding, target: Target) -> Result<bool, Error> {
        match self.0.first().filter(|_| encoding != Encoding::Autodetect) {
            Some(backend) => backend.call(|backend| Ok(backend.reconfigures(encoding, target))),
            None => Ok(false),
        }
    }

    /// The files beside the parts that the first backend will read.
    pub(crate) fn files(&self, request: &LoadRequest<'_>) -> Result<Vec<PathBuf>, Error> {
        for backend in &self.0 {
            match backend.call(|backend| backend.files(request)) {
                Err(error) if is_of_another_encoding(request, &error) => {}
                result => return result,
            }
        }
        Ok(Vec::new())
    }

    /// Builds the graph with the first backend, and returns it with that backend's name and B2, the backend. With
    /// [`Encoding::Autodetect`], a backend that does not recognise the bytes is followed by the next one.
    pub(crate) fn load(&self, request: &LoadRequest<'_>) -> Result<Loaded, Error> {
        let LoadRequest { encoding, target, .. } = *request;
        let mut refusal = None;
        for backend in &self.0 {
            let name = backend.name()?.to_owned();
            match backend.call(|backend| backend.load(request)) {
                Err(error) if is_of_another_encoding(request, &error) => refusal = Some(error),
                graph => return Ok(Loaded { graph: graph?, name, backend: Arc::clone(backend) }),
            }
        }
        Err(refusal.unwrap_or_else(|| {
            Error::unsupported(format!("no backend supports the encoding {encoding} on the target {target}"))
        }))
    }
}

/// A graph with its backend.
pub(crate) struct Loaded {
    pub(crate) graph: Box<dyn BackendGraph>,
    pub(crate) name: String,
    pub(crate) backend: Arc<Registered>,
}

fn is_of_another_encoding(request: &LoadRequest<'_>, error: &Error) -> bool {
    request.encoding == Encoding::Autodetect && error.kind() == ErrorKind::InvalidEncoding
}

#[cfg(all(test, loom))]
mod models;
