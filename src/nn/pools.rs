//! The two pools of an engine.

use super::context::Context;
use super::entry::Entry;
use super::loaded::LoadedGraph;
use crate::{Kind, Pool};

/// The kind of the guest handles of graphs.
pub(super) const GRAPH: Kind = Kind::Zero;
/// The kind of the guest handles of contexts.
pub(super) const CONTEXT: Kind = Kind::One;

/// Every graph and context that a guest of one engine can name.
pub(super) struct Pools {
    pub(super) graphs: Pool<Entry<LoadedGraph>>,
    pub(super) contexts: Pool<Entry<Context>>,
}

impl Pools {
    pub(super) fn new() -> Self {
        Self { graphs: Pool::new(), contexts: Pool::new() }
    }

    /// Hands this thread's removals to the collector, and collects what nobody can read any more.
    pub(super) fn flush(&self) {
        self.graphs.flush();
        self.contexts.flush();
    }

    /// Removed entries whose grace period is not over: empty cells.
    pub(super) fn awaiting_reclamation(&self) -> usize {
        (self.graphs.stats().awaiting_reclamation + self.contexts.stats().awaiting_reclamation) as usize
    }
}
