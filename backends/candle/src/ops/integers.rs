//! Integers that operators read from tensors and attributes: counts, axes, indices.

use crate::compute::context::ExecContext;
use crate::ops::cast::convert;
use crate::ops::node::{Args, Node};
use crate::tensor::dim_list::IntVec;
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use graphpool::backend::Error;
use std::ops::Deref;

/// The integer in a tensor of one element.
pub(super) fn integer(value: &Value) -> Result<i64, Error> {
    match value.to_i64s()?.as_slice() {
        [one] => Ok(*one),
        other => Err(Error::invalid_argument(format!("the tensor has {} integers, and one is expected", other.len()))),
    }
}

/// A list of integers that is an attribute of a node before some opset, and an input of it from that opset on.
pub(super) struct ListParameter {
    attribute: Option<Vec<i64>>,
    input: usize,
}

impl ListParameter {
    /// The list is the attribute `name` before the opset `since`, and the input at index `input` from then on.
    pub(super) fn new(node: &Node<'_>, name: &str, since: i64, input: usize) -> Result<Self, Error> {
        let attribute = if node.opset < since { node.ints(name)?.map(<[i64]>::to_vec) } else { None };
        Ok(Self { attribute, input })
    }

    /// The list, if it is given.
    pub(super) fn get(&self, args: &Args) -> Result<Option<IntVec>, Error> {
        match (&self.attribute, args.option(self.input)) {
            (Some(list), _) => Ok(Some(list.as_slice().into())),
            (None, Some(list)) => list.to_i64s().map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// The integers of a tensor as i64, in a charged allocation if they had to be converted.
pub(super) struct Integers(pub(super) Value);

impl Deref for Integers {
    type Target = [i64];

    fn deref(&self) -> &[i64] {
        self.0.elements().unwrap_or_default()
    }
}

/// The integers of a tensor of indices or lengths.
pub(super) fn integers(value: &Value, cx: &ExecContext<'_>) -> Result<Integers, Error> {
    match value.ty() {
        ElementType::I64 | ElementType::I32 => convert(value.clone(), ElementType::I64, cx).map(Integers),
        other => Err(Error::invalid_argument(format!("the tensor is {other:?}, and I32 or I64 is expected"))),
    }
}
