//! The calls that wait for nothing, and how a call gets at the memory of the instance that makes it.

use graphpool::GuestHandle;
use graphpool::nn::Error;
use wasmtime::{Caller, Linker};

use crate::witx::calls;
use crate::witx::memory::{Bytes, Linear};
use crate::{WasiNnCtx, span};

pub(super) const MODULE: &str = "wasi_ephemeral_nn";

/// The calls that wait for nothing, and are the same in both forms of the linker.
pub(super) fn add_short_calls<T: 'static>(
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
    linker.func_wrap(
        MODULE,
        "get_output_single",
        move |mut caller: Caller<'_, T>, context: u32, index: u32, buffer: u32, room: u32, size: u32| {
            with_memory(&mut caller, ctx, "get_output_single", |ctx, bytes| {
                calls::get_output_single(ctx, bytes, context, index, (buffer, room), size)
            })
        },
    )?;
    linker.func_wrap(MODULE, "fini_single", move |mut caller: Caller<'_, T>, context: u32| {
        let _span = span::call("fini_single").entered();
        let ctx = ctx(caller.data_mut());
        ctx.errno(ctx.guest().fini_single(GuestHandle::from_bits(context)))
    })?;
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
pub(super) fn with_memory<T: 'static>(
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
pub(super) fn memory_of<T: 'static>(
    caller: &mut Caller<'_, T>,
    ctx: impl Fn(&mut T) -> &mut WasiNnCtx,
    call: &'static str,
) -> Result<Linear, Error> {
    let export = ctx(caller.data_mut()).memory();
    Linear::of(caller, export).map_err(|error| ctx(caller.data_mut()).guest().refuse(call, error))
}
