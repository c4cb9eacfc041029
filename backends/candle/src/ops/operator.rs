//! The row of an operator in the table of its family.
//!
//! A row holds domain, name, opsets, number of inputs, constructor, cost, and role in fusion. The compiler knows
//! operators by their rows alone.

use crate::ops::fusion::{Anchor, Follower, FusionRole, Packer};
use crate::ops::node::{Node, OpFn};
use graphpool::backend::Error;

/// The newest version of ai.onnx that the table covers.
pub const LATEST_OPSET: i64 = 28;

/// Builds an operator from the attributes of its node.
pub(crate) type Build = fn(&Node<'_>) -> Result<OpFn, Error>;

/// Builds the device form of an operator. It stops with `HostOnly` for attributes without one.
#[cfg(feature = "candle")]
pub(crate) type BuildForm = fn(&Node<'_>) -> Result<crate::device::args::DeviceForm, crate::device::args::Stop>;

/// The device form of an operator, if it has one.
#[cfg(feature = "candle")]
pub(crate) type Form = Option<BuildForm>;

/// Without candle there are no devices: whether the operator would have a form.
#[cfg(not(feature = "candle"))]
pub(crate) type Form = bool;

/// The device form in a row: a function of [`device`](crate::ops::device), or a closure that captures nothing.
#[cfg(feature = "candle")]
macro_rules! form {
    ($build:expr) => {{
        #[allow(unused_imports, reason = "a form uses some of them")]
        use $crate::ops::device::*;
        Some($build)
    }};
}
#[cfg(not(feature = "candle"))]
macro_rules! form {
    ($build:expr) => {
        true
    };
}
pub(super) use form;

/// The work of one call of an operator, which decides whether constants are folded at load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// No work: the result is a constant in the model's file.
    Free,
    /// A few steps for each element read or written.
    Linear,
    /// More than a few steps for each element.
    Heavy,
    /// A loop, which the sizes of the inputs do not bound.
    Unbounded,
}

/// The role of an operator in fusion.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fusion {
    /// Not fused.
    None,
    /// The first operator of a fused step: a product by constant weights. `None` for a node that cannot be fused.
    Anchor(fn(&Node<'_>) -> Option<Anchor>),
    /// A later operator of a fused step, which is elementwise. `None` for a node that cannot be fused.
    Follower(fn(&Node<'_>) -> Option<Follower>),
    /// Not fused, but with constant weights that are packed at load. `None` for a node whose weights are not constant.
    Packer(fn(&Node<'_>) -> Option<Packer>),
    /// Quantizes or dequantizes, which a step of integers can do too. `None` for a node that has attributes for more.
    Quantization(fn(&Node<'_>) -> Option<FusionRole>),
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
    /// The last opset at which it is supported.
    pub until: i64,
    /// The minimum and maximum number of inputs; `usize::MAX` for any number.
    pub inputs: (usize, usize),
    /// The work of one call.
    pub cost: Cost,
    pub(crate) build: Build,
    pub(crate) fusion: Fusion,
    pub(crate) form: Form,
    /// Another kernel for values whose channels are the last dimension. `None` for a node without one.
    pub(crate) last: Option<fn(&Node<'_>) -> Option<OpFn>>,
}

impl Operator {
    /// Whether the operator runs on a device, for at least some of its element types and attributes.
    #[must_use]
    pub const fn on_device(&self) -> bool {
        #[cfg(feature = "candle")]
        return self.form.is_some();
        #[cfg(not(feature = "candle"))]
        self.form
    }

    /// Gives the operator a kernel for values whose channels are the last dimension.
    pub(super) const fn channels_last(self, last: fn(&Node<'_>) -> Option<OpFn>) -> Self {
        Self { last: Some(last), ..self }
    }

    /// Gives the operator a device form.
    pub(super) const fn device(self, form: Form) -> Self {
        Self { form, ..self }
    }

    /// Sets the domain.
    pub(super) const fn in_domain(self, domain: &'static str) -> Self {
        Self { domain, ..self }
    }

    /// Sets the last opset.
    pub(super) const fn until(self, until: i64) -> Self {
        Self { until, ..self }
    }

    /// Sets the cost to [`Cost::Free`].
    pub(super) const fn free(self) -> Self {
        Self { cost: Cost::Free, ..self }
    }

    /// Sets the cost to [`Cost::Heavy`].
    pub(super) const fn heavy(self) -> Self {
        Self { cost: Cost::Heavy, ..self }
    }

    /// Sets the cost to [`Cost::Unbounded`].
    pub(super) const fn unbounded(self) -> Self {
        Self { cost: Cost::Unbounded, ..self }
    }

    /// Makes the operator an anchor of fused steps.
    pub(super) const fn anchor(self, anchor: fn(&Node<'_>) -> Option<Anchor>) -> Self {
        Self { fusion: Fusion::Anchor(anchor), ..self }
    }

    /// Lets the operator pack its constant weights at load.
    pub(super) const fn packer(self, packer: fn(&Node<'_>) -> Option<Packer>) -> Self {
        Self { fusion: Fusion::Packer(packer), ..self }
    }

    /// Lets the operator be a part of a step of integers.
    pub(super) const fn quantization(self, role: fn(&Node<'_>) -> Option<FusionRole>) -> Self {
        Self { fusion: Fusion::Quantization(role), ..self }
    }

    /// Makes the operator a follower in fused steps.
    pub(super) const fn follower(self, follower: fn(&Node<'_>) -> Option<Follower>) -> Self {
        Self { fusion: Fusion::Follower(follower), ..self }
    }
}

/// Any number of inputs.
pub(super) const MANY: usize = usize::MAX;

/// An operator of ai.onnx from opset `since` on, with linear work.
pub(super) const fn since(since: i64, name: &'static str, inputs: (usize, usize), build: Build) -> Operator {
    let (cost, fusion) = (Cost::Linear, Fusion::None);
    #[cfg(feature = "candle")]
    let form = None;
    #[cfg(not(feature = "candle"))]
    let form = false;
    Operator { domain: "", name, since, until: LATEST_OPSET, inputs, cost, build, fusion, form, last: None }
}

/// The domain of the operators of classical machine learning.
pub(super) const ML: &str = "ai.onnx.ml";

/// The newest version of ai.onnx.ml that the table covers.
const LATEST_ML: i64 = 5;

/// The domain of the operators that onnxruntime adds.
const MICROSOFT: &str = "com.microsoft";

/// An operator of ai.onnx.ml from one version on.
pub(super) const fn ml(version: i64, name: &'static str, inputs: (usize, usize), build: Build) -> Operator {
    Operator { domain: ML, until: LATEST_ML, ..since(version, name, inputs, build) }
}

/// An operator of com.microsoft, which has one version.
pub(super) const fn microsoft(name: &'static str, inputs: (usize, usize), build: Build) -> Operator {
    Operator { domain: MICROSOFT, until: 1, ..since(1, name, inputs, build) }
}
