//! The result of a call as C sees it: a code, and a message in the caller's `gp_error`.

use std::error::Error as StdError;
use std::ffi::c_char;
use std::fmt;

use graphpool::nn::{BackendError, Error, ErrorKind, ModelError, Step};

/// The bytes of `gp_error.message`, the final zero included.
pub const GP_MESSAGE_BYTES: usize = 512;

/// The result of a call. 1 to 8 are wasi-nn's own numbers, which a runtime gives to its guest; 9 to 11 it gives as
/// GP_CODE_RUNTIME_ERROR in the core-module form, and by their own names in the component form. 100 to 103 are those of
/// WasmEdge and WAMR; for a guest of the specification's form 100 is GP_CODE_RUNTIME_ERROR, 101 and 102 are
/// GP_CODE_TOO_LARGE, and 103 is GP_CODE_NOT_FOUND.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum gp_code {
    /// The call has succeeded.
    Ok = 0,
    /// A handle, an index, a shape, a number or a pointer is not valid.
    InvalidArgument = 1,
    /// The bytes are not a model of the stated encoding.
    InvalidEncoding = 2,
    /// A guest pointer lies outside the guest's memory. For hosts: the library does not return it.
    MissingMemory = 3,
    /// The context is in use, or a queue is full; the same call may succeed later.
    Busy = 4,
    /// The backend failed, or the call was cancelled.
    RuntimeError = 5,
    /// No backend supports the request.
    UnsupportedOperation = 6,
    /// The request exceeds a limit, or a buffer is too short.
    TooLarge = 7,
    /// No model has the name.
    NotFound = 8,
    /// The time was over.
    Timeout = 9,
    /// The guest lacks the permission.
    Security = 10,
    /// Any other error of the engine.
    Unknown = 11,
    /// The engine, guest or job was closed, or was never there.
    Closed = 12,
    /// The library has a defect: it panicked, and the call had no result.
    Panic = 13,
    /// The job is not done. Its call goes on.
    NotDone = 14,
    /// gp_compute_single: the sequence is complete.
    EndOfSequence = 100,
    /// The context of a language model has no room for more. What was made until then can be read.
    ContextFull = 101,
    /// The prompt does not fit into the context of the language model.
    PromptTooLong = 102,
    /// The backend has found no model where it was told to look for one.
    ModelNotFound = 103,
}

/// A number of `gp_code`, where C gives it.
pub type CodeNumber = u32;

/// What a failed call says. A call writes it if it fails, and only then; it need not be initialised before.
#[repr(C)]
pub struct gp_error {
    /// The same code as the call returns.
    pub code: gp_code,
    /// The bytes that a buffer needs, if it was too short; otherwise 0.
    pub needed: usize,
    /// What was wrong and what the bound is: UTF-8, ended by a zero.
    pub message: [c_char; GP_MESSAGE_BYTES],
}

/// The error of a call.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: gp_code,
    message: String,
    needed: usize,
}

impl Failure {
    pub(crate) fn closed(call: &str, what: &str) -> Self {
        let message = format!("{call}: the {what} was closed or never created");
        Self { code: gp_code::Closed, message, needed: 0 }
    }

    pub(crate) fn not_done(call: &str) -> Self {
        Self { code: gp_code::NotDone, message: format!("{call}: the job is not done"), needed: 0 }
    }

    /// The result of a single step.
    pub(crate) fn of_step(step: Step) -> Result<(), Self> {
        step.into_result().map_err(|end| {
            let message = format!("compute_single: {}", end.message());
            Self { code: end.kind().into(), message, needed: 0 }
        })
    }

    pub(crate) fn panic(call: &str, message: &str) -> Self {
        Self { code: gp_code::Panic, message: format!("{call}: panicked: {message}"), needed: 0 }
    }

    /// For C.
    pub(crate) fn report(&self) -> gp_error {
        let mut message = [0; GP_MESSAGE_BYTES];
        let end = self.message.floor_char_boundary(GP_MESSAGE_BYTES - 1);
        // A zero in a text of a guest would end the message.
        let bytes = self.message.as_bytes()[..end].iter().map(|byte| if *byte == 0 { b' ' } else { *byte });
        for (to, byte) in message.iter_mut().zip(bytes) {
            *to = byte as c_char;
        }
        gp_error { code: self.code, needed: self.needed, message }
    }
}

impl From<ErrorKind> for gp_code {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidArgument => Self::InvalidArgument,
            ErrorKind::InvalidEncoding => Self::InvalidEncoding,
            ErrorKind::MissingMemory => Self::MissingMemory,
            ErrorKind::Busy => Self::Busy,
            ErrorKind::RuntimeError => Self::RuntimeError,
            ErrorKind::UnsupportedOperation => Self::UnsupportedOperation,
            ErrorKind::TooLarge => Self::TooLarge,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Timeout => Self::Timeout,
            ErrorKind::Security => Self::Security,
            ErrorKind::EndOfSequence => Self::EndOfSequence,
            ErrorKind::ContextFull => Self::ContextFull,
            ErrorKind::PromptTooLong => Self::PromptTooLong,
            ErrorKind::ModelNotFound => Self::ModelNotFound,
            _ => Self::Unknown,
        }
    }
}

/// The kind of error of a number of `gp_code`; `None` for what is none of the engine's.
pub(crate) fn kind_of(code: CodeNumber) -> Option<ErrorKind> {
    ErrorKind::ALL.into_iter().find(|kind| gp_code::from(*kind) as u32 == code)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let needed = error.needed_bytes().unwrap_or(0);
        Self { code: error.kind().into(), message: error.message().to_owned(), needed }
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Self { code: error.kind().into(), message: Chain(&error).to_string(), needed: 0 }
    }
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        let code = match &error {
            BackendError::NotFound { .. } => gp_code::NotFound,
            BackendError::NameTaken { .. } => gp_code::InvalidArgument,
            _ => gp_code::RuntimeError,
        };
        Self { code, message: Chain(&error).to_string(), needed: 0 }
    }
}

/// An error and its sources.
struct Chain<'a>(&'a dyn StdError);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
