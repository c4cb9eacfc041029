//! A loaded model: the loads of the library from which execution contexts are opened.

use std::sync::{Arc, Mutex, PoisonError};

use graphpool::backend::{Error, LoadRequest};

use crate::instance::{Instance, Model};
use crate::library::Library;
use crate::session::Session;
use crate::settings::DylibSettings;

/// A model, which a graph and its contexts share.
pub(crate) struct Loaded {
    current: Mutex<Current>,
    /// Dropped after `current`, as there may be libraries that go on using the bytes that they have loaded.
    model: Model,
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
        let model = Model::of(request, &library.name)?;
        let needed = model.bytes().saturating_mul(2);
        if needed > request.memory_limit {
            let limit = request.memory_limit;
            let why = format!("{} counts {needed} bytes for the model; the limit is {limit}", library.name);
            return Err(Error::too_large(why));
        }
        // Loaded now, so that a bad model is refused here; the first context uses it.
        let instance = Arc::new(Instance::start(&library, &model, settings)?);
        let current = Mutex::new(Current { instance: Some(instance), opened: 0 });
        Ok(Self { library, settings: Arc::clone(settings), model, current })
    }

    /// A new execution context.
    pub(crate) fn open_session(&self) -> Result<Session, Error> {
        Session::open(self.instance()?, &self.settings)
    }

    /// The bytes that one context counts for the load that it has, or shares.
    pub(crate) fn bytes_of_context(&self) -> usize {
        self.model.bytes().div_ceil(self.settings.contexts_per_load as usize)
    }

    fn instance(&self) -> Result<Arc<Instance>, Error> {
        let start = || Instance::start(&self.library, &self.model, &self.settings).map(Arc::new);
        let lock = || self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let most = self.settings.contexts_per_load;
        if most == 1 {
            let ready = lock().instance.take();
            return ready.map_or_else(start, Ok);
        }
        // Held during a load, so that the contexts that wait for it share it.
        let mut current = lock();
        let instance = if let Some(instance) = current.instance.take() {
            instance
        } else {
            let instance = start()?;
            current.opened = 0;
            instance
        };
        current.opened += 1;
        if current.opened < most {
            current.instance = Some(Arc::clone(&instance));
        }
        Ok(instance)
    }

    /// The copy that the graph keeps, and one load of it.
    pub(crate) fn memory(&self) -> usize {
        self.model.bytes().saturating_mul(2)
    }
}
