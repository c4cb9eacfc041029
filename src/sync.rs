//! The synchronization primitives of the core: std's, loom's under `--cfg loom`, or shuttle's under `--cfg shuttle`.
//!
//! Everything whose interleavings a model explores is imported from here. What uses std under a model checker too
//! (process-wide counts, tags, the slab) says why at its definition.

#[cfg(all(feature = "nn", not(any(loom, shuttle))))]
pub use std::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(any(loom, shuttle)))]
pub use std::{
    sync::{Arc, atomic},
    thread_local,
};

#[cfg(all(feature = "nn", shuttle))]
pub use shuttle::sync::{Condvar, Mutex, MutexGuard};
#[cfg(shuttle)]
pub use shuttle::{
    lazy_static,
    sync::{Arc, atomic},
    thread_local,
};

#[cfg(loom)]
#[path = "sync/loom_atomic.rs"]
pub mod atomic;
#[cfg(loom)]
pub use loom::{
    cell::UnsafeCell,
    lazy_static,
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

#[cfg(all(feature = "nn", not(any(loom, shuttle))))]
pub use arc_swap::{ArcSwap, ArcSwapOption};
#[cfg(all(feature = "nn", any(loom, shuttle)))]
#[path = "sync/modelled_swap.rs"]
mod swap;
#[cfg(all(feature = "nn", any(loom, shuttle)))]
pub use swap::{ArcSwap, ArcSwapOption};

/// loom's macro, which has no `const` form, for one thread-local with or without `const`.
#[cfg(loom)]
macro_rules! loom_thread_local {
    (static $name:ident: $type:ty = const { $init:expr };) => {
        loom::thread_local! { static $name: $type = $init; }
    };
    (static $name:ident: $type:ty = $init:expr;) => {
        loom::thread_local! { static $name: $type = $init; }
    };
}
#[cfg(loom)]
pub(crate) use loom_thread_local as thread_local;

/// std's cell behind loom's interface, which tells reads from writes.
#[cfg(not(loom))]
#[derive(Debug)]
#[repr(transparent)]
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    #[inline]
    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// A count that one thread at a time adds to, and that any thread reads.
///
/// An addition is a load and a store, with no locked instruction.
#[derive(Debug, Default)]
pub struct SingleWriterCounter(atomic::AtomicU64);

impl SingleWriterCounter {
    #[inline]
    pub fn add(&self, count: u64) {
        // Relaxed: a statistic, which orders nothing.
        self.0.store(self.0.load(atomic::Ordering::Relaxed) + count, atomic::Ordering::Relaxed);
    }

    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(atomic::Ordering::Relaxed)
    }
}
