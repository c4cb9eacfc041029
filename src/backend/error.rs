//! The errors of wasi-nn calls, and the codes by which guests see them.
//!
//! One [`Error`] serves both forms of wasi-nn: [`ErrorKind::errno`] is the number that the core-module form (witx)
//! returns, and [`ErrorKind::code`] is the case of the component form (WIT).

use std::borrow::Cow;
use std::fmt;

/// The longest message that an [`Error`] carries, in bytes.
pub const MESSAGE_BYTES: usize = 199;

/// The kinds of error that wasi-nn knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A handle, index, shape, length or number is not valid.
    InvalidArgument,
    /// The bytes are not a model of the stated encoding.
    InvalidEncoding,
    /// A guest pointer lies outside the guest's memory.
    MissingMemory,
    /// The resource is in use or a queue is full; the same call may succeed later.
    Busy,
    /// The backend failed during the call.
    RuntimeError,
    /// No backend supports the request, or the backend lacks an operator of the model.
    UnsupportedOperation,
    /// The request exceeds a limit of the host.
    TooLarge,
    /// No model has this name.
    NotFound,
    /// The deadline passed.
    Timeout,
    /// The guest lacks the permission.
    Security,
    /// A language model has completed its sequence: how [`compute_single`](crate::nn::Guest::compute_single) ends for
    /// a guest of the core-module form.
    EndOfSequence,
    /// A language model's context has no room for a further token. What was made until then can be read.
    ContextFull,
    /// The prompt of a language model does not fit into its context.
    PromptTooLong,
    /// The backend has found no model where it was told to look for one.
    ModelNotFound,
    /// Any other error.
    Unknown,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::InvalidArgument,
        Self::InvalidEncoding,
        Self::MissingMemory,
        Self::Busy,
        Self::RuntimeError,
        Self::UnsupportedOperation,
        Self::TooLarge,
        Self::NotFound,
        Self::Timeout,
        Self::Security,
        Self::EndOfSequence,
        Self::ContextFull,
        Self::PromptTooLong,
        Self::ModelNotFound,
        Self::Unknown,
    ];

    /// The errno of the specification's core-module form (`wasi_ephemeral_nn`, a `u16` enum of witx).
    ///
    /// That form has no number for a timeout, a security refusal or an unknown error: they become `runtime_error` (5).
    /// A timeout is not `busy` (4), because guests repeat a call that was busy, and would spend the time again. A host
    /// that wants them to returns the errno of [`Busy`](Self::Busy) for it.
    ///
    /// It has no numbers for the ends of a language model's sequence either: the end becomes `runtime_error`, a full
    /// context and a long prompt `too_large` (7), a model that was not found `not_found` (8). Dialects that have
    /// numbers for them give those: [`Dialect::errno`](super::wire::Dialect::errno).
    #[must_use]
    pub const fn errno(self) -> u16 {
        match self {
            Self::InvalidArgument => 1,
            Self::InvalidEncoding => 2,
            Self::MissingMemory => 3,
            Self::Busy => 4,
            Self::RuntimeError | Self::Timeout | Self::Security | Self::EndOfSequence | Self::Unknown => 5,
            Self::UnsupportedOperation => 6,
            Self::TooLarge | Self::ContextFull | Self::PromptTooLong => 7,
            Self::NotFound | Self::ModelNotFound => 8,
        }
    }

    /// The case of `wasi:nn/errors.error-code` (WIT, 0.2.0-rc-2024-10-28).
    ///
    /// That form has no case for `missing-memory` or `busy`: the first becomes `invalid-argument`, the second
    /// `runtime-error`. The ends of a language model's sequence become what [`errno`](Self::errno) makes of them.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::InvalidArgument | Self::MissingMemory => ErrorCode::InvalidArgument,
            Self::InvalidEncoding => ErrorCode::InvalidEncoding,
            Self::Timeout => ErrorCode::Timeout,
            Self::Busy | Self::RuntimeError | Self::EndOfSequence => ErrorCode::RuntimeError,
            Self::UnsupportedOperation => ErrorCode::UnsupportedOperation,
            Self::TooLarge | Self::ContextFull | Self::PromptTooLong => ErrorCode::TooLarge,
            Self::NotFound | Self::ModelNotFound => ErrorCode::NotFound,
            Self::Security => ErrorCode::Security,
            Self::Unknown => ErrorCode::Unknown,
        }
    }

    /// The kind in words: the start of an [`Error`]'s display.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid argument",
            Self::InvalidEncoding => "invalid encoding",
            Self::MissingMemory => "missing memory",
            Self::Busy => "busy",
            Self::RuntimeError => "runtime error",
            Self::UnsupportedOperation => "unsupported operation",
            Self::TooLarge => "too large",
            Self::NotFound => "not found",
            Self::Timeout => "timeout",
            Self::Security => "security",
            Self::EndOfSequence => "end of sequence",
            Self::ContextFull => "context full",
            Self::PromptTooLong => "prompt too long",
            Self::ModelNotFound => "model not found",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The enum `error-code` of the component form, in the order of its definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// `invalid-argument`
    InvalidArgument,
    /// `invalid-encoding`
    InvalidEncoding,
    /// `timeout`
    Timeout,
    /// `runtime-error`
    RuntimeError,
    /// `unsupported-operation`
    UnsupportedOperation,
    /// `too-large`
    TooLarge,
    /// `not-found`
    NotFound,
    /// `security`
    Security,
    /// `unknown`
    Unknown,
}

/// The error of a refused or failed call: a kind for the guest's code and a message for its author.
///
/// The message has at most [`MESSAGE_BYTES`] bytes, however large the offending value was.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    /// Whether a limit of the engine or the guest caused it; counted in the statistics.
    by_limit: bool,
    needed_bytes: Option<usize>,
}

/// Equal if kind, message and needed bytes are equal.
impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, &self.message, self.needed_bytes) == (other.kind, &other.message, other.needed_bytes)
    }
}

impl Eq for Error {}

impl Error {
    /// An error of this kind. A message over [`MESSAGE_BYTES`] is cut at a character boundary and ends in `…`.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let mut message = message.into();
        if message.len() > MESSAGE_BYTES {
            let end = message.floor_char_boundary(MESSAGE_BYTES - '…'.len_utf8());
            message = Cow::Owned(format!("{}…", &message[..end]));
        }
        Self { kind, message, by_limit: false, needed_bytes: None }
    }

    /// An error of this kind that is counted as the refusal of a limit.
    pub(crate) fn limit(kind: ErrorKind, message: String) -> Self {
        Self::new(kind, message).by_limit()
    }

    /// Marks the error as the refusal of a limit of the host, so that it counts in
    /// [`Stats::limited`](crate::nn::Stats::limited) when it is [reported](crate::nn::Guest::refuse). A backend marks
    /// what exceeds [`LoadRequest::memory_limit`](crate::backend::LoadRequest::memory_limit), and not what is too large
    /// for the backend itself.
    #[must_use]
    pub fn by_limit(self) -> Self {
        Self { by_limit: true, ..self }
    }

    pub(crate) fn is_by_limit(&self) -> bool {
        self.by_limit
    }

    /// The error for an output of `needed` bytes and a buffer of `room` bytes: [`TooLarge`](ErrorKind::TooLarge), with
    /// [`needed_bytes`](Self::needed_bytes).
    #[must_use]
    pub fn short_buffer(needed: usize, room: usize) -> Self {
        let message = format!("the output has {needed} bytes; the buffer has {room}");
        Self { needed_bytes: Some(needed), ..Self::too_large(message) }
    }

    /// Prefixes the message with the name of the guest's call, unless it has that prefix already.
    #[must_use]
    pub(crate) fn of(self, call: &str) -> Self {
        if self.message.strip_prefix(call).is_some_and(|rest| rest.starts_with(": ")) {
            return self;
        }
        let Self { by_limit, needed_bytes, .. } = self;
        Self { by_limit, needed_bytes, ..Self::new(self.kind, format!("{call}: {}", self.message)) }
    }

    /// The kind of the error.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message: the cause, in words.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The buffer size in bytes that [`get_output`](crate::nn::Guest::get_output) needs, if it failed because its
    /// buffer is too short ([`short_buffer`](Self::short_buffer)); `None` for every other error. A host whose
    /// `get_output` reports the size together with `too_large` (`WasmEdge`) returns this number.
    #[must_use]
    pub const fn needed_bytes(&self) -> Option<usize> {
        self.needed_bytes
    }

    /// [`ErrorKind::errno`] of this error's kind.
    #[must_use]
    pub const fn errno(&self) -> u16 {
        self.kind.errno()
    }

    /// [`ErrorKind::code`] of this error's kind.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        self.kind.code()
    }
}

macro_rules! constructors {
    ($($name:ident $kind:ident),* $(,)?) => {
        impl Error {
            $(
                #[doc = concat!("An error of kind [`ErrorKind::", stringify!($kind), "`].")]
                pub fn $name(message: impl Into<Cow<'static, str>>) -> Self {
                    Self::new(ErrorKind::$kind, message)
                }
            )*
        }
    };
}

constructors! {
    invalid_argument InvalidArgument,
    invalid_encoding InvalidEncoding,
    missing_memory MissingMemory,
    busy Busy,
    runtime_error RuntimeError,
    unsupported UnsupportedOperation,
    too_large TooLarge,
    not_found NotFound,
    timeout Timeout,
    security Security,
    end_of_sequence EndOfSequence,
    context_full ContextFull,
    prompt_too_long PromptTooLong,
    model_not_found ModelNotFound,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let error = Error::unsupported("é".repeat(300));
        assert!(error.message().len() <= MESSAGE_BYTES);
        assert!(error.message().ends_with('…'));
        assert_eq!(Error::busy("x".repeat(MESSAGE_BYTES)).message().len(), MESSAGE_BYTES);
    }

    #[test]
    fn every_kind_is_listed_once_and_has_its_errno_and_its_code() {
        use ErrorCode as Code;
        // A kind that is added has no arm here, which the compiler reports.
        let told = |kind| match kind {
            ErrorKind::InvalidArgument => (1, Code::InvalidArgument),
            ErrorKind::InvalidEncoding => (2, Code::InvalidEncoding),
            ErrorKind::MissingMemory => (3, Code::InvalidArgument),
            ErrorKind::Busy => (4, Code::RuntimeError),
            ErrorKind::RuntimeError | ErrorKind::EndOfSequence => (5, Code::RuntimeError),
            ErrorKind::UnsupportedOperation => (6, Code::UnsupportedOperation),
            ErrorKind::TooLarge | ErrorKind::ContextFull | ErrorKind::PromptTooLong => (7, Code::TooLarge),
            ErrorKind::NotFound | ErrorKind::ModelNotFound => (8, Code::NotFound),
            ErrorKind::Timeout => (5, Code::Timeout),
            ErrorKind::Security => (5, Code::Security),
            ErrorKind::Unknown => (5, Code::Unknown),
        };
        let mut seen = std::collections::HashSet::new();
        for kind in ErrorKind::ALL {
            let error = Error::new(kind, "x");
            assert_eq!((error.errno(), error.code()), told(kind), "{kind}");
            assert!(seen.insert(kind) && error.to_string() == format!("{}: x", kind.name()));
        }
        // Each errno of witx and each code of WIT belongs to some kind.
        for errno in 1..=8 {
            assert!(ErrorKind::ALL.iter().any(|kind| kind.errno() == errno), "{errno}");
        }
        let codes: std::collections::HashSet<_> = ErrorKind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!(codes.len(), 9);
    }
}
