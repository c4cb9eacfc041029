//! The builder for guests with limits or permissions of their own.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::nn::inner::Inner;
use crate::nn::{Guest, Limits};

/// Builds a [`Guest`]; from [`Engine::guest_builder`](crate::nn::Engine::guest_builder).
#[must_use]
pub struct GuestBuilder {
    engine: Arc<Inner>,
    limits: Limits,
    models: Option<HashSet<String>>,
    label: Option<Box<str>>,
}

impl GuestBuilder {
    pub(crate) fn new(engine: Arc<Inner>, limits: Limits) -> Self {
        Self { engine, limits, models: None, label: None }
    }

    /// Sets the guest's limits. The engine's [ceiling](crate::nn::EngineBuilder::with_ceiling) still applies. The
    /// default is the engine's limits for guests.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Restricts the guest to these names. Any other name gives the same [`NotFound`](crate::nn::ErrorKind::NotFound)
    /// as a name that does not exist, so that the guest cannot discover other guests' models. A name may be registered
    /// later. Repeated calls add names.
    pub fn with_models(mut self, names: impl IntoIterator<Item: Into<String>>) -> Self {
        self.models.get_or_insert_default().extend(names.into_iter().map(Into::into));
        self
    }

    /// Gives the guest a label of the host's, such as the name of its tenant. The spans and events of the guest carry it
    /// as the field `label`, as it is.
    pub fn with_label(mut self, label: impl Into<Box<str>>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Creates the guest.
    #[must_use]
    pub fn build(self) -> Guest {
        let Self { engine, limits, models, label } = self;
        let limits = limits.at_most(&engine.ceiling);
        Guest::new(engine, limits, models, label)
    }
}

impl fmt::Debug for GuestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limits, models, label, .. } = self;
        f.debug_struct("GuestBuilder")
            .field("limits", limits)
            .field("models", models)
            .field("label", label)
            .finish_non_exhaustive()
    }
}
