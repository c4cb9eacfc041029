//! The interface `graph`: models from bytes and by name, and their contexts.
//!
//! The resources of graphs and contexts are the numbers of the guest's handles: the engine checks each as it does for
//! core modules, and no table has to have room for them.

use std::borrow::Cow;

use graphpool::GuestHandle;
use graphpool::nn::{self, Encoding, Guest, Target};
#[cfg(feature = "async")]
use tracing::Instrument as _;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType, WasmList};

use crate::limits::{MAX_PARTS, at_most};
use crate::span;
use crate::wit::bindings::{ExecutionTarget, GraphEncoding};
use crate::wit::errors::Error;
use crate::wit::inference::GraphExecutionContext;
use crate::wit::view::{Get, WasiNnView};

const INTERFACE: &str = "wasi:nn/graph@0.2.0-rc-2024-10-28";

/// The resource `graph`.
#[derive(Debug)]
pub struct Graph {}

type Loaded = Result<Resource<Graph>, Resource<Error>>;
type LoadArguments = (WasmList<WasmList<u8>>, GraphEncoding, ExecutionTarget);

fn encoding_of_engine(encoding: GraphEncoding) -> Encoding {
    match encoding {
        GraphEncoding::Openvino => Encoding::OpenVino,
        GraphEncoding::Onnx => Encoding::Onnx,
        GraphEncoding::Tensorflow => Encoding::TensorFlow,
        GraphEncoding::Pytorch => Encoding::PyTorch,
        GraphEncoding::Tensorflowlite => Encoding::TensorFlowLite,
        GraphEncoding::Ggml => Encoding::Ggml,
        GraphEncoding::Autodetect => Encoding::Autodetect,
    }
}

fn target_of_engine(target: ExecutionTarget) -> Target {
    match target {
        ExecutionTarget::Cpu => Target::Cpu,
        ExecutionTarget::Gpu => Target::Gpu,
        ExecutionTarget::Tpu => Target::Tpu,
    }
}

impl WasiNnView<'_> {
    fn loaded(&mut self, loaded: Result<GuestHandle, nn::Error>) -> Loaded {
        loaded.map(|graph| Resource::new_own(graph.to_bits())).map_err(|error| self.error(error))
    }

    fn init_execution_context(
        &mut self,
        graph: &Resource<Graph>,
    ) -> Result<Resource<GraphExecutionContext>, Resource<Error>> {
        let context = self.ctx.guest().init_execution_context(GuestHandle::from_bits(graph.rep()));
        context.map(|context| Resource::new_own(context.to_bits())).map_err(|error| self.error(error))
    }

    fn drop_graph(&self, number: u32) {
        // Refused only if the host has closed the guest, which released the graph.
        let _ = self.ctx.guest().unload(GuestHandle::from_bits(number));
    }
}

/// A model in the guest's memory, within the guest's limits.
struct Model {
    guest: Guest,
    parts: Vec<WasmList<u8>>,
    encoding: Encoding,
    target: Target,
}

impl Model {
    /// The inner error is the guest's.
    fn read<T: 'static>(
        store: &mut StoreContextMut<'_, T>,
        get: Get<T>,
        (parts, encoding, target): LoadArguments,
    ) -> wasmtime::Result<Result<Self, nn::Error>> {
        let (encoding, target) = (encoding_of_engine(encoding), target_of_engine(target));
        let ctx = get(store.data_mut()).ctx;
        let (guest, target) = (ctx.guest().clone(), ctx.target(encoding, target));
        let checked = at_most(MAX_PARTS, parts.len(), "the model", "parts");
        if let Err(error) = checked {
            return Ok(Err(guest.refuse("load", error)));
        }
        let parts = parts.iter(store)?.collect::<wasmtime::Result<Vec<_>>>()?;
        let total = parts.iter().map(WasmList::len).sum();
        if let Err(error) = at_most(guest.limits().max_graph_bytes(), total, "the model", "bytes") {
            return Ok(Err(guest.refuse("load", error)));
        }
        Ok(Ok(Self { guest, parts, encoding, target }))
    }

    fn parts<'a, T: 'static>(&self, store: &'a StoreContextMut<'_, T>) -> impl Iterator<Item = &'a [u8]> {
        self.parts.iter().map(move |part| part.as_le_slice(store))
    }
}

/// The functions that do not depend on how loads wait.
pub(super) fn link<T: 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    let mut graphs = linker.instance(INTERFACE)?;
    graphs.resource("graph", ResourceType::host::<Graph>(), move |mut store, number| {
        get(store.data_mut()).drop_graph(number);
        Ok(())
    })?;
    graphs.func_wrap("[method]graph.init-execution-context", move |mut store, (graph,): (Resource<Graph>,)| {
        let _span = span::call("init-execution-context").entered();
        Ok((get(store.data_mut()).init_execution_context(&graph),))
    })
}

pub(super) fn link_sync<T: 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    let mut graphs = linker.instance(INTERFACE)?;
    graphs.func_wrap("load", move |mut store, arguments: LoadArguments| {
        let _span = span::call("load").entered();
        let loaded = Model::read(&mut store, get, arguments)?.and_then(|model| {
            // Without a copy: the guest does not run meanwhile.
            let parts: Vec<&[u8]> = model.parts(&store).collect();
            model.guest.load(&parts, model.encoding, model.target)
        });
        Ok((get(store.data_mut()).loaded(loaded),))
    })?;
    graphs.func_wrap("load-by-name", move |mut store, (name,): (String,)| {
        let _span = span::call("load-by-name").entered();
        let mut view = get(store.data_mut());
        let loaded = view.ctx.guest().load_by_name(&name);
        Ok((view.loaded(loaded),))
    })
}

/// The store's data is borrowed before and after the wait only. The drop of the future cancels the load.
#[cfg(feature = "async")]
pub(super) fn link_async<T: Send + 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    let mut graphs = linker.instance(INTERFACE)?;
    graphs.func_wrap_async("load", move |mut store, arguments: LoadArguments| {
        Box::new(async move {
            let loaded = match Model::read(&mut store, get, arguments)? {
                Ok(model) => {
                    let parts = model.parts(&store).map(Cow::Borrowed);
                    model.guest.load_async(parts, model.encoding, model.target).instrument(span::call("load")).await
                }
                Err(error) => Err(error),
            };
            Ok((get(store.data_mut()).loaded(loaded),))
        })
    })?;
    graphs.func_wrap_async("load-by-name", move |mut store, (name,): (String,)| {
        Box::new(async move {
            let load = get(store.data_mut()).ctx.guest().load_by_name_async(&name);
            let loaded = load.instrument(span::call("load-by-name")).await;
            Ok((get(store.data_mut()).loaded(loaded),))
        })
    })
}
