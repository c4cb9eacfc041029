//! What an engine has: statistics, models and graphs; and what a graph takes and gives.

use std::ffi::{CString, c_char, c_void};

use graphpool::GuestHandle;
use graphpool::nn::{Stats, TensorDescription};
use graphpool_ffi::Arguments;

use crate::call::call;
use crate::code::{Failure, gp_code, gp_error};
use crate::engine::{engine as find_engine, gp_engine};
use crate::guest::{HeldGuest, gp_guest, guest as find_guest};
use crate::numbers::{GP_NO_NUMBER, HOST};

/// The statistics of an engine. Each number was right at some moment of the call.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct gp_stats {
    /// Models in memory, from their load until their backend's destructor has run. A model that several guests share
    /// counts once.
    pub graphs: u64,
    /// Bytes of these models, as their backends count them.
    pub graph_bytes: u64,
    /// Graph handles that guests hold.
    pub graph_handles: u64,
    /// Bytes of the contexts in memory, as their backends count them, and at least those of their inputs.
    pub context_bytes: u64,
    /// Bytes that hosts keep for guests, by gp_reserve. They are not in
    /// `context_bytes`, and count against the same limits.
    pub host_bytes: u64,
    /// Contexts in memory, from their opening until their backend's destructor has run.
    pub contexts: u64,
    /// Live guests.
    pub guests: u64,
    /// Asynchronous loads that run or wait now.
    pub loads: u64,
    /// Registered names.
    pub names: u64,
    /// Entries removed from the pools whose grace period is not over.
    pub awaiting_reclamation: u64,
    /// Models that a backend has built since the engine was made.
    pub builds: u64,
    /// Versions of named models that a reload has made.
    pub reloads: u64,
    /// Contexts opened since the engine was made.
    pub contexts_opened: u64,
    /// Computes that have succeeded.
    pub computes: u64,
    /// Computes that their backend refused or ended with an error.
    pub failed_computes: u64,
    /// Calls that were refused because another call used the same context.
    pub busy_contexts: u64,
    /// Calls of guests that ended with an error, those of bad pointers included.
    pub errors: u64,
    /// Those of them that were refused by a limit of the guest, the engine or the host, or by the queue of computes.
    pub limited: u64,
    /// Computes that exceeded their time, whether they had begun or not.
    pub timeouts: u64,
    /// Computes that were cancelled and ended with an error.
    pub cancelled: u64,
    /// Computes that run now.
    pub computing: u64,
    /// Computes that sleep now until others have worked for them, or wait to go on after that.
    pub suspended: u64,
    /// Computes that wait for their turn now.
    pub queued: u64,
    /// Panics of backends, including those of their destructors.
    pub panics: u64,
}

impl From<Stats> for gp_stats {
    fn from(stats: Stats) -> Self {
        Self {
            graphs: stats.graphs as u64,
            graph_bytes: stats.graph_bytes as u64,
            graph_handles: stats.graph_handles as u64,
            context_bytes: stats.context_bytes as u64,
            host_bytes: stats.host_bytes as u64,
            contexts: stats.contexts as u64,
            guests: stats.guests as u64,
            loads: stats.loads as u64,
            names: stats.names as u64,
            awaiting_reclamation: stats.awaiting_reclamation as u64,
            builds: stats.builds,
            reloads: stats.reloads,
            contexts_opened: stats.contexts_opened,
            computes: stats.computes,
            failed_computes: stats.failed_computes,
            busy_contexts: stats.busy_contexts,
            errors: stats.errors,
            limited: stats.limited,
            timeouts: stats.timeouts,
            cancelled: stats.cancelled,
            computing: stats.computing as u64,
            suspended: stats.suspended as u64,
            queued: stats.queued as u64,
            panics: stats.panics,
        }
    }
}

/// What a guest holds, and what its computes have cost.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct gp_usage {
    /// The guest's number, unique in the process: the field `guest` of events.
    pub id: u64,
    /// Graph handles, as gp_limits.max_graphs counts them.
    pub graphs: u64,
    /// Contexts, as gp_limits.max_contexts counts them.
    pub contexts: u64,
    /// Bytes of models, as gp_limits.max_graph_bytes counts them.
    pub graph_bytes: u64,
    /// Bytes of contexts, as gp_limits.max_context_bytes counts them.
    pub context_bytes: u64,
    /// Computes that have ended, failed ones included.
    pub computes: u64,
    /// The time that they took, without their wait for a turn, in nanoseconds: the sum over all threads.
    pub compute_ns: u64,
}

/// A named model.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct gp_model {
    /// Its name, ended by a zero.
    pub name: *const c_char,
    /// The number of the current version, from 1; 0 before the first build.
    pub version: u64,
    /// The number of the current version's graph, as gp_graph.id; 0 before the first build.
    pub graph: u64,
    /// How many graphs guests have loaded with configurations of their own.
    pub configured: usize,
    /// Its gp_encoding.
    pub encoding: u32,
    /// Its gp_target.
    pub target: u32,
}

/// A graph in memory.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct gp_graph {
    /// A number that is unique in the process.
    pub id: u64,
    /// BLAKE3 of what determines the graph, in hexadecimal, ended by a zero.
    pub digest: *const c_char,
    /// The name of its backend, ended by a zero.
    pub backend: *const c_char,
    /// The bytes that it holds.
    pub bytes: usize,
    /// The number of its open contexts.
    pub contexts: usize,
    /// Its gp_encoding.
    pub encoding: u32,
    /// Its gp_target.
    pub target: u32,
}

/// An input or output of a graph.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct gp_description {
    /// Its name in the model, ended by a zero.
    pub name: *const c_char,
    /// The sizes, outermost first, -1 for one that may vary; null if the rank may vary, too.
    pub dimensions: *const i64,
    /// How many they are.
    pub rank: usize,
    /// Its index.
    pub index: u32,
    /// The type of the elements, a number of the guest's dialect; GP_NO_NUMBER if that has none for it, or if the
    /// backend does not know the type.
    pub element_type: u32,
    /// 1 if the model may lack it, as far as the backend knows.
    pub optional: u32,
    /// 0.
    pub reserved: u32,
}

/// Called with each model; `data` is the caller's. What `model` points to is valid until it returns. It may call the
/// library, and must return.
pub type gp_model_visitor = Option<unsafe extern "C" fn(data: *mut c_void, model: *const gp_model)>;

/// As gp_model_visitor, with each graph.
pub type gp_graph_visitor = Option<unsafe extern "C" fn(data: *mut c_void, graph: *const gp_graph)>;

/// As gp_model_visitor, with each input or output.
pub type gp_description_visitor = Option<unsafe extern "C" fn(data: *mut c_void, description: *const gp_description)>;

/// A text for C, up to its first zero.
pub(crate) fn text(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

pub(crate) fn visitor<F>(arguments: &Arguments, visitor: Option<F>) -> Result<F, Failure> {
    Ok(visitor.ok_or_else(|| arguments.invalid("visit is null"))?)
}

/// Reads the statistics of an engine.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_engine_stats(
    engine: *mut gp_engine,
    stats: *mut gp_stats,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let engine = find_engine(arguments, engine)?;
        arguments.out("stats", stats)?.write(engine.stats().into());
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("engine_stats", error, run) }
}

/// Reads what a guest holds and has used, as for a bill.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_guest_usage(guest: *mut gp_guest, usage: *mut gp_usage, error: *mut gp_error) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = find_guest(arguments, guest)?;
        let out = arguments.out("usage", usage)?;
        let usage = held.guest.usage();
        out.write(gp_usage {
            id: held.guest.id(),
            graphs: usage.graphs as u64,
            contexts: usage.contexts as u64,
            graph_bytes: usage.graph_bytes as u64,
            context_bytes: usage.context_bytes as u64,
            computes: usage.computes,
            compute_ns: u64::try_from(usage.compute_time.as_nanos()).unwrap_or(u64::MAX),
        });
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("guest_usage", error, run) }
}

/// Calls `visit` with each named model, in the order of their names.
///
/// Threads: any, at any time. `visit` is called on this thread, before the call returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_list_models(
    engine: *mut gp_engine,
    visit: gp_model_visitor,
    data: *mut c_void,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let engine = find_engine(arguments, engine)?;
        let visit = visitor(arguments, visit)?;
        for model in engine.list_models() {
            let name = text(&model.name);
            let model = gp_model {
                name: name.as_ptr(),
                version: model.version.unwrap_or(0),
                graph: model.graph.map_or(0, |graph| graph.id),
                configured: model.configured,
                encoding: HOST.encoding_number(model.encoding).unwrap_or(GP_NO_NUMBER),
                target: HOST.target_number(model.target).unwrap_or(GP_NO_NUMBER),
            };
            // SAFETY: C's own function, which may be called with any model.
            unsafe { visit(data, &raw const model) };
        }
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("list_models", error, run) }
}

/// Calls `visit` with each graph in memory that is in use, in no order.
///
/// Threads: as gp_list_models.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_list_graphs(
    engine: *mut gp_engine,
    visit: gp_graph_visitor,
    data: *mut c_void,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let engine = find_engine(arguments, engine)?;
        let visit = visitor(arguments, visit)?;
        for graph in engine.list_graphs() {
            let (digest, backend) = (text(&graph.digest), text(&graph.backend));
            let graph = gp_graph {
                id: graph.id,
                digest: digest.as_ptr(),
                backend: backend.as_ptr(),
                bytes: graph.bytes,
                contexts: graph.contexts,
                encoding: HOST.encoding_number(graph.encoding).unwrap_or(GP_NO_NUMBER),
                target: HOST.target_number(graph.target).unwrap_or(GP_NO_NUMBER),
            };
            // SAFETY: C's own function, which may be called with any graph.
            unsafe { visit(data, &raw const graph) };
        }
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("list_graphs", error, run) }
}

fn describe(
    held: &HeldGuest,
    descriptions: &[TensorDescription],
    visit: unsafe extern "C" fn(*mut c_void, *const gp_description),
    data: *mut c_void,
) {
    for (index, description) in (0..).zip(descriptions) {
        let name = text(&description.name);
        let sizes = description.dimensions.as_ref();
        let sizes: Option<Vec<i64>> = sizes.map(|sizes| sizes.iter().map(|size| size.map_or(-1, i64::from)).collect());
        let description = gp_description {
            name: name.as_ptr(),
            dimensions: sizes.as_ref().map_or(std::ptr::null(), Vec::as_ptr),
            rank: sizes.as_ref().map_or(0, Vec::len),
            index,
            element_type: description
                .ty
                .and_then(|ty| held.dialect.tensor_type_number(ty))
                .map_or(GP_NO_NUMBER, u32::from),
            optional: description.optional.into(),
            reserved: 0,
        };
        // SAFETY: C's own function, which may be called with any description.
        unsafe { visit(data, &raw const description) };
    }
}

/// Calls `visit` with each input of a graph, or of a context's graph, in the order of their indexes.
///
/// Threads: as gp_list_models.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_inputs(
    guest: *mut gp_guest,
    graph_or_context: u32,
    visit: gp_description_visitor,
    data: *mut c_void,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = find_guest(arguments, guest)?;
        let visit = visitor(arguments, visit)?;
        describe(&held, &held.guest.inputs(GuestHandle::from_bits(graph_or_context))?, visit, data);
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("inputs", error, run) }
}

/// Calls `visit` with each output of a graph, or of a context's graph, in the order of their indexes.
///
/// Threads: as gp_list_models.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_outputs(
    guest: *mut gp_guest,
    graph_or_context: u32,
    visit: gp_description_visitor,
    data: *mut c_void,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = find_guest(arguments, guest)?;
        let visit = visitor(arguments, visit)?;
        describe(&held, &held.guest.outputs(GuestHandle::from_bits(graph_or_context))?, visit, data);
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("outputs", error, run) }
}
