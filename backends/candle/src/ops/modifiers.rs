//! The attributes of FlexAttention: its subgraphs modify scores and weights, and keep their dimensions and type. The
//! same rules on the host and on a device.

use crate::ops::heads::float_type;
use crate::ops::node::{Node, Subgraph};
use crate::tensor::dims::Dims;
use crate::tensor::element::ElementType;
use graphpool::backend::Error;

/// The attributes of FlexAttention.
pub(super) struct FlexAttributes {
    pub(super) scale: Option<f64>,
    pub(super) softmax_precision: Option<ElementType>,
    /// What modifies the scores.
    pub(super) score: Option<Subgraph>,
    /// What modifies the weights.
    pub(super) weight: Option<Subgraph>,
}

impl FlexAttributes {
    pub(super) fn new(node: &Node<'_>) -> Result<Self, Error> {
        let attributes = Self {
            scale: node.float_option("scale")?.map(f64::from),
            softmax_precision: float_type(node, "softmax_precision")?,
            score: modifier(node, "score_mod")?,
            weight: modifier(node, "prob_mod")?,
        };
        node.limit_outputs(1)?;
        Ok(attributes)
    }
}

fn modifier(node: &Node<'_>, name: &str) -> Result<Option<Subgraph>, Error> {
    if !node.subgraphs.iter().any(|(found, _)| *found == name) {
        return Ok(None);
    }
    let graph = node.subgraph(name)?;
    if graph.graph.inputs() != graph.captures.len() + 1 || graph.graph.outputs() != 1 {
        return Err(Error::invalid_encoding(format!("{name} must have one input and one output")));
    }
    Ok(Some(graph))
}

/// Refuses a subgraph that changes dimensions or type.
pub(super) fn check_kept(
    (dims, ty): (&[usize], ElementType),
    (found, found_ty): (&[usize], ElementType),
) -> Result<(), Error> {
    if found != dims || found_ty != ty {
        let why = format!("a subgraph turns {ty:?} {} into {found_ty:?} {}", Dims(dims), Dims(found));
        return Err(Error::invalid_argument(why));
    }
    Ok(())
}
