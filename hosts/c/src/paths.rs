//! Paths of C, and the models there.

use std::ffi::{CStr, c_char};
use std::path::{Path, PathBuf};

use graphpool::nn::ModelSource;
use graphpool_ffi::Arguments;

use crate::code::Failure;

/// A path of C, ended by a zero.
pub(crate) fn path(arguments: &mut Arguments, path: *const c_char) -> Result<PathBuf, Failure> {
    let bytes = arguments.c_bytes("path", path.cast())?;
    Ok(from_bytes(bytes).ok_or_else(|| arguments.invalid("path is not UTF-8"))?)
}

/// A path in a buffer of C, up to its zero. `None` if it has none, is empty, or is no path here.
pub(crate) fn path_in(buffer: &[c_char]) -> Option<PathBuf> {
    let bytes: Vec<u8> = buffer.iter().map(|byte| *byte as u8).collect();
    let text = CStr::from_bytes_until_nul(&bytes).ok()?;
    from_bytes(text.to_bytes().to_vec()).filter(|path| !path.as_os_str().is_empty())
}

/// The bytes are the path's where the system has paths so, and UTF-8 elsewhere.
#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "for other systems")]
fn from_bytes(bytes: Vec<u8>) -> Option<PathBuf> {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    Some(OsString::from_vec(bytes).into())
}

#[cfg(not(unix))]
fn from_bytes(bytes: Vec<u8>) -> Option<PathBuf> {
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

/// The model at a path: a file, or a directory with one model.
pub(crate) fn on_disk(path: &Path) -> ModelSource {
    if path.is_dir() { ModelSource::directory(path) } else { ModelSource::path(path) }
}
