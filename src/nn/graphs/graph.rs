//! A loaded model.

use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::backend::{BackendContext, BackendGraph};
use crate::nn::graphs::store::{Key, Listed};
use crate::nn::limits::usage::Reservation;
use crate::nn::panics::shield;
use crate::nn::schedule::reaper::Reaper;
use crate::nn::telemetry::stats::Counters;
use crate::nn::{Encoding, Error, Target, TensorDescription};

/// A loaded model: immutable, and alive as long as a handle, a name, a context or a running call holds it.
pub(crate) struct Graph {
    /// `None` only while the graph is dropped.
    backend: Option<Box<dyn BackendGraph>>,
    inputs: StdArc<[TensorDescription]>,
    outputs: StdArc<[TensorDescription]>,
    origin: Origin,
    /// Contexts that are open.
    contexts: AtomicUsize,
    /// `None` only while the graph is dropped.
    resources: Option<GraphResources>,
    counters: StdArc<Counters>,
    reaper: StdArc<Reaper>,
}

/// What a graph takes of the engine's limits until its memory is free.
pub(crate) struct GraphResources {
    /// Bytes that it is counted with.
    pub(crate) bytes: usize,
    /// Its place among the graphs of the engine.
    pub(crate) listed: Option<Listed<Graph>>,
    /// One graph, and its bytes.
    pub(crate) room: Option<(Reservation, Reservation)>,
}

/// What is left of a graph, for the reaper to drop.
struct PendingDrop {
    /// `None` only while it is dropped.
    backend: Option<Box<dyn BackendGraph>>,
    resources: GraphResources,
    counters: StdArc<Counters>,
}

impl Drop for PendingDrop {
    fn drop(&mut self) {
        let backend = self.backend.take();
        // No guest has called, so no guest gets the error: the panic is counted.
        let _ = shield(&self.counters, || drop(backend));
        drop((self.resources.room.take(), self.resources.listed.take()));
        Counters::decrement(&self.counters.graphs, 1);
        Counters::decrement(&self.counters.graph_bytes, self.resources.bytes);
    }
}

/// Where a graph comes from.
#[derive(Debug)]
pub(crate) struct Origin {
    /// Different for each graph of the process.
    pub(crate) id: u64,
    pub(crate) key: Key,
    pub(crate) backend: String,
    pub(crate) encoding: Encoding,
    pub(crate) target: Target,
}

impl Graph {
    /// Asks `backend` once for all that does not change, so that a backend which panics at it is found out now.
    pub(crate) fn new(
        backend: Box<dyn BackendGraph>,
        origin: Origin,
        resources: GraphResources,
        counters: &StdArc<Counters>,
        reaper: &StdArc<Reaper>,
    ) -> Result<Self, Error> {
        Counters::count(&counters.builds);
        Counters::increment(&counters.graphs, 1);
        let mut graph = Self {
            backend: None,
            inputs: StdArc::default(),
            outputs: StdArc::default(),
            origin,
            contexts: AtomicUsize::new(0),
            resources: Some(resources),
            counters: StdArc::clone(counters),
            reaper: StdArc::clone(reaper),
        };
        // From here on it is the reaper that drops it, even where it panics below.
        let backend = graph.backend.insert(backend);
        let (inputs, outputs, bytes) =
            shield(counters, || (backend.inputs().into(), backend.outputs().into(), backend.memory()))?;
        Counters::increment(&counters.graph_bytes, bytes);
        (graph.inputs, graph.outputs) = (inputs, outputs);
        if let Some(resources) = &mut graph.resources {
            resources.bytes = bytes;
            if let Some((_, room)) = &mut resources.room {
                room.settle(bytes)?;
            }
        }
        Ok(graph)
    }

    pub(crate) fn inputs(&self) -> &StdArc<[TensorDescription]> {
        &self.inputs
    }

    pub(crate) fn outputs(&self) -> &StdArc<[TensorDescription]> {
        &self.outputs
    }

    /// Bytes that the model holds, as its backend counts them.
    pub(crate) fn bytes(&self) -> usize {
        self.resources.as_ref().map_or(0, |resources| resources.bytes)
    }

    pub(crate) fn counters(&self) -> &StdArc<Counters> {
        &self.counters
    }

    /// Contexts that are open.
    pub(crate) fn contexts(&self) -> usize {
        self.contexts.load(Ordering::Relaxed)
    }

    /// One more context, for as long as what is returned lives.
    pub(crate) fn in_use(self: &StdArc<Self>) -> GraphUse {
        // Relaxed: a statistic.
        self.contexts.fetch_add(1, Ordering::Relaxed);
        GraphUse(StdArc::clone(self))
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        match &self.backend {
            Some(backend) => shield(self.counters(), || backend.init_context())?,
            None => Err(Error::runtime_error("the graph is gone")),
        }
    }
}

/// A graph that a context uses.
pub(crate) struct GraphUse(StdArc<Graph>);

impl Drop for GraphUse {
    fn drop(&mut self) {
        self.0.contexts.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if let Some(resources) = self.resources.take() {
            let counters = StdArc::clone(&self.counters);
            self.reaper.drop_later(PendingDrop { backend: self.backend.take(), resources, counters });
        }
    }
}
