//! Gives values between convolutions the layout with the channels as the last dimension.
//!
//! A step that reads or writes such values has a [`LastForm`]. [`arrange`] goes through the steps in their order and
//! decides for each what its outputs are; where a step needs a value in the other layout, a step that moves the channels
//! comes before it, once for each value. Inputs, captures and outputs of the plan are as ONNX orders them.

use std::collections::HashMap;

use crate::exec::plan::{Plan, Source, Step};
use crate::ops::channels::{LastForm, moved};
use crate::tensor::value::Value;

/// The plan with the steps that move channels.
struct Arranged {
    steps: Vec<Step>,
    slots: usize,
    /// The rank of each value whose channels are last, by its slot.
    last: HashMap<usize, usize>,
    /// The slot of the same value in the other layout.
    twins: HashMap<usize, usize>,
    /// Bytes of the steps that were added.
    bytes: usize,
}

/// Decides on the layout of each value of a plan. Returns the bytes of the steps that it adds.
pub(crate) fn arrange(plan: &mut Plan) -> usize {
    if !plan.steps.iter().any(|step| matches!(step.last, Some(LastForm::Only { .. }))) {
        plan.steps.iter_mut().for_each(|step| step.last = None);
        return 0;
    }
    let (steps, slots) = (std::mem::take(&mut plan.steps), plan.slots);
    let (last, twins) = (HashMap::new(), HashMap::new());
    let mut arranged = Arranged { steps: Vec::with_capacity(steps.len()), slots, last, twins, bytes: 0 };
    for step in steps {
        arranged.step(step);
    }
    for output in &mut plan.outputs {
        arranged.want(output, false, "an output");
    }
    (plan.steps, plan.slots) = (arranged.steps, arranged.slots);
    arranged.bytes
}

impl Arranged {
    /// Appends a step, and before it those that move the channels of its inputs.
    fn step(&mut self, mut step: Step) {
        let rank = match step.last.take() {
            None => None,
            Some(LastForm::Only { rank }) => Some(rank),
            Some(LastForm::Elementwise) => self.elementwise(&mut step.inputs),
            Some(LastForm::Kernel(kernel)) => {
                let rank = step.inputs.iter().find_map(|input| self.rank(input));
                if rank.is_some() {
                    step.kernel = kernel;
                }
                rank
            }
        };
        for input in &mut step.inputs {
            self.want(input, rank.is_some(), &step.label);
        }
        if let Some(rank) = rank {
            self.last.extend(step.outputs.iter().flatten().map(|&slot| (slot, rank)));
        }
        self.steps.push(step);
    }

    /// The rank of a value whose channels are last; `None` for any other.
    fn rank(&self, source: &Source) -> Option<usize> {
        match source {
            Source::Slot { index, .. } => self.last.get(index).copied(),
            _ => None,
        }
    }

    /// The rank of the results of an elementwise operator if their channels are last: those of all its inputs are, with
    /// one rank, and its constants have one element or one for each channel. These get the same layout.
    fn elementwise(&self, inputs: &mut [Source]) -> Option<usize> {
        let rank = inputs.iter().find_map(|input| self.rank(input))?;
        let arranged = inputs.iter().map(|input| match input {
            Source::Absent => Some(Source::Absent),
            Source::Constant(value) => with_channels_last(value, rank).map(Source::Constant),
            Source::Slot { .. } => (self.rank(input) == Some(rank)).then(|| input.clone()),
        });
        let arranged = arranged.collect::<Option<Vec<_>>>()?;
        inputs.clone_from_slice(&arranged);
        Some(rank)
    }

    /// Makes `source` the same value in the wanted layout.
    fn want(&mut self, source: &mut Source, last: bool, reader: &str) {
        let Source::Slot { index, .. } = source else { return };
        if self.last.contains_key(index) == last {
            return;
        }
        let twin = match self.twins.get(index) {
            Some(&twin) => twin,
            None => self.add_move(*index, last, reader),
        };
        *source = Source::Slot { index: twin, last: false };
    }

    /// Appends a step that moves the channels of a value, and returns the slot of the result.
    fn add_move(&mut self, from: usize, last: bool, reader: &str) -> usize {
        let twin = self.slots;
        self.slots += 1;
        self.twins.insert(from, twin);
        let to = if last { "last" } else { "second" };
        let step = Step {
            label: format!("channels {to}, for {reader}").into_boxed_str(),
            kernel: moved(last),
            #[cfg(feature = "candle")]
            form: None,
            inputs: vec![Source::Slot { index: from, last: false }],
            outputs: vec![Some(twin)],
            role: None,
            last: None,
            attribute_bytes: 0,
            subgraphs: Box::default(),
        };
        self.bytes += size_of::<Step>() + step.bytes();
        self.steps.push(step);
        twin
    }
}

/// A constant operand of an elementwise operator on values of this rank whose channels are last. `None` if it has more
/// than one element in a dimension other than the channels'.
fn with_channels_last(value: &Value, rank: usize) -> Option<Value> {
    let dims = value.dims();
    if dims.len() > rank {
        return None;
    }
    if value.len() == 1 {
        return Some(value.clone());
    }
    // Aligned at the end, the second of `rank` dimensions is `rank - 1` from the end.
    let channels = dims.len().checked_sub(rank - 1)?;
    if dims.iter().enumerate().any(|(at, &dim)| at != channels && dim != 1) {
        return None;
    }
    value.clone().reshaped(vec![dims[channels]]).ok()
}
