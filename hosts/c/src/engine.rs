//! Engines: create, close, settings.

use std::num::NonZeroUsize;
use std::ptr;
use std::time::Duration;

use graphpool::nn::{Engine, EngineLimits};
use graphpool_candle::CandleBackend;
use graphpool_ffi::{Arguments, held};

use crate::call::{call, close, find, keep};
use crate::code::{Failure, gp_code, gp_error};
use crate::limits::gp_engine_options;
use crate::resolver::Resolver;

/// An engine: the models and backends of a process. A pointer to it is a name, and points nowhere.
pub struct gp_engine {
    _private: [u8; 0],
}

/// What a `gp_engine *` stands for.
struct HeldEngine(Engine);

held! {
    HeldEngine, "engine";
}

/// The engine of a pointer of C.
pub(crate) fn engine(arguments: &Arguments, engine: *const gp_engine) -> Result<Engine, Failure> {
    find::<HeldEngine>(arguments, engine.addr()).map(|held| held.0.clone())
}

/// A pointer of C to an engine with a test's own backend.
#[cfg(test)]
pub(crate) fn engine_for_tests(engine: Engine) -> *mut gp_engine {
    use graphpool_ffi::Held as _;
    ptr::without_provenance_mut(HeldEngine(engine).keep().unwrap() as usize)
}

/// Fills `options` with the defaults.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_engine_options_default(options: *mut gp_engine_options, error: *mut gp_error) -> gp_code {
    let run = |arguments: &mut Arguments| {
        arguments.out("options", options)?.write(gp_engine_options::default());
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("engine_options_default", error, run) }
}

/// Creates an engine that loads ONNX models for the CPU. `options` may be null, for the defaults.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_engine_create(
    options: *const gp_engine_options,
    engine: *mut *mut gp_engine,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let options = arguments.read_if_any("options", options)?.unwrap_or_default();
        let out = arguments.out("engine", engine)?;
        let backend = match NonZeroUsize::new(options.threads as usize) {
            None => return Err(arguments.invalid("threads is 0; it must be 1 or more").into()),
            Some(NonZeroUsize::MIN) => CandleBackend::new(),
            Some(threads) => CandleBackend::with_threads(threads)?,
        };
        let mut builder = Engine::builder(backend)
            .with_engine_limits(EngineLimits::from(options.engine))
            .with_limits(options.guest.into())
            .with_ceiling(options.ceiling.into())
            .with_inline_computes(Duration::from_micros(options.inline_compute_us));
        if let Some(resolver) = Resolver::new(options.resolve, options.resolve_data, options.resolve_free) {
            builder = builder.with_resolver(move |name| resolver.resolve(name));
        }
        let built = builder.build();
        out.write(ptr::without_provenance_mut(keep(arguments, HeldEngine(built))?));
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("engine_create", error, run) }
}

/// Closes an engine. Its guests go on until they are closed, and no new ones are created. With the last of them all
/// models are released: that close waits for it, unless a call or a job is inside, at whose end they are.
///
/// Threads: any, at any time. Of several calls with one engine, one succeeds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_engine_close(engine: *mut gp_engine, error: *mut gp_error) -> gp_code {
    let run = |arguments: &mut Arguments| close::<HeldEngine>(arguments, engine.addr()).map(drop);
    // SAFETY: the rules of the header.
    unsafe { call("engine_close", error, run) }
}
