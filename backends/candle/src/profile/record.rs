//! What the computes of one model add to: a tally for each step of its plan.
//!
//! * R1: a record has a fixed number of steps, and each of its steps takes at most [`STEP_BYTES`].
//! * R2: a lock is held for no longer than it takes to add one run, and only one is held at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::profile::times::{Times, Timing};
use crate::tensor::budget::allocation;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// The outputs of a step whose shapes are kept.
const SHAPES: usize = 4;

/// The most bytes that a step takes: times, the shapes of its outputs, its label, and the record itself.
#[cfg(test)]
pub(crate) const STEP_BYTES: usize = 3 << 10;

/// A tensor that a step has made.
pub(crate) trait Made {
    fn dims(&self) -> &[usize];

    /// The bytes of its elements.
    fn bytes(&self) -> usize;
}

impl Made for Value {
    fn dims(&self) -> &[usize] {
        self.dims()
    }

    fn bytes(&self) -> usize {
        self.bytes()
    }
}

/// Runs the steps of a plan, and may time them.
pub(crate) trait Watch {
    /// Whether it times them. On a device, such steps are waited for.
    #[cfg(feature = "candle")]
    const TIMES: bool;

    /// Runs the step at `index` of the plan.
    fn step<T: Made, R: AsRef<[T]>>(&self, index: usize, run: impl FnOnce() -> Result<R, Error>) -> Result<R, Error>;
}

/// Records nothing, and costs nothing.
pub(crate) struct Off;

impl Watch for Off {
    #[cfg(feature = "candle")]
    const TIMES: bool = false;

    #[inline]
    fn step<T: Made, R: AsRef<[T]>>(&self, _: usize, run: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
        run()
    }
}

/// The steps of a plan, before anything has run.
pub(crate) struct Outline {
    /// The most steps, and whether there were more.
    max_steps: usize,
    is_cut: bool,
    steps: Vec<(Box<str>, Option<usize>)>,
    /// For each plan, by the address of its steps, where its steps are.
    places: HashMap<usize, Vec<usize>>,
}

impl Outline {
    pub(crate) fn new(max_steps: usize) -> Self {
        Self { max_steps, is_cut: false, steps: Vec::new(), places: HashMap::new() }
    }

    /// Appends a step of the plan at `address`. `parent` is the step whose subgraph the plan is. Returns the step's
    /// place, or `None` where there are too many.
    pub(crate) fn step(&mut self, address: usize, label: &str, parent: Option<usize>) -> Option<usize> {
        let place = self.steps.len();
        if place >= self.max_steps {
            self.is_cut = true;
            return None;
        }
        self.steps.push((label.into(), parent));
        self.places.entry(address).or_default().push(place);
        Some(place)
    }

    /// The number of steps, or `None` if there are too many.
    pub(crate) fn steps(&self) -> Option<usize> {
        (!self.is_cut).then_some(self.steps.len())
    }

    /// Bytes that a model's probe takes.
    pub(crate) fn probe_bytes(&self) -> usize {
        let places: usize = self.places.values().map(|places| allocation(size_of_val(&**places))).sum();
        let plans = allocation(self.places.len() * 2 * size_of::<(usize, Vec<usize>)>());
        places + plans + allocation(size_of::<Probe>() + 2 * size_of::<usize>())
    }
}

/// What tells models apart. Models with the same key and steps are recorded as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    /// A keyed hash of the file.
    pub(crate) hash: u64,
    /// The length of the file.
    pub(crate) bytes: usize,
    pub(crate) on_device: bool,
}

/// What was collected of a model.
pub(crate) struct ModelRecord {
    pub(crate) key: Key,
    computes: Mutex<Times>,
    pub(crate) steps: Box<[StepRecord]>,
}

/// What was collected of a step.
pub(crate) struct StepRecord {
    /// Operator, node and opset, as in error messages.
    pub(crate) label: Box<str>,
    /// The step whose subgraph this one is in.
    pub(crate) parent: Option<usize>,
    tally: Mutex<Tally>,
}

#[derive(Default)]
struct Tally {
    times: Times,
    outputs: Outputs,
}

/// The outputs of a step.
#[derive(Clone, Default)]
pub(crate) struct Outputs {
    /// Bytes of the outputs of all runs.
    pub(crate) bytes: u64,
    /// The number of outputs of the last run.
    pub(crate) count: usize,
    /// The shapes of the first of them.
    pub(crate) shapes: Vec<Vec<usize>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ModelRecord {
    pub(crate) fn new(key: Key, outline: &Outline) -> Self {
        let step = |(label, parent): &(Box<str>, _)| StepRecord {
            label: label.clone(),
            parent: *parent,
            tally: Mutex::default(),
        };
        Self { key, computes: Mutex::default(), steps: outline.steps.iter().map(step).collect() }
    }

    /// Whether the record is of such a model.
    pub(crate) fn is_of(&self, key: Key, outline: &Outline) -> bool {
        let steps = self.steps.iter().map(|step| (&step.label, step.parent));
        self.key == key && steps.eq(outline.steps.iter().map(|(label, parent)| (label, *parent)))
    }

    pub(crate) fn computes(&self) -> Timing {
        lock(&self.computes).timing()
    }
}

impl StepRecord {
    /// Adds a run; `None` for the outputs of one that failed.
    fn add<T: Made>(&self, time: Duration, made: Option<&[T]>) {
        let mut tally = lock(&self.tally);
        tally.times.add(time, made.is_none());
        let Some(made) = made else { return };
        let outputs = &mut tally.outputs;
        let bytes = made.iter().fold(0, |sum: u64, made| sum.saturating_add(made.bytes() as u64));
        outputs.bytes = outputs.bytes.saturating_add(bytes);
        outputs.count = made.len();
        outputs.shapes.resize(made.len().min(SHAPES), Vec::new());
        for (shape, made) in outputs.shapes.iter_mut().zip(made) {
            shape.clear();
            shape.extend_from_slice(made.dims());
        }
    }

    pub(crate) fn read(&self) -> (Timing, Outputs) {
        let tally = lock(&self.tally);
        (tally.times.timing(), tally.outputs.clone())
    }
}

/// A loaded model's way to its record.
pub(crate) struct Probe {
    record: Arc<ModelRecord>,
    places: HashMap<usize, Vec<usize>>,
}

impl Probe {
    pub(crate) fn new(record: Arc<ModelRecord>, outline: Outline) -> Self {
        let mut places = outline.places;
        places.values_mut().for_each(Vec::shrink_to_fit);
        Self { record, places }
    }

    /// Runs a whole compute.
    pub(crate) fn compute<T>(&self, run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let start = Instant::now();
        let result = run();
        let time = start.elapsed();
        lock(&self.record.computes).add(time, result.is_err());
        result
    }

    /// What times the steps of the plan whose steps are at `address`.
    pub(crate) fn plan(&self, address: usize) -> PlanProbe<'_> {
        PlanProbe { record: &self.record, places: self.places.get(&address).map_or(&[], Vec::as_slice) }
    }
}

/// Times the steps of one plan.
pub(crate) struct PlanProbe<'a> {
    record: &'a ModelRecord,
    places: &'a [usize],
}

impl Watch for PlanProbe<'_> {
    #[cfg(feature = "candle")]
    const TIMES: bool = true;

    fn step<T: Made, R: AsRef<[T]>>(&self, index: usize, run: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
        let start = Instant::now();
        let result = run();
        let time = start.elapsed();
        if let Some(step) = self.places.get(index).and_then(|&place| self.record.steps.get(place)) {
            step.add(time, result.as_ref().ok().map(AsRef::as_ref));
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::value::MAX_RANK;

    #[test]
    fn a_step_takes_bounded_memory_whatever_runs() {
        let mut outline = Outline::new(1);
        outline.step(1, &"𝄞".repeat(140), None);
        let record = ModelRecord::new(Key { hash: 0, bytes: 0, on_device: false }, &outline);
        let many = vec![Value::new(vec![1; MAX_RANK], vec![1.0_f32]).unwrap(); 100];
        for time in [0, 1 << 20, u64::MAX].map(Duration::from_nanos) {
            record.steps[0].add(time, Some(&many));
        }
        record.steps[0].add::<Value>(Duration::ZERO, None);
        let (timing, outputs) = record.steps[0].read();
        assert_eq!((timing.runs, timing.failed, outputs.count), (4, 1, 100));
        assert_eq!((outputs.shapes.len(), outputs.bytes), (SHAPES, 3 * 100 * 4));
        let shapes = outputs.shapes.capacity() * size_of::<Vec<usize>>();
        let dims: usize = outputs.shapes.iter().map(|shape| shape.capacity() * size_of::<usize>()).sum();
        let times = lock(&record.steps[0].tally).times.bytes();
        let bytes = size_of::<StepRecord>() + record.steps[0].label.len() + shapes + dims + times;
        assert!(bytes <= STEP_BYTES, "{bytes}");
    }
}
