//! The real thing: crossbeam-epoch with a collector of our own, whose participants belong to [lanes](super::lanes).

use crossbeam_epoch::{Collector, LocalHandle};

#[cfg(not(loom))]
use super::lanes::{self, Seat};

#[cfg(not(loom))]
static COLLECTOR: std::sync::LazyLock<Collector> = std::sync::LazyLock::new(Collector::new);

#[cfg(loom)]
loom::lazy_static! {
    static ref COLLECTOR: Collector = Collector::new();
}

#[cfg(loom)]
loom::thread_local! {
    static LOCAL: LocalHandle = COLLECTOR.register();
}

/// What is deferred at most before a bag of deferred functions is handed to the collector.
const BAG: usize = 64;

pub struct Guard {
    // Unpinned before the seat is left.
    pinned: crossbeam_epoch::Guard,
    #[cfg(not(loom))]
    _seat: Seat,
}

/// A participant of the collector.
#[cfg(not(loom))]
pub fn register() -> LocalHandle {
    COLLECTOR.register()
}

#[cfg(not(loom))]
#[expect(clippy::inline_always, reason = "a third of what a pin costs is the call otherwise")]
#[inline(always)]
pub fn pin() -> Guard {
    let seat = lanes::enter();
    Guard { pinned: lanes::participant(&seat).pin(), _seat: seat }
}

#[cfg(loom)]
pub fn pin() -> Guard {
    // A destructor of a thread-local may pin after our own thread-local is gone.
    Guard { pinned: LOCAL.try_with(LocalHandle::pin).unwrap_or_else(|_| COLLECTOR.register().pin()) }
}

impl Guard {
    #[inline]
    pub fn repin(&mut self) {
        self.pinned.repin();
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
        self.pinned.flush();
    }

    /// # Safety
    ///
    /// As [`super::Guard::defer`].
    pub unsafe fn defer<F: FnOnce()>(&self, f: F) {
        // SAFETY: the caller's promise is the one that is wanted here.
        unsafe { self.pinned.defer_unchecked(f) }
    }

    /// Hands what this thread has deferred to the collector, without collecting: fills its bag.
    pub fn seal(&self) {
        for _ in 0..BAG {
            self.pinned.defer(|| ());
        }
    }
}
