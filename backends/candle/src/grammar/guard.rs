//! Calls into `llguidance`, which panics where it expects no failure.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The result of a call, with the cause of its failure or its panic in one line.
///
/// After a failure the caller must not use what the call has changed.
pub(super) fn guarded<T, E: Display>(call: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        // With the causes of an error.
        Ok(Err(error)) => Err(one_line(&format!("{error:#}"))),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("llguidance panicked: {}", one_line(text.unwrap_or("with no message"))))
        }
    }
}

/// A text without the backtrace that `llguidance` appends to those of its panics, its lines joined by blanks.
fn one_line(text: &str) -> String {
    let text = text.split("\n<backtrace>").next().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
