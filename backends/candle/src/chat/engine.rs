//! The template engine's syntax as templates expect it, and its errors as those of a backend.

use graphpool::backend::{Error, ErrorKind};
use minijinja::syntax::SyntaxConfig;
use std::borrow::Cow;
use std::fmt::Write as _;

/// The most bytes of an error's text.
const MAX_CAUSE: usize = 300;

/// White space as transformers have it.
pub(super) fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(|error| failed(&error))
}

/// The error of the engine as one of the backend: the line, and what happened.
pub(super) fn failed(error: &minijinja::Error) -> Error {
    use minijinja::ErrorKind as Cause;
    let detail = error.detail().unwrap_or_default();
    let (kind, cause) = match error.kind() {
        Cause::SyntaxError | Cause::BadEscape | Cause::InvalidDelimiter => {
            (ErrorKind::InvalidEncoding, Cow::from("it is no valid template"))
        }
        Cause::OutOfFuel => (ErrorKind::TooLarge, Cow::from("it does more than a template may for this conversation")),
        _ if detail.contains("recursion limit") => (ErrorKind::TooLarge, Cow::from("it calls itself")),
        kind => (ErrorKind::InvalidArgument, Cow::from(kind.to_string())),
    };
    let mut text = match error.line() {
        Some(line) => format!("the chat template, line {line}: {cause}"),
        None => format!("the chat template: {cause}"),
    };
    if !detail.is_empty() {
        let _ = write!(text, ": {detail}");
    }
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut message: String = plain.take(MAX_CAUSE).collect();
    if message.len() < text.len() {
        message.push('…');
    }
    Error::new(kind, message)
}
