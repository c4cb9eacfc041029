//! Runs one asynchronous load: passes the admission of loads, finds or builds the graph on a thread of the engine, or
//! waits without a thread for another load's build.
//!
//! ```text
//!            permit             leader
//!   queued ─────────▶ running ─────────▶ builds ──▶ ended
//!     ▲                  │ follower                  ▲
//!     │ runs next        ▼                           │
//!     └────────────── follows ───────────────────────┘
//! ```
//!
//! * L1: the result is complete exactly once, however the load ends: done, refused, cancelled, cut off by a panic.
//! * L2: a load that is cancelled while it is queued or follows ends at once, and never builds. One that is to build
//!   next hands that on. One that builds goes on for those that follow it.
//! * L3: a load that follows has neither a thread nor a permit.
//! * L4: a handle is only made by the poll that returns it, so that a load that is dropped has none.

use std::sync::{Arc as StdArc, PoisonError, Weak};
use std::task::{Wake, Waker};

use crate::nn::graphs::flight::{Entered, LeaderGuard, Outcome as Flown, Place, Resume, Resumed};
use crate::nn::guest::load_state::{LoadState, Loaded, cancelled};
use crate::nn::guest::plan::{Finished, Plan};
use crate::nn::inner::Inner;
use crate::nn::limits::usage::{Reservation, Usage};
use crate::nn::schedule::admission::{Admission, Full, Permit, Ticket, Withdrawn};
use crate::nn::schedule::inside::LoadScope;
use crate::nn::schedule::waits;
use crate::nn::schedule::workers::Reserved;
use crate::nn::telemetry::observe::Caller;
use crate::nn::telemetry::stats::Counters;
use crate::nn::{Error, ErrorKind};
use crate::sync::{Mutex, MutexGuard};

/// A load that needs a thread or waits.
pub(crate) struct Task<P: Plan> {
    /// The task is to build next.
    lead: Option<LeaderGuard<P::Value>>,
    plan: P,
    guest: u64,
    caller: Caller,
    slot: Reservation,
    bytes: Reservation,
    /// Reserved so that its turn finds a thread.
    thread: Option<Reserved>,
    engine: StdArc<Inner>,
    counted: Counted,
    // Last: it completes the result of a task that is dropped.
    ending: Ending,
}

/// The task's share of the guest's loads, and in the statistics.
struct Counted {
    _of_guest: Reservation,
    counters: StdArc<Counters>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        Counters::decrement(&self.counters.loads, 1);
    }
}

/// L1.
struct Ending(StdArc<LoadState>);

impl Drop for Ending {
    fn drop(&mut self) {
        // Has no effect on a result that is there.
        self.0.complete(Err(cancelled()));
    }
}

/// Where a task is while the call that may continue it is made.
type Parked<P> = StdArc<Mutex<Option<Task<P>>>>;

impl<P: Plan> Task<P> {
    /// Reserves what every load needs while it runs.
    pub(crate) fn new(
        plan: P,
        (slot, bytes): (Reservation, Reservation),
        (engine, usage): (&StdArc<Inner>, &StdArc<Usage>),
        guest: u64,
        caller: &Caller,
        state: &StdArc<LoadState>,
    ) -> Result<Self, Error> {
        if waits::holds_any() {
            return Err(Error::runtime_error("a backend or a resolver started an asynchronous load inside a load"));
        }
        let of_guest = Reservation::of(usage, |usage| &usage.loads, 1)?;
        let thread = engine.loaders.reserve().map_err(|_| no_thread())?;
        let counters = StdArc::clone(&engine.counters);
        Counters::increment(&counters.loads, 1);
        Ok(Self {
            lead: None,
            plan,
            guest,
            caller: caller.clone(),
            slot,
            bytes,
            thread: Some(thread),
            engine: StdArc::clone(engine),
            counted: Counted { _of_guest: of_guest, counters },
            ending: Ending(StdArc::clone(state)),
        })
    }

    /// Runs when a permit is there.
    pub(crate) fn start(self) {
        let (engine, state) = (StdArc::clone(&self.engine), StdArc::clone(&self.ending.0));
        if let Some(permit) = engine.loading.enter() {
            return self.run_on_loader(permit);
        }
        let guest = self.guest;
        let parked = StdArc::new(Mutex::new(Some(self)));
        let its = StdArc::clone(&parked);
        let turn = move |turn| {
            match (take(&its), turn) {
                (Some(task), Ok(permit)) => task.run_on_loader(permit),
                (Some(task), Err(why)) => task.withdrawn(why),
                (None, turn) => return turn.ok(),
            }
            None
        };
        match engine.loading.queue(guest, None, Box::new(turn)) {
            Ok(ticket) => {
                let admission = StdArc::downgrade(&engine.loading);
                state.wake_on_cancel(Waker::from(StdArc::new(Withdraw { admission, ticket })));
            }
            Err(full) => {
                if let Some(task) = take(&parked) {
                    task.full(full);
                }
            }
        }
    }

    fn run_on_loader(mut self, permit: Permit) {
        let engine = StdArc::clone(&self.engine);
        match self.thread.take() {
            Some(thread) => engine.loaders.run(thread, Box::new(move || self.run(permit))),
            None => self.end(Err(no_thread())),
        }
    }

    fn run(self, permit: Permit) {
        let _scope = LoadScope::enter(permit);
        // L2.
        if !self.ending.0.cancel.is_cancelled() {
            let caller = self.caller.clone();
            caller.run(|| self.find_or_make());
        }
    }

    fn find_or_make(mut self) {
        if let Some(leader) = self.lead.take() {
            return self.make(leader);
        }
        let engine = StdArc::clone(&self.engine);
        let entry = match self.plan.entry(&engine) {
            Ok(entry) => entry,
            Err(error) => return self.end(Err(error)),
        };
        // L2: the resolver may have taken long.
        if self.ending.0.cancel.is_cancelled() {
            return self.end(Err(cancelled()));
        }
        // It succeeds on a thread of the pool.
        self.thread = engine.loaders.reserve().ok();
        let state = StdArc::clone(&self.ending.0);
        let parked: Parked<P> = StdArc::new(Mutex::new(Some(self)));
        let its = StdArc::clone(&parked);
        let resume: Resume<P::Value> = Box::new(move |resumed| {
            if let Some(task) = take(&its) {
                task.resume(resumed);
            }
        });
        match entry(resume) {
            Ok(Entered::Waits(place)) => {
                let leave = Leave(Mutex::new(Some(place)));
                state.wake_on_cancel(Waker::from(StdArc::new(leave)));
            }
            entered => {
                if let Some(task) = take(&parked) {
                    match entered {
                        Ok(Entered::Leader(leader)) => task.make(leader),
                        Ok(Entered::Ended(outcome)) => task.finish(outcome, Task::find_or_make),
                        Ok(Entered::Waits(_)) => {}
                        Err(error) => task.end(Err(error)),
                    }
                }
            }
        }
    }

    fn make(mut self, leader: LeaderGuard<P::Value>) {
        let outcome = leader.lead(|| self.plan.make(&self.engine));
        self.finish(outcome, Task::find_or_make);
    }

    /// Called on the thread of another load, whose build has ended.
    fn resume(mut self, resumed: Resumed<P::Value>) {
        match resumed {
            Resumed::Ended(outcome) => self.finish(outcome, Task::start),
            Resumed::Next(leader) => {
                self.lead = Some(leader);
                let engine = StdArc::clone(&self.engine);
                // On a thread of the engine, so that the stack does not grow with the number of loads that hand it on.
                match self.thread.take() {
                    Some(thread) => engine.loaders.run(thread, Box::new(move || self.start_next())),
                    None => self.end(Err(no_thread())),
                }
            }
        }
    }

    fn start_next(mut self) {
        self.thread = self.engine.loaders.reserve().ok();
        self.start();
    }

    /// Uses the value, or goes on with the plan that follows by calling `go_on`.
    fn finish(self, outcome: Flown<P::Value>, go_on: fn(Task<P::Next>)) {
        let value = match outcome.result(|| self.plan.short()) {
            Ok(value) => value,
            Err(error) => return self.end(Err(error)),
        };
        let Self { plan, guest, caller, slot, mut bytes, thread, engine, counted, ending, .. } = self;
        let result = match plan.finish(value, &mut bytes) {
            Ok(Finished::Then(plan)) => {
                return go_on(Task { lead: None, plan, guest, caller, slot, bytes, thread, engine, counted, ending });
            }
            Ok(Finished::There(named, graph)) => Ok(Loaded { named, graph, slot, bytes }),
            Err(error) => {
                drop((slot, bytes));
                Err(error)
            }
        };
        // Before the caller can start the next load.
        drop(counted);
        ending.0.complete(result);
    }

    /// Releases everything that the load holds, and completes its result.
    fn end(self, result: Result<Loaded, Error>) {
        let state = StdArc::clone(&self.ending.0);
        let Self { lead, plan, slot, bytes, counted, ending, .. } = self;
        drop((lead, plan, slot, bytes, counted));
        state.complete(result);
        drop(ending);
    }

    fn withdrawn(self, why: Withdrawn) {
        let error = match why {
            Withdrawn::Displaced => {
                let (call, queue) = (self.ending.0.call, self.engine.loading.queue_bound());
                let error = format!(
                    "{call}: the engine's queue of {queue} loads was full, and a guest with fewer of them took this \
                     place"
                );
                Error::limit(ErrorKind::Busy, error)
            }
            Withdrawn::Cancelled | Withdrawn::Late => cancelled(),
        };
        self.end(Err(error));
    }

    fn full(self, Full { own }: Full) {
        let (call, queue) = (self.ending.0.call, self.engine.loading.queue_bound());
        let error = format!("{call}: the engine's queue of {queue} loads is full, {own} of them this guest's");
        self.end(Err(Error::limit(ErrorKind::Busy, error)));
    }
}

fn no_thread() -> Error {
    Error::busy("the system refused to start a thread")
}

/// A waker that withdraws a ticket when the load is cancelled.
struct Withdraw {
    admission: Weak<Admission>,
    ticket: Ticket,
}

impl Wake for Withdraw {
    fn wake(self: StdArc<Self>) {
        if let Some(admission) = self.admission.upgrade() {
            admission.withdraw(self.ticket, Withdrawn::Cancelled);
        }
    }
}

/// A waker that ends the wait for another load when the load is cancelled.
struct Leave<T: Clone + Send>(Mutex<Option<Place<T>>>);

impl<T: Clone + Send + 'static> Wake for Leave<T> {
    fn wake(self: StdArc<Self>) {
        // Separate statements, so that the task is dropped without a lock.
        let place = take(&self.0);
        let resume = place.and_then(|place| place.leave());
        drop(resume);
    }
}

fn take<T>(parked: &Mutex<Option<T>>) -> Option<T> {
    lock(parked).take()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, loom))]
mod models;
