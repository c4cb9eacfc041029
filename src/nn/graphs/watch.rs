//! A watch on a directory of models: a file that is replaced is a model that is reloaded.
//!
//! The events only say that something has happened. What has, is found by looking through the directory once it has
//! been quiet for a moment: so a file that is written in pieces, renamed into place or touched ten times is one reload.
//!
//! * W1: a name follows the one file that it was registered from. Other files of the name are nothing to it, and a name
//!   that the host has from elsewhere is never touched.
//! * W2: a name is registered when its file is new or has changed, and at no other time.
//! * W3: a change that comes after a file was read is seen: stamps are taken before a file is read, and the directory
//!   is watched before it is looked through.

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

/// How long a directory has to be quiet before it is looked through, and how long a busy one may keep that waiting.
const QUIET: Duration = Duration::from_millis(50);
const AT_LAST: Duration = Duration::from_secs(1);

/// How often it is asked whether the path still leads to the directory that is watched: no event tells of a link that
/// leads elsewhere now.
const POLL: Duration = Duration::from_secs(1);

/// A watch on a directory, from [`Engine::watch_directory`]; ends when it is dropped, once a reload that it has begun
/// is done.
///
/// ```no_run
/// # use graphpool::nn::{Engine, ModelError, Target};
/// # fn host(engine: &Engine) -> Result<(), ModelError> {
/// let watch = engine.watch_directory("models", Target::Cpu)?;
/// // As long as it lives.
/// drop(watch);
/// # Ok(())
/// # }
/// ```
///
/// One that is not kept has ended already, and the compiler warns of it:
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
    /// Registers the models in `directory` as [`register_directory`](Self::register_directory) does, skipping names that
    /// are taken, and follows the directory until the [`DirectoryWatch`] is dropped: a new file is registered, and a
    /// file that is replaced is reloaded, as by [`reload_model`](Self::reload_model).
    ///
    /// A name follows the file that it was registered from (by this watch, an earlier one or the host), as long as the
    /// paths are spelt alike. It keeps its encoding: where `m.onnx` is loaded, `m.gguf` is ignored. A name that the host
    /// has registered from another place, or replaced by another source, is left alone. A name whose file is removed
    /// stays until the host removes it. A name that the host has removed is registered again when its file changes.
    ///
    /// A file that cannot be built leaves the version before in use, and is tried again at the next event in the
    /// directory. A file that is a link is followed when the link itself is replaced. The directory may be replaced, or
    /// be a link that is changed to another directory: the watch notices within about a second.
    ///
    /// Replace a file by renaming another over it. One that is written in place may be read when half of it is there; it
    /// is read again after the next event. The watch does not keep the engine alive.
    ///
    /// # Errors
    ///
    /// [`ReadDirectory`](ModelError::ReadDirectory), and [`Watch`](ModelError::Watch) or
    /// [`Thread`](ModelError::Thread) where the system refuses one.
    pub fn watch_directory(&self, directory: impl AsRef<Path>, target: Target) -> Result<DirectoryWatch, ModelError> {
        let directory = directory.as_ref().to_owned();
        let unwatched =
            |path: &Path, error: notify::Error| ModelError::Watch { path: path.to_owned(), source: Box::new(error) };
        // For its errors; the first look asks again.
        models_in(&directory)?;
        // Room for one: that something has happened is all that it says.
        let (wake, woken) = mpsc::sync_channel(1);
        let events = wake.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the models is an event, too. An error may stand for events that are lost.
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
        // Release: pairs with the Acquire of `Signals::wait`. Where there is no room, the thread is about to wake.
        self.ended.store(true, Ordering::Release);
        let _ = self.wake.try_send(());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

/// What tells one state of a file from the next, and one directory from another.
#[derive(Clone, Copy, PartialEq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    identity: Identity,
    /// When anything of it has changed, its times with it.
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

/// What wakes the thread.
struct Signals {
    woken: Receiver<()>,
    ended: Arc<AtomicBool>,
}

impl Signals {
    /// Whether it was woken within `time`; `None` where it is to end.
    fn wait(&self, time: Duration) -> Option<bool> {
        let woken = self.woken.recv_timeout(time);
        // Acquire: pairs with the Release of the watch's drop.
        let ended = self.ended.load(Ordering::Acquire) || woken == Err(RecvTimeoutError::Disconnected);
        (!ended).then_some(woken.is_ok())
    }
}

/// A directory, and what was last seen of its files.
struct Followed {
    directory: PathBuf,
    target: Target,
    watcher: RecommendedWatcher,
    /// The directory that the watcher hears of; `None` where that may be another than the path leads to.
    armed: Option<Identity>,
    files: HashMap<PathBuf, Seen>,
}

/// A model's file as it was last looked at.
struct Seen {
    /// Of the file, and of the weights that belong to it.
    stamps: Vec<Option<Stamp>>,
    /// Its reload has failed, and is to be tried again.
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
                // The event may be the end of the directory, and another have its number.
                self.armed = None;
            }
            let Some(inner) = engine.upgrade() else { return };
            if self.armed.is_none() || self.armed != self.identity() {
                // Where it can't be watched now, the next poll tries again.
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
        // Before the watch: where the path leads elsewhere in between, the next poll finds another identity.
        self.armed = None;
        let identity = self.identity();
        // Refused where its directory is gone.
        let _ = self.watcher.unwatch(&self.directory);
        self.watcher.watch(&self.directory, RecursiveMode::NonRecursive)?;
        self.armed = identity;
        Ok(())
    }

    /// Registers what is new and reloads what has changed.
    fn look(&mut self, engine: &Engine) {
        // Where it can't be read now, what was seen stands.
        let Ok(models) = models_in(&self.directory) else { return };
        let mut before = std::mem::take(&mut self.files);
        for (name, files) in models {
            for (place, (file, encoding)) in files.iter().enumerate() {
                // W3: before anything is read.
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

    /// Has the name of a file follow it; `false` where that has failed.
    fn update(&self, engine: &Engine, name: &str, (file, encoding): (&Path, Encoding), may_register: bool) -> bool {
        let source = || source_of(file, encoding);
        let Ok(model) = engine.inner.registry.get(name) else {
            // W2. Where it is refused, as the name is too long or has just been taken, it stays so.
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
