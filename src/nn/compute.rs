//! A compute: from the claim of its context, through the engine's admission, to the backend and back.
//!
//! * M1: a compute that ends for whatever reason (done, refused, late, cancelled, dropped) gives back the claim, its
//!   permit and its share of the guest's limits, by their drops.
//! * M2: no epoch guard is held from the moment the context is resolved.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc as StdArc, PoisonError, Weak};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use super::admission::{Admission, Full, Permit, Ticket, Withdrawn};
use super::context::{Claimed, Context};
use super::inner::Inner;
use super::inside::{Inside, is_inside};
use super::observe::{self, Waiting};
use super::stats::Counters;
use super::usage::{Reservation, Usage};
use super::workers::Reserved;
use super::{Error, ErrorKind, Limits};
use crate::GuestHandle;
use crate::backend::{CancelToken, ComputeControl};
use crate::sync::{Condvar, Mutex, MutexGuard};

const CALL: &str = "compute";

/// One compute that has its context.
pub(super) struct Run {
    claimed: Claimed<StdArc<Context>>,
    control: ComputeControl,
    time: Duration,
    _count: Reservation,
    /// From when it is queued until its turn.
    waiting: Option<Waiting>,
    engine: StdArc<Inner>,
    guest: u64,
}

impl Run {
    pub(super) fn new(
        engine: &StdArc<Inner>,
        usage: &StdArc<Usage>,
        limits: &Limits,
        guest: u64,
        (context, handle): (StdArc<Context>, GuestHandle),
        time: Option<Duration>,
    ) -> Result<Self, Error> {
        let time = time.unwrap_or(Duration::MAX).min(limits.max_compute_time());
        let control = ComputeControl {
            // `None` for one that is past the end of the clock.
            deadline: Instant::now().checked_add(time),
            memory_limit: limits.max_compute_bytes(),
            ..ComputeControl::default()
        };
        let count = Reservation::new(usage, |usage| &usage.computes, CALL, 1);
        let count = count?;
        let claimed = Claimed::new(context, handle, Some(&control.cancel))?;
        Ok(Self { claimed, control, time, _count: count, waiting: None, engine: StdArc::clone(engine), guest })
    }

    /// Waits for its turn, and computes.
    pub(super) fn wait(mut self) -> Result<(), Error> {
        let admission = StdArc::clone(&self.engine.admission);
        if let Some(permit) = admission.enter() {
            return self.compute(permit);
        }
        self.may_queue()?;
        self.waiting = Some(Waiting::start());
        let turn = StdArc::new(Turn::default());
        let end = StdArc::clone(&turn);
        // The turn keeps the permit until the caller takes it, who does.
        let end = Box::new(move |result| {
            end.come(result);
            None
        });
        let ticket = match admission.queue(self.guest, None, end) {
            Ok(ticket) => ticket,
            Err(full) => return Err(self.full(full)),
        };
        on_cancel(&self.control.cancel, ticket, &admission);
        loop {
            match turn.wait(self.control.deadline) {
                Some(Ok(permit)) => return self.compute(permit),
                Some(Err(why)) => return Err(self.withdrawn(why)),
                // It may come yet: what counts is who is first.
                None => admission.withdraw(ticket, Withdrawn::Late),
            }
        }
    }

    /// Has it computed on a thread of the engine's.
    pub(super) fn start(mut self) -> Compute {
        let engine = StdArc::clone(&self.engine);
        // Now: whoever ends before it is not to find that there is no thread for it.
        let Ok(thread) = engine.workers.reserve() else {
            return Compute::ended(self.refused(Error::busy(format!("{CALL}: no thread can be started for it"))));
        };
        let (cancel, outcome) = (self.control.cancel.clone(), StdArc::new(Outcome::default()));
        if let Some(permit) = engine.admission.enter() {
            self.compute_elsewhere(thread, permit, &outcome);
            return Compute { outcome, cancel };
        }
        if let Err(error) = self.may_queue() {
            return Compute::ended(error);
        }
        self.waiting = Some(Waiting::start());
        let (guest, deadline) = (self.guest, self.control.deadline);
        // Where the queue is full, it comes back to be told so.
        let run = StdArc::new(Mutex::new(Some((self, thread))));
        let (its, end) = (StdArc::clone(&run), StdArc::clone(&outcome));
        let turn = move |turn| {
            // A statement of its own: the lock is not held in the backend.
            let run = lock(&its).take();
            match (run, turn) {
                (Some((run, thread)), Ok(permit)) => run.compute_elsewhere(thread, permit, &end),
                (Some((run, _)), Err(why)) => end.come(Err(run.withdrawn(why))),
                (None, turn) => return turn.ok(),
            }
            None
        };
        match engine.admission.queue(guest, deadline, Box::new(turn)) {
            Ok(ticket) => on_cancel(&cancel, ticket, &engine.admission),
            Err(full) => {
                let run = lock(&run).take();
                if let Some((run, _)) = run {
                    outcome.come(Err(run.full(full)));
                }
            }
        }
        Compute { outcome, cancel }
    }

    fn compute_elsewhere(self, thread: Reserved, permit: Permit, outcome: &StdArc<Outcome>) {
        let engine = StdArc::clone(&self.engine);
        let end = StdArc::clone(outcome);
        engine.workers.run(thread, Box::new(move || end.come(self.compute(permit))));
    }

    fn compute(mut self, permit: Permit) -> Result<(), Error> {
        if self.control.cancel.is_cancelled() || !self.claimed.begin() {
            return Err(self.withdrawn(Withdrawn::Cancelled));
        }
        if self.control.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(self.withdrawn(Withdrawn::Late));
        }
        self.waiting = None;
        let control = &self.control;
        let (guest, graph) = (self.guest, self.claimed.context().graph());
        let claimed = &mut self.claimed;
        let result = {
            let _inside = Inside::enter(&self.engine.admission);
            observe::compute(guest, graph, || claimed.compute(CALL, |backend| backend.compute(control)))
        };
        drop(permit);
        let counters = &self.engine.counters;
        let told = |error: Error| {
            Counters::count(&counters.failed_computes);
            if control.cancel.is_cancelled() {
                Counters::count(&counters.cancelled);
            } else if error.kind() == ErrorKind::Timeout {
                Counters::count(&counters.timeouts);
                return Error::timeout(format!("{CALL}: not done within {:?}: {}", self.time, error.message()));
            }
            error.of(CALL)
        };
        if let Err(error) = result {
            return Err(self.refused(told(error)));
        }
        Counters::count(&counters.computes);
        Ok(())
    }

    /// The answer for one that never reached the backend.
    fn withdrawn(self, why: Withdrawn) -> Error {
        let counters = &self.engine.counters;
        let error = match why {
            Withdrawn::Late => {
                Counters::count(&counters.timeouts);
                let why = if self.waiting.is_some() { ", as its turn did not come" } else { "" };
                Error::timeout(format!("{CALL}: not begun within {:?}{why}", self.time))
            }
            Withdrawn::Cancelled => {
                Counters::count(&counters.cancelled);
                Error::runtime_error(format!("{CALL}: cancelled before it began"))
            }
            Withdrawn::Displaced => {
                let queue = self.engine.admission.queue_bound();
                Error::limit(
                    ErrorKind::Busy,
                    format!(
                        "{CALL}: the engine's queue of {queue} computes was full, and one of a guest with fewer \
                         of them took the place of this one"
                    ),
                )
            }
        };
        self.refused(error)
    }

    fn full(self, Full { own }: Full) -> Error {
        let queue = self.engine.admission.queue_bound();
        let error = format!("{CALL}: the engine's queue of {queue} computes is full, {own} of them this guest's");
        self.refused(Error::limit(ErrorKind::Busy, error))
    }

    /// A compute that is called from inside another of the same engine is not queued: its turn may be the very one that
    /// its thread has.
    fn may_queue(&self) -> Result<(), Error> {
        let admission = &self.engine.admission;
        if !is_inside(admission) {
            return Ok(());
        }
        let bound = admission.bound();
        let error = format!(
            "{CALL}: called from inside a compute of this engine, where it may not wait for its turn, and the bound of \
             {bound} computes is reached"
        );
        Err(self.refused(Error::limit(ErrorKind::Busy, error)))
    }

    fn refused(&self, error: Error) -> Error {
        observe::compute_refused(&self.engine.counters, self.guest, self.claimed.context().graph(), error)
    }
}

/// Where a blocked caller hears that its turn has come.
#[derive(Default)]
pub(super) struct Turn {
    result: Mutex<Option<Result<Permit, Withdrawn>>>,
    came: Condvar,
}

impl Turn {
    pub(super) fn come(&self, result: Result<Permit, Withdrawn>) {
        *lock(&self.result) = Some(result);
        self.came.notify_one();
    }

    /// `None` where `deadline` passes first.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Option<Result<Permit, Withdrawn>> {
        let mut result = lock(&self.result);
        loop {
            if result.is_some() {
                return result.take();
            }
            result = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.came.wait(result).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return None,
                Some(left) => self.came.wait_timeout(result, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }
}

/// Withdraws a ticket when the compute is cancelled.
struct Hook {
    admission: Weak<Admission>,
    ticket: Ticket,
}

impl Wake for Hook {
    fn wake(self: StdArc<Self>) {
        if let Some(admission) = self.admission.upgrade() {
            admission.withdraw(self.ticket, Withdrawn::Cancelled);
        }
    }
}

fn on_cancel(cancel: &CancelToken, ticket: Ticket, admission: &StdArc<Admission>) {
    cancel.wake_on_cancel(Waker::from(StdArc::new(Hook { admission: StdArc::downgrade(admission), ticket })));
}

/// A compute that runs on a thread of the engine's, from [`Guest::compute_async`](super::Guest::compute_async).
///
/// It runs whether it is polled or not, and is cancelled when it is dropped: one that waits for its turn ends at
/// once, one that runs at the backend's next look at its [`ComputeControl`]. Any runtime's executor will do.
#[must_use = "a compute that is dropped is cancelled"]
pub struct Compute {
    outcome: StdArc<Outcome>,
    cancel: CancelToken,
}

#[derive(Default)]
struct Outcome(Mutex<Progress>);

#[derive(Default)]
struct Progress {
    result: Option<Result<(), Error>>,
    waker: Option<Waker>,
    ended: bool,
}

impl Outcome {
    fn come(&self, result: Result<(), Error>) {
        let waker = {
            let mut progress = lock(&self.0);
            progress.result = Some(result);
            progress.ended = true;
            progress.waker.take()
        };
        if let Some(waker) = waker {
            // The waker is the host's, and perhaps another guest's than the one whose call has come to this.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}

impl Compute {
    /// One that has ended.
    pub(super) fn ended(error: Error) -> Self {
        let compute = Self { outcome: StdArc::default(), cancel: CancelToken::default() };
        compute.outcome.come(Err(error));
        compute
    }
}

impl Future for Compute {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let mut progress = lock(&self.outcome.0);
        if let Some(result) = progress.result.take() {
            return Poll::Ready(result);
        }
        if progress.ended {
            return Poll::Ready(Err(Error::runtime_error(format!("{CALL}: polled after its end"))));
        }
        match &mut progress.waker {
            Some(waker) => waker.clone_from(context.waker()),
            waker => *waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Compute {
    fn drop(&mut self) {
        // A statement of its own: whoever hears of the cancel may take the lock.
        let ended = lock(&self.outcome.0).ended;
        if !ended {
            self.cancel.cancel();
        }
    }
}

impl fmt::Debug for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compute").field("ended", &lock(&self.outcome.0).ended).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
