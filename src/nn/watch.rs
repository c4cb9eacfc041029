//! A watch on a directory of models: a file that is replaced is a model that is reloaded.
//!
//! The events only say that something has happened. What has, is found by looking through the directory once it has
//! been quiet for a moment: so a file that is written in pieces, renamed into place or touched ten times is one reload.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};
use std::{fmt, fs};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::engine::{Engine, Inner};
use super::names::model_of;
use super::source::files_in;
use super::{Error, Target};

/// How long a directory has to be quiet before it is looked through, and how long a busy one may keep that waiting.
const QUIET: Duration = Duration::from_millis(50);
const AT_LAST: Duration = Duration::from_secs(1);

/// A watch on a directory, from [`Engine::watch_directory`]; ends when it is dropped.
pub struct DirectoryWatch {
    /// `None` only while it is dropped. Its end is what ends the thread.
    watcher: Option<RecommendedWatcher>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Registers the models in `directory` as [`register_directory`](Self::register_directory) does, but for names that
    /// are taken, and from then on follows what happens there: a new file is registered, and one that is replaced is
    /// reloaded, aside, as by [`reload_model`](Self::reload_model), whoever has registered its name. A name whose file is removed stays until the host removes it. A file that
    /// is no good leaves the version before in use, and is tried again at the next event in the directory.
    ///
    /// Replace files by renaming others over them: one that is written in place might be read half written, though it is
    /// read again when the rest has come. The watch does not keep the engine alive.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`](super::ErrorKind::RuntimeError) where the directory cannot be read, or the system refuses a
    /// watch or a thread.
    pub fn watch_directory(&self, directory: impl AsRef<Path>, target: Target) -> Result<DirectoryWatch, Error> {
        let call = "watch_directory";
        let refused = |error: &dyn fmt::Display| Error::runtime_error(format!("{call}: {error}"));
        let directory = directory.as_ref().to_owned();
        let (events, received) = mpsc::channel();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the models is an event, too.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = events.send(());
            }
        })
        .map_err(|error| refused(&error))?;
        watcher.watch(&directory, RecursiveMode::NonRecursive).map_err(|error| refused(&error))?;
        // After the watch has begun, so that nothing is missed between the two.
        let mut seen = Seen { directory, target, stamps: HashMap::new() };
        files_in(&seen.directory).map_err(|error| refused(&error.kind()))?;
        seen.look(self);
        let engine = std::sync::Arc::downgrade(&self.inner);
        let thread = thread::Builder::new()
            .name("graphpool-watch".into())
            .spawn(move || seen.follow(&engine, &received))
            .map_err(|error| refused(&error))?;
        Ok(DirectoryWatch { watcher: Some(watcher), thread: Some(thread) })
    }
}

impl fmt::Debug for DirectoryWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryWatch").finish_non_exhaustive()
    }
}

impl Drop for DirectoryWatch {
    fn drop(&mut self) {
        drop(self.watcher.take());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

/// What tells one state of a file from the next.
#[derive(Clone, Copy, PartialEq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Some(Self { modified: metadata.modified().ok(), length: metadata.len(), inode })
    }
}

/// The directory as the registered models were read from it.
struct Seen {
    directory: PathBuf,
    target: Target,
    stamps: HashMap<PathBuf, Vec<Option<Stamp>>>,
}

impl Seen {
    fn follow(&mut self, engine: &Weak<Inner>, events: &Receiver<()>) {
        while events.recv().is_ok() {
            let first = Instant::now();
            while first.elapsed() < AT_LAST {
                match events.recv_timeout(QUIET) {
                    Ok(()) => {}
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            let Some(inner) = engine.upgrade() else { return };
            self.look(&Engine { inner });
        }
    }

    /// Registers what is new and reloads what has changed.
    fn look(&mut self, engine: &Engine) {
        for (path, stamps) in self.stamps() {
            if self.stamps.get(&path) == Some(&stamps) {
                continue;
            }
            let Some((name, source, encoding)) = model_of(&path) else { continue };
            let done = if engine.inner.registry.has(&name) {
                // One that nobody has asked for yet is read when somebody does.
                let built = engine.inner.registry.get(&name).is_ok_and(|model| model.current().is_some());
                !built || engine.replace_model(&name, source).is_ok()
            } else {
                engine.register_model(&name, source, encoding, self.target).is_ok()
            };
            if done {
                self.stamps.insert(path, stamps);
            }
        }
    }

    /// The model files, each with the stamps of its parts.
    fn stamps(&self) -> HashMap<PathBuf, Vec<Option<Stamp>>> {
        let models = files_in(&self.directory).unwrap_or_default();
        models
            .into_iter()
            .filter_map(|path| {
                model_of(&path)?;
                let weights = path.with_extension("bin");
                let stamps = vec![Stamp::of(&path), Stamp::of(&weights)];
                Some((path, stamps))
            })
            .collect()
    }
}
