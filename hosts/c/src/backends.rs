//! Plug-in backends: libraries with WAMR's backend interface.

use std::ffi::{c_char, c_void};
use std::time::Duration;

use graphpool::nn::{Encoding, Error, Target};
use graphpool_dylib::{DylibBackend, DylibSettings, Mapping, Serialized};
use graphpool_ffi::{Arguments, Plain};

use crate::call::call;
use crate::code::{Failure, gp_code, gp_error};
use crate::engine::{engine as find_engine, gp_engine};
use crate::lists::{text, visitor};
use crate::numbers::HOST;
use crate::paths::path as read_path;

/// What a host declares of a library, because its interface does not tell it. All zero but the encodings are the
/// defaults.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct gp_plugin_options {
    /// The encodings that the library loads, numbers of gp_encoding.
    pub encodings: *const u32,
    /// How many they are; at least 1.
    pub encoding_count: usize,
    /// The targets that the library has, numbers of gp_target; null for the CPU.
    pub targets: *const u32,
    /// How many they are.
    pub target_count: usize,
    /// The backend's name, ended by a zero; null for the file's name without `lib` and its extension.
    pub name: *const c_char,
    /// 1 if the library is not thread-safe: then it gets one call at a time. 0 if only calls in one context that its
    /// init_backend has made exclude each other, as in WAMR.
    pub one_call_at_a_time: u32,
    /// 1 to map the file itself, which must then not be overwritten while it is in use; 0 to map a copy.
    pub in_place: u32,
    /// 1 for a library without deinit_backend, which never frees its memory.
    pub without_deinit: u32,
    /// 1 to keep the library mapped for ever: for one whose threads or destructors run on after its last
    /// deinit_backend.
    pub keep_mapped: u32,
    /// 0.
    pub reserved: u32,
    /// How many contexts are opened from one load of a model; 0 for 1. More save memory and time for large models, and
    /// keep the memory of closed contexts longer.
    pub contexts_per_load: u32,
    /// How long a call waits for calls that exclude it, in milliseconds; 0 for 10,000.
    pub max_wait_ms: u64,
    /// The bytes up to which an output is read; 0 for 64 MiB.
    pub max_output_bytes: u64,
    /// The most inputs of a model; 0 for 16.
    pub max_inputs: u32,
    /// The most outputs of a model, which are read as bytes; 0 for 16.
    pub max_outputs: u32,
}

// SAFETY: integers and pointers.
unsafe impl Plain for gp_plugin_options {}

/// Called with the name of each backend; `data` is the caller's. The name ends with a zero and is valid until it
/// returns. It may call the library, and must return.
pub type gp_backend_visitor = Option<unsafe extern "C" fn(data: *mut c_void, name: *const c_char)>;

/// The most numbers of a list of the options.
const LIST: usize = 64;

fn plugin(
    arguments: &mut Arguments,
    path: *const c_char,
    options: *const gp_plugin_options,
) -> Result<DylibBackend, Failure> {
    let path = read_path(arguments, path)?;
    let options = arguments.read("options", options)?;
    let encodings = list(arguments, "encodings", (options.encodings, options.encoding_count))?;
    let encodings = encodings
        .into_iter()
        .map(|number| arguments.encoding(HOST, number))
        .collect::<Result<Vec<Encoding>, Error>>()?;
    if encodings.is_empty() {
        return Err(arguments.invalid("encoding_count is 0; it must be 1 or more").into());
    }
    let mut settings = DylibSettings::new(encodings);
    if !options.targets.is_null() {
        let targets = list(arguments, "targets", (options.targets, options.target_count))?;
        if targets.is_empty() {
            return Err(arguments.invalid("target_count is 0; it must be 1 or more, or targets null").into());
        }
        let targets = targets.into_iter().map(|number| arguments.target(HOST, number));
        settings = settings.with_targets(targets.collect::<Result<Vec<Target>, Error>>()?);
    }
    if !options.name.is_null() {
        settings = settings.with_name(arguments.c_text("name", options.name.cast())?);
    }
    if options.one_call_at_a_time != 0 {
        settings = settings.with_serialized(Serialized::Library);
    }
    if options.in_place != 0 {
        settings = settings.with_mapping(Mapping::InPlace);
    }
    if options.without_deinit != 0 {
        settings = settings.without_deinit();
    }
    settings = settings.with_kept_mapped(options.keep_mapped != 0);
    if options.contexts_per_load != 0 {
        settings = settings.with_contexts_per_load(options.contexts_per_load);
    }
    if options.max_wait_ms != 0 {
        settings = settings.with_max_wait(Duration::from_millis(options.max_wait_ms));
    }
    if (options.max_inputs, options.max_outputs) != (0, 0) {
        let count = |number: u32| if number == 0 { 16 } else { number as usize };
        settings = settings.with_unknown_tensors(count(options.max_inputs), count(options.max_outputs));
    }
    if options.max_output_bytes != 0 {
        settings = settings.with_max_output_bytes(usize::try_from(options.max_output_bytes).unwrap_or(usize::MAX));
    }
    // SAFETY: the rules of the header: the host answers for the library.
    Ok(unsafe { DylibBackend::open(path, settings) }?)
}

fn list(
    arguments: &mut Arguments,
    name: &'static str,
    (numbers, count): (*const u32, usize),
) -> Result<Vec<u32>, Error> {
    if count > LIST {
        return Err(arguments.invalid(format_args!("{name} has {count} numbers; the limit is {LIST}")));
    }
    arguments.numbers(name, numbers, count)
}

/// Opens the library at `path`, which ends with a zero, and adds it as a backend after those that the engine has. The
/// host answers for the library: its functions init_backend, deinit_backend, load, load_by_name,
/// load_by_name_with_config, init_execution_context, set_input, compute and get_output must have the types of WAMR
/// 2.4's wasi-nn backends. The two by name may be missing. What else it must keep to is in graphpool-dylib's
/// documentation. It stays mapped until no backend, graph or context uses it.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_register_plugin(
    engine: *mut gp_engine,
    path: *const c_char,
    options: *const gp_plugin_options,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let engine = find_engine(arguments, engine)?;
        Ok(engine.register_backend(plugin(arguments, path, options)?)?)
    };
    // SAFETY: the rules of the header.
    unsafe { call("register_plugin", error, run) }
}

/// As gp_register_plugin, in the place of the backend of the same name. Graphs in memory stay on the one before, with
/// their contexts; gp_reload moves a named model.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_replace_plugin(
    engine: *mut gp_engine,
    path: *const c_char,
    options: *const gp_plugin_options,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let engine = find_engine(arguments, engine)?;
        Ok(engine.replace_backend(plugin(arguments, path, options)?)?)
    };
    // SAFETY: the rules of the header.
    unsafe { call("replace_plugin", error, run) }
}

/// Removes a backend by its name, which ends with a zero. Graphs in memory stay usable, with their contexts.
///
/// Threads: any, at any time. Of several calls with one name, one succeeds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_remove_backend(
    engine: *mut gp_engine,
    name: *const c_char,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let engine = find_engine(arguments, engine)?;
        Ok(engine.remove_backend(&arguments.c_text("name", name.cast())?)?)
    };
    // SAFETY: the rules of the header.
    unsafe { call("remove_backend", error, run) }
}

/// Calls `visit` with the name of each backend, in the order in which a load tries them.
///
/// Threads: as gp_list_models.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_list_backends(
    engine: *mut gp_engine,
    visit: gp_backend_visitor,
    data: *mut c_void,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let engine = find_engine(arguments, engine)?;
        let visit = visitor(arguments, visit)?;
        for name in engine.list_backends() {
            let name = text(&name);
            // SAFETY: C's own function, which may be called with any name.
            unsafe { visit(data, name.as_ptr()) };
        }
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("list_backends", error, run) }
}
