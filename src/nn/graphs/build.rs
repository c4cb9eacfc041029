//! What makes a graph of a source: the engine, as named models see it.

use std::sync::Arc;

use crate::nn::graphs::graph::Graph;
use crate::nn::{Encoding, ModelError, ModelSource, Target};

/// What makes the graph of a source.
pub(crate) trait BuildGraph {
    /// The graph of `source` with `config`: one that is loaded, or one that is built now.
    fn build_from(
        &self,
        source: &ModelSource,
        config: Option<&str>,
        encoding: Encoding,
        target: Target,
    ) -> Result<Arc<Graph>, ModelError>;
}
