//! The trait by which named models have their graphs built; the engine implements it.

use std::sync::Arc;

use crate::nn::graphs::graph::Graph;
use crate::nn::{Encoding, Error, ModelError, ModelSource, Target};

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

    /// Whether graphs of the encoding and target can be [reconfigured](Self::reconfigure).
    fn reconfigures(&self, encoding: Encoding, target: Target) -> Result<bool, Error>;

    /// The graph of the model of `base` with another configuration, which shares with `base` what both have: an equal
    /// one that is in memory, or one that is made now. `None` if a load would call another backend than that of `base`.
    fn reconfigure(&self, base: &Arc<Graph>, config: &str) -> Result<Option<Arc<Graph>>, Error>;
}
