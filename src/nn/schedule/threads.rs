//! How the engine's own threads start.

use std::io;

#[cfg(loom)]
use loom::thread;
#[cfg(not(loom))]
use std::thread;

pub(crate) type JoinHandle = thread::JoinHandle<()>;
pub(crate) type Id = thread::ThreadId;

pub(crate) fn current_id() -> Id {
    thread::current().id()
}

/// Starts a thread of that name.
#[cfg(not(loom))]
pub(crate) fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle> {
    thread::Builder::new().name(name.into()).spawn(f)
}

/// A thread of the model, where that has asked for the engine's threads; elsewhere none can be started, which keeps the
/// other models small.
#[cfg(loom)]
pub(crate) fn spawn(_: &str, f: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle> {
    if !modelled::ASKED_FOR.get() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(thread::spawn(f))
}

/// Whether the engine's threads are part of the model that runs.
#[cfg(loom)]
pub(crate) mod modelled {
    use std::cell::Cell;

    std::thread_local! {
        /// std's: all threads of a model are one thread to it.
        pub(crate) static ASKED_FOR: Cell<bool> = const { Cell::new(false) };
    }

    /// Until this is dropped, the engine's threads are threads of the model.
    #[cfg(test)]
    pub(crate) struct Threads(());

    #[cfg(test)]
    impl Threads {
        pub(crate) fn new() -> Self {
            ASKED_FOR.set(true);
            Self(())
        }
    }

    #[cfg(test)]
    impl Drop for Threads {
        fn drop(&mut self) {
            ASKED_FOR.set(false);
        }
    }
}
