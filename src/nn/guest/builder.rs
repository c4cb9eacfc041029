//! The builder for guests with limits or permissions of their own.

use std::fmt;
use std::sync::Arc;

use crate::nn::guest::policy::AllowedNames;
use crate::nn::inner::Inner;
use crate::nn::{Guest, GuestPolicy, Limits};

/// Builds a [`Guest`]; from [`Engine::guest_builder`](crate::nn::Engine::guest_builder).
#[must_use]
pub struct GuestBuilder {
    engine: Arc<Inner>,
    limits: Option<Limits>,
    names: AllowedNames,
    label: Option<Box<str>>,
}

impl GuestBuilder {
    pub(crate) fn new(engine: Arc<Inner>) -> Self {
        Self { engine, limits: None, names: AllowedNames::default(), label: None }
    }

    /// Gives the guest the policy of its tenant. What the builder's other methods set narrows it further: of each pair
    /// of limits the lower one applies, and a name must be allowed by both. A repeated call replaces the policy.
    pub fn with_policy(mut self, policy: &GuestPolicy) -> Self {
        self.names.policy = policy.clone();
        self
    }

    /// Sets the guest's limits. The limits of its [policy](Self::with_policy) and the engine's
    /// [ceiling](crate::nn::EngineBuilder::with_ceiling) still apply. The default is the policy's limits, or else the
    /// engine's limits for guests.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Restricts the guest to these names, as it calls them itself: a name that its [policy](Self::with_policy) maps is
    /// meant by the name before the mapping. Any other name gives the same
    /// [`NotFound`](crate::nn::ErrorKind::NotFound) as a name that does not exist, so that the guest cannot discover
    /// other guests' models. A name may be registered later. Repeated calls add names.
    pub fn with_models(mut self, names: impl IntoIterator<Item: Into<String>>) -> Self {
        self.names.own.get_or_insert_default().extend(names.into_iter().map(Into::into));
        self
    }

    /// Gives the guest a label of the host's, such as the name of its tenant. The spans and events of the guest carry
    /// it as the field `label`, as it is.
    pub fn with_label(mut self, label: impl Into<Box<str>>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Creates the guest.
    #[must_use]
    pub fn build(self) -> Guest {
        let Self { engine, limits, names, label } = self;
        let limits = match (limits, names.policy.limits()) {
            (Some(own), Some(policy)) => own.at_most(policy),
            (own, policy) => own.or(policy.copied()).unwrap_or(engine.limits),
        };
        let limits = limits.at_most(&engine.ceiling);
        Guest::new(engine, limits, names, label)
    }
}

impl fmt::Debug for GuestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limits, names, label, .. } = self;
        f.debug_struct("GuestBuilder")
            .field("limits", limits)
            .field("names", names)
            .field("label", label)
            .finish_non_exhaustive()
    }
}
