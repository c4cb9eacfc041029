//! The frame of every call: its panics, its arguments and its error.

use std::sync::Arc;

use graphpool_ffi::{Arguments, Held, MOST, shield};

use crate::code::{Failure, gp_code, gp_error};

/// Runs one call of C. Each exported function consists of one.
///
/// # Safety
///
/// The contract of [`Arguments::new`], for `error` and for what `f` gives to its arguments. The header demands it of C.
pub(crate) unsafe fn call(
    name: &'static str,
    error: *mut gp_error,
    f: impl FnOnce(&mut Arguments) -> Result<(), Failure>,
) -> gp_code {
    // SAFETY: the caller's contract.
    let mut arguments = unsafe { Arguments::new(name) };
    // First of all, so that whatever overlaps it is refused.
    let Ok(report) = arguments.out_if_any("error", error) else { return gp_code::InvalidArgument };
    let failure = match shield(|| f(&mut arguments)) {
        Ok(Ok(())) => return gp_code::Ok,
        Ok(Err(failure)) => failure,
        Err(message) => Failure::panic(name, &message),
    };
    if let Some(report) = report {
        report.write(failure.report());
    }
    failure.code
}

/// The value of a number or pointer of C.
pub(crate) fn find<T: Held>(arguments: &Arguments, number: usize) -> Result<Arc<T>, Failure> {
    T::find(number as u64).ok_or_else(|| Failure::closed(arguments.call(), T::NAME))
}

/// Takes the value of a number or pointer of C, which names nothing from now on.
pub(crate) fn close<T: Held>(arguments: &Arguments, number: usize) -> Result<Arc<T>, Failure> {
    T::take(number as u64).ok_or_else(|| Failure::closed(arguments.call(), T::NAME))
}

/// Keeps a value, and returns its number.
pub(crate) fn keep<T: Held>(arguments: &Arguments, value: T) -> Result<usize, Failure> {
    let full = || arguments.too_large(format_args!("{MOST} {}s are open, the most that there can be", T::NAME));
    Ok(value.keep().ok_or_else(full)? as usize)
}
