//! The trait by which named models have their graphs built; the engine implements it.

use std::sync::Arc;

use crate::nn::graphs::graph::Graph;
use crate::nn::{Encoding, ModelError, ModelSource, Target};

/// Builds the graph of a source.
pub(crate) trait BuildGraph {
    /// The graph of `source` with `config`: an equal one that is in memory, or one that is built now.
    fn build_from(
        &self,
        source: &ModelSource,
        config: Option<&str>,
        encoding: Encoding,
        target: Target,
    ) -> Result<Arc<Graph>, ModelError>;
}
