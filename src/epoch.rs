//! Epoch-based reclamation: a function that is *deferred* runs after every [`Guard`] that was held at that time is
//! gone.
//!
//! The contract that the pool relies on:
//!
//! * **E1.** A function that is deferred under a guard runs once, on any thread, after every guard that was held at the
//!   deferral is dropped or re-pinned.
//! * **E2.** A thread that pins after the deferral sees every write that came before the deferral.
//! * **E3.** What a thread read under its guard happens before the deferred function runs.
//!
//! [crossbeam-epoch](crossbeam_epoch) keeps the contract (Fraser, *Practical lock-freedom*, 2004). The crate has a
//! collector of its own, so that a guard of another crate does not delay our reclamation, and our readers run no
//! destructors of other crates.
//!
//! Under `--cfg loom` or `--cfg shuttle` a model of the contract takes its place, which runs a deferred function at the
//! first moment that the contract allows. Under `--cfg loom --cfg crossbeam_loom` crossbeam-epoch itself runs inside
//! the models.

#[cfg(not(any(all(loom, not(crossbeam_loom)), shuttle)))]
#[path = "epoch/crossbeam.rs"]
mod imp;

#[cfg(any(all(loom, not(crossbeam_loom)), shuttle))]
#[path = "epoch/model.rs"]
mod imp;

pub(crate) mod lanes;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Re-pins between two collections by [`Guard::repin`].
const REPINS_BETWEEN_COLLECTIONS: u32 = 128;

/// Pins and flushes of a collection: the epoch advances twice past a deferral if no thread delays it. The model of the
/// contract has no epoch.
const PASSES: usize = if cfg!(any(all(loom, not(crossbeam_loom)), shuttle)) { 1 } else { 3 };

/// Functions that were ever deferred in the process, and those that have begun to run. std's atomics under loom too:
/// nothing is ordered by them.
static DEFERRED: AtomicUsize = AtomicUsize::new(0);
static RUN: AtomicUsize = AtomicUsize::new(0);

/// Bags of deferred functions that were given to the collector, and the number of the last bag that it has run. It runs
/// bags in the order in which it got them, so the difference is what a collection has to run.
static BAGS: AtomicUsize = AtomicUsize::new(0);
static BAGS_RUN: AtomicUsize = AtomicUsize::new(0);
/// Bags whose grace period is over that one pass of a collection runs, at least.
const BAGS_PER_PASS: usize = 4;
/// The most passes of one collection.
const MAX_PASSES: usize = 4096;

/// Keeps this thread pinned: a value that it reads from a [`Pool`](crate::Pool) stays alive until the guard is dropped.
///
/// A guard delays the reclamation of everything that is removed while it is held, from every pool of the process. Hold
/// one for microseconds, or [`repin`](Self::repin) it. For longer uses there is
/// [`Pool::acquire`](crate::Pool::acquire).
///
/// Guards nest at the cost of a counter. A guard is not `Send`.
pub struct Guard {
    inner: imp::Guard,
    repins: u32,
}

/// Pins this thread.
///
/// Costs one store to a cache line of the thread's own and a full fence. Every 128th outermost pin of a thread
/// also collects, which may run destructors of values that were removed from a pool.
#[inline]
#[must_use = "the thread is pinned for as long as the guard lives"]
pub fn pin() -> Guard {
    Guard { inner: imp::pin(), repins: 0 }
}

#[cfg(not(any(loom, shuttle)))]
pub(crate) use lanes::this_thread_is_pinned as is_pinned;

/// Deferred functions of the process that have not begun to run.
pub(crate) fn pending_deferrals() -> usize {
    let run = deferrals_run();
    DEFERRED.load(Ordering::Relaxed).saturating_sub(run)
}

/// Deferred functions of the process that have begun to run.
pub(crate) fn deferrals_run() -> usize {
    // Relaxed: a count. A thread that waits for its own deferrals has counted them itself.
    RUN.load(Ordering::Relaxed)
}

/// Advances the epoch as far as a deferral needs, if no thread delays it, and runs what is ready.
pub(crate) fn collect() {
    let waiting = BAGS.load(Ordering::Relaxed).saturating_sub(BAGS_RUN.load(Ordering::Relaxed));
    // Models run side by side in one process and share the counts, so a model does not use them.
    let more = if cfg!(any(loom, shuttle)) { 0 } else { (waiting / BAGS_PER_PASS).min(MAX_PASSES) };
    (0..PASSES.saturating_add(more)).for_each(|_| pin().flush());
}

/// Counts a bag that is given to the collector. The result is its number.
pub(crate) fn count_bag() -> usize {
    BAGS.fetch_add(1, Ordering::Relaxed) + 1
}

impl Guard {
    /// Unpins and pins again, so that one guard serves a worker thread for its whole life. References that were read
    /// under the guard end here.
    ///
    /// Costs a load if the epoch has not advanced; there is no fence on x86-64, and one on other processors. Every
    /// 128th call also collects if functions are deferred, which may run destructors. Does nothing if this thread has
    /// another guard.
    #[inline]
    pub fn repin(&mut self) {
        self.inner.repin();
        self.repins = self.repins.wrapping_add(1);
        if self.repins.is_multiple_of(REPINS_BETWEEN_COLLECTIONS) {
            self.collect();
        }
    }

    /// Flushes if functions are deferred: threads that only read do not pay for a pass over all participants.
    #[cold]
    fn collect(&self) {
        if pending_deferrals() != 0 {
            self.flush();
        }
    }

    /// Gives this thread's deferred functions to the collector, and runs those whose grace period is over, which may
    /// run destructors.
    ///
    /// A pool defers removals in batches. [`Pool::flush`](crate::Pool::flush) also releases those that it has not
    /// deferred yet.
    #[cold]
    pub fn flush(&self) {
        self.inner.flush();
    }

    /// Gives this thread's deferred functions to the collector, and runs none.
    pub(crate) fn seal(&self) {
        self.inner.seal();
    }

    /// Runs `f` once, after a grace period (E1).
    ///
    /// # Safety
    ///
    /// 1. `f` may run on any thread.
    /// 2. `f` may run at any later time: it owns or keeps alive everything that it uses.
    pub(crate) unsafe fn defer<F: FnOnce()>(&self, f: F) {
        DEFERRED.fetch_add(1, Ordering::Relaxed);
        let bag = count_bag();
        let counted = move || {
            RUN.fetch_add(1, Ordering::Relaxed);
            BAGS_RUN.fetch_max(bag, Ordering::Relaxed);
            f();
        };
        // SAFETY: the caller's promise is the one that is required here.
        unsafe { self.inner.defer(counted) }
    }
}

#[cfg(any(all(loom, not(crossbeam_loom)), shuttle))]
pub use imp::run_last_first;

/// Defers as the pool does, for the models of the contract.
///
/// # Safety
///
/// As [`Guard::defer`].
#[cfg(any(loom, shuttle))]
pub unsafe fn defer<F: FnOnce()>(guard: &Guard, f: F) {
    // SAFETY: the caller's promise is the one that is required here.
    unsafe { guard.defer(f) }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}
