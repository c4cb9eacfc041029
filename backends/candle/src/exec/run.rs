//! Executes a plan: runs its steps in order, with values in slots.

use crate::compute::context::ExecContext;
use crate::exec::plan::{Plan, Source};
use crate::ops::node::{Args, RunGraph};
use crate::profile::record::{Off, Watch};
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// Computes the plan's outputs from `inputs`, which are its inputs followed by its captures.
///
/// The deadline and the cancel token are checked before each step. An error names the step in its message.
pub(crate) fn run(plan: &Plan, inputs: Vec<Value>, cx: &ExecContext<'_>) -> Result<Vec<Value>, Error> {
    match cx.probe {
        None => watched(plan, inputs, cx, &Off),
        Some(probe) => watched(plan, inputs, cx, &probe.plan(plan.address())),
    }
}

/// Runs the plan, each step by way of `watch`.
fn watched(plan: &Plan, inputs: Vec<Value>, cx: &ExecContext<'_>, watch: &impl Watch) -> Result<Vec<Value>, Error> {
    if inputs.len() != plan.inputs.len() {
        return Err(Error::runtime_error(format!(
            "a graph with {} inputs got {} values",
            plan.inputs.len(),
            inputs.len()
        )));
    }
    let (mut slots, _charge) = cx.list::<Option<Value>>(plan.slots)?;
    slots.resize(plan.slots, None);
    for (&slot, value) in plan.inputs.iter().zip(inputs) {
        if let Some(slot) = slots.get_mut(slot) {
            *slot = Some(value);
        }
    }
    let read = |source: &Source, slots: &mut [Option<Value>]| match source {
        Source::Absent => None,
        Source::Constant(value) => Some(value.clone()),
        Source::Slot { index, last: true } => slots.get_mut(*index).and_then(Option::take),
        Source::Slot { index, last: false } => slots.get(*index).and_then(Clone::clone),
    };
    for (index, step) in plan.steps.iter().enumerate() {
        cx.control.check()?;
        let args = Args::new(step.inputs.iter().map(|source| read(source, &mut slots)).collect());
        let explain = |error: Error| Error::new(error.kind(), format!("{}: {}", step.label, error.message()));
        let results = watch.step(index, || step.enough((step.kernel)(args, cx)?)).map_err(explain)?;
        for (slot, value) in step.outputs.iter().zip(results) {
            if let Some(slot) = slot.and_then(|slot| slots.get_mut(slot)) {
                *slot = Some(value);
            }
        }
    }
    cx.control.check()?;
    let outputs = plan.outputs.iter().map(|source| read(source, &mut slots));
    outputs.collect::<Option<Vec<_>>>().ok_or_else(|| Error::runtime_error("an output was not computed"))
}

impl RunGraph for Plan {
    fn inputs(&self) -> usize {
        self.inputs.len()
    }

    fn outputs(&self) -> usize {
        self.outputs.len()
    }

    fn run(&self, inputs: Vec<Value>, cx: &ExecContext<'_>) -> Result<Vec<Value>, Error> {
        run(self, inputs, cx)
    }

    #[cfg(feature = "candle")]
    fn run_on_device(
        &self,
        inputs: Vec<crate::device::tensor::Placed>,
        dx: &crate::device::context::DeviceContext<'_>,
    ) -> Result<Vec<crate::device::tensor::Placed>, Error> {
        super::device::run(self, inputs, dx)
    }
}
