//! The interface `errors`: why a call failed.

use graphpool::nn;
use wasmtime::component::{Linker, Resource, ResourceTableError, ResourceType};

use crate::wit::bindings::ErrorCode;
use crate::wit::view::{Get, WasiNnView};

const INTERFACE: &str = "wasi:nn/errors@0.2.0-rc-2024-10-28";

/// The resource `error`.
#[derive(Debug)]
pub struct Error {
    error: nn::Error,
}

/// The codes, in the order of their numbers.
const CODES: [ErrorCode; 9] = [
    ErrorCode::InvalidArgument,
    ErrorCode::InvalidEncoding,
    ErrorCode::Timeout,
    ErrorCode::RuntimeError,
    ErrorCode::UnsupportedOperation,
    ErrorCode::TooLarge,
    ErrorCode::NotFound,
    ErrorCode::Security,
    ErrorCode::Unknown,
];

fn code(error: &nn::Error) -> ErrorCode {
    match error.code() {
        nn::ErrorCode::InvalidArgument => ErrorCode::InvalidArgument,
        nn::ErrorCode::InvalidEncoding => ErrorCode::InvalidEncoding,
        nn::ErrorCode::Timeout => ErrorCode::Timeout,
        nn::ErrorCode::RuntimeError => ErrorCode::RuntimeError,
        nn::ErrorCode::UnsupportedOperation => ErrorCode::UnsupportedOperation,
        nn::ErrorCode::TooLarge => ErrorCode::TooLarge,
        nn::ErrorCode::NotFound => ErrorCode::NotFound,
        nn::ErrorCode::Security => ErrorCode::Security,
        nn::ErrorCode::Unknown => ErrorCode::Unknown,
    }
}

/// The number of an error that has no entry because the table is full: its code, counted from the end. A table never
/// gives out such numbers: it would have 2^32 entries.
fn without_entry(code: ErrorCode) -> u32 {
    u32::MAX - code as u32
}

fn code_without_entry(number: u32) -> Option<ErrorCode> {
    CODES.get((u32::MAX - number) as usize).copied()
}

impl WasiNnView<'_> {
    /// The resource for an error that the guest gets.
    pub(super) fn error(&mut self, error: nn::Error) -> Resource<Error> {
        let code = code(&error);
        self.table.push(Error { error }).unwrap_or_else(|_| Resource::new_own(without_entry(code)))
    }

    fn code(&self, error: &Resource<Error>) -> Result<ErrorCode, ResourceTableError> {
        match code_without_entry(error.rep()) {
            Some(code) => Ok(code),
            None => Ok(code(&self.table.get(error)?.error)),
        }
    }

    fn message(&self, error: &Resource<Error>) -> Result<String, ResourceTableError> {
        match code_without_entry(error.rep()) {
            Some(_) => Ok("the store's table of resources had no room for the error's message".to_owned()),
            None => Ok(self.table.get(error)?.error.message().to_owned()),
        }
    }

    fn drop_error(&mut self, number: u32) -> Result<(), ResourceTableError> {
        if code_without_entry(number).is_none() {
            self.table.delete(Resource::<Error>::new_own(number))?;
        }
        Ok(())
    }
}

pub(super) fn link<T: 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    let mut errors = linker.instance(INTERFACE)?;
    errors.resource("error", ResourceType::host::<Error>(), move |mut store, number| {
        Ok(get(store.data_mut()).drop_error(number)?)
    })?;
    errors.func_wrap("[method]error.code", move |mut store, (error,): (Resource<Error>,)| {
        Ok((get(store.data_mut()).code(&error)?,))
    })?;
    errors.func_wrap("[method]error.data", move |mut store, (error,): (Resource<Error>,)| {
        Ok((get(store.data_mut()).message(&error)?,))
    })
}
