//! The engine's background thread: it drops what is handed to it, and flushes the pools a moment after a removal.
//!
//! A graph's last reference may end on any thread: one that unloads, one whose compute ends. Freeing gigabytes there,
//! or running a destructor that panics, would make one guest pay for another's model. So a
//! [`Graph`](super::graph::Graph) hands over what its backend made instead. And a flush looks at every thread that is
//! using the pools, so no guest's call makes one.
//!
//! * R1: everything that is handed over is dropped exactly once, whether a thread could be started or not.
//! * R2: no panic of a destructor ends the thread.
//! * R3: what waits to be dropped owns its reservations of the engine's limits until then. Guests that load and unload
//!   faster than models are dropped meet the limits.
//! * R4: a load that finds no room waits, for a second at most, for what was handed over before it. No other caller
//!   ever waits for another's model.
//! * R5: a flush comes after each removal whose caller asks for one.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, mem};

use crate::nn::schedule::threads;
use crate::nn::schedule::threads::JoinHandle;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// The pause between a removal and the flush that follows it, so that one flush serves many removals; and the longest
/// between two flushes while a guard somewhere holds up reclamation.
const PAUSES: (Duration, Duration) = if cfg!(loom) {
    // loom has no time: it waits until it is notified.
    (Duration::ZERO, Duration::ZERO)
} else {
    (Duration::from_millis(10), Duration::from_secs(1))
};

/// How long a load waits for room that models have which are to be dropped.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// Something to drop.
type Garbage = Box<dyn Send>;

/// A handle to the thread, which starts with the first task.
pub(crate) struct Reaper(Arc<Shared>);

/// What the handle and the thread share.
struct Shared {
    /// Flushes the pools; whether something there still waits.
    flush: Box<dyn Fn() -> bool + Send + Sync>,
    /// A request for a flush is on its way: one is enough.
    flush_requested: AtomicBool,
    state: Mutex<State>,
    /// Wakes the thread.
    more: Condvar,
    /// Wakes those who wait for progress.
    dropped: Condvar,
}

#[derive(Default)]
struct State {
    thread: Thread,
    queue: VecDeque<Garbage>,
    flush: bool,
    closed: bool,
    progress: Progress,
}

#[derive(Default)]
enum Thread {
    #[default]
    NotStarted,
    /// The handle is taken by the one who joins it.
    Runs(threads::Id, Option<JoinHandle>),
    /// It could not be started, or has ended.
    None,
}

/// How much the thread has done since the beginning.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// Objects that were handed to it.
    pub(crate) handed_over: u64,
    /// Those of them that are dropped.
    pub(crate) dropped: u64,
    /// Until when a caller waits that has begun to.
    until: Option<Instant>,
}

impl Reaper {
    /// A reaper that calls `flush`, and calls it again later where that returns `true`: something still waits.
    pub(crate) fn new(flush: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            flush: Box::new(flush),
            flush_requested: AtomicBool::new(false),
            state: Mutex::default(),
            more: Condvar::new(),
            dropped: Condvar::new(),
        }))
    }

    /// Drops `garbage` on the thread, or here where there is none.
    pub(crate) fn drop_later(&self, garbage: impl Send + 'static) {
        let garbage: Garbage = Box::new(garbage);
        let mut state = self.0.lock();
        if self.0.runs(&mut state) {
            state.progress.handed_over += 1;
            state.queue.push_back(garbage);
            drop(state);
            self.0.more.notify_one();
        } else {
            drop(state);
            drop_quietly(garbage);
        }
    }

    /// How much the thread has done: to be read before a reservation is tried.
    pub(crate) fn progress(&self) -> Progress {
        self.0.lock().progress
    }

    /// The same for a caller that has waited since `seen`.
    pub(crate) fn progress_since(&self, seen: Progress) -> Progress {
        Progress { until: seen.until.or_else(|| Instant::now().checked_add(ROOM_WAIT)), ..self.progress() }
    }

    /// R4: waits until `dropped` objects are dropped, where that many were handed over when `seen` was read. `false`
    /// where there is nothing to wait for, or it has taken too long.
    pub(crate) fn wait(&self, seen: Progress, dropped: u64) -> bool {
        if seen.dropped == seen.handed_over || seen.handed_over < dropped {
            return false;
        }
        let until = seen.until.or_else(|| Instant::now().checked_add(ROOM_WAIT));
        let mut state = self.0.lock();
        // A destructor that loads.
        if state.thread.is_this_one() {
            return false;
        }
        while state.progress.dropped < dropped {
            let left = until.map_or(ROOM_WAIT, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            state = self.0.dropped.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// R5: has the thread flush a moment later. Where there is no thread, the pools collect in their own time.
    pub(crate) fn flush_soon(&self) {
        // AcqRel: pairs with the swap of the thread. Either that reads `true`, and its flush comes after the caller's
        // removal, or it came first, and this asks for another.
        if !self.0.flush_requested.swap(true, Ordering::AcqRel) {
            let mut state = self.0.lock();
            if self.0.runs(&mut state) {
                state.flush = true;
                drop(state);
                self.0.more.notify_one();
            }
        }
    }

    /// Ends the thread, once all that was handed over is dropped. Waits for it, except on the thread itself.
    pub(crate) fn finish(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        let here = state.thread.is_this_one();
        let thread = match &mut state.thread {
            Thread::Runs(_, handle) if !here => handle.take(),
            _ => None,
        };
        drop(state);
        self.0.more.notify_one();
        if let Some(thread) = thread {
            // It catches every panic that it can meet.
            let _ = thread.join();
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.finish();
    }
}

impl fmt::Debug for Reaper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reaper").field("progress", &self.progress()).finish_non_exhaustive()
    }
}

impl Thread {
    fn is_this_one(&self) -> bool {
        matches!(self, Self::Runs(id, _) if *id == threads::current_id())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a thread, which is started where there was none yet.
    fn runs(self: &Arc<Self>, state: &mut State) -> bool {
        if matches!(state.thread, Thread::NotStarted) {
            let shared = Arc::clone(self);
            let started = (!state.closed).then(|| threads::spawn("graphpool-reaper", move || shared.run()));
            state.thread = match started {
                Some(Ok(thread)) => Thread::Runs(thread.thread().id(), Some(thread)),
                _ => Thread::None,
            };
        }
        matches!(state.thread, Thread::Runs(..))
    }

    fn run(&self) {
        // When to flush, and the pause before that.
        let mut next: Option<(Instant, Duration)> = None;
        let mut state = self.lock();
        loop {
            if let Some(garbage) = state.queue.pop_front() {
                drop(state);
                drop_quietly(garbage);
                state = self.lock();
                // R4: last, so that whoever is woken finds the room.
                state.progress.dropped += 1;
                self.dropped.notify_all();
                continue;
            }
            if state.closed {
                break;
            }
            if mem::take(&mut state.flush) {
                next = next.or_else(|| Some((Instant::now() + PAUSES.0, PAUSES.0)));
            }
            state = match next.map(|(at, pause)| (at.saturating_duration_since(Instant::now()), pause)) {
                None => self.more.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some((Duration::ZERO, pause)) => {
                    drop(state);
                    next = self.flush(pause);
                    self.lock()
                }
                Some((left, _)) => self.more.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        // R1: under the lock under which the queue was found empty, so that nothing more is put there.
        state.thread = Thread::None;
    }

    /// Flushes, and says when to flush again where a guard holds something up.
    fn flush(&self, pause: Duration) -> Option<(Instant, Duration)> {
        // Acquire: pairs with the AcqRel of `Reaper::flush_soon`.
        self.flush_requested.swap(false, Ordering::AcqRel);
        let waits = (self.flush)();
        let pause = PAUSES.1.min(pause * 2);
        waits.then(|| (Instant::now() + pause, pause))
    }
}

/// R2.
fn drop_quietly(garbage: Garbage) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(garbage))) {
        // Its destructor might panic in its turn.
        mem::forget(payload);
    }
}

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;
