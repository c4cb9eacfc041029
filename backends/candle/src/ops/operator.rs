//! An operator: its row in the table of its family, and what runs it.
//!
//! Everything that the backend knows of an operator stands in its row: domain, name, opsets, number of inputs, the
//! constructor, what a use of it costs, and how it becomes one step with others. The compiler reads the rows.

use crate::ops::fusion::{Anchor, Follower};
use crate::ops::node::{Node, OpFn};
use graphpool::backend::Error;

/// The newest version of ai.onnx that the table was written against.
pub const LATEST_OPSET: i64 = 28;

/// Reads a node's attributes and gives what runs it.
pub(crate) type Build = fn(&Node<'_>) -> Result<OpFn, Error>;

/// What a use of an operator costs, by which constants are computed at load or left for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// Nothing: the result is a constant of the model's file.
    Free,
    /// A few steps for each element read or written.
    Linear,
    /// More than that.
    Heavy,
    /// As much as the model likes: a loop.
    Unbounded,
}

/// How an operator becomes one step with others.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fusion {
    /// Not at all.
    None,
    /// As the first, a product by constant weights.
    Anchor(fn(&Node<'_>) -> Option<Anchor>),
    /// As one of those after it, elementwise.
    Follower(fn(&Node<'_>) -> Option<Follower>),
}

/// An operator that the candle backend runs.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Operator {
    /// The domain; empty for ai.onnx.
    pub domain: &'static str,
    /// The name.
    pub name: &'static str,
    /// The first opset at which it is supported.
    pub since: i64,
    /// The last one.
    pub until: i64,
    /// The least and the most inputs; `usize::MAX` for any number.
    pub inputs: (usize, usize),
    /// What a use of it costs.
    pub cost: Cost,
    pub(crate) build: Build,
    pub(crate) fusion: Fusion,
}

impl Operator {
    /// Sets the domain.
    pub(super) const fn in_domain(self, domain: &'static str) -> Self {
        Self { domain, ..self }
    }

    /// With this last opset.
    pub(super) const fn until(self, until: i64) -> Self {
        Self { until, ..self }
    }

    /// With a result that is a constant of the model's.
    pub(super) const fn free(self) -> Self {
        Self { cost: Cost::Free, ..self }
    }

    /// With more work than a few steps for each element.
    pub(super) const fn heavy(self) -> Self {
        Self { cost: Cost::Heavy, ..self }
    }

    /// With work that nothing bounds.
    pub(super) const fn unbounded(self) -> Self {
        Self { cost: Cost::Unbounded, ..self }
    }

    /// As the first of a fused step, where `anchor` has something to say of the node.
    pub(super) const fn anchor(self, anchor: fn(&Node<'_>) -> Option<Anchor>) -> Self {
        Self { fusion: Fusion::Anchor(anchor), ..self }
    }

    /// As a later one of a fused step, where `follower` has something to say of the node.
    pub(super) const fn follower(self, follower: fn(&Node<'_>) -> Option<Follower>) -> Self {
        Self { fusion: Fusion::Follower(follower), ..self }
    }
}

/// Any number of inputs.
pub(super) const MANY: usize = usize::MAX;

/// An operator of ai.onnx from `since` on.
pub(super) const fn since(since: i64, name: &'static str, inputs: (usize, usize), build: Build) -> Operator {
    let (cost, fusion) = (Cost::Linear, Fusion::None);
    Operator { domain: "", name, since, until: LATEST_OPSET, inputs, cost, build, fusion }
}

/// The domain of classical machine learning.
pub(super) const ML: &str = "ai.onnx.ml";

/// The newest version of ai.onnx.ml that the table was written against.
const LATEST_ML: i64 = 5;

/// The domain of the operators that onnxruntime adds.
const MICROSOFT: &str = "com.microsoft";

/// An operator of ai.onnx.ml from `since` on.
pub(super) const fn learning(since_version: i64, name: &'static str, inputs: (usize, usize), build: Build) -> Operator {
    Operator { domain: ML, until: LATEST_ML, ..since(since_version, name, inputs, build) }
}

/// An operator of com.microsoft, which has one version.
pub(super) const fn microsoft(name: &'static str, inputs: (usize, usize), build: Build) -> Operator {
    Operator { domain: MICROSOFT, until: 1, ..since(1, name, inputs, build) }
}
