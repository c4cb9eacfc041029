//! The host's function for names that are not registered.

use std::ffi::{CString, c_char, c_void};

use graphpool::nn::{Error, ErrorKind, ResolvedModel};

use crate::code::{CodeNumber, gp_code, kind_of};
use crate::numbers::HOST;
use crate::paths::{on_disk, path_in};

/// The bytes of `gp_resolved.path`, the final zero included.
pub const GP_PATH_BYTES: usize = 4096;

/// The answer of a resolver, which fills it. It is all zero before.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct gp_resolved {
    /// The model's file, or a directory with one model, ended by a zero.
    pub path: [c_char; GP_PATH_BYTES],
    /// Its gp_encoding.
    pub encoding: u32,
    /// Its gp_target.
    pub target: u32,
}

/// Asked for a model that a guest loads by a name that is not registered. `data` is the caller's. Returns GP_CODE_OK
/// with the model, which is then registered under the name; GP_CODE_NOT_FOUND if there is none; or the code that the
/// guest is to get.
///
/// The name ends with a zero and may come from a guest: it may have `..` and `/` in it. Called on the thread of the
/// load, for different names at the same time. It must return. It may call the library, but a load of the name that it
/// is asked for, and any that gp_load_start or gp_load_by_name_start begins, gives an error.
pub type gp_resolver =
    Option<unsafe extern "C" fn(data: *mut c_void, name: *const c_char, model: *mut gp_resolved) -> CodeNumber>;

/// Called with the data that the library needs no more.
pub type gp_free = Option<unsafe extern "C" fn(data: *mut c_void)>;

/// A resolver with its data.
pub(crate) struct Resolver {
    ask: unsafe extern "C" fn(*mut c_void, *const c_char, *mut gp_resolved) -> CodeNumber,
    data: *mut c_void,
    free: gp_free,
}

impl Drop for Resolver {
    fn drop(&mut self) {
        if let Some(free) = self.free {
            // SAFETY: C's own function with its own data, which nothing uses any more.
            unsafe { free(self.data) };
        }
    }
}

// SAFETY: the data is only handed back. That the function is called on any thread is in its documentation.
unsafe impl Send for Resolver {}
// SAFETY: as above.
unsafe impl Sync for Resolver {}

impl Resolver {
    pub(crate) fn new(ask: gp_resolver, data: *mut c_void, free: gp_free) -> Option<Self> {
        Some(Self { ask: ask?, data, free })
    }

    /// Asks C.
    pub(crate) fn resolve(&self, name: &str) -> Result<Option<ResolvedModel>, Error> {
        // No name of C has a zero in it.
        let Ok(name) = CString::new(name) else { return Ok(None) };
        let mut model = gp_resolved { path: [0; GP_PATH_BYTES], encoding: 0, target: 0 };
        // SAFETY: C's own function, with a place for its answer.
        match unsafe { (self.ask)(self.data, name.as_ptr(), &raw mut model) } {
            code if code == gp_code::Ok as u32 => {}
            code if code == gp_code::NotFound as u32 => return Ok(None),
            code => {
                let kind = kind_of(code).unwrap_or(ErrorKind::RuntimeError);
                return Err(Error::new(kind, "the host's resolver refused the name"));
            }
        }
        let answer =
            || Some((path_in(&model.path)?, HOST.encoding(model.encoding).ok()?, HOST.target(model.target).ok()?));
        let (path, encoding, target) =
            answer().ok_or_else(|| Error::runtime_error("the host's resolver gave a model that is not valid"))?;
        Ok(Some(ResolvedModel::new(on_disk(&path), encoding, target)))
    }
}
