//! Starts the engine's own threads.

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

/// Starts a thread with that name.
#[cfg(not(loom))]
pub(crate) fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle> {
    thread::Builder::new().name(name.into()).spawn(f)
}

/// Starts a thread of the model if the model has enabled the engine's threads. Otherwise none can be started, which
/// keeps the other models small.
#[cfg(loom)]
pub(crate) fn spawn(_: &str, f: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle> {
    if !modelled::ASKED_FOR.get() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(thread::spawn(f))
}

/// Whether the running model has enabled the engine's threads.
#[cfg(loom)]
pub(crate) mod modelled {
    use std::cell::Cell;

    std::thread_local! {
        /// A std thread-local: all threads of a model are one thread to std.
        pub(crate) static ASKED_FOR: Cell<bool> = const { Cell::new(false) };
    }

    /// Enables the engine's threads as threads of the model, until the drop.
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
