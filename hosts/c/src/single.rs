//! Single steps of a context: a language model's text as it is made.

use std::ffi::c_void;

use graphpool::GuestHandle;
use graphpool_ffi::Arguments;

use crate::call::call;
use crate::code::{Failure, gp_code, gp_error};
use crate::guest::{gp_guest, guest as find_guest};
use crate::inference::{copy_out, places};
use crate::limits::time;

/// Makes the next piece of the outputs of a context, which gp_get_output_single gives, and returns when it is made. The
/// first call begins a run of steps from the inputs, which stay. GP_CODE_END_OF_SEQUENCE, GP_CODE_CONTEXT_FULL and
/// GP_CODE_PROMPT_TOO_LONG end the run, and make no piece; the next call begins another. After any other code a run
/// that was begun goes on with the next call. While a run is open, gp_compute and gp_infer give
/// GP_CODE_INVALID_ARGUMENT. `time_ms` is as for gp_compute_within, for this step.
///
/// Threads: as gp_compute.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_compute_single(
    guest: *mut gp_guest,
    context: u32,
    time_ms: u64,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = find_guest(arguments, guest)?;
        let context = GuestHandle::from_bits(context);
        let step = match time(time_ms) {
            Some(time) => held.guest.compute_single_within(context, time),
            None => held.guest.compute_single(context),
        }?;
        Failure::of_step(step)
    };
    // SAFETY: the rules of the header.
    unsafe { call("compute_single", error, run) }
}

/// Copies what the last step has added to the output `index` to `buffer`, as gp_get_output does. It may be no bytes,
/// and part of a character.
///
/// Threads: as gp_get_output.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_get_output_single(
    guest: *mut gp_guest,
    context: u32,
    index: u32,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = find_guest(arguments, guest)?;
        let (buffer, length) = places(arguments, (buffer, capacity), length)?;
        let context = GuestHandle::from_bits(context);
        Ok(held.guest.with_output_single(context, index, |tensor| copy_out(tensor, buffer, length))?)
    };
    // SAFETY: the rules of the header.
    unsafe { call("get_output_single", error, run) }
}

/// Ends the run of steps of a context, and frees what it holds. Succeeds if there is no run.
///
/// Threads: any, at any time. GP_CODE_BUSY while another call uses the context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_fini_single(guest: *mut gp_guest, context: u32, error: *mut gp_error) -> gp_code {
    let run = |arguments: &mut Arguments| {
        Ok(find_guest(arguments, guest)?.guest.fini_single(GuestHandle::from_bits(context))?)
    };
    // SAFETY: the rules of the header.
    unsafe { call("fini_single", error, run) }
}

#[cfg(test)]
mod tests;
