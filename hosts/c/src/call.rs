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

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use super::*;

    #[test]
    fn a_panic_is_a_code_and_a_message_and_unwinds_no_further() {
        let mut error = MaybeUninit::<gp_error>::uninit();
        // SAFETY: a place for the error.
        let code = unsafe { call("test", error.as_mut_ptr(), |_| panic!("on purpose")) };
        // SAFETY: written, as the call has failed.
        let error = unsafe { error.assume_init() };
        let message: Vec<u8> = error.message.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
        assert_eq!((code, error.code, &*message), (gp_code::Panic, gp_code::Panic, &b"test: panicked: on purpose"[..]));
    }

    #[test]
    fn a_long_message_is_cut_at_a_character_and_ends_with_a_zero() {
        let mut error = MaybeUninit::<gp_error>::uninit();
        let long = "é".repeat(crate::code::GP_MESSAGE_BYTES);
        // SAFETY: a place for the error.
        unsafe { call("test", error.as_mut_ptr(), |_| Err(Failure::panic("a", &long))) };
        // SAFETY: written, as the call has failed.
        let message = unsafe { error.assume_init() }.message.map(|byte| byte as u8);
        let end = message.iter().position(|byte| *byte == 0).unwrap();
        assert!(end >= message.len() - 2 && std::str::from_utf8(&message[..end]).is_ok(), "{end}");
    }
}
