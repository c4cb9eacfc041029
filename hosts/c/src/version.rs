//! The library's version.

use std::ffi::{CStr, c_char};

/// The number of the interface that this header describes. It changes whenever a program must be compiled again.
pub const GP_ABI: u32 = 0;

const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => panic!("a version has no zero"),
};

/// The library's version, such as "0.1.0". The text lives as long as the library.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub extern "C" fn gp_version() -> *const c_char {
    VERSION.as_ptr()
}

/// The library's GP_ABI. A program that finds another number than its header's must not call anything else.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub extern "C" fn gp_abi() -> u32 {
    GP_ABI
}
