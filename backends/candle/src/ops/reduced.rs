//! Which axes a Reduce operator reduces, and the dimensions of its result: the same rules on the host and on a device.

use crate::ops::integers::ListParameter;
use crate::ops::node::{Args, Node};
use crate::tensor::dim_list::DimVec;
use crate::tensor::dims::axes;
use graphpool::backend::Error;

/// What a Reduce operator makes of the elements.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Reduction {
    Sum,
    Mean,
    Max,
    Min,
    Product,
    L1,
    L2,
    SumSquare,
    LogSum,
    LogSumExp,
}

/// The attributes of a Reduce operator. Its axes are an attribute before some opset, and input 1 from then on.
pub(super) struct Reduced {
    list: ListParameter,
    keep: bool,
    no_axes_is_identity: bool,
}

impl Reduced {
    pub(super) fn new(node: &Node<'_>, axes_input_since: i64) -> Result<Self, Error> {
        Ok(Self {
            list: ListParameter::new(node, "axes", axes_input_since, 1)?,
            keep: node.flag("keepdims", true)?,
            no_axes_is_identity: node.opset >= axes_input_since && node.flag("noop_with_empty_axes", false)?,
        })
    }

    /// The reduced axes of an input of `dims`, in ascending order, and the dimensions of the result.
    pub(super) fn of(&self, dims: &[usize], args: &Args) -> Result<(DimVec, DimVec), Error> {
        let list = self.list.get(args)?.unwrap_or_default();
        let reduced = match (list.is_empty(), self.no_axes_is_identity) {
            // No axis is reduced, but the function applies to each element.
            (true, true) => DimVec::new(),
            (true, false) => (0..dims.len()).collect(),
            (false, _) => axes(&list, dims.len())?,
        };
        let dims = dims.iter().enumerate().filter(|(position, _)| self.keep || !reduced.contains(position));
        let dims = dims.map(|(position, &dim)| if reduced.contains(&position) { 1 } else { dim }).collect();
        Ok((reduced, dims))
    }
}
