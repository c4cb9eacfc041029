//! A graph: a model that is loaded into as many contexts of the library as its execution contexts need.

use std::sync::Arc;

use graphpool::backend::{BackendContext, BackendGraph, Error, LoadRequest, TensorDescription};

use crate::context::DylibContext;
use crate::library::Library;
use crate::loaded::Loaded;
use crate::settings::DylibSettings;

/// A graph of a [`DylibBackend`](crate::DylibBackend).
pub(crate) struct DylibGraph(Arc<Loaded>);

impl DylibGraph {
    pub(crate) fn load(
        library: Arc<Library>,
        settings: &Arc<DylibSettings>,
        request: &LoadRequest<'_>,
    ) -> Result<Self, Error> {
        Loaded::load(library, settings, request).map(|loaded| Self(Arc::new(loaded)))
    }
}

impl BackendGraph for DylibGraph {
    fn inputs(&self) -> &[TensorDescription] {
        &self.0.settings.inputs
    }

    fn outputs(&self) -> &[TensorDescription] {
        &self.0.settings.outputs
    }

    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        Ok(Box::new(DylibContext::new(Arc::clone(&self.0))?))
    }

    fn memory(&self) -> usize {
        self.0.memory()
    }
}
