//! Admission control: bounds the number of running computes and queues the others.
//!
//! ```text
//!   word:  ┌──────────────┬───────────────┬────────────────┬──────────────┐
//!          │ waiting (22) │ resuming (14) │ suspended (14) │ running (14) │
//!          └──────────────┴───────────────┴────────────────┴──────────────┘
//! ```
//!
//! A compute that finds room takes no lock, and neither does one that ends while nobody waits. `waiting` changes only
//! under the lock of the queue, and then equals its length. `suspended` computes sleep in a backend without a permit,
//! and those that are `resuming` [wait for one](super::suspend); with those that run they are the *admitted* ones.
//!
//! * A1: `running` never exceeds its bound, and equals the number of [`Permit`]s. The number of admitted computes never
//!   exceeds a bound of its own.
//! * A2: while a compute waits, one of these bounds is fully used, and while one resumes, the first is: so there is an
//!   admitted compute whose end or resumption lets the next one go on.
//! * A3: the next compute to be admitted is the one whose turn it is: guests take turns, and each guest's computes keep
//!   the order in which they were queued. If the queue is full, a guest that has fewer waiting computes than another
//!   takes a place of that guest (Q1 to Q3 of the [queue]). So the computes that one guest queues cost others
//!   one turn.
//! * A4: `end` is called exactly once for every queued compute, without any lock held.
//! * A5: a permit is handed on by a loop: an `end` that has no use for it returns it to its caller, so that the stack
//!   does not grow with the queue.
//! * A6: deadlines are enforced: while a compute with a deadline waits, the timer thread is awake, or wakes by then, or
//!   could not be started.
//!
//! A2 follows from the changes of the word: `waiting` goes up only if a bound is fully used or a compute waits already,
//! and the number of running or of admitted computes goes down only if nobody waits who could take the place; each is
//! one compare-exchange of the whole word, or a change under the lock while computes wait, when no other changes the
//! number of admitted ones. A compute that is displaced in a full queue leaves the word as it is.

mod queue;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use crate::nn::schedule::admission::queue::Ticket;
use crate::nn::schedule::admission::queue::{Entry, Queue};
use crate::nn::schedule::threads;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard};

pub(super) const RUNNING: u64 = 1;
pub(super) const SUSPENDED: u64 = 1 << 14;
pub(super) const RESUMING: u64 = 1 << 28;
const WAITING: u64 = 1 << 42;

/// The most running computes, and the most suspended ones.
const MOST: usize = (1 << 13) - 1;

/// The most waiting computes.
const MOST_WAITING: usize = (1 << 22) - 1;

/// How long the timer thread stays without a deadline, so that it is not started for each one.
const LINGER: Duration = Duration::from_secs(10);

/// The admission control of one engine.
pub(crate) struct Admission {
    bound: usize,
    /// Of admitted computes.
    pub(super) admitted_bound: usize,
    queue_bound: usize,
    pub(super) word: AtomicU64,
    state: Mutex<State>,
    /// Tells the timer to check the queue again.
    changed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    queue: Queue<End>,
    /// The computes that are resuming, in their order.
    pub(super) resuming: BTreeMap<u64, End>,
    pub(super) last_resuming: u64,
    timer: Timer,
    /// The engine has ended, and the timer must end.
    closed: bool,
}

/// The state of the timer thread, which enforces the deadlines.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Timer {
    /// Not started.
    #[default]
    Stopped,
    /// It will check the queue once more before it sleeps.
    Awake,
    Until(Instant),
}

/// The continuation of a queued compute. Returns a permit that it has no use for.
pub(crate) type End = Box<dyn FnOnce(Result<Permit, Withdrawn>) -> Option<Permit> + Send>;

/// Why a compute left the queue without being admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Withdrawn {
    /// The deadline passed.
    Late,
    /// The compute was cancelled.
    Cancelled,
    /// Another guest took its place in the full queue.
    Displaced,
}

/// The queue is full, and no compute in it has to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full {
    /// The number of waiting computes of the same guest.
    pub(crate) own: usize,
}

/// The right to run one compute in a backend; the drop hands it on.
pub(crate) struct Permit {
    /// `None` only during the drop.
    admission: Option<Arc<Admission>>,
}

/// The numbers of computes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) running: usize,
    suspended: usize,
    resuming: usize,
    waiting: usize,
}

impl Load {
    pub(super) const fn admitted(self) -> usize {
        self.running + self.suspended + self.resuming
    }
}

impl Admission {
    /// At most `bound` computes run, at most `suspended_bound` more are suspended, and at most `queue_bound` wait; a
    /// bound of 0 is treated as 1.
    pub(crate) fn new(bound: usize, suspended_bound: usize, queue_bound: usize) -> Arc<Self> {
        let bound = bound.clamp(1, MOST);
        Arc::new(Self {
            bound,
            admitted_bound: bound + suspended_bound.min(MOST),
            queue_bound: queue_bound.min(MOST_WAITING),
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

    /// The numbers of running and waiting computes.
    pub(crate) fn load(&self) -> (usize, usize) {
        let load = parts(self.word.load(Ordering::Relaxed));
        (load.running, load.waiting)
    }

    /// The number of computes that are suspended or resuming.
    pub(crate) fn suspended(&self) -> usize {
        let load = parts(self.word.load(Ordering::Relaxed));
        load.suspended + load.resuming
    }

    const fn has_room(&self, load: Load) -> bool {
        load.running < self.bound && load.admitted() < self.admitted_bound
    }

    /// Admits the caller if there is room and no compute waits. One compare-exchange.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Permit> {
        // Relaxed: the word only counts; no data depends on it.
        self.word
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                let load = parts(word);
                (load.waiting == 0 && self.has_room(load)).then(|| word + RUNNING)
            })
            .ok()
            .map(|_| self.permit())
    }

    /// Queues a compute. `end` is called with a permit when its turn comes, perhaps at once; or, if that comes first,
    /// when the ticket is [withdrawn](Self::withdraw), `deadline` passes, or another guest takes its place.
    pub(crate) fn queue(self: &Arc<Self>, guest: u64, deadline: Option<Instant>, end: End) -> Result<Ticket, Full> {
        let mut state = self.lock();
        let mut displaced = None;
        loop {
            let word = self.word.load(Ordering::Relaxed);
            let load = parts(word);
            if load.waiting == 0 && self.has_room(load) {
                if self.exchange(word, word + RUNNING) {
                    drop(state);
                    drop(end(Ok(self.permit())));
                    // Not the number of any ticket in the queue.
                    return Ok(Ticket { guest, number: 0 });
                }
            } else if load.waiting >= self.queue_bound {
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
            // No permit was passed, so none comes back.
            (entry.end)(Err(Withdrawn::Displaced));
        }
        Ok(ticket)
    }

    /// Removes a compute from the queue, if it is still there.
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

    /// Ends the timer. Called at the end of the engine, when no compute can wait any more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    pub(super) fn permit(self: &Arc<Self>) -> Permit {
        Permit { admission: Some(Arc::clone(self)) }
    }

    pub(super) fn exchange(&self, word: u64, next: u64) -> bool {
        self.word.compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Gives the permit of a compute that ends (`becomes` is 0) or is suspended ([`SUSPENDED`]) to the next one.
    pub(super) fn hand_on(self: &Arc<Self>, mut becomes: u64) {
        loop {
            let word = self.word.load(Ordering::Relaxed);
            let load = parts(word);
            if load.waiting == 0 && load.resuming == 0 {
                if self.exchange(word, word - RUNNING + becomes) {
                    return;
                }
                continue;
            }
            let next = {
                let mut state = self.lock();
                if let Some((_, end)) = state.resuming.pop_first() {
                    self.change(becomes, RESUMING);
                    Some(end)
                } else if becomes == 0 || parts(self.word.load(Ordering::Relaxed)).admitted() < self.admitted_bound {
                    let next = state.queue.pop();
                    if next.is_some() {
                        self.change(becomes, WAITING);
                    }
                    next.map(|entry| entry.end)
                } else if state.queue.is_empty() {
                    None
                } else {
                    // A2: the second bound is fully used.
                    return self.change(becomes, RUNNING);
                }
            };
            // A1: the permit passes from one compute to the next.
            if let Some(end) = next {
                // That this compute is suspended is counted.
                becomes = 0;
                match end(Ok(self.permit())) {
                    None => return,
                    // A5: this loop hands it on.
                    Some(mut permit) => permit.admission = None,
                }
            }
        }
    }

    /// Admits computes that wait while there is room: for an admitted compute that has ended without a permit.
    pub(super) fn fill(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.lock();
                let word = self.word.load(Ordering::Relaxed);
                let load = parts(word);
                if load.waiting == 0 || !self.has_room(load) {
                    return;
                }
                if !self.exchange(word, word - WAITING + RUNNING) {
                    continue;
                }
                state.queue.pop()
            };
            if let Some(next) = next {
                drop((next.end)(Ok(self.permit())));
            }
        }
    }

    fn change(&self, more: u64, less: u64) {
        self.word.fetch_add(more.wrapping_sub(less), Ordering::Relaxed);
    }

    /// Makes sure that the queue is checked by `deadline`.
    fn wake_timer(self: &Arc<Self>, state: &mut State, deadline: Instant) {
        match state.timer {
            Timer::Stopped => {
                let admission = Arc::clone(self);
                // Without a timer, a compute that is past its deadline ends when its turn comes.
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
                // A waker of the host may panic here; the deadlines of other computes must still be enforced.
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

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Its admission control, whose word still counts it.
    pub(super) fn into_admission(mut self) -> Option<Arc<Admission>> {
        self.admission.take()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(admission) = self.admission.take() {
            admission.hand_on(0);
        }
    }
}

pub(super) const fn parts(word: u64) -> Load {
    const FIELD: u64 = SUSPENDED - 1;
    Load {
        running: (word & FIELD) as usize,
        suspended: ((word / SUSPENDED) & FIELD) as usize,
        resuming: ((word / RESUMING) & FIELD) as usize,
        waiting: (word / WAITING) as usize,
    }
}

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;
