//! How many computes run at one time, and who waits.
//!
//! ```text
//!   word:  ┌──────────────┬──────────────┐
//!          │ waiting (32) │ running (32) │
//!          └──────────────┴──────────────┘
//! ```
//!
//! Nobody who finds room takes a lock, and nobody who leaves while none wait does. `waiting` changes under the lock of
//! the queue only, and is its length then.
//!
//! * A1: `running` is never over the bound, and each of it is one [`Permit`].
//! * A2: where somebody waits, as many run as may: so there is a permit whose end hands it on.
//! * A3: of those who wait, the next to be let in is the one whose turn it is: guests take turns, and each guest's own
//!   come in the order in which they were queued. Where the queue is full, a guest that has fewer waiting than another
//!   gets a place of that one's (Q1 to Q3 of the [queue](queue)). So what one guest queues costs others one turn.
//! * A4: of everybody who was queued, `end` is called exactly once, without any lock held.
//! * A5: a permit is handed on by a loop: whoever has no use for it gives it back to the caller of `end`, so that the
//!   stack does not grow with the queue.
//! * A6: somebody looks at the deadlines: where one waits that has a deadline, the timer is awake, or wakes by then, or
//!   could not be started.
//!
//! A2, by what changes the word: `waiting` goes up only from a word that says that `running` is at the bound or that
//! somebody waits already, and `running` goes down only from a word that says that nobody waits; both by one
//! compare-exchange of the whole word. Whoever makes room in a full queue leaves the word as it is.

mod queue;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use crate::nn::schedule::admission::queue::Ticket;
use crate::nn::schedule::admission::queue::{Entry, Queue};
use crate::nn::schedule::threads;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard};

const WAITING: u64 = 1 << 32;
const RUNNING: u64 = 1;

/// How long the timer's thread stays without a deadline to look at, so that it is not started for each.
const LINGER: Duration = Duration::from_secs(10);

/// The gate before the backends of one engine.
pub(crate) struct Admission {
    bound: usize,
    queue_bound: usize,
    word: AtomicU64,
    state: Mutex<State>,
    /// For the timer: it is to look again.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: Queue<End>,
    timer: Timer,
    /// The engine is gone, and the timer to end.
    closed: bool,
}

/// What the thread that looks at the deadlines does.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Timer {
    /// There is none.
    #[default]
    Stopped,
    /// It looks at the queue once more before it sleeps.
    Awake,
    Until(Instant),
}

/// What becomes of somebody who was queued. Gives back a permit that it has no use for.
pub(crate) type End = Box<dyn FnOnce(Result<Permit, Withdrawn>) -> Option<Permit> + Send>;

/// Why somebody left the queue without being let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Withdrawn {
    /// The deadline passed.
    Late,
    /// The compute was cancelled.
    Cancelled,
    /// Another guest has the place in the full queue.
    Displaced,
}

/// The queue is full, and nobody in it is to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full {
    /// How many of the same guest's wait.
    pub(crate) own: usize,
}

/// The right to be inside a backend's compute; handed on when it is dropped.
pub(crate) struct Permit {
    /// `None` only while it is dropped.
    admission: Option<Arc<Admission>>,
}

impl Admission {
    /// At most `bound` run, and `queue_bound` wait; a bound of 0 is one of 1.
    pub(crate) fn new(bound: usize, queue_bound: usize) -> Arc<Self> {
        let most = u32::MAX as usize >> 1;
        Arc::new(Self {
            bound: bound.clamp(1, most),
            queue_bound: queue_bound.min(most),
            word: AtomicU64::new(0),
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    pub(crate) fn bound(&self) -> usize {
        self.bound
    }

    pub(crate) fn queue_bound(&self) -> usize {
        self.queue_bound
    }

    /// Computes that run, and that wait.
    pub(crate) fn load(&self) -> (usize, usize) {
        parts(self.word.load(Ordering::Relaxed))
    }

    /// In, if there is room and nobody waits. One compare-exchange.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Permit> {
        // Relaxed: the word counts, and no data hangs on it.
        self.word
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                let (running, waiting) = parts(word);
                (waiting == 0 && running < self.bound).then(|| word + RUNNING)
            })
            .ok()
            .map(|_| self.permit())
    }

    /// Has `end` called with a permit when its turn comes, perhaps at once; or, if that comes first, when the ticket is
    /// [withdrawn](Self::withdraw), `deadline` passes, or another guest gets the place.
    pub(crate) fn queue(self: &Arc<Self>, guest: u64, deadline: Option<Instant>, end: End) -> Result<Ticket, Full> {
        let mut state = self.lock();
        let mut displaced = None;
        loop {
            let word = self.word.load(Ordering::Relaxed);
            let (running, waiting) = parts(word);
            if waiting == 0 && running < self.bound {
                if self.exchange(word, word + RUNNING) {
                    drop(state);
                    drop(end(Ok(self.permit())));
                    // A number that no ticket in the queue has.
                    return Ok(Ticket { guest, number: 0 });
                }
            } else if waiting >= self.queue_bound {
                displaced = state.queue.displace_for(guest);
                if displaced.is_none() {
                    return Err(Full { own: state.queue.length_of(guest) });
                }
                break;
            } else if self.exchange(word, word + WAITING) {
                break;
            }
        }
        let ticket = state.queue.push(guest, Entry { deadline, end });
        if let Some(deadline) = deadline {
            self.wake_timer(&mut state, deadline);
        }
        drop(state);
        if let Some(entry) = displaced {
            // No permit comes back where none was given.
            (entry.end)(Err(Withdrawn::Displaced));
        }
        Ok(ticket)
    }

    /// Takes somebody out of the queue who is still in it.
    pub(crate) fn withdraw(&self, ticket: Ticket, why: Withdrawn) {
        let entry = {
            let mut state = self.lock();
            let entry = state.queue.remove(ticket);
            if entry.is_some() {
                self.word.fetch_sub(WAITING, Ordering::Relaxed);
            }
            entry
        };
        if let Some(entry) = entry {
            (entry.end)(Err(why));
        }
    }

    /// Ends the timer. For the end of the engine, when nobody can wait any more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    fn permit(self: &Arc<Self>) -> Permit {
        Permit { admission: Some(Arc::clone(self)) }
    }

    fn exchange(&self, word: u64, next: u64) -> bool {
        self.word.compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn leave(self: &Arc<Self>) {
        loop {
            let word = self.word.load(Ordering::Relaxed);
            if parts(word).1 == 0 {
                if self.exchange(word, word - RUNNING) {
                    return;
                }
                continue;
            }
            let next = {
                let mut state = self.lock();
                let next = state.queue.pop();
                if next.is_some() {
                    self.word.fetch_sub(WAITING, Ordering::Relaxed);
                }
                next
            };
            // A1: the place goes from hand to hand.
            if let Some(next) = next {
                match (next.end)(Ok(self.permit())) {
                    None => return,
                    // A5: it is this one's to hand on once more.
                    Some(mut permit) => permit.admission = None,
                }
            }
        }
    }

    /// Sees to it that somebody looks at the queue by `deadline`.
    fn wake_timer(self: &Arc<Self>, state: &mut State, deadline: Instant) {
        match state.timer {
            Timer::Stopped => {
                let admission = Arc::clone(self);
                // Without it a compute that is past its deadline is told so when its turn comes.
                if threads::spawn("graphpool-timer", move || admission.timer_loop()).is_ok() {
                    state.timer = Timer::Awake;
                }
            }
            Timer::Until(until) if until > deadline => {
                state.timer = Timer::Awake;
                self.changed.notify_one();
            }
            Timer::Awake | Timer::Until(_) => {}
        }
    }

    fn timer_loop(&self) {
        let mut state = self.lock();
        while !state.closed {
            let now = Instant::now();
            if let Some(entry) = state.queue.pop_late(now) {
                self.word.fetch_sub(WAITING, Ordering::Relaxed);
                drop(state);
                // What may panic here is a waker of the host's; the deadlines of others are still to be looked at.
                let _ = catch_unwind(AssertUnwindSafe(|| (entry.end)(Err(Withdrawn::Late))));
                state = self.lock();
                continue;
            }
            let next = state.queue.next_deadline();
            let until = next.unwrap_or(now + LINGER);
            state.timer = Timer::Until(until);
            let pause = until.saturating_duration_since(now);
            let (woken, waited) = self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.timer = Timer::Awake;
            if next.is_none() && waited.timed_out() && state.queue.next_deadline().is_none() {
                break;
            }
        }
        state.timer = Timer::Stopped;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(admission) = self.admission.take() {
            admission.leave();
        }
    }
}

/// Running and waiting.
fn parts(word: u64) -> (usize, usize) {
    ((word & u64::from(u32::MAX)) as usize, (word >> 32) as usize)
}

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;
