//! An open library: its functions, and the private copy of its file.

use std::error::Error as _;
use std::fs::File;
use std::mem;
use std::path::Path;
use std::sync::Arc;

use graphpool::backend::Error;
use libloading::os::unix::{Library as Mapped, RTLD_LOCAL, RTLD_NOW};

use crate::abi::{
    Compute, DeinitBackend, GetOutput, InitBackend, InitExecutionContext, Load, LoadByName, LoadByNameWithConfig,
    SetInput,
};
use crate::settings::{DylibSettings, Mapping};
use crate::turn::Turn;

/// An open library. It is unmapped with the last reference, which every graph and every context holds, unless it is to
/// stay mapped.
///
/// * L1: the functions are called only while this value lives.
/// * L2: each `init_backend` that succeeded is followed by one `deinit_backend`, before the value is dropped.
pub(crate) struct Library {
    pub(crate) functions: Functions,
    /// The name for messages.
    pub(crate) name: String,
    /// Held by each call where the whole library is serialized.
    pub(crate) turn: Arc<Turn>,
    /// The mapping, and then the file of a private copy: as long as it is open, debuggers and backtraces find it by the
    /// library's path. `None` if the library stays mapped for good.
    _mapped: Option<(Mapped, Option<File>)>,
}

/// The functions of a library.
pub(crate) struct Functions {
    pub(crate) init_backend: InitBackend,
    pub(crate) deinit_backend: Option<DeinitBackend>,
    pub(crate) load: Load,
    pub(crate) load_by_name: Option<LoadByName>,
    pub(crate) load_by_name_with_config: Option<LoadByNameWithConfig>,
    pub(crate) init_execution_context: InitExecutionContext,
    pub(crate) set_input: SetInput,
    pub(crate) compute: Compute,
    pub(crate) get_output: GetOutput,
}

impl Library {
    /// Maps the file and finds its functions.
    ///
    /// # Safety
    ///
    /// The file must be a library with WAMR's interface, whose functions keep to it, and whose initialisers and
    /// finalisers may run on any thread.
    pub(crate) unsafe fn open(path: &Path, name: &str, settings: &DylibSettings) -> Result<Self, Error> {
        let (path, file) = match settings.mapping {
            Mapping::Copy => private_copy(path, name)?,
            Mapping::InPlace => (path.to_owned(), None),
        };
        // SAFETY: the caller's contract.
        let mapped = unsafe { Mapped::open(Some(&path), RTLD_NOW | RTLD_LOCAL) };
        let mapped = mapped.map_err(|error| {
            let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            // A guest may read the message, and the host's paths are not for guests.
            let why = why.replace(&*path.to_string_lossy(), name);
            Error::runtime_error(format!("the library {name} cannot be opened: {why}"))
        })?;
        let functions = Functions::of(&mapped, name, settings.needs_deinit)?;
        let turn = Turn::of_library(functions.init_backend as *const () as usize);
        let mut mapped = Some((mapped, file));
        if settings.kept_mapped {
            mem::forget(mapped.take());
        }
        Ok(Self { functions, name: name.to_owned(), turn, _mapped: mapped })
    }
}

impl Functions {
    fn of(mapped: &Mapped, name: &str, needs_deinit: bool) -> Result<Self, Error> {
        let missing = |function: &str| Error::runtime_error(format!("the library {name} has no function {function}"));
        macro_rules! find {
            ($type:ty, $function:literal) => {
                // SAFETY: the library has WAMR's interface, in which the function of this name has this type. A symbol
                // whose address is null is `None`.
                unsafe { mapped.get::<Option<$type>>($function) }.ok().and_then(|symbol| *symbol)
            };
        }
        macro_rules! need {
            ($type:ty, $function:literal) => {
                find!($type, $function).ok_or_else(|| missing($function))?
            };
        }
        let deinit_backend = find!(DeinitBackend, "deinit_backend");
        if needs_deinit && deinit_backend.is_none() {
            return Err(missing("deinit_backend"));
        }
        Ok(Self {
            init_backend: need!(InitBackend, "init_backend"),
            deinit_backend,
            load: need!(Load, "load"),
            load_by_name: find!(LoadByName, "load_by_name"),
            load_by_name_with_config: find!(LoadByNameWithConfig, "load_by_name_with_config"),
            init_execution_context: need!(InitExecutionContext, "init_execution_context"),
            set_input: need!(SetInput, "set_input"),
            compute: need!(Compute, "compute"),
            get_output: need!(GetOutput, "get_output"),
        })
    }
}

/// A copy of the file in memory: its path, and the open file.
///
/// * L3: no two copies have the same path.
///
/// The loader tells libraries apart by path and by inode, and the path comes first. A library may stay mapped after its
/// last close, and its path stays with it: the number of its file, which is closed by then, is not enough. The inode of
/// a copy is its own as long as the copy is mapped.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn private_copy(path: &Path, name: &str) -> Result<(std::path::PathBuf, Option<File>), Error> {
    use std::os::fd::AsRawFd as _;

    let failed =
        |why: &dyn std::fmt::Display| Error::runtime_error(format!("the library {name} cannot be read: {why}"));
    let mut file = File::open(path).map_err(|error| failed(&error))?;
    if !file.metadata().map_err(|error| failed(&error))?.is_file() {
        return Err(failed(&"it is not a regular file"));
    }
    let copy = memfd::MemfdOptions::new().close_on_exec(true).create(name).map_err(|error| failed(&error))?;
    let mut copy = copy.into_file();
    std::io::copy(&mut file, &mut copy).map_err(|error| failed(&error))?;
    let path = path_of_copy(copy.as_raw_fd());
    Ok((path.into(), Some(copy)))
}

/// A path of an open file that was never given before (L3). The system skips `/` and `./` between the last two names of
/// the path: these are the binary digits of a number that counts the paths.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn path_of_copy(file: std::os::fd::RawFd) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};

    static COPIES: AtomicU64 = AtomicU64::new(1);
    // Relaxed: each gets another number, and nothing else is told by it.
    let number = COPIES.fetch_add(1, Ordering::Relaxed);
    let digits = format!("{number:b}").replace('0', "/").replace('1', "./");
    format!("/proc/self/fd/{digits}{file}")
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn private_copy(path: &Path, _name: &str) -> Result<(std::path::PathBuf, Option<File>), Error> {
    Ok((path.to_owned(), None))
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use std::collections::BTreeSet;
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn a_file_has_another_path_each_time() {
        let file = memfd::MemfdOptions::new().create("x").unwrap().into_file();
        file.set_len(77).unwrap();
        let paths: BTreeSet<String> = (0..1000).map(|_| path_of_copy(file.as_raw_fd())).collect();
        assert_eq!(paths.len(), 1000);
        assert!(paths.iter().all(|path| std::fs::metadata(path).unwrap().len() == 77));
    }
}
