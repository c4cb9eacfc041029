//! Starts the compute of a future: on a thread of the engine, or on the thread that polls the future if the graph has
//! been quick.
//!
//! * M3: a compute that is to run where it is polled and is cancelled first never begins, and is released by the
//!   cancel.
//! * M4: a polled compute keeps its thread for little more than [`OVERRUN`] times the bound, if its backend watches its
//!   deadline. Then it starts again on a thread of the engine, with the same inputs.
//! * M5: the future completes however the compute ends, also if a panic outside of the backend cuts it off, such as one
//!   of the host's subscriber for events.

use std::mem;
use std::sync::{Arc as StdArc, Weak};
use std::task::{Wake, Waker};
use std::time::Instant;

use crate::nn::guest::compute::{Run, lock, on_cancel};
use crate::nn::schedule::admission::{Permit, Withdrawn};
use crate::nn::schedule::future::{Begin, Compute, Outcome};
use crate::nn::schedule::workers::Reserved;
use crate::nn::telemetry::observe::{Caller, Waiting};
use crate::nn::{Error, ErrorKind};
use crate::sync::Mutex;

/// How many times the bound a compute may take where it is polled.
const OVERRUN: u32 = 8;

impl<R: Send + 'static> Run<R> {
    /// The future of the compute, which starts now on a thread of the engine, or with the first poll.
    pub(crate) fn start(mut self) -> Compute<R> {
        self.caller = Caller::current();
        let (call, cancel, outcome) = (self.purpose.call, self.control.cancel.clone(), StdArc::new(Outcome::new()));
        if self.claimed.context().pace().is_quick() {
            outcome.defer(Box::new(move |outcome, begin| self.start_deferred(outcome, begin)));
            // M3.
            cancel.wake_on_cancel(Waker::from(StdArc::new(Release(StdArc::downgrade(&outcome)))));
        } else {
            self.start_on_worker(&outcome);
        }
        Compute { call, outcome, cancel }
    }

    fn start_deferred(self, outcome: &StdArc<Outcome<R>>, begin: Begin) {
        let guard = CutOff(outcome, self.purpose.call);
        self.begin_deferred(outcome, begin);
        mem::forget(guard);
    }

    fn begin_deferred(self, outcome: &StdArc<Outcome<R>>, begin: Begin) {
        let permit = match begin {
            Begin::Cancelled => return outcome.complete(Err(self.withdrawn(Withdrawn::Cancelled))),
            // Another compute may have been slow meanwhile.
            Begin::Polled => self.engine.admission.enter().filter(|_| self.claimed.context().pace().is_quick()),
        };
        match permit {
            Some(permit) => self.caller.clone().run(|| self.compute_where_polled(permit, outcome)),
            None => self.start_on_worker(outcome),
        }
    }

    fn compute_where_polled(mut self, permit: Permit, outcome: &StdArc<Outcome<R>>) {
        if let Err(why) = self.begin() {
            return outcome.complete(Err(self.withdrawn(why)));
        }
        let bound = Instant::now().checked_add(self.engine.inline_bound.saturating_mul(OVERRUN));
        let earlier = bound.filter(|bound| self.control.deadline.is_none_or(|deadline| *bound < deadline));
        let (result, permit) = self.enter_backend(permit, earlier);
        let is_cut_off = |error: &Error| error.kind() == ErrorKind::Timeout;
        if earlier.is_some() && result.as_ref().is_err_and(is_cut_off) && !self.control.cancel.is_cancelled() {
            let Some(permit) = permit else { return self.start_on_worker(outcome) };
            // M4: it keeps its permit.
            return match self.engine.workers.reserve() {
                Ok(thread) => self.compute_on_worker(thread, permit, outcome),
                Err(_) => outcome.complete(Err(self.no_thread())),
            };
        }
        outcome.complete(self.conclude(permit, result));
    }

    /// Computes on a thread of the engine.
    fn start_on_worker(mut self, outcome: &StdArc<Outcome<R>>) {
        let engine = StdArc::clone(&self.engine);
        // Reserved before the compute is queued, so that its turn finds a thread.
        let Ok(thread) = engine.workers.reserve() else { return outcome.complete(Err(self.no_thread())) };
        if let Some(permit) = engine.admission.enter() {
            return self.compute_on_worker(thread, permit, outcome);
        }
        if let Err(error) = self.may_queue() {
            return outcome.complete(Err(error));
        }
        self.waiting = Some(Waiting::start());
        let (guest, deadline, cancel) = (self.bill.account.id(), self.control.deadline, self.control.cancel.clone());
        // If the queue is full, the compute comes back here with the error.
        let run = StdArc::new(Mutex::new(Some((self, thread))));
        let (its, end) = (StdArc::clone(&run), StdArc::clone(outcome));
        let turn = move |turn| {
            // A separate statement, so that the lock is not held in the backend.
            let run = lock(&its).take();
            match (run, turn) {
                (Some((run, thread)), Ok(permit)) => run.compute_on_worker(thread, permit, &end),
                (Some((run, _)), Err(why)) => run.end(&end, |run| Err(run.withdrawn(why))),
                (None, turn) => return turn.ok(),
            }
            None
        };
        match engine.admission.queue(guest, deadline, Box::new(turn)) {
            Ok(ticket) => on_cancel(&cancel, ticket, &engine.admission),
            Err(full) => {
                let run = lock(&run).take();
                if let Some((run, _)) = run {
                    outcome.complete(Err(run.full(full)));
                }
            }
        }
    }

    fn compute_on_worker(self, thread: Reserved, permit: Permit, outcome: &StdArc<Outcome<R>>) {
        let engine = StdArc::clone(&self.engine);
        let end = StdArc::clone(outcome);
        let compute = |run: Self| run.caller.clone().run(|| run.compute(permit));
        engine.workers.run(thread, Box::new(move || self.end(&end, compute)));
    }

    /// Completes the future with the result of `f`.
    fn end(self, outcome: &Outcome<R>, f: impl FnOnce(Self) -> Result<R, Error>) {
        let guard = CutOff(outcome, self.purpose.call);
        outcome.complete(f(self));
        mem::forget(guard);
    }

    fn no_thread(&self) -> Error {
        self.refused(Error::busy(format!("{}: the system refused to start a thread", self.purpose.call)))
    }
}

/// M5: dropped by a panic alone.
struct CutOff<'a, R>(&'a Outcome<R>, &'static str);

impl<R> Drop for CutOff<'_, R> {
    fn drop(&mut self) {
        let Self(outcome, call) = self;
        outcome.complete(Err(Error::runtime_error(format!("{call}: cut off by a panic outside of the backend"))));
    }
}

/// A waker that releases a compute that was not polled yet when it is cancelled.
struct Release<T>(Weak<Outcome<T>>);

impl<T: Send + 'static> Wake for Release<T> {
    fn wake(self: StdArc<Self>) {
        if let Some(outcome) = self.0.upgrade() {
            outcome.begin(Begin::Cancelled);
        }
    }
}
