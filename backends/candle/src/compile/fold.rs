//! Constant folding: a node whose inputs are all constant is computed at load, and its results become constants.
//!
//! A guest controls the constants, so folding is bounded: in work, memory and time for a whole model, and in memory for
//! one node. A node that exceeds a bound or fails stays in the plan and is computed by each run, which has a deadline.

use std::time::{Duration, Instant};

use crate::compute::context::ExecContext;
use crate::exec::plan::Source;
use crate::ops::node::{Args, OpFn};
use crate::ops::operator::Cost;
use crate::tensor::budget::ComputeBudget;
use crate::tensor::value::{Value, Values};
use graphpool::backend::ComputeControl;

/// The most elements that folding reads and writes for a whole model.
const WORK: usize = 1 << 28;

/// The most bytes that folding one node allocates.
const STEP_BYTES: usize = 1 << 28;

/// The most input elements of a node whose work is more than linear in them ([`Cost::Heavy`]).
const HEAVY_ELEMENTS: usize = 1 << 14;

/// Bytes by which results can exceed [`TIMES`] times the size of the inputs. Storing large results of small inputs costs
/// more memory than computing them in each run saves.
const GROWTH: usize = 1 << 20;

/// Weights of 8 bits that are dequantized to f32 take four times the memory, with their conversion in between.
const TIMES: usize = 4;

/// The longest time that folding takes for a whole model. It is the only bound on the work in a branch of an `If`.
const TIME: Duration = Duration::from_millis(500);

/// The rest of a model's budget for folding: elements, bytes of results, and time.
pub(crate) struct Folding {
    work: usize,
    bytes: usize,
    time: Duration,
}

impl Folding {
    /// The budget of one model, whose results can take `bytes` in total.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { work: WORK, bytes, time: TIME }
    }

    /// Reduces the memory for further results to `bytes`.
    pub(crate) fn limit_to(&mut self, bytes: usize) {
        self.bytes = self.bytes.min(bytes);
    }

    /// Elements that can still be read and written.
    #[cfg(test)]
    pub(crate) fn work(&self) -> usize {
        self.work
    }

    /// The results of a node, if all its inputs are constant and the budget allows.
    pub(crate) fn fold(&mut self, cost: Cost, kernel: &OpFn, inputs: &[Source], outputs: usize) -> Option<Values> {
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
        let limit = STEP_BYTES.min(self.bytes).min(bytes.saturating_mul(TIMES).saturating_add(GROWTH));
        let budget = ComputeBudget::new(limit);
        if cost != Cost::Free {
            control.check().ok()?;
            // Charged before the result is known: a node that fails costs its work too.
            self.work = self.work.saturating_sub(elements.saturating_add(1));
        }
        let results = kernel(Args::new(args), &ExecContext::new(&control, &budget));
        self.time = self.time.saturating_sub(start.elapsed());
        let results = results.ok()?;
        let made = results.iter().map(Value::len).sum::<usize>();
        // A `Constant` node's tensor is part of the model, which is charged already.
        if cost == Cost::Free {
            self.work = self.work.saturating_sub(1);
        } else {
            self.work = self.work.saturating_sub(made);
            self.bytes = self.bytes.saturating_sub(results.iter().map(Value::bytes).sum());
        }
        (results.len() >= outputs).then_some(results)
    }
}
