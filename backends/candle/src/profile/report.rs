//! A copy of what was collected.

use std::time::Duration;

use crate::profile::record::ModelRecord;
pub use crate::profile::times::Timing;

/// What a [`Profile`](crate::Profile) has collected: a table by `Display`, JSON by [`to_json`](Self::to_json), a
/// picture by [`to_svg`](Self::to_svg).
///
/// The table has at most 60 steps of each model, those that took longest, and the picture at most 200. JSON has all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProfileReport {
    /// The models, in the order of their first loads.
    pub models: Vec<ModelProfile>,
    /// How many loads of models were not recorded, because there was no room.
    pub left_out: u64,
}

/// What was collected of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelProfile {
    /// The length of the model's file in bytes.
    pub file_bytes: usize,
    /// Whether the model is on a device.
    pub on_device: bool,
    /// Its computes as a whole.
    pub computes: Timing,
    /// The steps of its plan in the order of their execution. The steps of subgraphs follow the step that runs them.
    pub steps: Vec<StepProfile>,
}

/// What was collected of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepProfile {
    /// Operator, node and opset, as in error messages. Names are cut after 40 characters.
    pub label: String,
    /// The index of the step whose subgraph this one is in.
    pub parent: Option<usize>,
    /// Its runs, with those of the steps of its subgraphs.
    pub timing: Timing,
    /// The time of all runs without the steps of its subgraphs.
    pub own: Duration,
    /// Bytes of the elements of all outputs, over all runs that did not fail. A step that passes an input on as its
    /// output, such as Reshape, is counted too.
    pub bytes: u64,
    /// The number of outputs of the last run that did not fail.
    pub outputs: usize,
    /// The shapes of the first 4 of them.
    pub shapes: Vec<Vec<usize>>,
}

impl ModelProfile {
    pub(crate) fn of(record: &ModelRecord) -> Self {
        let mut steps: Vec<StepProfile> = Vec::with_capacity(record.steps.len());
        for step in &record.steps {
            let (timing, outputs) = step.read();
            steps.push(StepProfile {
                label: step.label.to_string(),
                parent: step.parent,
                timing,
                own: timing.total,
                bytes: outputs.bytes,
                outputs: outputs.count,
                shapes: outputs.shapes,
            });
            if let Some(parent) = step.parent.and_then(|parent| steps.get_mut(parent)) {
                parent.own = parent.own.saturating_sub(timing.total);
            }
        }
        let computes = record.computes();
        Self { file_bytes: record.key.bytes, on_device: record.key.on_device, computes, steps }
    }

    /// The time of all steps.
    #[must_use]
    pub fn in_steps(&self) -> Duration {
        self.steps.iter().map(|step| step.own).fold(Duration::ZERO, Duration::saturating_add)
    }

    /// The time of all computes that no step took.
    #[must_use]
    pub fn between_steps(&self) -> Duration {
        self.computes.total.saturating_sub(self.in_steps())
    }

    /// The part of the computes' time that `time` is, from 0 to 1.
    pub(crate) fn share(&self, time: Duration) -> f64 {
        let all = self.computes.total.max(self.in_steps()).as_secs_f64();
        if all > 0.0 { time.as_secs_f64() / all } else { 0.0 }
    }

    /// The indexes of the steps that ran, those that took longest first.
    pub(crate) fn by_time(&self) -> Vec<usize> {
        let ran = self.steps.iter().enumerate().filter(|(_, step)| step.timing.runs > 0);
        let mut order: Vec<usize> = ran.map(|(index, _)| index).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(self.steps.get(index).map(|step| step.own)));
        order
    }
}
