//! What a host asks of a guest beside wasi-nn's calls.

use std::ffi::c_char;
use std::sync::{Mutex, PoisonError};

use graphpool::nn::{Error, HostBytes};
use graphpool_ffi::{Arguments, held};

use crate::call::{call, close, find, keep};
use crate::code::{gp_code, gp_error, kind_of};
use crate::guest::{gp_guest, guest as find_guest};
use crate::limits::gp_limits;

/// Bytes that a host keeps for a guest.
struct Reservation(Mutex<HostBytes>);

held! {
    Reservation, "reservation";
}

/// Reads a guest's limits.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_guest_limits(
    guest: *mut gp_guest,
    limits: *mut gp_limits,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = find_guest(arguments, guest)?;
        arguments.out("limits", limits)?.write(held.guest.limits().into());
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("guest_limits", error, run) }
}

/// Tells whether the engine has a backend for models of this encoding on this target, numbers of the guest's dialect:
/// `supported` gets 1 or 0. For a host that chooses another target where there is none; a load may still be refused.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_supports(
    guest: *mut gp_guest,
    encoding: u32,
    target: u32,
    supported: *mut u32,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = find_guest(arguments, guest)?;
        let out = arguments.out("supported", supported)?;
        let (encoding, target) = (arguments.encoding(held.dialect, encoding)?, arguments.target(held.dialect, target)?);
        out.write(held.guest.supports(encoding, target).into());
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("supports", error, run) }
}

/// Reserves bytes that the host keeps for a guest between its calls, such as tensors of its own: they count as bytes of
/// the guest's contexts. A host reserves before it allocates. `reservation` gets the number that
/// gp_reservation_resize and gp_reservation_close take.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_reserve(
    guest: *mut gp_guest,
    bytes: usize,
    reservation: *mut u64,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = find_guest(arguments, guest)?;
        let out = arguments.out("reservation", reservation)?;
        let bytes = held.guest.reserve(bytes)?;
        out.write(keep(arguments, Reservation(Mutex::new(bytes)))? as u64);
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("reserve", error, run) }
}

/// Changes the bytes of a reservation. If the call fails, they stay as they were.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_reservation_resize(reservation: u64, bytes: usize, error: *mut gp_error) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let reservation = find::<Reservation>(arguments, reservation as usize)?;
        Ok(reservation.0.lock().unwrap_or_else(PoisonError::into_inner).resize(bytes)?)
    };
    // SAFETY: the rules of the header.
    unsafe { call("reservation_resize", error, run) }
}

/// Gives the bytes of a reservation back. Every reservation is closed by its host, also after its guest.
///
/// Threads: any, at any time. Of several calls with one reservation, one succeeds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_reservation_close(reservation: u64, error: *mut gp_error) -> gp_code {
    let run = |arguments: &mut Arguments| close::<Reservation>(arguments, reservation as usize).map(drop);
    // SAFETY: the rules of the header.
    unsafe { call("reservation_close", error, run) }
}

/// Counts a refusal of the host's own among the guest's errors, as events, gp_stats.errors and, for
/// GP_CODE_TOO_LARGE, gp_stats.limited have them: a pointer outside of the guest's memory, for instance. `code` is one
/// of 1 to 11, `message` ends with a zero.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_refuse(
    guest: *mut gp_guest,
    code: u32,
    message: *const c_char,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = find_guest(arguments, guest)?;
        let message = arguments.c_text("message", message.cast())?;
        let kind = kind_of(code)
            .ok_or_else(|| arguments.invalid(format_args!("{code} is not the gp_code of a refused call")))?;
        let refusal = Error::new(kind, message);
        let refusal = if code == gp_code::TooLarge as u32 { refusal.by_limit() } else { refusal };
        let _ = held.guest.refuse("host", refusal);
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("refuse", error, run) }
}
