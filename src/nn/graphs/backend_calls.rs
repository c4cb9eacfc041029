//! The host's calls on backends of a running engine: register, replace, remove and list.

use crate::backend::Backend;
use crate::nn::BackendError;
use crate::nn::engine::Engine;
use crate::nn::graphs::backends::Registered;
use crate::nn::telemetry::observe;
use crate::nn::telemetry::observe::BackendChange;

/// Backends.
///
/// They may change at any time, while guests load and compute. A load uses the backends that the engine had when the
/// load began: no load that begins after a removal or a replacement has returned calls the backend that was removed, or
/// gets a graph that it has built. The exceptions are a load that waits for a build which had begun before, and one
/// with a guest's configuration whose graph is in memory. Graphs that are in memory stay usable, with their contexts,
/// and so do the versions of named models: [`reload_model`](Self::reload_model) builds such a model with the backend
/// that is there now. A backend that was removed is dropped by its last user: the removal, a load that had begun
/// before, or the thread that releases the last of its graphs.
impl Engine {
    /// Adds a backend. If several support an encoding and target, the one that was added first gets the model.
    ///
    /// # Errors
    ///
    /// [`NameTaken`](BackendError::NameTaken) if a backend has the same [name](Backend::name),
    /// [`Panicked`](BackendError::Panicked) if the backend panics when it is asked for it. The backend is then dropped.
    pub fn register_backend(&self, backend: impl Backend) -> Result<(), BackendError> {
        let registered = Registered::new(Box::new(backend), &self.inner.counters);
        let name = self.inner.backends.register(&registered)?;
        observe::backend_changed(BackendChange::Registered, &name);
        Ok(())
    }

    /// Replaces the backend that has the same [name](Backend::name), in its place in the order. Loads meanwhile use one
    /// or the other.
    ///
    /// # Errors
    ///
    /// [`NotFound`](BackendError::NotFound) if no backend has the name, [`Panicked`](BackendError::Panicked) if the
    /// backend panics when it is asked for it. The backend is then dropped.
    pub fn replace_backend(&self, backend: impl Backend) -> Result<(), BackendError> {
        let registered = Registered::new(Box::new(backend), &self.inner.counters);
        let name = self.inner.backends.replace(&registered)?;
        observe::backend_changed(BackendChange::Replaced, &name);
        Ok(())
    }

    /// Removes a backend.
    ///
    /// # Errors
    ///
    /// [`NotFound`](BackendError::NotFound) if no backend has the name.
    pub fn remove_backend(&self, name: &str) -> Result<(), BackendError> {
        self.inner.backends.remove(name)?;
        observe::backend_changed(BackendChange::Removed, name);
        Ok(())
    }

    /// The names of the backends, in the order in which they are tried.
    #[must_use]
    pub fn list_backends(&self) -> Vec<String> {
        self.inner.backends.names()
    }
}
