//! The calls that wait for a build or a compute without blocking the thread.

use graphpool::GuestHandle;
use graphpool::nn::{Error, Load};
use tracing::Instrument as _;
use wasmtime::{Caller, Linker};

use crate::witx::calls::{Model, Named};
use crate::witx::memory::{Bytes, Linear, Place};
use crate::witx::short::{MODULE, add_short_calls, memory_of};
use crate::{WasiNnCtx, span};

/// As [`add_to_linker`](super::add_to_linker), for stores whose functions are called asynchronously: a load, a compute
/// and a single step do not block the executor's thread, and are cancelled when the future of the guest's call is
/// dropped. It works with any executor. A prompt that is set [keeps the thread](super#time), for as long as a compute
/// may take.
///
/// A load copies the model out of the guest's memory, because a thread of the engine builds it.
///
/// # Errors
///
/// If the linker has one of the functions already.
pub fn add_to_linker_async<T: Send + 'static>(
    linker: &mut Linker<T>,
    ctx: impl Fn(&mut T) -> &mut WasiNnCtx + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    add_short_calls(linker, ctx)?;
    linker.func_wrap_async(
        MODULE,
        "load",
        move |mut caller: Caller<'_, T>, (parts, count, encoding, target, graph): (u32, u32, u32, u32, u32)| {
            let begun = begin(&mut caller, ctx, "load", |ctx, bytes| {
                let model = Model::read(ctx, bytes, (parts, count), (encoding, target), graph)?;
                Ok(model.load_async(ctx.guest()))
            });
            Box::new(finish(caller, ctx, begun).instrument(span::call("load")))
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "load_by_name",
        move |mut caller: Caller<'_, T>, (name, length, graph): (u32, u32, u32)| {
            let begun = begin(&mut caller, ctx, "load_by_name", |ctx, bytes| {
                let Named { name, graph, .. } = Named::read(ctx.guest(), bytes, (name, length), (0, 0), graph)?;
                Ok((ctx.guest().load_by_name_async(&name), graph))
            });
            Box::new(finish(caller, ctx, begun).instrument(span::call("load_by_name")))
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "load_by_name_with_config",
        move |mut caller: Caller<'_, T>, (name, length, config, config_length, graph): (u32, u32, u32, u32, u32)| {
            let begun = begin(&mut caller, ctx, "load_by_name_with_config", |ctx, bytes| {
                let (name, config) = ((name, length), (config, config_length));
                let Named { name, config, graph } = Named::read(ctx.guest(), bytes, name, config, graph)?;
                Ok((ctx.guest().load_by_name_with_config_async(&name, &config), graph))
            });
            Box::new(finish(caller, ctx, begun).instrument(span::call("load_by_name_with_config")))
        },
    )?;
    linker.func_wrap_async(MODULE, "compute", move |mut caller: Caller<'_, T>, (context,): (u32,)| {
        let compute = ctx(caller.data_mut()).guest().compute_async(GuestHandle::from_bits(context));
        Box::new(async move {
            let result = compute.instrument(span::call("compute")).await;
            ctx(caller.data_mut()).errno(result)
        })
    })?;
    linker.func_wrap_async(MODULE, "compute_single", move |mut caller: Caller<'_, T>, (context,): (u32,)| {
        let step = ctx(caller.data_mut()).guest().compute_single_async(GuestHandle::from_bits(context));
        Box::new(async move {
            let result = step.instrument(span::call("compute_single")).await;
            ctx(caller.data_mut()).step_errno(result)
        })
    })?;
    Ok(())
}

/// A load that has begun: the memory to which it writes its graph, and where.
type Begun = Result<(Linear, Load, Place), Error>;

/// Begins a load with the arguments that `read` takes out of the memory. An error has been reported.
fn begin<T: 'static>(
    caller: &mut Caller<'_, T>,
    ctx: impl Fn(&mut T) -> &mut WasiNnCtx,
    call: &'static str,
    read: impl FnOnce(&WasiNnCtx, &Bytes<'_>) -> Result<(Load, Place), Error>,
) -> Begun {
    let linear = memory_of(caller, &ctx, call)?;
    let begun = linear.with(caller, |bytes, data| {
        let ctx = ctx(data);
        read(ctx, &bytes).map_err(|error| ctx.guest().refuse(call, error))
    });
    begun.map(|(load, graph)| (linear, load, graph))
}

/// The errno of a load, when it is done.
async fn finish<T: 'static>(mut caller: Caller<'_, T>, ctx: impl Fn(&mut T) -> &mut WasiNnCtx, begun: Begun) -> u32 {
    let result = match begun {
        Ok((linear, load, graph)) => match load.await {
            Ok(handle) => linear.with(&mut caller, |mut bytes, _| bytes.put(graph, handle.to_bits())),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    ctx(caller.data_mut()).errno(result)
}
