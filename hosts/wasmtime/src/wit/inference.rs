//! The interface `inference`: a compute with named inputs and outputs.

use std::collections::HashSet;

use graphpool::GuestHandle;
use graphpool::nn::{self, Guest, TensorDescription, TensorId, TensorView};
#[cfg(feature = "async")]
use tracing::Instrument as _;
use wasmtime::component::{Linker, Resource, ResourceTableError, ResourceType};

use crate::span;
use crate::wit::errors::Error;
use crate::wit::tensor::{Content, Tensor};
use crate::wit::view::{Get, WasiNnView};

const INTERFACE: &str = "wasi:nn/inference@0.2.0-rc-2024-10-28";

/// The resource `graph-execution-context`.
#[derive(Debug)]
pub struct GraphExecutionContext {}

/// The call's name in messages and events.
const CALL: &str = "compute";

type NamedTensor = (String, Resource<Tensor>);
type Computed = Result<Vec<NamedTensor>, Resource<Error>>;
type Arguments = (Resource<GraphExecutionContext>, Vec<NamedTensor>);

/// The inputs of a compute, out of the table.
struct Inputs(Vec<(String, nn::TensorType, Content)>);

/// The number of inputs whose names are looked for one by one.
const SEARCHES: usize = 16;

impl Inputs {
    /// Each input as the engine takes it, for a graph with these inputs. A name that none of them has, and that is a
    /// number, is the input's index: guests that were written for other hosts use both.
    fn views(&self, graph: &[TensorDescription]) -> Result<Vec<(TensorId<'_>, TensorView<'_>)>, nn::Error> {
        let (given, count) = (self.0.len(), graph.len());
        if given > count {
            // Before each is looked up: a guest may give as many as it has handles.
            return Err(nn::Error::invalid_argument(format!("{given} inputs are given; the graph has {count}")));
        }
        // For many, so that not each is compared with every name.
        let names: Option<HashSet<&str>> =
            (given > SEARCHES).then(|| graph.iter().map(|input| input.name.as_str()).collect());
        let is_name = |name: &str| match &names {
            Some(names) => names.contains(name),
            None => graph.iter().any(|input| input.name == name),
        };
        let mut views = Vec::with_capacity(given);
        for (position, (name, ty, content)) in self.0.iter().enumerate() {
            let view = TensorView::new(&content.dimensions, *ty, &content.data)
                .map_err(|error| nn::Error::new(error.kind(), format!("tensor {position}: {}", error.message())))?;
            let id = match name.parse() {
                Ok(index) if !is_name(name) => TensorId::Index(index),
                _ => TensorId::Name(name),
            };
            views.push((id, view));
        }
        Ok(views)
    }
}

impl WasiNnView<'_> {
    fn take_inputs(&mut self, inputs: Vec<NamedTensor>) -> Result<Result<Inputs, nn::Error>, ResourceTableError> {
        let mut taken = Vec::new();
        let mut refused = None;
        for (name, tensor) in inputs {
            match self.take_tensor(tensor)? {
                Ok((ty, content)) => taken.push((name, ty, content)),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Ok(refused.map_or(Ok(Inputs(taken)), Err))
    }

    /// Takes the inputs out of the table, and gives them to `infer`: a compute consumes them, however it ends.
    fn with_inputs<R>(
        &mut self,
        context: GuestHandle,
        inputs: Vec<NamedTensor>,
        infer: impl FnOnce(&Guest, &[(TensorId<'_>, TensorView<'_>)]) -> R,
    ) -> Result<Result<R, nn::Error>, ResourceTableError> {
        let inputs = self.take_inputs(inputs)?;
        let guest = self.ctx.guest();
        // The engine has reported this error, and reports those of `infer`.
        let graph = match guest.inputs(context) {
            Ok(graph) => graph,
            Err(error) => return Ok(Err(error)),
        };
        let inferred = inputs.and_then(|inputs| Ok(infer(guest, &inputs.views(&graph)?)));
        Ok(inferred.map_err(|error| guest.refuse(CALL, error)))
    }

    fn compute(&mut self, context: GuestHandle, inputs: Vec<NamedTensor>) -> Result<Computed, ResourceTableError> {
        let computed =
            self.with_inputs(context, inputs, |guest, inputs| guest.infer(context, inputs.iter().copied()))?;
        Ok(self.computed(context, computed.flatten()))
    }

    /// Starts a compute. The engine has copied the inputs when this returns, and their tensors are gone.
    #[cfg(feature = "async")]
    fn start(
        &mut self,
        context: GuestHandle,
        inputs: Vec<NamedTensor>,
    ) -> Result<Result<nn::Compute<Vec<nn::Tensor>>, nn::Error>, ResourceTableError> {
        self.with_inputs(context, inputs, |guest, inputs| guest.infer_async(context, inputs.iter().copied()))
    }

    /// Puts the outputs into the table: all, or none and the error.
    fn computed(&mut self, context: GuestHandle, outputs: Result<Vec<nn::Tensor>, nn::Error>) -> Computed {
        outputs.and_then(|outputs| self.add_outputs(context, outputs)).map_err(|error| self.error(error))
    }

    fn add_outputs(&mut self, context: GuestHandle, outputs: Vec<nn::Tensor>) -> Result<Vec<NamedTensor>, nn::Error> {
        let descriptions = self.ctx.guest().outputs(context)?;
        let mut added = Vec::with_capacity(outputs.len());
        for (description, output) in descriptions.iter().zip(outputs) {
            match self.add_output(output) {
                Ok(output) => added.push((description.name.clone(), output)),
                Err(error) => {
                    for (_, output) in added {
                        self.discard(output);
                    }
                    return Err(self.ctx.guest().refuse(CALL, error));
                }
            }
        }
        Ok(added)
    }

    fn drop_context(&self, number: u32) {
        // Refused only if the host has closed the guest, which released the context.
        let _ = self.ctx.guest().drop_context(GuestHandle::from_bits(number));
    }
}

/// The functions that do not depend on how computes wait.
pub(super) fn link<T: 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    let context = ResourceType::host::<GraphExecutionContext>();
    linker.instance(INTERFACE)?.resource("graph-execution-context", context, move |mut store, number| {
        get(store.data_mut()).drop_context(number);
        Ok(())
    })
}

pub(super) fn link_sync<T: 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    linker.instance(INTERFACE)?.func_wrap(COMPUTE, move |mut store, (context, inputs): Arguments| {
        let _span = span::call("compute").entered();
        Ok((get(store.data_mut()).compute(GuestHandle::from_bits(context.rep()), inputs)?,))
    })
}

const COMPUTE: &str = "[method]graph-execution-context.compute";

/// The store's data is borrowed before and after the wait only. The drop of the future cancels the compute.
#[cfg(feature = "async")]
pub(super) fn link_async<T: Send + 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    linker.instance(INTERFACE)?.func_wrap_async(COMPUTE, move |mut store, (context, inputs): Arguments| {
        Box::new(async move {
            let context = GuestHandle::from_bits(context.rep());
            let computed = match get(store.data_mut()).start(context, inputs)? {
                Ok(compute) => compute.instrument(span::call("compute")).await,
                Err(error) => Err(error),
            };
            Ok((get(store.data_mut()).computed(context, computed),))
        })
    })
}
