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
//! * A3: of those who wait, the first to come is the first to be let in.
//! * A4: of everybody who was queued, `end` is called exactly once, without any lock held.
//!
//! A2, by what changes the word: `waiting` goes up only from a word that says that `running` is at the bound or that
//! somebody waits already, and `running` goes down only from a word that says that nobody waits; both by one
//! compare-exchange of the whole word.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
#[cfg(not(loom))]
use std::thread;
use std::time::Instant;

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard};

const WAITING: u64 = 1 << 32;
const RUNNING: u64 = 1;

/// The gate before the backends of one engine.
pub(super) struct Admission {
    bound: usize,
    queue_bound: usize,
    word: AtomicU64,
    queue: Mutex<Queue>,
    /// For the clock: the earliest deadline may be another.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    last: u64,
    /// Whether the clock runs.
    clock: bool,
}

/// What becomes of somebody who was queued.
pub(super) type End = Box<dyn FnOnce(Result<Permit, Withdrawn>) + Send>;

struct Entry {
    id: u64,
    /// When the clock is to end it. `None` for one that looks to that itself.
    deadline: Option<Instant>,
    end: End,
}

/// Why somebody left the queue without being let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Withdrawn {
    /// The deadline passed.
    Late,
    /// The compute was cancelled.
    Cancelled,
}

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// The right to be inside a backend's compute; handed on when it is dropped.
pub(super) struct Permit(Arc<Admission>);

impl Admission {
    /// At most `bound` run, and `queue_bound` wait; a bound of 0 is one of 1.
    pub(super) fn new(bound: usize, queue_bound: usize) -> Arc<Self> {
        let most = u32::MAX as usize >> 1;
        Arc::new(Self {
            bound: bound.clamp(1, most),
            queue_bound: queue_bound.min(most),
            word: AtomicU64::new(0),
            queue: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    pub(super) fn bound(&self) -> usize {
        self.bound
    }

    pub(super) fn queue_bound(&self) -> usize {
        self.queue_bound
    }

    /// Computes that run, and that wait.
    pub(super) fn load(&self) -> (usize, usize) {
        parts(self.word.load(Ordering::Relaxed))
    }

    /// In, if there is room and nobody waits. One compare-exchange.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Permit> {
        // Relaxed: the word counts, and no data hangs on it.
        self.word
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                let (running, waiting) = parts(word);
                (waiting == 0 && running < self.bound).then(|| word + RUNNING)
            })
            .ok()
            .map(|_| Permit(Arc::clone(self)))
    }

    /// Has `end` called with a permit when there is room, perhaps at once; or, if that comes first, when the ticket is
    /// [withdrawn](Self::withdraw) or `deadline` passes.
    pub(super) fn queue(self: &Arc<Self>, deadline: Option<Instant>, end: End) -> Result<Ticket, Full> {
        let mut queue = self.lock();
        loop {
            let word = self.word.load(Ordering::Relaxed);
            let (running, waiting) = parts(word);
            let room = waiting == 0 && running < self.bound;
            if !room && waiting >= self.queue_bound {
                return Err(Full);
            }
            let next = if room { word + RUNNING } else { word + WAITING };
            if self.word.compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed).is_err() {
                continue;
            }
            queue.last += 1;
            let ticket = Ticket(queue.last);
            if room {
                drop(queue);
                end(Ok(Permit(Arc::clone(self))));
            } else {
                queue.entries.push_back(Entry { id: ticket.0, deadline, end });
                if deadline.is_some() {
                    self.wind(&mut queue);
                }
            }
            return Ok(ticket);
        }
    }

    /// Takes somebody out of the queue who is still in it.
    pub(super) fn withdraw(&self, ticket: Ticket, why: Withdrawn) {
        let entry = {
            let mut queue = self.lock();
            let place = queue.entries.iter().position(|entry| entry.id == ticket.0);
            let entry = place.and_then(|place| queue.entries.remove(place));
            if entry.is_some() {
                self.word.fetch_sub(WAITING, Ordering::Relaxed);
            }
            self.changed.notify_one();
            entry
        };
        if let Some(entry) = entry {
            (entry.end)(Err(why));
        }
    }

    fn leave(self: &Arc<Self>) {
        loop {
            let word = self.word.load(Ordering::Relaxed);
            if parts(word).1 == 0 {
                if self.word.compare_exchange(word, word - RUNNING, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                    return;
                }
                continue;
            }
            let next = {
                let mut queue = self.lock();
                let next = queue.entries.pop_front();
                if next.is_some() {
                    self.word.fetch_sub(WAITING, Ordering::Relaxed);
                    self.changed.notify_one();
                }
                next
            };
            // A1: the place goes from hand to hand.
            if let Some(next) = next {
                return (next.end)(Ok(Permit(Arc::clone(self))));
            }
        }
    }

    /// Sees to it that somebody looks at the deadlines.
    fn wind(self: &Arc<Self>, queue: &mut Queue) {
        if queue.clock {
            self.changed.notify_one();
            return;
        }
        let admission = Arc::clone(self);
        // Without it a compute that is past its deadline is told so when its turn comes.
        queue.clock = spawn(move || admission.run_clock()).is_ok();
    }

    fn run_clock(&self) {
        let mut queue = self.lock();
        loop {
            let now = Instant::now();
            let late = queue.entries.iter().position(|entry| entry.deadline.is_some_and(|deadline| deadline <= now));
            if let Some(entry) = late.and_then(|place| queue.entries.remove(place)) {
                self.word.fetch_sub(WAITING, Ordering::Relaxed);
                drop(queue);
                // What may panic here is a waker of the host's; the deadlines of others are still to be looked at.
                let _ = catch_unwind(AssertUnwindSafe(|| (entry.end)(Err(Withdrawn::Late))));
                queue = self.lock();
                continue;
            }
            let Some(next) = queue.entries.iter().filter_map(|entry| entry.deadline).min() else {
                queue.clock = false;
                return;
            };
            let pause = next.saturating_duration_since(now);
            queue = self.changed.wait_timeout(queue, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Running and waiting.
fn parts(word: u64) -> (usize, usize) {
    ((word & u64::from(u32::MAX)) as usize, (word >> 32) as usize)
}

#[cfg(loom)]
fn spawn(_: impl FnOnce() + Send + 'static) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(loom))]
fn spawn(f: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("graphpool-clock".into()).spawn(f).map(drop)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_bound_may_run_and_the_next_may_not() {
        let admission = Admission::new(2, 1);
        let (one, _two) = (admission.enter().unwrap(), admission.enter().unwrap());
        assert!(admission.enter().is_none());
        drop(one);
        let _three = admission.enter().unwrap();
        assert_eq!(admission.load(), (2, 0));
    }

    #[test]
    fn who_waits_is_let_in_in_turn_and_past_the_queue_is_refused() {
        let admission = Admission::new(1, 2);
        let first = admission.enter().unwrap();
        let (sender, ended) = mpsc::channel();
        let queue = |name: &'static str| {
            let sender = sender.clone();
            admission.queue(None, Box::new(move |result| sender.send((name, result)).unwrap()))
        };
        queue("a").unwrap();
        queue("b").unwrap();
        assert_eq!(queue("c"), Err(Full));
        assert_eq!(admission.load(), (1, 2));
        drop(first);
        let (name, permit) = ended.recv().unwrap();
        assert_eq!((name, admission.load()), ("a", (1, 1)));
        // Nobody who comes now overtakes the one that waits.
        assert!(admission.enter().is_none());
        drop(permit);
        let (name, permit) = ended.recv().unwrap();
        assert_eq!(name, "b");
        drop(permit);
        assert_eq!(admission.load(), (0, 0));
    }

    #[test]
    fn a_ticket_is_withdrawn_once_and_not_after_its_turn() {
        let admission = Admission::new(1, 2);
        let first = admission.enter().unwrap();
        let (sender, ended) = mpsc::channel();
        let queue = |deadline| {
            let sender = sender.clone();
            admission.queue(deadline, Box::new(move |result| sender.send(result).unwrap())).unwrap()
        };
        let ticket = queue(None);
        admission.withdraw(ticket, Withdrawn::Cancelled);
        admission.withdraw(ticket, Withdrawn::Cancelled);
        assert_eq!((ended.recv().unwrap().err(), admission.load()), (Some(Withdrawn::Cancelled), (1, 0)));
        let ticket = queue(None);
        drop(first);
        let permit = ended.recv().unwrap().unwrap();
        admission.withdraw(ticket, Withdrawn::Cancelled);
        assert!(ended.try_recv().is_err());
        // The clock ends one of them, and not the other.
        queue(Some(Instant::now() + Duration::from_millis(20)));
        queue(Some(Instant::now() + Duration::from_mins(10)));
        assert_eq!(ended.recv().unwrap().err(), Some(Withdrawn::Late));
        assert_eq!(admission.load(), (1, 1));
        drop(permit);
        assert!(ended.recv().unwrap().is_ok());
    }

    /// A1 and A4, under a crowd.
    #[test]
    fn in_a_crowd_no_more_than_the_bound_are_inside_and_everyone_comes_to_an_end() {
        let admission = Admission::new(3, 4);
        let (inside, highest, ends) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
        thread::scope(|scope| {
            for thread in 0..8_u64 {
                let (admission, inside, highest, ends) = (&admission, &inside, &highest, &ends);
                scope.spawn(move || {
                    for round in 0..2_000 {
                        let (sender, ended) = mpsc::channel();
                        let permit = match admission.enter() {
                            Some(permit) => Ok(permit),
                            None => match admission.queue(None, Box::new(move |end| sender.send(end).unwrap())) {
                                Ok(ticket) => {
                                    if (thread + round) % 3 == 0 {
                                        admission.withdraw(ticket, Withdrawn::Cancelled);
                                    }
                                    ended.recv().unwrap()
                                }
                                Err(Full) => continue,
                            },
                        };
                        if permit.is_ok() {
                            highest.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            thread::yield_now();
                            inside.fetch_sub(1, Ordering::SeqCst);
                        }
                        ends.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(admission.load(), (0, 0));
        assert!((1..=3).contains(&highest.load(Ordering::SeqCst)));
    }
}

#[cfg(all(test, loom))]
mod models;
