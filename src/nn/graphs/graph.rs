//! A loaded model with its backend graph and its share of the engine's limits.

use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::backend::{BackendContext, BackendGraph, Placement};
use crate::nn::graphs::backends::Registered;
use crate::nn::graphs::pace::Pace;
use crate::nn::graphs::store::{Key, Listed};
use crate::nn::limits::usage::Reservation;
use crate::nn::panics::shield;
use crate::nn::schedule::reaper::Reaper;
use crate::nn::telemetry::stats::Counters;
use crate::nn::{Encoding, Error, Target, TensorDescription};
use crate::sync::Arc;

/// A loaded model: immutable, and alive as long as a handle, a name, a context or a running call holds it.
pub(crate) struct Graph {
    /// `None` only during the drop.
    backend: Option<Box<dyn BackendGraph>>,
    inputs: StdArc<[TensorDescription]>,
    outputs: StdArc<[TensorDescription]>,
    placement: Option<Placement>,
    origin: Origin,
    /// The number of open contexts.
    contexts: AtomicUsize,
    pace: StdArc<Pace>,
    /// `None` only during the drop.
    resources: Option<GraphResources>,
    counters: StdArc<Counters>,
    reaper: StdArc<Reaper>,
    /// The graph that this one was made from with another configuration. Dropped after this one's backend graph is
    /// handed to the reaper, which drops in that order: so what both share is counted until neither is there.
    #[allow(dead_code, reason = "held until the drop")]
    base: Option<StdArc<Self>>,
}

/// A backend's graph, and the backend.
pub(crate) type OfBackend = (Box<dyn BackendGraph>, Option<Arc<Registered>>);

/// The graph's reservations of the engine's limits, held until its memory is free.
pub(crate) struct GraphResources {
    /// The bytes that the graph is counted with.
    pub(crate) bytes: usize,
    /// The entry in the list of the engine's graphs.
    pub(crate) listed: Option<Listed<Graph>>,
    /// The reservations of one graph and of its bytes.
    pub(crate) room: Option<(Reservation, Reservation)>,
    /// The backend that has built the graph, and outlives it. `None` only during the drop.
    pub(crate) backend: Option<Arc<Registered>>,
}

/// The remains of a graph, which the reaper drops.
struct PendingDrop {
    /// `None` only during the drop.
    backend: Option<Box<dyn BackendGraph>>,
    resources: GraphResources,
    counters: StdArc<Counters>,
}

impl Drop for PendingDrop {
    fn drop(&mut self) {
        let backend = self.backend.take();
        // No guest call is running, so no guest can get the error: the panic is only counted.
        let _ = shield(&self.counters, || drop(backend));
        drop((self.resources.room.take(), self.resources.listed.take()));
        Counters::decrement(&self.counters.graphs, 1);
        Counters::decrement(&self.counters.graph_bytes, self.resources.bytes);
        // Last, because the backend may end with it.
        drop(self.resources.backend.take());
    }
}

/// The origin of a graph.
#[derive(Debug)]
pub(crate) struct Origin {
    /// Unique in the process.
    pub(crate) id: u64,
    pub(crate) key: Key,
    pub(crate) backend: String,
    pub(crate) encoding: Encoding,
    pub(crate) target: Target,
}

impl Graph {
    /// Reads the constant properties from `backend` once, so that a backend that panics on them fails here.
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
            placement: None,
            origin,
            contexts: AtomicUsize::new(0),
            pace: StdArc::default(),
            resources: Some(resources),
            counters: StdArc::clone(counters),
            reaper: StdArc::clone(reaper),
            base: None,
        };
        // From here on the reaper drops it, even after a panic below.
        let backend = graph.backend.insert(backend);
        let (inputs, outputs, bytes, placement) = shield(counters, || {
            (backend.inputs().into(), backend.outputs().into(), backend.memory(), backend.placement())
        })?;
        Counters::increment(&counters.graph_bytes, bytes);
        (graph.inputs, graph.outputs, graph.placement) = (inputs, outputs, placement);
        if let Some(resources) = &mut graph.resources {
            resources.bytes = bytes;
            if let Some((_, room)) = &mut resources.room {
                room.settle(bytes)?;
            }
        }
        Ok(graph)
    }

    /// The same graph, as one that was made from `base`.
    pub(crate) fn with_base(mut self, base: &StdArc<Self>) -> Self {
        self.base = Some(StdArc::clone(base));
        self
    }

    /// The backend's graph with another configuration, and the backend.
    pub(crate) fn reconfigure(&self, config: &str, memory_limit: usize) -> Result<OfBackend, Error> {
        let Some(backend) = &self.backend else { return Err(Error::runtime_error("the graph is gone")) };
        let graph = shield(self.counters(), || backend.reconfigure(config, memory_limit))??;
        Ok((graph, self.resources.as_ref().and_then(|resources| resources.backend.clone())))
    }

    pub(crate) fn inputs(&self) -> &StdArc<[TensorDescription]> {
        &self.inputs
    }

    pub(crate) fn outputs(&self) -> &StdArc<[TensorDescription]> {
        &self.outputs
    }

    /// Where its steps run, if it is on a device.
    pub(crate) fn placement(&self) -> Option<Placement> {
        self.placement
    }

    pub(crate) fn pace(&self) -> &StdArc<Pace> {
        &self.pace
    }

    /// The bytes that the model holds, as its backend counts them.
    pub(crate) fn bytes(&self) -> usize {
        self.resources.as_ref().map_or(0, |resources| resources.bytes)
    }

    pub(crate) fn counters(&self) -> &StdArc<Counters> {
        &self.counters
    }

    /// The number of open contexts.
    pub(crate) fn contexts(&self) -> usize {
        self.contexts.load(Ordering::Relaxed)
    }

    /// Counts one more context until the returned value is dropped.
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
