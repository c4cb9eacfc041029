//! What a guest's handle of a graph holds.

use std::sync::Arc as StdArc;

use crate::nn::Error;
use crate::nn::graphs::configured::Configured;
use crate::nn::graphs::graph::Graph;
use crate::nn::graphs::model::NamedModel;
use crate::nn::limits::usage::{Charge, Hold, Reservation};
use crate::sync::Arc;

/// What one handle of a guest names: a graph, and what the guest's limits count for it.
///
/// The counts end when the guest unloads the handle, not when the last call that has resolved it does: a guest at its
/// limit that unloads one graph can load another at once.
pub(crate) struct LoadedGraph {
    named: Named,
    slot: Reservation,
    charge: StdArc<Charge>,
}

/// What a handle names.
pub(crate) enum Named {
    /// One graph, for good.
    Graph(StdArc<Graph>),
    /// A named model with a guest's configuration, for good.
    Configured(StdArc<Configured>),
    /// Whatever version of a named model is current; there is one.
    Model(Arc<NamedModel>),
}

impl LoadedGraph {
    /// A handle of what is `named` that takes `slot` of the guest's handles and `bytes` of its memory for models.
    pub(crate) fn new(named: Named, slot: Reservation, bytes: Reservation) -> Self {
        Self { named, slot, charge: Charge::new(bytes) }
    }

    /// The graph that a context runs on which is opened now. No lock.
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

    /// For a context: keeps a configured graph's place.
    pub(crate) fn configured(&self) -> Option<StdArc<Configured>> {
        match &self.named {
            Named::Configured(configured) => Some(StdArc::clone(configured)),
            Named::Graph(_) | Named::Model(_) => None,
        }
    }

    /// For a context: keeps the model's bytes charged to the guest. `None` once the handle is unloaded and no
    /// context is left.
    pub(crate) fn hold(&self) -> Option<Hold> {
        self.charge.hold()
    }

    /// The guest has given the handle back. Only the first call counts.
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
