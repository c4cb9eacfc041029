//! The two pools of an engine: graphs and contexts.

use crate::nn::graphs::entry::Entry;
use crate::nn::graphs::loaded::LoadedGraph;
use crate::nn::guest::context::Context;
use crate::{Kind, Pool};

/// The kind of the guest handles of graphs.
pub(crate) const GRAPH: Kind = Kind::Zero;
/// The kind of the guest handles of contexts.
pub(crate) const CONTEXT: Kind = Kind::One;

/// The graphs and contexts of all guests of one engine.
pub(crate) struct Pools {
    pub(crate) graphs: Pool<Entry<LoadedGraph>>,
    pub(crate) contexts: Pool<Entry<Context>>,
}

impl Pools {
    pub(crate) fn new() -> Self {
        Self { graphs: Pool::new(), contexts: Pool::new() }
    }

    /// Hands this thread's removals to the collector, and frees removed entries that no thread can read any more.
    pub(crate) fn flush(&self) {
        self.graphs.flush();
        self.contexts.flush();
    }

    /// The number of removed entries whose grace period is not over; these are empty cells.
    pub(crate) fn awaiting_reclamation(&self) -> usize {
        (self.graphs.stats().awaiting_reclamation + self.contexts.stats().awaiting_reclamation) as usize
    }
}
