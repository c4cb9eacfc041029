//! The value of a guest's graph handle: a graph or a named model, with its share of the guest's limits.

use std::sync::Arc as StdArc;

use crate::nn::Error;
use crate::nn::graphs::configured::Configured;
use crate::nn::graphs::graph::Graph;
use crate::nn::graphs::model::NamedModel;
use crate::nn::graphs::resolved::Resolved;
use crate::nn::limits::usage::{Charge, Hold, Reservation};
use crate::sync::Arc;

/// The value of one graph handle: what it refers to, and its reservations of the guest's limits.
///
/// The reservations end when the guest unloads the handle, even while a call that has resolved it still runs: a guest
/// at its limit that unloads one graph can load another at once.
pub(crate) struct LoadedGraph {
    named: Named,
    slot: Reservation,
    charge: StdArc<Charge>,
}

/// What a handle refers to.
pub(crate) enum Named {
    /// One fixed graph.
    Graph(StdArc<Graph>),
    /// One fixed graph: a named model with a guest's configuration.
    Configured(StdArc<Configured>),
    /// The current version of a named model, which has been built.
    Model(Arc<NamedModel>),
}

impl LoadedGraph {
    /// Creates the value of a handle of `named`, which takes `slot` of the guest's handles and `bytes` of its memory
    /// for models.
    pub(crate) fn new(named: Named, slot: Reservation, bytes: Reservation) -> Self {
        Self { named, slot, charge: Charge::new(bytes) }
    }

    /// The graph for a context that is opened now. Takes no lock.
    pub(crate) fn graph(&self) -> Result<StdArc<Graph>, Error> {
        match &self.named {
            Named::Graph(graph) => Ok(StdArc::clone(graph)),
            Named::Configured(configured) => Ok(StdArc::clone(configured.graph())),
            Named::Model(model) => {
                let version = model.current().ok_or_else(|| Error::runtime_error("the model was never built"))?;
                Ok(StdArc::clone(&version.graph))
            }
        }
    }

    /// For a context: keeps the place of a configured graph.
    pub(crate) fn configured(&self) -> Option<StdArc<Configured>> {
        match &self.named {
            Named::Configured(configured) => Some(StdArc::clone(configured)),
            Named::Graph(_) | Named::Model(_) => None,
        }
    }

    /// For a context: keeps the name of a model that the resolver gave.
    pub(crate) fn resolved(&self) -> Option<StdArc<Resolved>> {
        match &self.named {
            Named::Model(model) => model.resolved().cloned(),
            // A configured graph has it.
            Named::Graph(_) | Named::Configured(_) => None,
        }
    }

    /// For a context: keeps the model's bytes charged to the guest. `None` once the handle is unloaded and its last
    /// context is gone.
    pub(crate) fn hold(&self) -> Option<Hold> {
        self.charge.hold()
    }

    /// Ends the reservations when the guest unloads the handle. Only the first call has an effect.
    pub(crate) fn unloaded(&self) {
        if self.slot.give_back() {
            self.charge.release();
        }
    }
}

impl Drop for LoadedGraph {
    fn drop(&mut self) {
        self.unloaded();
    }
}
