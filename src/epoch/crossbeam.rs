//! The contract by crossbeam-epoch, with a collector of our own whose participants belong to [lanes].

use crossbeam_epoch::{Collector, LocalHandle};

#[cfg(not(loom))]
use super::lanes::{self, LaneGuard};

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

/// Deferred functions that fill a bag, which crossbeam-epoch then gives to the collector.
const BAG: usize = 64;

pub struct Guard {
    // Declared first, and so dropped first: a lane is given up after it is unpinned.
    pinned: crossbeam_epoch::Guard,
    #[cfg(not(loom))]
    _lane: LaneGuard,
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
    let lane = lanes::hold();
    Guard { pinned: lanes::participant(&lane).pin(), _lane: lane }
}

#[cfg(loom)]
pub fn pin() -> Guard {
    // The destructor of a thread-local may pin after our own thread-local is gone.
    Guard { pinned: LOCAL.try_with(LocalHandle::pin).unwrap_or_else(|_| COLLECTOR.register().pin()) }
}

impl Guard {
    #[inline]
    pub fn repin(&mut self) {
        self.pinned.repin();
        // crossbeam loads the global epoch and stores it as this participant's, without a fence. A later look-up's
        // load that is reordered before that load could return an entry that was removed in the old epoch, and use it
        // past the two advances after which it is freed. x86-64 keeps loads in order: a load after the load of the new
        // epoch sees every removal of the old one. The memory model and other processors need a fence.
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
        // SAFETY: the caller's promise is the one that is required here.
        unsafe { self.pinned.defer_unchecked(f) }
    }

    /// Fills this thread's bag, so that crossbeam-epoch gives it to the collector without running anything.
    pub fn seal(&self) {
        for _ in 0..BAG {
            self.pinned.defer(|| ());
        }
    }
}
