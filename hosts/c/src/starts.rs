//! Calls of a guest that return at once: each starts a job.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use graphpool::GuestHandle;
use graphpool::nn::Error;
use graphpool_ffi::Arguments;

use crate::call::call;
use crate::code::{gp_code, gp_error};
use crate::guest::{given_model, gp_bytes, gp_guest, guest as find_guest};
use crate::inference::{gp_input, inputs as read_inputs};
use crate::jobs::{Given, gp_done, start};
use crate::limits::time;

/// Starts a compute of a context on a thread of the engine, and returns at once. `time_ms` is as for gp_compute_within.
/// `done`, which may be null, is called with `data` when it is done, maybe before the call returns. If the call fails,
/// it is not called. `job` gets the number that gp_job_wait and gp_job_close take, before `done` is called; if the call
/// fails, the number is of no job.
///
/// Threads: any, at any time. The context is in use until the job is done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_compute_start(
    guest: *mut gp_guest,
    context: u32,
    time_ms: u64,
    done: gp_done,
    data: *mut c_void,
    job: *mut u64,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = find_guest(arguments, guest)?;
        let out = arguments.out("job", job)?;
        let context = GuestHandle::from_bits(context);
        let compute = match time(time_ms) {
            Some(time) => held.guest.compute_async_within(context, time),
            None => held.guest.compute_async(context),
        };
        let work = Box::pin(async { compute.await.map(|()| Given::Computed) });
        start(arguments, &held, work, (done, data), out)
    };
    // SAFETY: the rules of the header.
    unsafe { call("compute_start", error, run) }
}

/// As gp_compute_single, in the background as gp_compute_start. gp_job_wait gives the code of the step.
///
/// Threads: as gp_compute_start.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_compute_single_start(
    guest: *mut gp_guest,
    context: u32,
    time_ms: u64,
    done: gp_done,
    data: *mut c_void,
    job: *mut u64,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = find_guest(arguments, guest)?;
        let out = arguments.out("job", job)?;
        let context = GuestHandle::from_bits(context);
        let step = match time(time_ms) {
            Some(time) => held.guest.compute_single_async_within(context, time),
            None => held.guest.compute_single_async(context),
        };
        let work = Box::pin(async { step.await.map(Given::Stepped) });
        start(arguments, &held, work, (done, data), out)
    };
    // SAFETY: the rules of the header.
    unsafe { call("compute_single_start", error, run) }
}

/// As gp_infer, in the background as gp_compute_start. The inputs are set before the call returns, which may wait for a
/// plug-in. gp_job_output gives the outputs, which the job keeps until it is closed; they count as bytes of the guest's
/// contexts.
///
/// Threads: as gp_compute_start.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_infer_start(
    guest: *mut gp_guest,
    context: u32,
    inputs: *const gp_input,
    input_count: usize,
    time_ms: u64,
    done: gp_done,
    data: *mut c_void,
    job: *mut u64,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = find_guest(arguments, guest)?;
        let out = arguments.out("job", job)?;
        let context = GuestHandle::from_bits(context);
        let tensors = read_inputs(arguments, &held, context, (inputs, input_count))?;
        let inputs = tensors.iter().map(|(index, tensor)| (*index, tensor));
        let infer = match time(time_ms) {
            Some(time) => held.guest.infer_async_within(context, inputs, time),
            None => held.guest.infer_async(context, inputs),
        };
        let owner = Arc::downgrade(&held);
        let work = Box::pin(async move {
            let outputs = infer.await?;
            let held = owner.upgrade().ok_or_else(|| Error::runtime_error("infer: the guest is closed"))?;
            let bytes = held.guest.reserve(outputs.iter().map(|output| output.data().len()).sum())?;
            Ok(Given::Outputs(outputs, bytes))
        });
        start(arguments, &held, work, (done, data), out)
    };
    // SAFETY: the rules of the header.
    unsafe { call("infer_start", error, run) }
}

/// As gp_load, in the background as gp_compute_start. The bytes are copied before the call returns. gp_job_graph gives
/// the graph.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_load_start(
    guest: *mut gp_guest,
    parts: *const gp_bytes,
    part_count: usize,
    encoding: u32,
    target: u32,
    done: gp_done,
    data: *mut c_void,
    job: *mut u64,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = find_guest(arguments, guest)?;
        let out = arguments.out("job", job)?;
        let mut given = given_model(arguments, &held, (parts, part_count), (encoding, target))?;
        let load = held.guest.load_async(given.copy.take(), given.encoding, given.target);
        // The engine counts the bytes now.
        drop(given);
        let work = Box::pin(async { load.await.map(|graph| Given::Graph(graph, false)) });
        start(arguments, &held, work, (done, data), out)
    };
    // SAFETY: the rules of the header.
    unsafe { call("load_start", error, run) }
}

/// As gp_load_by_name, or as gp_load_by_name_with_config if `config` is not null, in the background as
/// gp_compute_start. gp_job_graph gives the graph.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_load_by_name_start(
    guest: *mut gp_guest,
    name: *const c_char,
    name_length: usize,
    config: *const c_char,
    config_length: usize,
    done: gp_done,
    data: *mut c_void,
    job: *mut u64,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = find_guest(arguments, guest)?;
        let limits = held.guest.limits();
        let out = arguments.out("job", job)?;
        let read = |arguments: &mut Arguments| {
            let name = arguments.name(limits, name.cast(), name_length)?;
            let given = !config.is_null();
            let config = given.then(|| arguments.config(limits, config.cast(), config_length)).transpose()?;
            Ok((name, config))
        };
        let (name, config) = held.read(arguments, read)?;
        let load = match config {
            Some(config) => held.guest.load_by_name_with_config_async(&name, &config),
            None => held.guest.load_by_name_async(&name),
        };
        let work = Box::pin(async { load.await.map(|graph| Given::Graph(graph, false)) });
        start(arguments, &held, work, (done, data), out)
    };
    // SAFETY: the rules of the header.
    unsafe { call("load_by_name_start", error, run) }
}
