//! Constants computed at load: a step whose inputs are all known is run once, and its results take its place.
//!
//! A guest writes the constants, so that folding has budgets: of work and of memory over the whole model, and of
//! memory for one step; and of time. A step past either is left for the run, which has a deadline; so is one that
//! fails.

use std::time::{Duration, Instant};

use crate::compute::context::ExecContext;
use crate::exec::plan::Source;
use crate::ops::node::{Args, OpFn};
use crate::ops::operator::Cost;
use crate::tensor::budget::ComputeBudget;
use crate::tensor::value::Value;
use graphpool::backend::ComputeControl;

/// Elements that folding may read and write over a whole model.
const WORK: usize = 1 << 28;

/// Bytes that one folded step may allocate.
const STEP_BYTES: usize = 1 << 28;

/// Elements of the inputs of a step whose work grows faster than they do.
const HEAVY_ELEMENTS: usize = 1 << 14;

/// Bytes by which results may outgrow inputs: a step that makes much out of little is better run than kept.
const GROWTH: usize = 1 << 20;

/// How long folding may take over a whole model. What is in a branch of an If is bounded by nothing else.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is left of the budget.
pub(crate) struct Folding {
    work: usize,
    bytes: usize,
    time: Duration,
}

impl Folding {
    /// The budget of one model, whose results may take `bytes` in all.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { work: WORK, bytes, time: PATIENCE }
    }

    /// Lets results take no more than `bytes` from now on.
    pub(crate) fn limit_to(&mut self, bytes: usize) {
        self.bytes = self.bytes.min(bytes);
    }

    /// Elements that may still be read and written.
    #[cfg(test)]
    pub(crate) fn work(&self) -> usize {
        self.work
    }

    /// The results of a step, where every input is known and the budget allows.
    pub(crate) fn fold(&mut self, cost: Cost, kernel: &OpFn, inputs: &[Source], outputs: usize) -> Option<Vec<Value>> {
        if cost == Cost::Unbounded {
            return None;
        }
        let mut args = Vec::with_capacity(inputs.len());
        for input in inputs {
            args.push(match input {
                Source::Absent => None,
                Source::Constant(value) => Some(value.clone()),
                Source::Slot { .. } => return None,
            });
        }
        let elements = args.iter().flatten().map(Value::len).sum::<usize>();
        let bytes = args.iter().flatten().map(Value::bytes).sum::<usize>();
        if elements > self.work || (cost == Cost::Heavy && elements > HEAVY_ELEMENTS) {
            return None;
        }
        let start = Instant::now();
        let control = ComputeControl::default().with_deadline(start + self.time);
        let limit = STEP_BYTES.min(self.bytes).min(bytes.saturating_mul(2).saturating_add(GROWTH));
        let budget = ComputeBudget::new(limit);
        if cost != Cost::Free {
            control.check().ok()?;
            // Work that fails was done too.
            self.work = self.work.saturating_sub(elements.saturating_add(1));
        }
        let results = kernel(Args::new(args), &ExecContext::new(&control, &budget));
        self.time = self.time.saturating_sub(start.elapsed());
        let results = results.ok()?;
        let made = results.iter().map(Value::len).sum::<usize>();
        // A constant's own tensor, however large, is no work and takes no more than the model did.
        if cost == Cost::Free {
            self.work = self.work.saturating_sub(1);
        } else {
            self.work = self.work.saturating_sub(made);
            self.bytes = self.bytes.saturating_sub(results.iter().map(Value::bytes).sum());
        }
        (results.len() >= outputs).then_some(results)
    }
}
