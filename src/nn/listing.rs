//! What an engine has, for whoever looks after it.

use super::graph::Graph;
use super::{Encoding, Target};

/// A graph in memory, from [`Engine::list_graphs`](super::Engine::list_graphs).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GraphInfo {
    /// A number that no other graph of the process has or has had; the field `graph` of events.
    pub id: u64,
    /// BLAKE3 of the model's bytes and of all else that decides what is built, in hexadecimal. Equal models have equal
    /// ones in every process.
    pub digest: String,
    /// [`Backend::name`](crate::backend::Backend::name) of the backend that has built it.
    pub backend: String,
    /// The encoding that the load named.
    pub encoding: Encoding,
    /// Where it runs.
    pub target: Target,
    /// Bytes that it holds, as its backend counts them.
    pub bytes: usize,
    /// Contexts of it that are open.
    pub contexts: usize,
}

impl GraphInfo {
    pub(super) fn of(graph: &Graph) -> Self {
        let origin = graph.origin();
        Self {
            id: origin.id,
            digest: origin.key.to_string(),
            backend: origin.backend.clone(),
            encoding: origin.encoding,
            target: origin.target,
            bytes: graph.bytes(),
            contexts: graph.contexts(),
        }
    }
}
