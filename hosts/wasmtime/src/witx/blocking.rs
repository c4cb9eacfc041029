//! The calls that build and compute on the thread that runs the guest.

use graphpool::GuestHandle;
use wasmtime::{Caller, Linker};

use crate::witx::calls;
use crate::witx::short::{MODULE, add_short_calls, with_memory};
use crate::{WasiNnCtx, span};

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
    linker.func_wrap(MODULE, "compute_single", move |mut caller: Caller<'_, T>, context: u32| {
        let _span = span::call("compute_single").entered();
        let ctx = ctx(caller.data_mut());
        ctx.step_errno(ctx.guest().compute_single(GuestHandle::from_bits(context)))
    })?;
    Ok(())
}
