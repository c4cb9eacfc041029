//! Executes a plan: runs its steps in order, with values in slots.

use crate::compute::context::ExecContext;
use crate::exec::plan::{Plan, Source};
use crate::ops::node::{Args, RunGraph};
use crate::profile::record::{Off, Watch};
use crate::tensor::value::{Value, Values};
use graphpool::backend::Error;

/// Steps between two reads of the clock. A step that works long checks the deadline itself.
const CLOCK_STEPS: usize = 8;

/// Computes the plan's outputs from `inputs`, which are its inputs followed by its captures, and appends them to
/// `outputs`.
///
/// The cancel token is checked before each step, and the deadline before one of [`CLOCK_STEPS`]. An error names the step
/// in its message.
pub(crate) fn run(
    plan: &Plan,
    inputs: impl ExactSizeIterator<Item = Value>,
    outputs: &mut impl Extend<Value>,
    cx: &ExecContext<'_>,
) -> Result<(), Error> {
    match cx.probe {
        None => watched(plan, inputs, outputs, cx, &Off),
        Some(probe) => watched(plan, inputs, outputs, cx, &probe.plan(plan.address())),
    }
}

/// Takes the value of a source, or clones it if it is used again.
fn read(source: &Source, slots: &mut [Option<Value>]) -> Option<Value> {
    match source {
        Source::Absent => None,
        Source::Constant(value) => Some(value.clone()),
        Source::Slot { index, last: true } => slots.get_mut(*index).and_then(Option::take),
        Source::Slot { index, last: false } => slots.get(*index).and_then(Clone::clone),
    }
}

/// Runs the plan, each step by way of `watch`.
fn watched(
    plan: &Plan,
    inputs: impl ExactSizeIterator<Item = Value>,
    outputs: &mut impl Extend<Value>,
    cx: &ExecContext<'_>,
    watch: &impl Watch,
) -> Result<(), Error> {
    if inputs.len() != plan.inputs.len() {
        return Err(Error::runtime_error(format!(
            "a graph with {} inputs got {} values",
            plan.inputs.len(),
            inputs.len()
        )));
    }
    let mut slots = cx.block::<Option<Value>>(plan.slots)?;
    slots.resize(plan.slots, None);
    for (&slot, value) in plan.inputs.iter().zip(inputs) {
        if let Some(slot) = slots.get_mut(slot) {
            *slot = Some(value);
        }
    }
    for (index, step) in plan.steps.iter().enumerate() {
        if index % CLOCK_STEPS == 0 || cx.control.cancel.is_cancelled() {
            cx.control.check()?;
        }
        let args = Args::new(step.inputs.iter().map(|source| read(source, &mut slots)));
        let explain = |error: Error| Error::new(error.kind(), format!("{}: {}", step.label, error.message()));
        let run = || {
            let results = (step.kernel)(args, cx)?;
            step.check_results(results.len())?;
            Ok(results)
        };
        let mut results = watch.step::<Value, _>(index, run).map_err(explain)?;
        while let Some(value) = results.pop() {
            let slot = step.outputs.get(results.len()).copied().flatten();
            if let Some(slot) = slot.and_then(|slot| slots.get_mut(slot)) {
                *slot = Some(value);
            }
        }
    }
    cx.control.check()?;
    for source in &plan.outputs {
        let value = read(source, &mut slots);
        outputs.extend([value.ok_or_else(|| Error::runtime_error("an output was not computed"))?]);
    }
    Ok(())
}

impl RunGraph for Plan {
    fn inputs(&self) -> usize {
        self.inputs.len()
    }

    fn outputs(&self) -> usize {
        self.outputs.len()
    }

    fn run(&self, inputs: Values, cx: &ExecContext<'_>) -> Result<Values, Error> {
        let mut outputs = Values::new();
        run(self, inputs.into_iter(), &mut outputs, cx)?;
        Ok(outputs)
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
