//! The plan of a graph: a list of steps in the order of their execution, shared by all contexts.
//!
//! Values that a run computes are stored in numbered slots. A plan keeps three invariants:
//!
//! * P1: each input of a step is absent, a constant, or a slot that was written before: by an earlier step, or as an
//!   input or capture of the plan.
//! * P2: a run writes each slot at most once, and empties it at its last use.
//! * P3: every step contributes to an output of the plan.

use crate::ops::channels::LastForm;
use crate::ops::fusion::FusionRole;
use crate::ops::node::OpFn;
use crate::profile::record::Outline;
use crate::tensor::value::Value;
use graphpool::backend::Error;
use std::sync::Arc;

/// Where an input of a step, or an output of a plan, comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// An optional input that was left out.
    Absent,
    /// A value that is known at load.
    Constant(Value),
    /// A value that the run has computed.
    Slot {
        /// The slot's index.
        index: usize,
        /// Whether this is the last use of the slot.
        last: bool,
    },
}

/// One operator to run.
pub(crate) struct Step {
    /// Operator, node and opset, for error messages.
    pub(crate) label: Box<str>,
    /// The function that computes the outputs.
    pub(crate) kernel: OpFn,
    /// The operator on a device, in a plan that runs there.
    #[cfg(feature = "candle")]
    pub(crate) form: Option<crate::device::args::DeviceForm>,
    pub(crate) inputs: Vec<Source>,
    /// The slot of each output; `None` for an output that is not used.
    pub(crate) outputs: Vec<Option<usize>>,
    /// How the step can be fused with others. `None` after fusion.
    pub(crate) role: Option<Box<FusionRole>>,
    /// What the step does with values whose channels are the last dimension, until values are given their layouts.
    /// `None` for nothing.
    pub(crate) last: Option<LastForm>,
    /// Bytes that the kernel keeps of its node's attributes, in addition to its own size.
    pub(crate) attribute_bytes: usize,
    /// The compiled graphs that the kernel runs: the branches of an `If`, the body of a `Loop` or `Scan`.
    pub(crate) subgraphs: Box<[Arc<Plan>]>,
}

impl Step {
    /// Refuses results that are fewer than the node's outputs.
    #[inline]
    pub(crate) fn check_results(&self, results: usize) -> Result<(), Error> {
        if results < self.outputs.len() {
            return Err(Error::unsupported(format!("output {results} of this operator is not supported")));
        }
        Ok(())
    }
}

/// A compiled graph.
pub(crate) struct Plan {
    /// The number of slots.
    pub(crate) slots: usize,
    /// The slots of the inputs, followed by the slots of the values captured from outer graphs.
    pub(crate) inputs: Vec<usize>,
    pub(crate) steps: Vec<Step>,
    pub(crate) outputs: Vec<Source>,
}

impl Plan {
    /// Removes the steps that no output needs (P3), and marks the outputs of steps that are not used.
    pub(crate) fn prune(&mut self) {
        let mut needed = vec![false; self.slots];
        let need = |source: &Source, needed: &mut Vec<bool>| {
            if let Source::Slot { index, .. } = source
                && let Some(needed) = needed.get_mut(*index)
            {
                *needed = true;
            }
        };
        for output in &self.outputs {
            need(output, &mut needed);
        }
        let mut kept = vec![false; self.steps.len()];
        for (step, kept) in self.steps.iter_mut().zip(&mut kept).rev() {
            for output in &mut step.outputs {
                *output = output.filter(|&slot| needed.get(slot) == Some(&true));
            }
            if step.outputs.iter().any(Option::is_some) {
                for input in &step.inputs {
                    need(input, &mut needed);
                }
                *kept = true;
            }
        }
        let mut kept = kept.into_iter();
        self.steps.retain(|_| kept.next().unwrap_or(false));
    }

    /// What a profile knows the plan by, as long as it lives.
    pub(crate) fn address(&self) -> usize {
        self.steps.as_ptr().addr()
    }

    /// Appends the steps, each followed by those of its subgraphs. `parent` is the step that runs the plan.
    pub(crate) fn outline(&self, parent: Option<usize>, outline: &mut Outline) {
        for step in &self.steps {
            let Some(place) = outline.step(self.address(), &step.label, parent) else { return };
            for subgraph in &step.subgraphs {
                subgraph.outline(Some(place), outline);
            }
        }
    }

    /// Marks the last use of each slot (P2).
    pub(crate) fn mark_last_uses(&mut self) {
        let mut used = vec![false; self.slots];
        let steps = self.steps.iter_mut().rev().flat_map(|step| step.inputs.iter_mut().rev());
        for source in self.outputs.iter_mut().rev().chain(steps) {
            if let Source::Slot { index, last } = source
                && let Some(used) = used.get_mut(*index)
            {
                *last = !*used;
                *used = true;
            }
        }
    }
}
