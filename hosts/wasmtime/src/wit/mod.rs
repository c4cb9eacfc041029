//! The component form: the interfaces of `wasi:nn@0.2.0-rc-2024-10-28`, world `ml`, for components that import them.
//!
//! ```
//! use graphpool::nn::{Encoding, Engine, ModelSource, Target};
//! use graphpool_candle::CandleBackend;
//! use graphpool_wasmtime::wit::{self, WasiNnCtx, WasiNnView};
//! use wasmtime::component::{Component, Linker, ResourceTable};
//!
//! struct Data {
//!     table: ResourceTable,
//!     nn: WasiNnCtx,
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let engine = wasmtime::Engine::default();
//! # let guest = r#"(component
//! #     (import "wasi:nn/errors@0.2.0-rc-2024-10-28" (instance $errors (export "error" (type (sub resource)))))
//! #     (alias export $errors "error" (type $error))
//! #     (import "wasi:nn/graph@0.2.0-rc-2024-10-28" (instance $graph
//! #         (alias outer 1 $error (type $outer))
//! #         (export "error" (type $error (eq $outer)))
//! #         (export "graph" (type $graph (sub resource)))
//! #         (export "load-by-name"
//! #             (func (param "name" string) (result (result (own $graph) (error (own $error))))))))
//! #     (core module $data (memory (export "memory") 1) (data (i32.const 0) "digits"))
//! #     (core instance $data (instantiate $data))
//! #     (alias core export $data "memory" (core memory $memory))
//! #     (core func $load (canon lower (func $graph "load-by-name") (memory $memory)))
//! #     (core module $code
//! #         (import "host" "load" (func $load (param i32 i32 i32)))
//! #         (import "host" "memory" (memory 1))
//! #         (func (export "load") (result i32)
//! #             (call $load (i32.const 0) (i32.const 6) (i32.const 8))
//! #             (i32.load8_u (i32.const 8))))
//! #     (core instance $code (instantiate $code (with "host" (instance
//! #         (export "load" (func $load)) (export "memory" (memory $memory))))))
//! #     (func (export "load") (result u32) (canon lift (core func $code "load"))))"#;
//! # let component = Component::new(&engine, guest)?;
//! let nn = Engine::new(CandleBackend::new());
//! let digits = ModelSource::path("../../examples/models/digits/digits.onnx");
//! nn.register_model("digits", digits, Encoding::Onnx, Target::Cpu)?;
//! let mut linker = Linker::new(&engine);
//! wit::add_to_linker(&mut linker, |data: &mut Data| WasiNnView::new(&mut data.table, &mut data.nn))?;
//!
//! // Two stores load the model: one is in memory.
//! for _ in 0..2 {
//!     let data = Data { table: ResourceTable::new(), nn: WasiNnCtx::new(nn.guest()) };
//!     let mut store = wasmtime::Store::new(&engine, data);
//!     let instance = linker.instantiate(&mut store, &component)?;
//!     assert_eq!(instance.get_typed_func::<(), (u32,)>(&mut store, "load")?.call(&mut store, ())?, (0,));
//! }
//! assert_eq!(nn.stats().builds, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//!
//! What is wrong with a call is an `error` resource: its code is
//! [`ErrorKind::code`](graphpool::backend::ErrorKind::code) of the engine's error, its data the message. `busy` has no
//! code: it is a `runtime-error` whose message says what is in use. A compute past its time is a `timeout`. The
//! constructor of a tensor cannot report an error: a tensor that exceeds a limit is empty, and `compute` reports the
//! limit. Lengths of data are checked by `compute`, too.
//!
//! A call traps only where the canonical ABI does: for a handle that the guest does not own, a number that is no case
//! of its enum, a list outside the memory.
//!
//! # Memory
//!
//! Tensors and errors lie in the store's [`ResourceTable`](wasmtime::component::ResourceTable); graphs and contexts
//! take no entry. Dimensions and data count against [`max_context_bytes`](graphpool::nn::Limits::max_context_bytes) of
//! the guest and of the engine until the tensor is dropped or its compute has ended. The number of entries is bounded
//! by the table ([`set_max_capacity`](wasmtime::component::ResourceTable::set_max_capacity)), and the number of handles
//! by [`Store::set_max_component_handles`](wasmtime::Store::set_max_component_handles), 100,000 by default, past which
//! Wasmtime traps. A full table is reported as `too-large`; an error that finds it full keeps its code and loses its
//! message.
//!
//! A tensor is copied twice on its way in, when it is made and when it is set, and once on its way out, or twice if the
//! backend does not give its outputs away. A blocking `load` copies nothing; an asynchronous one copies the parts once.
//!
//! Wasmtime bounds the bytes that one call may pass to the host, and traps past the bound: 128 MiB, unless the host
//! sets another by [`Store::set_hostcall_fuel`](wasmtime::Store::set_hostcall_fuel). A host whose guests load larger
//! models from bytes sets the size of the largest and a few KiB. The engine's limits apply in any case.
//!
//! # Names
//!
//! An input has the name that the model gives it. A name that no input has, and that is a decimal number, is the index
//! of an input. `compute` uses exactly the inputs of its call, and returns every output in the model's order.
//!
//! # Time
//!
//! With [`add_to_linker`], a load builds the model and `compute` computes on the thread that runs the guest. Epochs and
//! fuel end a guest when it is back in its own code: to end a compute before, set
//! [`max_compute_time`](graphpool::nn::Limits::max_compute_time), or cancel it by a clone of the guest from another
//! thread ([`cancel_all`](graphpool::nn::Guest::cancel_all)). With `add_to_linker_async`, both wait without blocking
//! the thread, and are cancelled when the future of the call into the component is dropped.

mod bindings;
mod errors;
mod graph;
mod inference;
mod tensor;
mod view;

use wasmtime::component::Linker;

pub use crate::WasiNnCtx;
pub use view::WasiNnView;

/// Adds the interfaces of the world `ml` to the linker. `f` borrows the table and the state from the store's data.
///
/// # Errors
///
/// If the linker has one of the interfaces already.
pub fn add_to_linker<T: 'static>(linker: &mut Linker<T>, f: fn(&mut T) -> WasiNnView<'_>) -> wasmtime::Result<()> {
    link(linker, f)?;
    graph::link_sync(linker, f)?;
    inference::link_sync(linker, f)
}

/// As [`add_to_linker`], for stores whose functions are called asynchronously: a load and a compute do not block the
/// executor's thread, and are cancelled when the future of the call into the component is dropped. It works with any
/// executor.
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
