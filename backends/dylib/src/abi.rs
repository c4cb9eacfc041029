//! The interface of WAMR's backend libraries: nine C functions, the layouts of their arguments, and their error
//! numbers.

use std::ffi::{c_char, c_void};
use std::mem::offset_of;

use graphpool::backend::{Error, ErrorKind};

/// The 4-byte enum that every function returns.
pub(crate) type Errno = u32;

/// A pointer to bytes, and their number. Tensor data, and a part of a model.
#[repr(C)]
pub(crate) struct Bytes {
    pub(crate) pointer: *mut u8,
    pub(crate) length: u32,
}

/// The parts of a model.
#[repr(C)]
pub(crate) struct Parts {
    pub(crate) pointer: *mut Bytes,
    pub(crate) length: u32,
}

/// The sizes of a tensor.
#[repr(C)]
pub(crate) struct Dimensions {
    pub(crate) pointer: *mut u32,
    pub(crate) length: u32,
}

/// A tensor.
#[repr(C)]
pub(crate) struct Tensor {
    pub(crate) dimensions: *mut Dimensions,
    pub(crate) ty: u8,
    /// Zeros, so that a library that reads the type as a 4-byte enum gets the same number.
    pub(crate) padding: [u8; 7],
    pub(crate) data: Bytes,
}

const _: () = {
    assert!(size_of::<Bytes>() == 16 && offset_of!(Bytes, length) == 8);
    assert!(size_of::<Parts>() == 16 && offset_of!(Parts, length) == 8);
    assert!(size_of::<Dimensions>() == 16 && offset_of!(Dimensions, length) == 8);
    assert!(size_of::<Tensor>() == 32 && align_of::<Tensor>() == 8);
    assert!(offset_of!(Tensor, ty) == 8 && offset_of!(Tensor, data) == 16);
};

pub(crate) type InitBackend = unsafe extern "C" fn(*mut *mut c_void) -> Errno;
pub(crate) type DeinitBackend = unsafe extern "C" fn(*mut c_void) -> Errno;
pub(crate) type Load = unsafe extern "C" fn(*mut c_void, *mut Parts, u32, u32, *mut u32) -> Errno;
pub(crate) type LoadByName = unsafe extern "C" fn(*mut c_void, *const c_char, u32, *mut u32) -> Errno;
pub(crate) type LoadByNameWithConfig =
    unsafe extern "C" fn(*mut c_void, *const c_char, u32, *const c_char, u32, *mut u32) -> Errno;
pub(crate) type InitExecutionContext = unsafe extern "C" fn(*mut c_void, u32, *mut u32) -> Errno;
pub(crate) type SetInput = unsafe extern "C" fn(*mut c_void, u32, u32, *mut Tensor) -> Errno;
pub(crate) type Compute = unsafe extern "C" fn(*mut c_void, u32) -> Errno;
pub(crate) type GetOutput = unsafe extern "C" fn(*mut c_void, u32, u32, *mut Bytes, *mut u32) -> Errno;

pub(crate) const SUCCESS: Errno = 0;
pub(crate) const TOO_LARGE: Errno = 7;
/// A language model has reached the end of its text.
pub(crate) const END_OF_SEQUENCE: Errno = 100;

/// The name of an error number, and the kind that a guest gets.
fn meaning(errno: Errno) -> Option<(&'static str, ErrorKind)> {
    Some(match errno {
        1 => ("invalid_argument", ErrorKind::InvalidArgument),
        2 => ("invalid_encoding", ErrorKind::InvalidEncoding),
        3 => ("missing_memory", ErrorKind::MissingMemory),
        4 => ("busy", ErrorKind::Busy),
        5 => ("runtime_error", ErrorKind::RuntimeError),
        6 => ("unsupported_operation", ErrorKind::UnsupportedOperation),
        TOO_LARGE => ("too_large", ErrorKind::TooLarge),
        8 => ("not_found", ErrorKind::NotFound),
        END_OF_SEQUENCE => ("end_of_sequence", ErrorKind::EndOfSequence),
        101 => ("context_full", ErrorKind::ContextFull),
        102 => ("prompt_too_long", ErrorKind::PromptTooLong),
        103 => ("model_not_found", ErrorKind::ModelNotFound),
        _ => return None,
    })
}

/// The error of a function of the library `name` that has returned `errno`; `Ok` for success.
pub(crate) fn check(name: &str, function: &str, errno: Errno) -> Result<(), Error> {
    match meaning(errno) {
        _ if errno == SUCCESS => Ok(()),
        Some((word, kind)) => Err(Error::new(kind, format!("{function} of {name} returned {word} ({errno})"))),
        None => Err(Error::runtime_error(format!("{function} of {name} returned {errno}, which is no error number"))),
    }
}

#[cfg(test)]
mod tests {
    use graphpool::backend::wire::Dialect;

    use super::*;

    #[test]
    fn each_number_of_an_error_is_its_kind_and_every_other_is_a_runtime_error() {
        assert!(check("x", "compute", SUCCESS).is_ok());
        for errno in (1..=300).chain([u32::MAX]) {
            let error = check("x", "compute", errno).unwrap_err();
            match errno {
                // The kinds with a number of their own in wasi-nn have the same one here.
                1..=8 | 100..=103 => assert_eq!(u32::from(Dialect::Wamr.errno(error.kind())), errno),
                _ => assert_eq!(error.message(), format!("compute of x returned {errno}, which is no error number")),
            }
        }
    }
}
