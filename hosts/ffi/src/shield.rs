//! Panics, which must not unwind into C.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls `f`. A panic is caught, and its message returned: it must not unwind into C.
///
/// # Errors
///
/// The message of the panic.
pub fn shield<R>(f: impl FnOnce() -> R) -> Result<R, String> {
    // What `f` leaves behind after a panic is the engine's, whose locks ignore poison, or the closure's own.
    catch_unwind(AssertUnwindSafe(f)).map_err(message)
}

fn message(payload: Box<dyn Any + Send>) -> String {
    let message = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(message), _) => (*message).to_owned(),
        (None, Some(message)) => message.clone(),
        (None, None) => "a value that is no text".to_owned(),
    };
    // Its destructor might panic, too.
    mem::forget(payload);
    message
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the payload's own");
        }
    }

    #[test]
    fn a_panic_becomes_its_message_and_its_payload_is_not_dropped() {
        assert_eq!(shield(|| 7), Ok(7));
        assert_eq!(shield(|| panic!("a text")), Err::<(), _>("a text".to_owned()));
        assert_eq!(shield(|| panic!("number {}", 7)), Err::<(), _>("number 7".to_owned()));
        assert_eq!(shield(|| panic_any(Bomb)), Err::<(), _>("a value that is no text".to_owned()));
    }
}
