//! A loaded model, and what a guest's handle of it holds.

use std::sync::Arc as StdArc;

use super::panics::shield;
use super::reaper::Reaper;
use super::stats::Counters;
use super::usage::{Charge, Hold, Reservation};
use super::{Error, TensorDescription};
use crate::backend::{BackendContext, BackendGraph};
use crate::sync::Arc;

/// A loaded model: immutable, and alive as long as a handle, a name, a context or a running call holds it.
pub(super) struct Graph {
    /// `None` only while the graph is dropped.
    backend: Option<Box<dyn BackendGraph>>,
    inputs: StdArc<[TensorDescription]>,
    outputs: StdArc<[TensorDescription]>,
    bytes: usize,
    reaper: StdArc<Reaper>,
}

impl Graph {
    /// Asks `backend` once for all that does not change, so that a backend which panics at it is found out now.
    pub(super) fn new(call: &str, backend: Box<dyn BackendGraph>, reaper: &StdArc<Reaper>) -> Result<Self, Error> {
        let counters = reaper.counters();
        Counters::count(&counters.loaded);
        Counters::born(&counters.graphs, 1);
        let mut graph = Self {
            backend: None,
            inputs: StdArc::default(),
            outputs: StdArc::default(),
            bytes: 0,
            reaper: StdArc::clone(reaper),
        };
        // From here on it is the reaper that drops it, even where it panics below.
        let backend = graph.backend.insert(backend);
        let (inputs, outputs, bytes) =
            shield(counters, call, || (backend.inputs().into(), backend.outputs().into(), backend.memory()))?;
        Counters::born(&counters.graph_bytes, bytes);
        (graph.inputs, graph.outputs, graph.bytes) = (inputs, outputs, bytes);
        Ok(graph)
    }

    pub(super) fn inputs(&self) -> &StdArc<[TensorDescription]> {
        &self.inputs
    }

    pub(super) fn outputs(&self) -> &StdArc<[TensorDescription]> {
        &self.outputs
    }

    /// Bytes that the model holds, as its backend counts them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn counters(&self) -> &StdArc<Counters> {
        self.reaper.counters()
    }

    pub(super) fn init_context(&self, call: &str) -> Result<Box<dyn BackendContext>, Error> {
        match &self.backend {
            Some(backend) => shield(self.counters(), call, || backend.init_context())?,
            None => Err(Error::runtime_error(format!("{call}: the graph is gone"))),
        }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if let Some(graph) = self.backend.take() {
            self.reaper.bury(graph, self.bytes);
        }
    }
}

/// What one handle of a guest names: a graph, and what the guest's limits count for it.
///
/// The counts end when the guest unloads the handle, not when the grace period of its entry does: a guest at its
/// limit that unloads one graph can load another at once.
pub(super) struct LoadedGraph {
    graph: Arc<Graph>,
    slot: Reservation,
    charge: StdArc<Charge>,
}

impl LoadedGraph {
    /// A handle of `graph` that takes `slot` of the guest's handles and `bytes` of its memory for models.
    pub(super) fn new(graph: Arc<Graph>, slot: Reservation, bytes: Reservation) -> Self {
        Self { graph, slot, charge: Charge::new(bytes) }
    }

    pub(super) fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// For a context: keeps the model's bytes charged to the guest. `None` once the handle is unloaded and no
    /// context is left.
    pub(super) fn hold(&self) -> Option<Hold> {
        self.charge.hold()
    }

    /// The guest has given the handle back. Only the first call counts.
    pub(super) fn unloaded(&self) {
        if self.slot.give_back() {
            self.charge.let_go();
        }
    }
}

impl Drop for LoadedGraph {
    fn drop(&mut self) {
        self.unloaded();
    }
}
