//! The core-module form: the functions of `wasi_ephemeral_nn`, for modules that import them.
//!
//! | function | parameters, each an `i32` |
//! | --- | --- |
//! | `load` | address and number of the parts, encoding, target, address for the graph |
//! | `load_by_name` | address and length of the name, address for the graph |
//! | `load_by_name_with_config` | address and length of the name and of the configuration, address for the graph |
//! | `init_execution_context` | graph, address for the context |
//! | `set_input` | context, index, address of the tensor |
//! | `compute` | context |
//! | `get_output` | context, index, address and length of the buffer, address for the size |
//! | `unload` | graph |
//! | `finalize_execution_context` | context |
//!
//! Each returns an `i32`: 0, or the [errno](graphpool::backend::ErrorKind::errno) of what was wrong. No argument traps
//! or panics. A refusal is an event of the engine's and counts in its statistics, because core modules cannot be given
//! the reason. `WasmEdge`'s `compute_single`, `get_output_single` and `fini_single` are not among them: the engine has
//! no backend that computes in pieces.
//!
//! # Memory
//!
//! The calls use the memory that the calling instance exports as `memory`, or that the host names by
//! [`WasiNnCtx::with_memory`]. An instance without one gets `missing_memory`, also for a 64-bit memory. Pointers need
//! no alignment. Lengths are compared with the guest's [limits](graphpool::nn::Limits) before anything is copied, and
//! the place of a result is checked before the work.
//!
//! A shared memory may be written to by other threads of the guest during a call: its bytes are copied once, and the
//! copy is checked and used.
//!
//! # Time
//!
//! With [`add_to_linker`], a load builds the model and `compute` computes on the thread that runs the guest. Epochs and
//! fuel end a guest when it is back in its own code. To end a compute before, set
//! [`max_compute_time`](graphpool::nn::Limits::max_compute_time), or call
//! [`cancel_all`](graphpool::nn::Guest::cancel_all) on a clone of the guest from another thread. With
//! `add_to_linker_async`, both wait without blocking the thread, and the drop of the call's future cancels them.

#[cfg(feature = "async")]
mod asynchronous;
mod calls;
mod memory;

#[cfg(feature = "async")]
pub use self::asynchronous::add_to_linker_async;

use graphpool::GuestHandle;
use graphpool::nn::Error;
use wasmtime::{Caller, Linker};

use self::memory::{Bytes, Linear};
use crate::{WasiNnCtx, span};

const MODULE: &str = "wasi_ephemeral_nn";

/// Adds the functions of `wasi_ephemeral_nn` to the linker. `ctx` finds the state in the store's data.
///
/// # Errors
///
/// If the linker has one of them already.
pub fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    ctx: impl Fn(&mut T) -> &mut WasiNnCtx + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    add_short_calls(linker, ctx)?;
    linker.func_wrap(
        MODULE,
        "load",
        move |mut caller: Caller<'_, T>, parts: u32, count: u32, encoding: u32, target: u32, graph: u32| {
            with_memory(&mut caller, ctx, "load", |ctx, bytes| {
                calls::load(ctx, bytes, (parts, count), (encoding, target), graph)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "load_by_name",
        move |mut caller: Caller<'_, T>, name: u32, length: u32, graph: u32| {
            with_memory(&mut caller, ctx, "load_by_name", |ctx, bytes| {
                calls::load_by_name(ctx.guest(), bytes, (name, length), graph)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "load_by_name_with_config",
        move |mut caller: Caller<'_, T>, name: u32, length: u32, config: u32, config_length: u32, graph: u32| {
            with_memory(&mut caller, ctx, "load_by_name_with_config", |ctx, bytes| {
                calls::load_by_name_with_config(ctx.guest(), bytes, (name, length), (config, config_length), graph)
            })
        },
    )?;
    linker.func_wrap(MODULE, "compute", move |mut caller: Caller<'_, T>, context: u32| {
        let _span = span::call("compute").entered();
        let ctx = ctx(caller.data_mut());
        ctx.errno(ctx.guest().compute(GuestHandle::from_bits(context)))
    })?;
    Ok(())
}

/// The calls that wait for nothing, and are the same in both forms of the linker.
fn add_short_calls<T: 'static>(
    linker: &mut Linker<T>,
    ctx: impl Fn(&mut T) -> &mut WasiNnCtx + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "init_execution_context",
        move |mut caller: Caller<'_, T>, graph: u32, context: u32| {
            with_memory(&mut caller, ctx, "init_execution_context", |ctx, bytes| {
                calls::init_execution_context(ctx.guest(), bytes, graph, context)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "set_input",
        move |mut caller: Caller<'_, T>, context: u32, index: u32, tensor: u32| {
            with_memory(&mut caller, ctx, "set_input", |ctx, bytes| {
                calls::set_input(ctx, bytes, context, index, tensor)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "get_output",
        move |mut caller: Caller<'_, T>, context: u32, index: u32, buffer: u32, room: u32, size: u32| {
            with_memory(&mut caller, ctx, "get_output", |ctx, bytes| {
                calls::get_output(ctx, bytes, context, index, (buffer, room), size)
            })
        },
    )?;
    linker.func_wrap(MODULE, "unload", move |mut caller: Caller<'_, T>, graph: u32| {
        let _span = span::call("unload").entered();
        let ctx = ctx(caller.data_mut());
        ctx.errno(ctx.guest().unload(GuestHandle::from_bits(graph)))
    })?;
    linker.func_wrap(MODULE, "finalize_execution_context", move |mut caller: Caller<'_, T>, context: u32| {
        let _span = span::call("finalize_execution_context").entered();
        let ctx = ctx(caller.data_mut());
        ctx.errno(ctx.guest().drop_context(GuestHandle::from_bits(context)))
    })?;
    Ok(())
}

/// The errno of a call that uses the memory of the instance that makes it.
fn with_memory<T: 'static>(
    caller: &mut Caller<'_, T>,
    ctx: impl Fn(&mut T) -> &mut WasiNnCtx,
    call: &'static str,
    f: impl FnOnce(&WasiNnCtx, &mut Bytes<'_>) -> Result<(), Error>,
) -> u32 {
    let _span = span::call(call).entered();
    match memory_of(caller, &ctx, call) {
        Ok(linear) => linear.with(caller, |mut bytes, data| {
            let ctx = ctx(data);
            ctx.errno(f(ctx, &mut bytes))
        }),
        Err(error) => ctx(caller.data_mut()).errno(Err(error)),
    }
}

/// The memory of the instance that calls. An error has been reported.
fn memory_of<T: 'static>(
    caller: &mut Caller<'_, T>,
    ctx: impl Fn(&mut T) -> &mut WasiNnCtx,
    call: &'static str,
) -> Result<Linear, Error> {
    let export = ctx(caller.data_mut()).memory();
    Linear::of(caller, export).map_err(|error| ctx(caller.data_mut()).guest().refuse(call, error))
}
