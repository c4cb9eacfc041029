//! Integers that a tensor holds: counts, axes, indices.

use crate::compute::context::ExecContext;
use crate::ops::cast::convert;
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use graphpool::backend::Error;
use std::ops::Deref;

/// The one integer in a tensor.
pub(super) fn integer(value: &Value) -> Result<i64, Error> {
    match value.to_i64s()?.as_slice() {
        [one] => Ok(*one),
        other => Err(Error::invalid_argument(format!("the tensor has {} integers, and one is expected", other.len()))),
    }
}

/// Integers of a tensor of any size: those of an i64 as they are, others converted, charged.
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
