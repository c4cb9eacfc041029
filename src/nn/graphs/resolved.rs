//! A model that the host's resolver gave for a name.

use crate::nn::limits::usage::Reservation;
use crate::nn::{Encoding, ModelSource, Target};
use crate::sync::atomic::{AtomicBool, Ordering};

/// A model for a name that is not registered: the answer of a
/// [resolver](crate::nn::EngineBuilder::with_resolver).
#[derive(Debug, Clone)]
pub struct ResolvedModel {
    pub(crate) source: ModelSource,
    pub(crate) encoding: Encoding,
    pub(crate) target: Target,
}

impl ResolvedModel {
    /// A model with what [`Engine::register_model`](crate::nn::Engine::register_model) takes beside the name.
    #[must_use]
    pub fn new(source: ModelSource, encoding: Encoding, target: Target) -> Self {
        Self { source, encoding, target }
    }
}

/// What a registered model has that came from the resolver.
pub(crate) struct Resolved {
    /// The number of its registration; later ones have higher numbers.
    pub(crate) id: u64,
    /// Whether a guest has loaded the model since the last search for one to evict.
    used: AtomicBool,
    /// Its share of the engine's bound, until the model's last user is gone.
    _place: Reservation,
}

impl Resolved {
    /// For a model that a guest is loading now.
    pub(crate) fn new(id: u64, place: Reservation) -> Self {
        Self { id, used: AtomicBool::new(true), _place: place }
    }

    /// Notes that a guest loads the model.
    pub(crate) fn touch(&self) {
        // Relaxed: a hint for the choice of an eviction. Read first, so that most loads write nothing.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a guest has loaded the model since the last call of this.
    pub(crate) fn take_used(&self) -> bool {
        // Relaxed: as in `touch`.
        self.used.swap(false, Ordering::Relaxed)
    }
}
