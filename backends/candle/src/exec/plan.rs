//! A compiled graph: the steps that every context runs.
//!
//! * P1: a step's inputs are constants, or slots that an earlier step, an input or a capture has filled.
//! * P2: a slot is written once in a run, and is emptied at its last use.
//! * P3: every step is needed by some output.

use crate::ops::fusion::FusionRole;
use crate::ops::node::OpFn;
use crate::tensor::value::Value;
use std::sync::Arc;

/// Where a step finds an input.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// An optional input that was left out.
    Absent,
    /// Known at load.
    Constant(Value),
    /// Computed before.
    Slot {
        /// Which slot.
        index: usize,
        /// Whether nothing reads the slot afterwards.
        last: bool,
    },
}

/// One operator to run.
pub(crate) struct Step {
    /// Operator, node and opset, for messages.
    pub(crate) label: Box<str>,
    pub(crate) kernel: OpFn,
    pub(crate) inputs: Vec<Source>,
    /// The slot that each output goes to; none for one that nobody reads.
    pub(crate) outputs: Vec<Option<usize>>,
    /// How the step may become one with others, until that is settled.
    pub(crate) role: Option<Box<FusionRole>>,
    /// Bytes that the kernel holds besides itself: what it keeps of attributes.
    pub(crate) attribute_bytes: usize,
    /// The graphs that the kernel runs.
    pub(crate) subgraphs: Box<[Arc<Plan>]>,
}

/// A compiled graph.
pub(crate) struct Plan {
    pub(crate) slots: usize,
    /// The slots of the inputs, and after them those of the values captured from outside.
    pub(crate) inputs: Vec<usize>,
    pub(crate) steps: Vec<Step>,
    pub(crate) outputs: Vec<Source>,
}

impl Plan {
    /// Drops the steps that no output needs, and the outputs that nobody reads.
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

    /// Marks the last use of each slot.
    pub(crate) fn release(&mut self) {
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
