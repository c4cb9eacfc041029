//! The entries of the engine's listings: graphs in memory and named models, for monitoring.

use crate::backend::Placement;
use crate::nn::graphs::graph::Graph;
use crate::nn::graphs::model::NamedModel;
use crate::nn::{Encoding, Target};

/// A graph in memory, from [`Engine::list_graphs`](crate::nn::Engine::list_graphs).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GraphInfo {
    /// A number that is unique in the process; the field `graph` of events.
    pub id: u64,
    /// BLAKE3 of the model's bytes and of everything else that determines the graph, in hexadecimal. Equal models have
    /// equal digests in every process.
    pub digest: String,
    /// [`Backend::name`](crate::backend::Backend::name) of the backend that built the graph.
    pub backend: String,
    /// The encoding that the load named.
    pub encoding: Encoding,
    /// The target that the graph runs on.
    pub target: Target,
    /// The bytes that the graph holds, as its backend counts them.
    pub bytes: usize,
    /// The number of its open contexts.
    pub contexts: usize,
    /// Where its steps run, if it is on a device and its backend tells.
    pub placement: Option<Placement>,
}

impl GraphInfo {
    pub(crate) fn of(graph: &Graph) -> Self {
        let origin = graph.origin();
        Self {
            id: origin.id,
            digest: origin.key.to_string(),
            backend: origin.backend.clone(),
            encoding: origin.encoding,
            target: origin.target,
            bytes: graph.bytes(),
            contexts: graph.contexts(),
            placement: graph.placement(),
        }
    }
}

/// A named model, from [`Engine::list_models`](crate::nn::Engine::list_models).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelInfo {
    /// Its name.
    pub name: String,
    /// The encoding that it was registered with.
    pub encoding: Encoding,
    /// The target that it was registered with.
    pub target: Target,
    /// The number of the current version, from 1; `None` before the first build.
    pub version: Option<u64>,
    /// The graph of the current version.
    pub graph: Option<GraphInfo>,
    /// Whether the [resolver](crate::nn::EngineBuilder::with_resolver) gave it.
    pub resolved: bool,
    /// The number of its graphs that guests have loaded with [a configuration of their
    /// own](crate::nn::ModelSource::with_guest_configs).
    pub configured: usize,
}

impl ModelInfo {
    pub(crate) fn of(model: &NamedModel) -> Self {
        let current = model.current();
        Self {
            name: model.name().to_owned(),
            encoding: model.encoding(),
            target: model.target(),
            version: current.as_ref().map(|version| version.number),
            graph: current.as_ref().map(|version| GraphInfo::of(&version.graph)),
            resolved: model.resolved().is_some(),
            configured: model.configured(),
        }
    }
}
