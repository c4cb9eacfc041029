//! What guests may do, written down once for all guests of a tenant: their limits, and the models that they may load.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::nn::Limits;

/// What the guests of one tenant may do: their limits, the names that they may load, and what those names refer to.
///
/// A policy is made once and given to each guest of the tenant by
/// [`GuestBuilder::with_policy`](crate::nn::GuestBuilder::with_policy). Clones share its content; a guest costs one
/// reference count of it. Changing a policy after it was given to a guest does not change the guest.
///
/// ```
/// use graphpool::nn::{GuestPolicy, Limits};
///
/// // The tenant's guests load "default" and nothing else, and get the model that the host calls "tenant-a/default".
/// let policy = GuestPolicy::new()
///     .with_limits(Limits::default().with_max_graphs(4))
///     .with_name("default", "tenant-a/default")
///     .with_mapped_names_only();
/// # let _ = policy;
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct GuestPolicy(Arc<Rules>);

#[derive(Debug, Clone, Default)]
struct Rules {
    limits: Option<Limits>,
    /// The names that guests may load beside the mapped ones; `None` allows all.
    models: Option<HashSet<String>>,
    /// The engine's name for each mapped name of the guests.
    mapped: HashMap<String, String>,
}

impl GuestPolicy {
    /// A policy that allows every name, with the engine's limits for guests.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the limits of the guests. The engine's [ceiling](crate::nn::EngineBuilder::with_ceiling) still applies.
    /// The default is the engine's limits for guests.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.rules().limits = Some(limits);
        self
    }

    /// Restricts the guests to these names and the [mapped](Self::with_name) ones. Any other name gives the same
    /// [`NotFound`](crate::nn::ErrorKind::NotFound) as a name that does not exist, so that a guest cannot discover
    /// other tenants' models; a [resolver](crate::nn::EngineBuilder::with_resolver) is not asked for it. Repeated calls
    /// add names.
    pub fn with_models(mut self, names: impl IntoIterator<Item: Into<String>>) -> Self {
        self.rules().models.get_or_insert_default().extend(names.into_iter().map(Into::into));
        self
    }

    /// Restricts the guests to the [mapped](Self::with_name) names and those of [`with_models`](Self::with_models), if
    /// there are any.
    pub fn with_mapped_names_only(self) -> Self {
        self.with_models([""; 0])
    }

    /// Maps a name of the guests to a name of the engine: a load of `name` gives the model that the engine has under
    /// `engine_name`. The guests may load `name` even if the policy is [restricted](Self::with_models) to other names.
    /// Errors contain `name`, and never `engine_name`.
    ///
    /// `engine_name` is taken as it is, and not mapped again. A guest may load it directly, too, unless the policy is
    /// restricted. A repeated call for one `name` replaces the earlier one.
    pub fn with_name(mut self, name: impl Into<String>, engine_name: impl Into<String>) -> Self {
        self.rules().mapped.insert(name.into(), engine_name.into());
        self
    }

    fn rules(&mut self) -> &mut Rules {
        Arc::make_mut(&mut self.0)
    }

    pub(crate) fn limits(&self) -> Option<&Limits> {
        self.0.limits.as_ref()
    }

    /// The engine's name for a name of the guests; `None` if they may not load it.
    fn engine_name<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let Rules { models, mapped, .. } = &*self.0;
        let own = || models.as_ref().is_none_or(|models| models.contains(name)).then_some(name);
        mapped.get(name).map(String::as_str).or_else(own)
    }
}

/// The names that one guest may load: those of its policy that its own list has, too.
#[derive(Debug, Default)]
pub(crate) struct AllowedNames {
    pub(crate) policy: GuestPolicy,
    /// `None` allows all of the policy's.
    pub(crate) own: Option<HashSet<String>>,
}

impl AllowedNames {
    /// The engine's name for the guest's `name`; `None` if the guest may not load it.
    pub(crate) fn engine_name<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.own.as_ref().is_none_or(|own| own.contains(name)).then(|| self.policy.engine_name(name)).flatten()
    }
}
