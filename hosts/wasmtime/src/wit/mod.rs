//! The component form: `wasi:nn@0.2.0-rc-2024-10-28`, world `ml`.

mod errors;
mod graph;
mod inference;
mod tensor;
mod view;

use wasmtime::component::Linker;

pub use crate::WasiNnCtx;
pub use view::WasiNnView;

/// The types of the interfaces.
pub(crate) mod bindings {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "ml",
        with: {
            "wasi:nn/tensor.tensor": crate::wit::tensor::Tensor,
            "wasi:nn/errors.error": crate::wit::errors::Error,
            "wasi:nn/graph.graph": crate::wit::graph::Graph,
            "wasi:nn/inference.graph-execution-context": crate::wit::inference::GraphExecutionContext,
        },
    });
}

/// Adds the interfaces of the world `ml` to a linker, for stores whose functions are called synchronously.
///
/// # Errors
///
/// If the linker has one of the interfaces already.
pub fn add_to_linker<T: 'static>(linker: &mut Linker<T>, f: fn(&mut T) -> WasiNnView<'_>) -> wasmtime::Result<()> {
    link(linker, f)?;
    graph::link_sync(linker, f)?;
    inference::link_sync(linker, f)
}

/// [`add_to_linker`] for stores whose functions are called asynchronously: a load or compute does not block the thread
/// that polls, and is cancelled when the call's future is dropped.
///
/// # Errors
///
/// If the linker has one of the interfaces already.
#[cfg(feature = "async")]
pub fn add_to_linker_async<T: Send + 'static>(
    linker: &mut Linker<T>,
    f: fn(&mut T) -> WasiNnView<'_>,
) -> wasmtime::Result<()> {
    link(linker, f)?;
    graph::link_async(linker, f)?;
    inference::link_async(linker, f)
}

fn link<T: 'static>(linker: &mut Linker<T>, f: fn(&mut T) -> WasiNnView<'_>) -> wasmtime::Result<()> {
    tensor::link(linker, f)?;
    errors::link(linker, f)?;
    graph::link(linker, f)?;
    inference::link(linker, f)
}
