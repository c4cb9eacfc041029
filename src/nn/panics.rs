//! Panic isolation for calls into a backend or the host's resolver: a panic becomes the error of that one call.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::nn::Error;
use crate::nn::telemetry::stats::Counters;

/// Returns the result of `f`, or [`RuntimeError`](super::ErrorKind::RuntimeError) if it panics. Counts panics.
///
/// The caller must not use anything that `f` changed after the error: this is what `AssertUnwindSafe` asserts here.
pub(crate) fn shield<R>(counters: &Counters, f: impl FnOnce() -> R) -> Result<R, Error> {
    shield_call(counters, "the backend", f)
}

/// As [`shield`], for a call into `what`: "the backend".
pub(crate) fn shield_call<R>(counters: &Counters, what: &str, f: impl FnOnce() -> R) -> Result<R, Error> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        Counters::count(&counters.panics);
        Error::runtime_error(format!("{what} panicked: {}", in_words(payload)))
    })
}

/// The message of a panic. A payload of any other type is leaked, because its destructor might panic, too.
fn in_words(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<&'static str>() {
        Ok(message) => (*message).to_owned(),
        Err(payload) => match payload.downcast::<String>() {
            Ok(message) => *message,
            Err(payload) => {
                mem::forget(payload);
                "with no message".to_owned()
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;
    use crate::nn::ErrorKind;

    #[test]
    fn a_panic_becomes_a_runtime_error_with_its_message() {
        let error = shield(&Counters::default(), || panic!("at {}", 7)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RuntimeError);
        assert_eq!(error.message(), "the backend panicked: at 7");
        let error = shield(&Counters::default(), || panic!("plain")).unwrap_err();
        assert_eq!(error.message(), "the backend panicked: plain");
    }

    #[test]
    fn a_payload_whose_destructor_panics_is_not_dropped() {
        struct Trap;
        impl Drop for Trap {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        let error = shield(&Counters::default(), || panic_any(Trap)).unwrap_err();
        assert_eq!(error.message(), "the backend panicked: with no message");
    }
}
