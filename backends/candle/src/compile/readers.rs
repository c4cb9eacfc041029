//! Which steps of a plan read which slots.

use crate::exec::plan::{Plan, Source, Step};

/// The steps that read each slot.
pub(super) struct Readers(Vec<Vec<usize>>);

impl Readers {
    pub(super) fn new(plan: &Plan) -> Self {
        /// What reads the outputs of the plan.
        const OUTSIDE: usize = usize::MAX;
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); plan.slots];
        let steps = plan.steps.iter().enumerate();
        let inputs = steps.flat_map(|(at, step)| step.inputs.iter().map(move |input| (at, input)));
        for (at, source) in inputs.chain(plan.outputs.iter().map(|output| (OUTSIDE, output))) {
            if let Source::Slot { index, .. } = source
                && let Some(readers) = readers.get_mut(*index)
            {
                readers.push(at);
            }
        }
        Self(readers)
    }

    /// The only reader of the only output of a step.
    pub(super) fn only(&self, step: &Step) -> Option<usize> {
        let &[Some(slot)] = step.outputs.as_slice() else { return None };
        let &[reader] = self.0.get(slot)?.as_slice() else { return None };
        Some(reader)
    }

    /// The readers by slot.
    pub(super) fn into_lists(self) -> Vec<Vec<usize>> {
        self.0
    }
}
