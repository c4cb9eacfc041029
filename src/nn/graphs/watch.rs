//! The directory watch: registers new model files and reloads changed ones.
//!
//! A file-system event only signals that something has changed. The watch scans the directory after a short quiet time,
//! so a file that is written in pieces, renamed into place or touched ten times is reloaded once.
//!
//! * W1: a name follows the one file that it was registered from. Other files of the same name are ignored, and names
//!   that the host has registered from other places are never changed.
//! * W2: a name is registered only when its file is new or has changed.
//! * W3: a change after a file was read is detected: stamps are taken before a file is read, and the directory is
//!   watched before it is scanned.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Weak, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use std::{fmt, fs, thread};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use crate::nn::engine::Engine;
use crate::nn::graphs::source::{models_in, parts_of, source_of};
use crate::nn::inner::Inner;
use crate::nn::telemetry::observe;
use crate::nn::{Encoding, ModelError, Target};

/// The quiet time before a scan, and the longest delay of a scan by further events.
const QUIET: Duration = Duration::from_millis(50);
const AT_LAST: Duration = Duration::from_secs(1);

/// The interval at which the path is checked for leading to another directory, because a changed link causes no event.
const POLL: Duration = Duration::from_secs(1);

/// A watch on a directory, from [`Engine::watch_directory`]. Its drop ends the watch and waits for a reload that is
/// under way.
///
/// ```no_run
/// # use graphpool::nn::{Engine, ModelError, Target};
/// # fn host(engine: &Engine) -> Result<(), ModelError> {
/// let watch = engine.watch_directory("models", Target::Cpu)?;
/// // The watch lasts until this drop.
/// drop(watch);
/// # Ok(())
/// # }
/// ```
///
/// A watch that is not kept ends at once, and the compiler warns of it:
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// # use graphpool::nn::{Engine, ModelError, Target};
/// # fn host(engine: &Engine) -> Result<(), ModelError> {
/// engine.watch_directory("models", Target::Cpu)?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a watch ends when it is dropped"]
pub struct DirectoryWatch {
    wake: SyncSender<()>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Registers the models in `directory` as [`register_directory`](Self::register_directory) does, except names that
    /// are taken, and follows the directory until the [`DirectoryWatch`] is dropped: a new file is registered, and a
    /// file that is replaced is reloaded, as by [`reload_model`](Self::reload_model).
    ///
    /// A name follows the file that it was registered from (by this watch, an earlier one or the host), if the paths
    /// are spelt alike. It keeps its encoding: if `m.onnx` is loaded, `m.gguf` is ignored. A name that the host has
    /// registered from another place, or replaced by another source, stays as it is. A name whose file is removed stays
    /// until the host removes it. A name that the host has removed is registered again when its file changes.
    ///
    /// If a changed file cannot be built, the version before stays in use, and the build is tried again at the next
    /// event in the directory. A file that is a link is reloaded when the link itself is replaced. The directory may be
    /// replaced, or be a link that is changed to another directory: the watch notices within about a second.
    ///
    /// Replace a file by renaming another over it. A file that is written in place may be read half-written; it is read
    /// again after the next event. The watch does not keep the engine alive.
    ///
    /// # Errors
    ///
    /// [`ReadDirectory`](ModelError::ReadDirectory), and [`Watch`](ModelError::Watch) or [`Thread`](ModelError::Thread)
    /// if the system refuses a watch or a thread.
    pub fn watch_directory(&self, directory: impl AsRef<Path>, target: Target) -> Result<DirectoryWatch, ModelError> {
        let directory = directory.as_ref().to_owned();
        let unwatched =
            |path: &Path, error: notify::Error| ModelError::Watch { path: path.to_owned(), source: Box::new(error) };
        // Called for its errors; the first scan opens it again.
        models_in(&directory)?;
        // A capacity of one is enough: a message only says that something has changed.
        let (wake, woken) = mpsc::sync_channel(1);
        let events = wake.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reads of the models cause events, too. An error may mean that events were lost.
            if event.map_or(true, |event| !event.kind.is_access()) {
                let _ = events.try_send(());
            }
        })
        .map_err(|error| unwatched(&directory, error))?;
        let mut followed = Followed { directory, target, watcher, armed: None, files: HashMap::new() };
        followed.arm().map_err(|error| unwatched(&followed.directory, error))?;
        followed.look(self);
        let (engine, ended) = (Arc::downgrade(&self.inner), Arc::<AtomicBool>::default());
        let signals = Signals { woken, ended: Arc::clone(&ended) };
        let thread = thread::Builder::new()
            .name("graphpool-watch".into())
            .spawn(move || followed.follow(&engine, &signals))
            .map_err(|source| ModelError::Thread { source })?;
        Ok(DirectoryWatch { wake, ended, thread: Some(thread) })
    }
}

impl fmt::Debug for DirectoryWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryWatch").finish_non_exhaustive()
    }
}

impl Drop for DirectoryWatch {
    fn drop(&mut self) {
        // Release: pairs with the Acquire of `Signals::wait`. If the channel is full, the thread is about to wake.
        self.ended.store(true, Ordering::Release);
        let _ = self.wake.try_send(());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

/// Metadata that differs between two states of a file, and between two directories.
#[derive(Clone, Copy, PartialEq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    identity: Identity,
    /// Changes with the file's content or metadata, including its times.
    changed: (i64, i64),
}

type Identity = (u64, u64);

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        #[cfg(unix)]
        let (identity, changed) = {
            use std::os::unix::fs::MetadataExt;
            ((metadata.dev(), metadata.ino()), (metadata.ctime(), metadata.ctime_nsec()))
        };
        #[cfg(not(unix))]
        let (identity, changed) = ((0, 0), (0, 0));
        Some(Self { modified: metadata.modified().ok(), length: metadata.len(), identity, changed })
    }
}

/// The signals that wake the thread.
struct Signals {
    woken: Receiver<()>,
    ended: Arc<AtomicBool>,
}

impl Signals {
    /// Waits up to `time`, and returns whether a signal came; `None` if the thread is to end.
    fn wait(&self, time: Duration) -> Option<bool> {
        let woken = self.woken.recv_timeout(time);
        // Acquire: pairs with the Release of the watch's drop.
        let ended = self.ended.load(Ordering::Acquire) || woken == Err(RecvTimeoutError::Disconnected);
        (!ended).then_some(woken.is_ok())
    }
}

/// A directory, and the last known state of its files.
struct Followed {
    directory: PathBuf,
    target: Target,
    watcher: RecommendedWatcher,
    /// The directory that the watcher watches; `None` if the path may lead to another one.
    armed: Option<Identity>,
    files: HashMap<PathBuf, Seen>,
}

/// The last known state of a model's file.
struct Seen {
    /// The stamps of the file and of the weights that belong to it.
    stamps: Vec<Option<Stamp>>,
    /// Its reload failed, and will be tried again.
    failed: bool,
}

impl Followed {
    fn follow(&mut self, engine: &Weak<Inner>, signals: &Signals) {
        while let Some(woken) = signals.wait(POLL) {
            if woken {
                let first = Instant::now();
                while first.elapsed() < AT_LAST {
                    match signals.wait(QUIET) {
                        Some(true) => {}
                        Some(false) => break,
                        None => return,
                    }
                }
                // The event may be the removal of the directory, and a new directory may have the same number.
                self.armed = None;
            }
            let Some(inner) = engine.upgrade() else { return };
            if self.armed.is_none() || self.armed != self.identity() {
                // If it can't be watched now, the next poll tries again.
                let _ = self.arm();
                self.look(&Engine { inner });
            }
        }
    }

    fn identity(&self) -> Option<Identity> {
        Stamp::of(&self.directory).map(|stamp| stamp.identity)
    }

    /// Watches the directory that the path leads to now.
    fn arm(&mut self) -> notify::Result<()> {
        // Read before the watch: if the path changes in between, the next poll finds another identity.
        self.armed = None;
        let identity = self.identity();
        // Fails if its directory is gone.
        let _ = self.watcher.unwatch(&self.directory);
        self.watcher.watch(&self.directory, RecursiveMode::NonRecursive)?;
        self.armed = identity;
        Ok(())
    }

    /// Registers new files and reloads changed ones.
    fn look(&mut self, engine: &Engine) {
        // If the directory can't be read now, the last known state stays.
        let Ok(models) = models_in(&self.directory) else { return };
        let mut before = std::mem::take(&mut self.files);
        for (name, files) in models {
            for (place, (file, encoding)) in files.iter().enumerate() {
                // W3: taken before any file is read.
                let stamps: Vec<_> = parts_of(file.clone(), *encoding).iter().map(|part| Stamp::of(part)).collect();
                let seen = before.remove(file);
                let changed = seen.as_ref().is_none_or(|seen| seen.stamps != stamps);
                let retry = seen.is_some_and(|seen| seen.failed);
                let may_register = changed && place == 0;
                let failed = (changed || retry) && !self.update(engine, &name, (file, *encoding), may_register);
                self.files.insert(file.clone(), Seen { stamps, failed });
            }
        }
    }

    /// Updates the name of a file; `false` if that failed.
    fn update(&self, engine: &Engine, name: &str, (file, encoding): (&Path, Encoding), may_register: bool) -> bool {
        let source = || source_of(file, encoding);
        let Ok(model) = engine.inner.registry.get(name) else {
            // W2. If the name is too long or has just been taken, it stays unregistered.
            if may_register {
                let _ = engine.register_model(name, source(), encoding, self.target);
            }
            return true;
        };
        // W1.
        if !model.is_from(file) {
            return true;
        }
        match model.follow(file, source(), &*engine.inner) {
            Ok(Some(built)) => engine.count_reload(name, &built),
            Ok(None) => {}
            Err(error) => {
                observe::reload_failed(name, &error);
                return false;
            }
        }
        true
    }
}
