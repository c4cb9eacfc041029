//! A loaded model: the loads of the library from which execution contexts are opened.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use graphpool::backend::{Error, LoadRequest};

use crate::instance::{Instance, Model};
use crate::library::Library;
use crate::session::Session;
use crate::settings::DylibSettings;
use crate::turn::{Patience, Turn};

/// A model, which a graph and its contexts share.
pub(crate) struct Loaded {
    /// Locked only to take a load, or to put one there.
    current: Mutex<Current>,
    /// Held while the library loads the model again, where the contexts that wait for it share the load.
    reload: Turn,
    model: Arc<Model>,
    library: Arc<Library>,
    pub(crate) settings: Arc<DylibSettings>,
}

/// The load from which execution contexts are opened.
struct Current {
    /// `None` if as many were opened from it as are declared.
    instance: Option<Arc<Instance>>,
    opened: u32,
}

impl Loaded {
    pub(crate) fn load(
        library: Arc<Library>,
        settings: &Arc<DylibSettings>,
        request: &LoadRequest<'_>,
    ) -> Result<Self, Error> {
        // Before the model is copied.
        let needed = Model::bytes_of(request).saturating_mul(2);
        if needed > request.memory_limit {
            let limit = request.memory_limit;
            let why = format!("{} counts {needed} bytes for the model; the limit is {limit}", library.name);
            return Err(Error::too_large(why).by_limit());
        }
        let model = Arc::new(Model::of(request, &library.name)?);
        // Loaded now, so that a bad model is refused here; the first context uses it.
        let patience = Patience::new(settings.max_wait, None);
        let instance = Arc::new(Instance::start(&library, &model, settings, &patience)?);
        let current = Mutex::new(Current { instance: Some(instance), opened: 0 });
        let reload = Turn::new("loads the model for new contexts");
        Ok(Self { current, reload, model, library, settings: Arc::clone(settings) })
    }

    /// A new execution context.
    pub(crate) fn open_session(&self, patience: &Patience<'_>) -> Result<Session, Error> {
        Session::open(self.instance(patience)?, patience)
    }

    /// The bytes that one context counts for the load that it has, or shares.
    pub(crate) fn bytes_of_context(&self) -> usize {
        self.model.bytes().div_ceil(self.settings.contexts_per_load as usize)
    }

    /// A load with room for one more execution context.
    fn instance(&self, patience: &Patience<'_>) -> Result<Arc<Instance>, Error> {
        let start = || Instance::start(&self.library, &self.model, &self.settings, patience).map(Arc::new);
        let most = self.settings.contexts_per_load;
        // In a statement of its own, as everywhere, so that the lock is not held during a load.
        let ready = self.current().take(most);
        if let Some(instance) = ready {
            return Ok(instance);
        }
        if most == 1 {
            return start();
        }
        let _reload = self.reload.wait(patience)?;
        let ready = self.current().take(most);
        if let Some(instance) = ready {
            return Ok(instance);
        }
        let instance = start()?;
        *self.current() = Current { instance: Some(Arc::clone(&instance)), opened: 1 };
        Ok(instance)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The copy that the graph keeps, and one load of it.
    pub(crate) fn memory(&self) -> usize {
        self.model.bytes().saturating_mul(2)
    }
}

impl Current {
    /// The load, for one more of at most that many execution contexts.
    fn take(&mut self, most: u32) -> Option<Arc<Instance>> {
        let instance = self.instance.take()?;
        self.opened += 1;
        if self.opened < most {
            self.instance = Some(Arc::clone(&instance));
        }
        Some(instance)
    }
}
