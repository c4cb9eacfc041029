//! The collector that a host gives to backends.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::profile::record::{Key, ModelRecord, Outline, Probe};
use crate::profile::report::{ModelProfile, ProfileReport};

/// Collects how long each step of the ONNX models of a backend takes, and how many bytes it writes.
///
/// Clones are the same collector. `CandleBackend::with_profile` gives one to a backend; it collects from each model
/// that is loaded afterwards, and keeps what it has when the model is gone. Loads of equal files are recorded as one
/// model. Language models have no steps, and are not recorded.
///
/// # What is timed
///
/// A compute is timed as a whole, with the conversion of its outputs, and so is each of its steps. What a compute takes
/// beyond its steps is the time between them: checks of the deadline, and copies of handles to tensors. A step that
/// runs a graph of its own (If, Loop, Scan) includes the time of that graph's steps, which are recorded too. A step
/// that was fused with others has the name of the first one. On a device, each step is waited for, which a compute
/// without a profile does not do.
///
/// A step that fails is a run that failed, and its time counts; its outputs don't. A panic is not recorded.
///
/// # Cost
///
/// A backend without a collector pays one comparison for each compute and each run of a subgraph. With one, a step
/// takes two readings of the clock and a lock of its own, which another thread holds only while it adds a run.
///
/// Guests choose models, so memory is bounded: at most 3 KiB for each step, and [`max_steps`](Self::with_max_steps)
/// steps in all models together. A model that has no room is run without being recorded, and counted. A model that is
/// gone and has never computed makes room.
#[derive(Debug, Clone)]
pub struct Profile {
    shared: Arc<Shared>,
}

/// What clones share.
struct Shared {
    max_steps: usize,
    /// Keys the hashes of files, so that nobody can make two files with one hash.
    hasher: RandomState,
    collected: Mutex<Collected>,
}

#[derive(Default)]
struct Collected {
    models: Vec<Arc<ModelRecord>>,
    /// Loads of models for which there was no room.
    left_out: u64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("max_steps", &self.max_steps).finish_non_exhaustive()
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::new()
    }
}

impl Profile {
    /// The default of [`with_max_steps`](Self::with_max_steps): 48 MiB at most.
    pub const MAX_STEPS: usize = 1 << 14;

    /// An empty collector for [`MAX_STEPS`](Self::MAX_STEPS) steps.
    #[must_use]
    pub fn new() -> Self {
        Self::with_max_steps(Self::MAX_STEPS)
    }

    /// An empty collector for at most `max_steps` steps, of all models together. A model counts as one step more than
    /// it has.
    #[must_use]
    pub fn with_max_steps(max_steps: usize) -> Self {
        let (hasher, collected) = (RandomState::new(), Mutex::default());
        Self { shared: Arc::new(Shared { max_steps, hasher, collected }) }
    }

    /// A copy of what was collected so far. Models are in the order of their first loads.
    ///
    /// Computes go on meanwhile, so the numbers of one step may be newer than those of another one.
    #[must_use]
    pub fn report(&self) -> ProfileReport {
        let (models, left_out) = {
            let collected = self.lock();
            (collected.models.clone(), collected.left_out)
        };
        ProfileReport { models: models.iter().map(|model| ModelProfile::of(model)).collect(), left_out }
    }

    /// An outline for the steps of a model.
    pub(crate) fn outline(&self) -> Outline {
        Outline::new(self.shared.max_steps)
    }

    /// A probe for a model of these bytes and steps, or `None` if there is no room.
    pub(crate) fn probe(&self, file: &[u8], on_device: bool, outline: Outline) -> Option<Probe> {
        let key = Key { hash: self.shared.hasher.hash_one(file), bytes: file.len(), on_device };
        let mut collected = self.lock();
        if let Some(record) = collected.models.iter().find(|record| record.is_of(key, &outline)) {
            return Some(Probe::new(Arc::clone(record), outline));
        }
        let fits = |collected: &Collected| {
            let used: usize = collected.models.iter().map(|model| model.steps.len() + 1).sum();
            outline.steps().is_some_and(|steps| steps < self.shared.max_steps.saturating_sub(used))
        };
        if !fits(&collected) {
            collected.models.retain(|model| Arc::strong_count(model) > 1 || model.computes().runs > 0);
        }
        if !fits(&collected) {
            collected.left_out = collected.left_out.saturating_add(1);
            return None;
        }
        let record = Arc::new(ModelRecord::new(key, &outline));
        collected.models.push(Arc::clone(&record));
        Some(Probe::new(record, outline))
    }

    fn lock(&self) -> MutexGuard<'_, Collected> {
        self.shared.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
