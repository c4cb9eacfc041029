//! The attributes of TopK, and its number of elements: the same rules on the host and on a device.

use crate::ops::integers::integer;
use crate::ops::node::Node;
use crate::tensor::dims::axis;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// The attributes of TopK.
pub(super) struct Top {
    axis: i64,
    /// The number of elements, where it is an attribute.
    fixed: Option<i64>,
    /// Whether the largest elements are taken, or the smallest.
    pub(super) largest: bool,
}

impl Top {
    pub(super) fn new(node: &Node<'_>) -> Result<Self, Error> {
        let axis = node.int("axis")?.unwrap_or(-1);
        let fixed = if node.opset < 10 { node.int("k")? } else { None };
        let largest = node.opset < 11 || node.flag("largest", true)?;
        if node.opset >= 11 {
            // The result is always sorted.
            node.ignore(&["sorted"]);
        }
        Ok(Self { axis, fixed, largest })
    }

    /// The axis of an input of `dims`, and the number of elements that are taken from it. `k` is input 1.
    pub(super) fn of(&self, dims: &[usize], k: Option<&Value>) -> Result<(usize, usize), Error> {
        let axis = axis(self.axis, dims.len())?;
        let k = match (self.fixed, k) {
            (Some(k), _) => k,
            (None, Some(k)) => integer(k)?,
            (None, None) => return Err(Error::invalid_argument("input 1 is missing")),
        };
        let dim = dims[axis];
        match usize::try_from(k).ok().filter(|&k| k <= dim) {
            Some(k) => Ok((axis, k)),
            None => Err(Error::invalid_argument(format!("k is not between 0 and {dim}, the size of the axis"))),
        }
    }
}
