//! The backend, and the single flight that opens its library.

use std::fmt;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use graphpool::backend::{Backend, BackendGraph, Encoding, Error, LoadRequest, Target};

use crate::graph::DylibGraph;
use crate::library::Library;
use crate::settings::DylibSettings;

/// A backend whose models run in a shared library with WAMR's backend interface.
///
/// The library is opened once, by the first call that needs it: calls that come meanwhile wait for that, and get its
/// error if it fails. The next call tries again. The library stays mapped as long as the backend, a graph or a context
/// lives, or for good if [that is declared](DylibSettings::with_kept_mapped).
pub struct DylibBackend {
    path: PathBuf,
    /// The name of the file, for messages.
    file: String,
    name: String,
    settings: Arc<DylibSettings>,
    state: Mutex<State>,
}

/// * O1: at most one thread opens the library at a time.
/// * O2: a call gets the result of an attempt that has ended after the call began.
/// * O3: each attempt ends, also by a panic.
enum State {
    Closed,
    Opening(Arc<Attempt>),
    Open(Arc<Library>),
}

#[derive(Default)]
struct Attempt {
    result: Mutex<Option<Result<Arc<Library>, Error>>>,
    ended: Condvar,
}

impl DylibBackend {
    /// A backend for the library at `path`, which the first load opens.
    ///
    /// # Safety
    ///
    /// The file must be a library with WAMR's backend interface that keeps to it:
    ///
    /// * A function with one of the nine names has that function's type, reads and writes only where its arguments
    ///   allow, and may be called from any thread, as [`Serialized`](crate::Serialized) is declared. No C++ exception
    ///   leaves it.
    /// * The library reads the bytes of a model at the latest in `deinit_backend` of the context that has loaded it,
    ///   or, without `deinit_backend`, in the last call on that context.
    /// * It reads the dimensions and data of an input only in the `set_input` that gives them, and in `compute` of the
    ///   same execution context. It keeps no pointer to an input that it refuses, and none to an output's buffer.
    /// * Its initialisers and finalisers, and those of the libraries that it brings, may run on any thread.
    /// * Once the last context has ended, nothing of it runs and nothing will call it: no thread of its own, no
    ///   destructor of a thread's values (`pthread_key_create`), no signal handler, no callback that it has registered
    ///   elsewhere. It is unmapped then. This is not asked of a library that [stays
    ///   mapped](DylibSettings::with_kept_mapped), except that one which lacks a function is unmapped when its
    ///   initialisers have run.
    /// * All backends that share a mapping ([`Mapping::InPlace`](crate::Mapping::InPlace)) declare the same
    ///   [`Serialized`](crate::Serialized), if one of them declares
    ///   [`Serialized::Library`](crate::Serialized::Library).
    ///
    /// The same holds for whatever file is at `path` when it is opened.
    #[must_use]
    pub unsafe fn new(path: impl Into<PathBuf>, settings: DylibSettings) -> Self {
        let path = path.into();
        let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let name = settings.name.clone().unwrap_or_else(|| name_of(&file));
        Self { path, file, name, settings: Arc::new(settings), state: Mutex::new(State::Closed) }
    }

    /// A backend for the library at `path`, which is opened now.
    ///
    /// # Safety
    ///
    /// As for [`new`](Self::new).
    ///
    /// # Errors
    ///
    /// [`RuntimeError`](graphpool::backend::ErrorKind::RuntimeError) if the file cannot be read or opened, or lacks a
    /// function; the message names it.
    pub unsafe fn open(path: impl Into<PathBuf>, settings: DylibSettings) -> Result<Self, Error> {
        // SAFETY: the caller's contract.
        let backend = unsafe { Self::new(path, settings) };
        backend.library()?;
        Ok(backend)
    }

    /// The library's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The library; opens it if it is closed.
    fn library(&self) -> Result<Arc<Library>, Error> {
        // SAFETY: the contract of `new`.
        self.library_by(|| unsafe { Library::open(&self.path, &self.file, &self.settings) })
    }

    /// The library; calls `open` if it is closed.
    fn library_by(&self, open: impl FnOnce() -> Result<Library, Error>) -> Result<Arc<Library>, Error> {
        let attempt = {
            let mut state = lock(&self.state);
            match &*state {
                State::Open(library) => return Ok(Arc::clone(library)),
                State::Opening(attempt) => {
                    let attempt = Arc::clone(attempt);
                    drop(state);
                    return attempt.wait();
                }
                State::Closed => {
                    let attempt = Arc::<Attempt>::default();
                    *state = State::Opening(Arc::clone(&attempt));
                    attempt
                }
            }
        };
        // O3.
        let panicked = Err(Error::runtime_error(format!("the library {} cannot be opened: a panic", self.file)));
        let mut opening = Opening { backend: self, attempt, result: panicked };
        opening.result = open().map(Arc::new);
        opening.result.clone()
    }
}

/// The attempt of the thread that opens the library. The drop ends it with the result.
struct Opening<'a> {
    backend: &'a DylibBackend,
    attempt: Arc<Attempt>,
    result: Result<Arc<Library>, Error>,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let next = self.result.as_ref().map_or(State::Closed, |library| State::Open(Arc::clone(library)));
        let opening = mem::replace(&mut *lock(&self.backend.state), next);
        drop(opening);
        self.attempt.end(&self.result);
    }
}

impl Attempt {
    fn wait(&self) -> Result<Arc<Library>, Error> {
        let mut result = lock(&self.result);
        loop {
            if let Some(result) = &*result {
                return result.clone();
            }
            result = self.ended.wait(result).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn end(&self, result: &Result<Arc<Library>, Error>) {
        *lock(&self.result) = Some(result.clone());
        self.ended.notify_all();
    }
}

impl Backend for DylibBackend {
    fn name(&self) -> &str {
        &self.name
    }

    fn supports(&self, encoding: Encoding, target: Target) -> bool {
        self.settings.encodings.contains(&encoding) && self.settings.targets.contains(&target)
    }

    fn load(&self, request: &LoadRequest<'_>) -> Result<Box<dyn BackendGraph>, Error> {
        Ok(Box::new(DylibGraph::load(self.library()?, &self.settings, request)?))
    }
}

impl fmt::Debug for DylibBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = matches!(&*lock(&self.state), State::Open(_));
        f.debug_struct("DylibBackend").field("name", &self.name).field("open", &open).finish_non_exhaustive()
    }
}

/// The name of a library's file without `lib`, its extension and a version behind that.
fn name_of(file: &str) -> String {
    let name = file.strip_prefix("lib").unwrap_or(file);
    let end = [".so", ".dylib"].iter().filter_map(|extension| name.find(extension)).min();
    name[..end.unwrap_or(name.len())].to_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_panic_while_the_library_opens_ends_the_attempt() {
        // SAFETY: nothing is opened.
        let backend = Arc::new(unsafe { DylibBackend::new("/nowhere", DylibSettings::new([])) });
        let (begun, waits) = mpsc::channel();
        let opener = thread::spawn({
            let backend = Arc::clone(&backend);
            move || {
                let open = || {
                    begun.send(()).unwrap();
                    thread::sleep(Duration::from_millis(50));
                    panic!("expected by the test")
                };
                catch_unwind(AssertUnwindSafe(|| backend.library_by(open).map(drop))).is_err()
            }
        });
        waits.recv().unwrap();
        // One call that waits for the attempt, and one that comes after it.
        let (end, ended) = mpsc::channel();
        thread::spawn(move || {
            for _ in 0..2 {
                end.send(backend.library_by(|| Err(Error::busy("tried again"))).map(drop)).unwrap();
            }
        });
        let results = [(); 2].map(|()| ended.recv_timeout(Duration::from_secs(10)).expect("a call that ends"));
        let messages = results.map(|result| result.unwrap_err().message().to_owned());
        assert_eq!(messages, ["the library nowhere cannot be opened: a panic", "tried again"]);
        assert!(opener.join().unwrap());
    }

    #[test]
    fn a_backend_is_named_after_its_file() {
        for (file, name) in [
            ("libwasi_nn_onnx.so", "wasi_nn_onnx"),
            ("libx.so.1.2", "x"),
            ("plugin.dylib", "plugin"),
            ("plugin", "plugin"),
        ] {
            assert_eq!(name_of(file), name);
        }
    }
}
