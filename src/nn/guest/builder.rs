//! Guests that differ from each other in what they may do.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::nn::inner::Inner;
use crate::nn::{Guest, Limits};

/// Makes a [`Guest`]; from [`Engine::guest_builder`](super::Engine::guest_builder).
#[must_use]
pub struct GuestBuilder {
    engine: Arc<Inner>,
    limits: Limits,
    models: Option<HashSet<String>>,
}

impl GuestBuilder {
    pub(crate) fn new(engine: Arc<Inner>, limits: Limits) -> Self {
        Self { engine, limits, models: None }
    }

    /// Sets what the guest may have, though not above the engine's [ceiling](super::EngineBuilder::with_ceiling); the
    /// engine's limits for guests where this is not called.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Restricts the guest to these names. Any other is [`NotFound`](super::ErrorKind::NotFound), word for word as if
    /// no model had it, so that the guest cannot find out what others are given. A name may be registered later. Called
    /// again, it adds names.
    pub fn with_models(mut self, names: impl IntoIterator<Item: Into<String>>) -> Self {
        self.models.get_or_insert_default().extend(names.into_iter().map(Into::into));
        self
    }

    /// The guest.
    #[must_use]
    pub fn build(self) -> Guest {
        let Self { engine, limits, models } = self;
        let limits = limits.at_most(&engine.ceiling);
        Guest::new(engine, limits, models)
    }
}

impl fmt::Debug for GuestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limits, models, .. } = self;
        f.debug_struct("GuestBuilder").field("limits", limits).field("models", models).finish_non_exhaustive()
    }
}
