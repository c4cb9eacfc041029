//! The registry of an engine's named models: a snapshot of a map, read without a lock.

use crate::nn::ModelError;
use crate::nn::graphs::model::NamedModel;
use crate::nn::graphs::name_map::NameMap;
use crate::sync::{Arc, ArcSwap};

/// The named models of an engine.
#[derive(Default)]
pub(crate) struct Registry {
    models: ArcSwap<NameMap<Arc<NamedModel>>>,
}

impl Registry {
    /// Adds a name, unless it is taken.
    pub(crate) fn register(&self, model: &Arc<NamedModel>) -> Result<(), ModelError> {
        let mut taken = false;
        self.models.rcu(|models| {
            let with = models.with(model.name(), Arc::clone(model));
            taken = with.is_none();
            with.map_or_else(|| Arc::clone(models), Arc::new)
        });
        if taken { Err(name_taken(model.name())) } else { Ok(()) }
    }

    /// Removes a name, if it is there. A concurrent reload then publishes no further version of the model.
    pub(crate) fn remove(&self, name: &str) -> Result<(), ModelError> {
        let mut removed = None;
        self.models.rcu(|models| {
            let (without, model) = models.without(name).unzip();
            removed = model;
            without.map_or_else(|| Arc::clone(models), Arc::new)
        });
        removed.map(|model| model.retire()).ok_or_else(|| no_model(name))
    }

    pub(crate) fn clear(&self) {
        self.models.store(Arc::default());
    }

    pub(crate) fn len(&self) -> usize {
        self.models.load().len()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.models.load().get(name).is_some()
    }

    /// Every model, in the order of their names.
    pub(crate) fn all(&self) -> Vec<Arc<NamedModel>> {
        self.models.load().values()
    }

    pub(crate) fn get(&self, name: &str) -> Result<Arc<NamedModel>, ModelError> {
        // The snapshot is dropped at once, because a build may take minutes.
        self.models.load().get(name).cloned().ok_or_else(|| no_model(name))
    }
}

/// The error for a name that the guest may not load; identical to that for a name that does not exist.
pub(crate) fn no_model(name: &str) -> ModelError {
    ModelError::NotFound { name: name.to_owned() }
}

pub(crate) fn name_taken(name: &str) -> ModelError {
    ModelError::NameTaken { name: name.to_owned() }
}
