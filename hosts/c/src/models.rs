//! Named models: register, reload, replace, remove.

use std::ffi::c_char;

use graphpool::nn::{Encoding, Engine, ModelSource, Target};
use graphpool_ffi::{Arguments, Plain};

use crate::call::call;
use crate::code::{Failure, gp_code, gp_error};
use crate::engine::{engine as find_engine, gp_engine};
use crate::guest::gp_bytes;
use crate::numbers::HOST;
use crate::paths::{on_disk, path as read_path};

/// The settings of a named model. All zero but the encoding are the defaults.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct gp_model_options {
    /// A gp_encoding.
    pub encoding: u32,
    /// A gp_target.
    pub target: u32,
    /// The configuration that the backend gets, ended by a zero; may be null.
    pub config: *const c_char,
    /// How many graphs guests may load with configurations of their own.
    pub guest_configs: usize,
    /// 1 to build the model before the call returns, 0 to build it when a guest first loads it.
    pub build_now: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: integers and pointers.
unsafe impl Plain for gp_model_options {}

/// The most parts of a model, as for guests.
const PARTS: usize = 64;

fn in_memory(arguments: &mut Arguments, parts: *const gp_bytes, count: usize) -> Result<ModelSource, Failure> {
    if count == 0 || count > PARTS {
        return Err(arguments.invalid(format_args!("the model has {count} parts; it needs 1 to {PARTS}")).into());
    }
    let mut source: Option<ModelSource> = None;
    for part in arguments.values("parts", parts, count)? {
        let bytes = ModelSource::bytes(arguments.bytes("part", part.data.cast(), part.length)?);
        source = Some(match source {
            Some(source) => source.and(bytes),
            None => bytes,
        });
    }
    source.ok_or_else(|| arguments.invalid("the model has no parts").into())
}

fn register(
    arguments: &mut Arguments,
    engine: &Engine,
    name: *const c_char,
    source: ModelSource,
    options: *const gp_model_options,
) -> Result<(), Failure> {
    let name = arguments.c_text("name", name.cast())?;
    let options = arguments.read("options", options)?;
    let (encoding, target): (Encoding, Target) =
        (arguments.encoding(HOST, options.encoding)?, arguments.target(HOST, options.target)?);
    let mut source = source.with_guest_configs(options.guest_configs);
    if !options.config.is_null() {
        source = source.with_config(arguments.c_text("config", options.config.cast())?);
    }
    if options.build_now == 0 {
        engine.register_model(&name, source, encoding, target)?;
    } else {
        engine.register_model_now(&name, source, encoding, target)?;
    }
    Ok(())
}

/// Registers the model at `path`, a file or a directory with one model, under `name`. Both end with a zero. The files
/// are read when the model is built.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_register_path(
    engine: *mut gp_engine,
    name: *const c_char,
    path: *const c_char,
    options: *const gp_model_options,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let engine = find_engine(arguments, engine)?;
        let source = on_disk(&read_path(arguments, path)?);
        register(arguments, &engine, name, source, options)
    };
    // SAFETY: the rules of the header.
    unsafe { call("register_path", error, run) }
}

/// Registers a model of `part_count` parts in memory, which are copied.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_register_bytes(
    engine: *mut gp_engine,
    name: *const c_char,
    parts: *const gp_bytes,
    part_count: usize,
    options: *const gp_model_options,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let engine = find_engine(arguments, engine)?;
        let source = in_memory(arguments, parts, part_count)?;
        register(arguments, &engine, name, source, options)
    };
    // SAFETY: the rules of the header.
    unsafe { call("register_bytes", error, run) }
}

/// Registers a model that a backend finds by a name of its own, `of_backend`: what such a name means is the backend's
/// to say, and may be a path. Both names end with a zero. For plug-ins that load by name.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_register_of_backend(
    engine: *mut gp_engine,
    name: *const c_char,
    of_backend: *const c_char,
    options: *const gp_model_options,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let engine = find_engine(arguments, engine)?;
        let source = ModelSource::of_backend(arguments.c_text("of_backend", of_backend.cast())?);
        register(arguments, &engine, name, source, options)
    };
    // SAFETY: the rules of the header.
    unsafe { call("register_of_backend", error, run) }
}

/// Registers every model file of a directory by its name without the extension, for `target`, a gp_target. `count`,
/// which may be null, gets their number.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_register_directory(
    engine: *mut gp_engine,
    path: *const c_char,
    target: u32,
    count: *mut usize,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let engine = find_engine(arguments, engine)?;
        let path = read_path(arguments, path)?;
        let out = arguments.out_if_any("count", count)?;
        let names = engine.register_directory(path, arguments.target(HOST, target)?)?;
        if let Some(out) = out {
            out.write(names.len());
        }
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("register_directory", error, run) }
}

fn changed(
    arguments: &mut Arguments,
    engine: *mut gp_engine,
    name: *const c_char,
    version: *mut u64,
    change: impl FnOnce(&mut Arguments, &Engine, &str) -> Result<u64, Failure>,
) -> Result<(), Failure> {
    let engine = find_engine(arguments, engine)?;
    let name = arguments.c_text("name", name.cast())?;
    let out = arguments.out_if_any("version", version)?;
    let number = change(arguments, &engine, &name)?;
    if let Some(out) = out {
        out.write(number);
    }
    Ok(())
}

/// Builds a model again from its files. Contexts that are opened from now on run on the result; open ones keep the
/// version before. `version`, which may be null, gets the number of the current version.
///
/// Threads: any, at any time. Calls for one name wait for each other.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_reload(
    engine: *mut gp_engine,
    name: *const c_char,
    version: *mut u64,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        changed(arguments, engine, name, version, |_, engine, name| Ok(engine.reload_model(name)?))
    };
    // SAFETY: the rules of the header.
    unsafe { call("reload", error, run) }
}

/// As gp_reload, from another file or directory.
///
/// Threads: as gp_reload.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_replace_path(
    engine: *mut gp_engine,
    name: *const c_char,
    path: *const c_char,
    version: *mut u64,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        changed(arguments, engine, name, version, |arguments, engine, name| {
            Ok(engine.replace_model(name, on_disk(&read_path(arguments, path)?))?)
        })
    };
    // SAFETY: the rules of the header.
    unsafe { call("replace_path", error, run) }
}

/// As gp_reload, from bytes, which are copied.
///
/// Threads: as gp_reload.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_replace_bytes(
    engine: *mut gp_engine,
    name: *const c_char,
    parts: *const gp_bytes,
    part_count: usize,
    version: *mut u64,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        changed(arguments, engine, name, version, |arguments, engine, name| {
            Ok(engine.replace_model(name, in_memory(arguments, parts, part_count)?)?)
        })
    };
    // SAFETY: the rules of the header.
    unsafe { call("replace_bytes", error, run) }
}

/// Removes a name. Guests that have loaded it keep it.
///
/// Threads: any, at any time. Of several calls with one name, one succeeds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_remove(engine: *mut gp_engine, name: *const c_char, error: *mut gp_error) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let engine = find_engine(arguments, engine)?;
        Ok(engine.remove_model(&arguments.c_text("name", name.cast())?)?)
    };
    // SAFETY: the rules of the header.
    unsafe { call("remove", error, run) }
}
