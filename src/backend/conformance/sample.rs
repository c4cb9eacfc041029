//! What a backend is checked with: a model and its inputs.

use crate::backend::{
    Backend, BackendContext, BackendGraph, ComputeControl, Encoding, Error, LoadRequest, Target, Tensor,
};

/// A small model, and inputs that it takes.
#[derive(Debug, Clone)]
pub struct Sample {
    pub(super) model: Vec<u8>,
    pub(super) encoding: Encoding,
    pub(super) target: Target,
    pub(super) inputs: Vec<Tensor>,
    pub(super) outputs: Option<Vec<Tensor>>,
    pub(super) steps: bool,
    pub(super) config: Option<String>,
}

impl Sample {
    /// A model of one part, with one tensor for each of its inputs.
    #[must_use]
    pub fn new(model: Vec<u8>, encoding: Encoding, target: Target, inputs: Vec<Tensor>) -> Self {
        Self { model, encoding, target, inputs, outputs: None, steps: false, config: None }
    }

    /// The expected outputs, compared bit by bit. Without them the checks only require that the outputs never change.
    #[must_use]
    pub fn with_outputs(mut self, outputs: Vec<Tensor>) -> Self {
        self.outputs = Some(outputs);
        self
    }

    /// Requires that the backend makes the sample's outputs in [steps](BackendContext::step). Without this it may
    /// refuse them as unsupported, and is held to their rules only if it does not.
    #[must_use]
    pub fn with_steps(mut self) -> Self {
        self.steps = true;
        self
    }

    /// The [configuration](LoadRequest::config) that the model is loaded with: for a model whose outputs are random
    /// without one.
    #[must_use]
    pub fn with_config(mut self, config: impl Into<String>) -> Self {
        self.config = Some(config.into());
        self
    }

    pub(super) fn load(&self, backend: &dyn Backend) -> Result<Box<dyn BackendGraph>, String> {
        let parts: [&[u8]; 1] = [&self.model];
        let mut request = LoadRequest::new(&parts, self.encoding, self.target);
        request.config = self.config.as_deref();
        backend.load(&request).map_err(|error| error.to_string())
    }

    pub(super) fn open(&self, backend: &dyn Backend) -> Result<Box<dyn BackendContext>, String> {
        self.load(backend)?.init_context().map_err(|error| error.to_string())
    }

    pub(super) fn fill(&self, context: &mut dyn BackendContext) -> Result<(), String> {
        let set = |(index, input): (usize, &Tensor)| context.set_input(index, input.view());
        self.inputs.iter().enumerate().try_for_each(set).map_err(|error| error.to_string())
    }

    pub(super) fn infer(&self, context: &mut dyn BackendContext, outputs: usize) -> Result<Vec<Tensor>, String> {
        self.fill(context)?;
        context.compute(&ComputeControl::default()).map_err(|error| error.to_string())?;
        let read = |index| context.output(index).map(|view| view.to_owned());
        (0..outputs).map(read).collect::<Result<_, Error>>().map_err(|error| error.to_string())
    }

    /// The number of outputs: the expected ones, or those that every model of the backend has.
    pub(super) fn count(&self, graph: &dyn BackendGraph) -> usize {
        let certain = || graph.outputs().iter().filter(|output| !output.optional).count();
        self.outputs.as_ref().map_or_else(certain, Vec::len)
    }
}
