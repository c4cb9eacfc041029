//! A backend that does what the test says.

use std::sync::Arc;

use graphpool::GuestHandle;
use graphpool::backend::{Backend, BackendContext, BackendGraph, ComputeControl, LoadRequest};
use graphpool::nn::{
    Encoding, Engine, EngineBuilder, EngineLimits, Error, Guest, Target, TensorDescription, TensorView,
};

type Load = dyn Fn(&LoadRequest<'_>) -> Result<(), Error> + Send + Sync;
type Compute = dyn Fn(u8, &ComputeControl) -> Result<(), Error> + Send + Sync;

/// Whose models are one byte, with which its computes are called.
pub struct Scripted {
    load: Box<Load>,
    compute: Arc<Compute>,
}

impl Scripted {
    pub fn new(compute: impl Fn(u8) -> Result<(), Error> + Send + Sync + 'static) -> Self {
        Self::controlled(move |model, _| compute(model))
    }

    /// Whose computes see when they are to end.
    pub fn controlled(compute: impl Fn(u8, &ComputeControl) -> Result<(), Error> + Send + Sync + 'static) -> Self {
        Self { load: Box::new(|_| Ok(())), compute: Arc::new(compute) }
    }

    pub fn loading(mut self, load: impl Fn(&LoadRequest<'_>) -> Result<(), Error> + Send + Sync + 'static) -> Self {
        self.load = Box::new(load);
        self
    }

    pub fn engine(self, limits: EngineLimits) -> Engine {
        self.builder().with_engine_limits(limits).build()
    }

    pub fn builder(self) -> EngineBuilder {
        Engine::builder(self)
    }
}

/// Loads the model and opens a context of it.
pub fn context(guest: &Guest, model: u8) -> GuestHandle {
    let graph = guest.load(&[&[model]], Encoding::Onnx, Target::Cpu).unwrap();
    guest.init_execution_context(graph).unwrap()
}

impl Backend for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn supports(&self, _: Encoding, _: Target) -> bool {
        true
    }

    fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        (self.load)(request)?;
        Ok(Box::new(Graph { model: request.parts[0][0], compute: Arc::clone(&self.compute) }))
    }
}

#[derive(Clone)]
struct Graph {
    model: u8,
    compute: Arc<Compute>,
}

impl BackendGraph for Graph {
    fn inputs(&self) -> &[TensorDescription] {
        &[]
    }

    fn outputs(&self) -> &[TensorDescription] {
        &[]
    }

    fn init_context(&self) -> Result<Box<dyn BackendContext>, Error> {
        Ok(Box::new(self.clone()))
    }

    fn memory(&self) -> usize {
        1
    }
}

impl BackendContext for Graph {
    fn set_input(&mut self, _: usize, _: TensorView<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn clear_inputs(&mut self) {}

    fn compute(&mut self, control: &ComputeControl) -> Result<(), Error> {
        (self.compute)(self.model, control)
    }

    fn output(&self, _: usize) -> Result<TensorView<'_>, Error> {
        Err(Error::invalid_argument("none"))
    }
}
