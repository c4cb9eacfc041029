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
        let registered = self.get_or_register(model);
        if Arc::ptr_eq(&registered, model) { Ok(()) } else { Err(name_taken(model.name())) }
    }

    /// Adds the model's name, unless it is taken. Returns the model that has the name.
    pub(crate) fn get_or_register(&self, model: &Arc<NamedModel>) -> Arc<NamedModel> {
        let mut other = None;
        self.models.rcu(|models| {
            other = models.get(model.name()).cloned();
            let with = models.with(model.name(), Arc::clone(model));
            with.map_or_else(|| Arc::clone(models), Arc::new)
        });
        other.unwrap_or_else(|| Arc::clone(model))
    }

    /// Removes a name, if it is there, and returns its model. A concurrent reload then publishes no further version of
    /// the model.
    pub(crate) fn remove(&self, name: &str) -> Result<Arc<NamedModel>, ModelError> {
        self.remove_if(name, |_| true).ok_or_else(|| no_model(name))
    }

    /// Removes the name of this model, unless another model has the name by now.
    pub(crate) fn remove_model(&self, model: &Arc<NamedModel>) {
        self.remove_if(model.name(), |registered| Arc::ptr_eq(registered, model));
    }

    fn remove_if(&self, name: &str, condition: impl Fn(&Arc<NamedModel>) -> bool) -> Option<Arc<NamedModel>> {
        let mut removed = None;
        self.models.rcu(|models| {
            let (without, model) = models.without(name).filter(|(_, model)| condition(model)).unzip();
            removed = model;
            without.map_or_else(|| Arc::clone(models), Arc::new)
        });
        removed.inspect(|model| model.retire())
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
        self.find(name).ok_or_else(|| no_model(name))
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<NamedModel>> {
        // The snapshot is dropped at once, because a build may take minutes.
        self.models.load().get(name).cloned()
    }
}

/// The error for a name that the guest may not load; identical to that for a name that does not exist.
pub(crate) fn no_model(name: &str) -> ModelError {
    ModelError::NotFound { name: name.to_owned() }
}

pub(crate) fn name_taken(name: &str) -> ModelError {
    ModelError::NameTaken { name: name.to_owned() }
}
