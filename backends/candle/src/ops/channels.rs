//! Values whose channels are the last dimension, and what operators do with them.
//!
//! ONNX orders the dimensions of an image as batch, channels, height, width. Convolutions of constant weights are
//! faster with the channels last, so `compile::channels` gives the values between them this order. An operator between
//! them has a [`LastForm`], or it gets its values in ONNX's order.

use crate::compute::context::ExecContext;
use crate::ops::fusion::{Follower, FusionRole};
use crate::ops::layout::permute;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::Operator;
use crate::tensor::dim_list::DimVec;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// What a step does with values whose channels are the last dimension.
pub(crate) enum LastForm {
    /// It reads and writes such values only, of this rank.
    Only { rank: usize },
    /// Its kernel does the same to each element, wherever it is.
    Elementwise,
    /// Another kernel reads and writes such values.
    Kernel(OpFn),
}

impl LastForm {
    /// The form of a node, if it has one.
    pub(crate) fn of(operator: &Operator, node: &Node<'_>, role: Option<&FusionRole>) -> Option<Self> {
        match role {
            Some(FusionRole::Follower(Follower::Unary(_) | Follower::Binary(_))) => Some(Self::Elementwise),
            _ => operator.last.and_then(|last| last(node)).map(Self::Kernel),
        }
    }
}

/// Moves the channels from the second dimension to the last, or back.
pub(crate) fn moved(to_last: bool) -> OpFn {
    Box::new(move |mut args, cx| Ok(values![move_channels(args.take(0)?, to_last, cx)?]))
}

fn move_channels(value: Value, to_last: bool, cx: &ExecContext<'_>) -> Result<Value, Error> {
    let mut order: DimVec = (0..value.rank()).collect();
    match order.get_mut(1..) {
        Some(after_batch) if after_batch.len() > 1 && to_last => after_batch.rotate_left(1),
        Some(after_batch) if after_batch.len() > 1 => after_batch.rotate_right(1),
        _ => return Ok(value),
    }
    permute(value, &order, cx)
}
