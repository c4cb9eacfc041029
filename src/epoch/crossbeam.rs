//! The real thing: crossbeam-epoch with a collector of our own.

use crate::sync::thread_local;
use crossbeam_epoch::{Collector, LocalHandle};

#[cfg(not(loom))]
static COLLECTOR: std::sync::LazyLock<Collector> = std::sync::LazyLock::new(Collector::new);

#[cfg(loom)]
loom::lazy_static! {
    static ref COLLECTOR: Collector = Collector::new();
}

thread_local! {
    static LOCAL: LocalHandle = COLLECTOR.register();
}

pub struct Guard(crossbeam_epoch::Guard);

#[inline]
pub fn pin() -> Guard {
    // A destructor of a thread-local may pin after our own thread-local is gone.
    Guard(LOCAL.try_with(LocalHandle::pin).unwrap_or_else(|_| COLLECTOR.register().pin()))
}

#[cfg(not(loom))]
pub fn is_pinned() -> bool {
    LOCAL.try_with(LocalHandle::is_pinned).unwrap_or(false)
}

impl Guard {
    #[inline]
    pub fn repin(&mut self) {
        self.0.repin();
        // crossbeam stores the new epoch without a fence. A look-up that runs ahead of its load of the global
        // epoch may then return what was removed and sealed in the old one, and hold it past the two advances that
        // free it. x86-64 keeps loads in order and so can't do that: a load that comes after the sight of the new
        // epoch sees every removal sealed under the old one. The memory model, and other processors, need a fence.
        if cfg!(all(target_arch = "x86_64", not(loom), not(miri))) {
            std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
        } else {
            crate::sync::atomic::fence(crate::sync::atomic::Ordering::SeqCst);
        }
    }

    pub fn flush(&self) {
        self.0.flush();
    }

    /// # Safety
    ///
    /// As [`super::Guard::defer`].
    pub unsafe fn defer<F: FnOnce()>(&self, f: F) {
        // SAFETY: the caller's promise is the one that is wanted here.
        unsafe { self.0.defer_unchecked(f) }
    }
}
