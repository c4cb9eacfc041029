//! Epoch-based reclamation: a collector of the crate's own, and the [`Guard`] that holds it back.
//!
//! The contract, on which the pool stands:
//!
//! * **E1.** What is deferred under a guard runs once, on any thread, after every guard that was held when it was
//!   deferred is dropped or re-pinned.
//! * **E2.** A thread that pins after the deferral sees every write that came before it.
//! * **E3.** What a guard's holder read happens before what was deferred runs.
//!
//! [crossbeam-epoch](crossbeam_epoch) keeps it (Fraser, *Practical lock-freedom*, 2004). The collector isn't its
//! default one: a guard of another crate can't hold our garbage back, and a reader of ours never runs another
//! crate's destructors.
//!
//! Under `--cfg loom` or `--cfg shuttle` a model of the contract takes its place, which reclaims at the first moment
//! that the contract allows; under `--cfg loom --cfg crossbeam_loom` the real one runs inside the models.

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

/// Pins and flushes that an unhindered collection takes: the epoch has to advance twice past a deferral.
/// Its model needs none.
const PASSES: usize = if cfg!(any(all(loom, not(crossbeam_loom)), shuttle)) { 1 } else { 3 };

/// What was ever deferred in the process, and what of it has begun to run. std's atomics under loom too: nothing is
/// ordered by them.
static DEFERRED: AtomicUsize = AtomicUsize::new(0);
static RUN: AtomicUsize = AtomicUsize::new(0);

/// Bags of deferred functions that were handed to the collector, and the number of the last whose functions have run:
/// it runs them in the order in which it got them. What lies between is what a collection has to get through.
static BAGS: AtomicUsize = AtomicUsize::new(0);
static BAGS_RUN: AtomicUsize = AtomicUsize::new(0);
/// Bags that a collection is sure to get through, of those whose time has come.
const BAGS_OF_A_PASS: usize = 4;
/// However many bags there are.
const MOST_PASSES: usize = 4096;

/// Keeps this thread pinned: what it reads from a [`Pool`](crate::Pool) stays where it is.
///
/// A held guard holds back the reclamation of everything that is removed meanwhile, from every pool of the
/// process. Hold one for microseconds, or [`repin`](Self::repin) it; for what lasts longer there is
/// [`Pool::acquire`](crate::Pool::acquire).
///
/// Guards nest at the cost of a counter. A guard stays on its thread.
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

/// How many functions were deferred and have yet to run, in the process.
pub(crate) fn deferrals() -> usize {
    let run = run_so_far();
    DEFERRED.load(Ordering::Relaxed).saturating_sub(run)
}

/// How many deferred functions have begun to run, in the process.
pub(crate) fn run_so_far() -> usize {
    // Relaxed: as whoever asks sees it; who waits for its own deferrals has counted them itself.
    RUN.load(Ordering::Relaxed)
}

/// Lets the epoch advance as far as a deferral needs, where nothing hinders it, and runs what is ready.
pub(crate) fn collect() {
    let waiting = BAGS.load(Ordering::Relaxed).saturating_sub(BAGS_RUN.load(Ordering::Relaxed));
    // The bags of other models, which run at the same time, are none of a model's.
    let more = if cfg!(any(loom, shuttle)) { 0 } else { (waiting / BAGS_OF_A_PASS).min(MOST_PASSES) };
    (0..PASSES.saturating_add(more)).for_each(|_| pin().flush());
}

/// Counts a bag that is handed to the collector, and gives its number.
pub(crate) fn count_bag() -> usize {
    BAGS.fetch_add(1, Ordering::Relaxed) + 1
}

impl Guard {
    /// Lets go of what was read and pins anew, so that one guard serves a worker for its whole life.
    ///
    /// Costs a load where the epoch stands still; it has no fence on x86-64, and one on other processors. Every 128th
    /// call also collects where something waits for that, which may run destructors. Does nothing where another guard
    /// of this thread is alive.
    #[inline]
    pub fn repin(&mut self) {
        self.inner.repin();
        self.repins = self.repins.wrapping_add(1);
        if self.repins.is_multiple_of(REPINS_BETWEEN_COLLECTIONS) {
            self.collect();
        }
    }

    /// Flushes where something is deferred: the pass over all threads is not for those that only read.
    #[cold]
    fn collect(&self) {
        // What a re-pin misses, a later one finds.
        if deferrals() != 0 {
            self.flush();
        }
    }

    /// Hands what this thread has deferred to the collector and collects what may be collected now, which may run
    /// destructors.
    ///
    /// What a pool still gathers before it defers it is [`Pool::flush`](crate::Pool::flush)'s.
    #[cold]
    pub fn flush(&self) {
        self.inner.flush();
    }

    /// Hands what this thread has deferred to the collector, and collects nothing.
    pub(crate) fn seal(&self) {
        self.inner.seal();
    }

    /// Runs `f` once, after the grace period.
    ///
    /// # Safety
    ///
    /// `f` must be sound to run on any thread and at any later time.
    pub(crate) unsafe fn defer<F: FnOnce()>(&self, f: F) {
        DEFERRED.fetch_add(1, Ordering::Relaxed);
        let bag = count_bag();
        let counted = move || {
            RUN.fetch_add(1, Ordering::Relaxed);
            BAGS_RUN.fetch_max(bag, Ordering::Relaxed);
            f();
        };
        // SAFETY: the caller's promise.
        unsafe { self.inner.defer(counted) }
    }
}

#[cfg(any(all(loom, not(crossbeam_loom)), shuttle))]
pub use imp::last_first;

/// Defers as the pool does, for the models of the contract.
///
/// # Safety
///
/// As [`Guard::defer`].
#[cfg(any(loom, shuttle))]
pub unsafe fn defer<F: FnOnce()>(guard: &Guard, f: F) {
    // SAFETY: the caller's promise.
    unsafe { guard.defer(f) }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}
