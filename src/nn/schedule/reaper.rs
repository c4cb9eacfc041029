//! The engine's background thread: it drops released graphs, and flushes the pools a moment after a removal.
//!
//! A graph's last reference may end on any thread. If that thread freed gigabytes or ran a destructor that panics, one
//! guest would pay for another's model. So a [`Graph`](crate::nn::graphs::graph::Graph) hands the values of its backend
//! to this thread. A flush visits every thread that uses the pools, so it runs here, too, and not in guests' calls.
//!
//! * R1: every value that is handed over is dropped exactly once, even if no thread could be started.
//! * R2: a panicking destructor does not end the thread.
//! * R3: a value keeps its reservations of the engine's limits until it is dropped. Guests that load and unload faster
//!   than models are dropped reach the limits.
//! * R4: a load that finds no room waits at most a second for values that were handed over before it. No other call
//!   waits for another guest's model.
//! * R5: each removal whose caller asks for a flush is followed by one.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, mem};

use crate::nn::schedule::threads;
use crate::nn::schedule::threads::JoinHandle;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// The pause between a removal and its flush, so that one flush serves many removals; and the longest pause between two
/// flushes while a guard holds up reclamation.
const PAUSES: (Duration, Duration) = if cfg!(loom) {
    // loom has no time: it waits until it is notified.
    (Duration::ZERO, Duration::ZERO)
} else {
    (Duration::from_millis(10), Duration::from_secs(1))
};

/// The longest time that a load waits for the room of values that are still to be dropped.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// A value to drop.
type Garbage = Box<dyn Send>;

/// The handle of the thread, which starts with the first task.
pub(crate) struct Reaper(Arc<Shared>);

/// The state that the handle and the thread share.
struct Shared {
    /// Flushes the pools; returns whether removed entries still wait.
    flush: Box<dyn Fn() -> bool + Send + Sync>,
    /// A flush is requested and has not begun: one request is enough.
    flush_requested: AtomicBool,
    state: Mutex<State>,
    /// Wakes the thread.
    more: Condvar,
    /// Wakes the callers that wait for room.
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
    /// Taken by the call that joins the thread.
    Runs(threads::Id, Option<JoinHandle>),
    /// The thread could not be started, or has ended.
    None,
}

/// The progress of the thread.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// The number of values handed over.
    pub(crate) handed_over: u64,
    /// The number of those that are dropped.
    pub(crate) dropped: u64,
    /// The end of a caller's wait, once it has begun.
    until: Option<Instant>,
}

impl Reaper {
    /// Creates a reaper that calls `flush`, and repeats it later while it returns `true`, which means that entries
    /// still wait.
    pub(crate) fn new(flush: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            flush: Box::new(flush),
            flush_requested: AtomicBool::new(false),
            state: Mutex::default(),
            more: Condvar::new(),
            dropped: Condvar::new(),
        }))
    }

    /// Drops `garbage` on the thread, or here if there is none.
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

    /// The progress of the thread; must be read before a reservation is tried.
    pub(crate) fn progress(&self) -> Progress {
        self.0.lock().progress
    }

    /// Whether values that were handed over are still to be dropped.
    pub(crate) fn is_behind(&self) -> bool {
        let Progress { handed_over, dropped, .. } = self.progress();
        dropped < handed_over
    }

    /// The current progress, with the deadline of `seen`.
    pub(crate) fn progress_since(&self, seen: Progress) -> Progress {
        Progress { until: seen.until.or_else(|| Instant::now().checked_add(ROOM_WAIT)), ..self.progress() }
    }

    /// R4: waits until `dropped` values are dropped, if that many were handed over when `seen` was read. `false` if
    /// there is nothing to wait for, or the time is over.
    pub(crate) fn wait(&self, seen: Progress, dropped: u64) -> bool {
        if seen.dropped == seen.handed_over || seen.handed_over < dropped {
            return false;
        }
        let until = seen.until.or_else(|| Instant::now().checked_add(ROOM_WAIT));
        let mut state = self.0.lock();
        // This thread runs a destructor that loads a model.
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

    /// R5: makes the thread flush a moment later. Without a thread, the pools collect during later calls.
    pub(crate) fn flush_soon(&self) {
        // AcqRel: pairs with the swap of the thread. Either that swap reads `true`, and its flush comes after the
        // caller's removal, or it came first, and this call requests another flush.
        if !self.0.flush_requested.swap(true, Ordering::AcqRel) {
            let mut state = self.0.lock();
            if self.0.runs(&mut state) {
                state.flush = true;
                drop(state);
                self.0.more.notify_one();
            }
        }
    }

    /// Ends the thread when everything that was handed over is dropped. Waits for that, except on the thread itself.
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
            // The thread catches every panic of its tasks.
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

    /// Whether the thread runs; starts it if it was never started.
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
        // The time of the next flush, and the pause before it.
        let mut next: Option<(Instant, Duration)> = None;
        let mut state = self.lock();
        loop {
            if let Some(garbage) = state.queue.pop_front() {
                drop(state);
                drop_quietly(garbage);
                state = self.lock();
                // R4: last, so that a woken caller finds the room.
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
        // R1: under the lock under which the queue was found empty, so that no value is added after it.
        state.thread = Thread::None;
    }

    /// Flushes, and returns the time of the next flush if a guard holds up reclamation.
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
        // Its destructor might panic, too.
        mem::forget(payload);
    }
}

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;
