//! The interface `graph`: models from bytes and by name, and their contexts.
//!
//! The resources of graphs and contexts are the numbers of the guest's handles: the engine checks each as it does for
//! core modules, and no table has to have room for them.

use graphpool::GuestHandle;
use graphpool::nn::{self, Encoding, Target};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType, WasmList};

use crate::wit::bindings::wasi::nn::graph::{ExecutionTarget, GraphEncoding};
use crate::wit::errors::Error;
use crate::wit::inference::GraphExecutionContext;
use crate::wit::view::{Get, WasiNnView};

pub(super) const INTERFACE: &str = "wasi:nn/graph@0.2.0-rc-2024-10-28";

/// The resource `graph`.
#[derive(Debug)]
pub struct Graph {}

type Loaded = Result<Resource<Graph>, Resource<Error>>;
type LoadArguments = (WasmList<WasmList<u8>>, GraphEncoding, ExecutionTarget);

fn encoding(encoding: GraphEncoding) -> Encoding {
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

fn target(target: ExecutionTarget) -> Target {
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

    fn load_by_name(&mut self, name: &str) -> Loaded {
        let loaded = self.ctx.guest().load_by_name(name);
        self.loaded(loaded)
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

/// Loads from the guest's memory, without a copy: the guest does not run meanwhile.
fn load<T: 'static>(
    mut store: StoreContextMut<'_, T>,
    get: Get<T>,
    (parts, of, on): LoadArguments,
) -> wasmtime::Result<Loaded> {
    let parts = parts.iter(&mut store)?.collect::<wasmtime::Result<Vec<_>>>()?;
    let guest = get(store.data_mut()).ctx.guest().clone();
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_le_slice(&store)).collect();
    let loaded = guest.load(&parts, encoding(of), target(on));
    Ok(get(store.data_mut()).loaded(loaded))
}

/// The functions that do not depend on how loads wait.
pub(super) fn link<T: 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    let mut graphs = linker.instance(INTERFACE)?;
    graphs.resource("graph", ResourceType::host::<Graph>(), move |mut store, number| {
        get(store.data_mut()).drop_graph(number);
        Ok(())
    })?;
    graphs.func_wrap("[method]graph.init-execution-context", move |mut store, (graph,): (Resource<Graph>,)| {
        Ok((get(store.data_mut()).init_execution_context(&graph),))
    })
}

pub(super) fn link_sync<T: 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    let mut graphs = linker.instance(INTERFACE)?;
    graphs.func_wrap("load", move |store, arguments| Ok((load(store, get, arguments)?,)))?;
    graphs.func_wrap("load-by-name", move |mut store, (name,): (String,)| {
        Ok((get(store.data_mut()).load_by_name(&name),))
    })
}

#[cfg(feature = "async")]
pub(super) fn link_async<T: Send + 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    let mut graphs = linker.instance(INTERFACE)?;
    graphs.func_wrap_async("load", move |store, arguments| {
        Box::new(async move { Ok((load(store, get, arguments)?,)) })
    })?;
    graphs.func_wrap_async("load-by-name", move |mut store, (name,): (String,)| {
        Box::new(async move { Ok((get(store.data_mut()).load_by_name(&name),)) })
    })
}
