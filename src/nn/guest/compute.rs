//! Runs one compute: claims its context, passes the engine's admission, calls the backend and returns the result. An
//! inference also sets inputs before and reads outputs after, under the same claim. A step of a run is a compute, too.
//!
//! * M1: however a compute ends (done, refused, late, cancelled, dropped), the drops of its parts give back the claim,
//!   the permit and its share of the guest's limits.
//! * M2: no epoch guard is held once the context is resolved.

mod start;

use std::sync::{Arc as StdArc, PoisonError, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use crate::GuestHandle;
use crate::backend::{CancelToken, ComputeControl, Step};
use crate::nn::guest::account::Account;
use crate::nn::guest::claimed::Claimed;
use crate::nn::guest::context::Context;
use crate::nn::guest::holdings::GuestInner;
use crate::nn::guest::steps::StepOf;
use crate::nn::inner::Inner;
use crate::nn::limits::usage::Reservation;
use crate::nn::schedule::admission::{Admission, Full, Permit, Ticket, Withdrawn};
use crate::nn::schedule::future::Compute;
use crate::nn::schedule::inside::{ComputeScope, SUSPENDER, is_inside};
use crate::nn::schedule::turn::Turn;
use crate::nn::telemetry::observe;
use crate::nn::telemetry::observe::{Caller, Waiting};
use crate::nn::telemetry::stats::Counters;
use crate::nn::{Error, ErrorKind, Tensor, TensorView};
use crate::sync::{Mutex, MutexGuard};

/// The call that a compute serves, and the result that it returns after the backend has computed.
pub(crate) struct Purpose<R> {
    pub(crate) call: &'static str,
    pub(crate) work: Work,
    /// Reads the result out of the context, while the claim is still held.
    pub(crate) read: Read<R>,
}

/// Reads a result, after this work with this outcome.
type Read<R> = fn(&mut Claimed<StdArc<Context>>, &Work, Step) -> Result<R, Error>;

/// What the backend is called for.
pub(crate) enum Work {
    /// Every output, as a whole. The outcome is always [`Step::More`].
    Outputs,
    /// One step, whose result is its outcome.
    Step(StepOf),
    /// One step of a stream, whose result has the piece of this output.
    Piece(StepOf, usize),
}

pub(crate) const COMPUTE: Purpose<()> = Purpose { call: "compute", work: Work::Outputs, read: |_, _, _| Ok(()) };
pub(crate) const INFER: Purpose<Vec<Tensor>> =
    Purpose { call: "infer", work: Work::Outputs, read: |claimed, _, _| claimed.take_outputs(INFER.call) };
pub(crate) const COMPUTE_SINGLE: Purpose<Step> =
    Purpose { call: "compute_single", work: Work::Step(StepOf::Guest), read: |_, _, step| Ok(step) };

impl<R: Send + 'static> Purpose<R> {
    /// The future of `run`, or of the error.
    pub(crate) fn start(self, run: Result<Run<R>, Error>) -> Compute<R> {
        run.map_or_else(|error| Compute::failed(self.call, error), Run::start)
    }
}

/// A compute that has claimed its context.
pub(crate) struct Run<R> {
    purpose: Purpose<R>,
    claimed: Claimed<StdArc<Context>>,
    control: ComputeControl,
    time: Duration,
    _count: Reservation,
    /// Measures the wait, from the queue to the turn.
    waiting: Option<Waiting>,
    /// The compute has entered the backend.
    begun: bool,
    /// For the work on other threads.
    caller: Caller,
    engine: StdArc<Inner>,
    bill: Bill,
}

/// The time inside the backend, which is recorded once for a compute, however it ends.
struct Bill {
    account: StdArc<Account>,
    graph: u64,
    /// `None` if the compute never entered the backend.
    time: Option<Duration>,
    ok: bool,
}

impl Bill {
    fn record(&mut self) {
        if let Some(time) = self.time.take() {
            observe::computed(&self.account, self.graph, time, self.ok);
        }
    }
}

impl Drop for Bill {
    fn drop(&mut self) {
        self.record();
    }
}

impl<R: Send + 'static> Run<R> {
    pub(crate) fn new(
        purpose: Purpose<R>,
        guest: &GuestInner,
        (context, handle): (StdArc<Context>, GuestHandle),
        time: Option<Duration>,
    ) -> Result<Self, Error> {
        let GuestInner { engine, usage, limits, account, .. } = guest;
        let time = time.unwrap_or(Duration::MAX).min(limits.max_compute_time());
        let control = ComputeControl {
            // `None` if the deadline is past the range of the clock.
            deadline: Instant::now().checked_add(time),
            memory_limit: limits.max_compute_bytes(),
            suspender: Some(SUSPENDER),
            ..ComputeControl::default()
        };
        let count = Reservation::new(usage, |usage| &usage.computes, purpose.call, 1)?;
        let claimed = Claimed::new(context, handle, Some(&control.cancel))?;
        match &purpose.work {
            Work::Outputs => claimed.check_compute(),
            Work::Step(of) | Work::Piece(of, _) => claimed.check_step(of),
        }?;
        let bill = Bill { account: StdArc::clone(account), graph: claimed.context().graph(), time: None, ok: false };
        let (engine, waiting, begun, caller) = (StdArc::clone(engine), None, false, Caller::none());
        Ok(Self { purpose, claimed, control, time, _count: count, waiting, begun, caller, engine, bill })
    }

    /// Sets the context's inputs to exactly these, each with its index.
    pub(crate) fn set_inputs(&mut self, inputs: &[(usize, TensorView<'_>)]) -> Result<(), Error> {
        self.claimed.clear_inputs(self.purpose.call)?;
        self.claimed.set_inputs(self.purpose.call, inputs, &mut self.control)
    }

    /// Waits for the turn, and computes.
    pub(crate) fn wait(mut self) -> Result<R, Error> {
        let admission = StdArc::clone(&self.engine.admission);
        if let Some(permit) = admission.enter() {
            return self.compute(permit);
        }
        self.may_queue()?;
        self.waiting = Some(Waiting::start());
        let turn = StdArc::new(Turn::default());
        let end = StdArc::clone(&turn);
        // The turn keeps the permit until the caller takes it, which it always does.
        let end = Box::new(move |result| {
            end.complete(result);
            None
        });
        let ticket = match admission.queue(self.bill.account.id(), None, end) {
            Ok(ticket) => ticket,
            Err(full) => return Err(self.full(full)),
        };
        on_cancel(&self.control.cancel, ticket, &admission);
        loop {
            match turn.wait(self.control.deadline) {
                Some(Ok(permit)) => return self.compute(permit),
                Some(Err(why)) => return Err(self.withdrawn(why)),
                // The permit may still come: the first of the two decides.
                None => admission.withdraw(ticket, Withdrawn::Late),
            }
        }
    }

    fn compute(mut self, permit: Permit) -> Result<R, Error> {
        if let Err(why) = self.begin() {
            return Err(self.withdrawn(why));
        }
        let (result, permit) = self.enter_backend(permit, None);
        self.conclude(permit, result)
    }

    /// Checks whether the compute may still begin; from then on a close of its context lets it end.
    fn begin(&mut self) -> Result<(), Withdrawn> {
        if self.control.cancel.is_cancelled() || !(self.begun || self.claimed.begin()) {
            return Err(Withdrawn::Cancelled);
        }
        if self.control.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(Withdrawn::Late);
        }
        self.begun = true;
        self.waiting = None;
        Ok(())
    }

    /// Computes on this thread, with the compute's deadline or an earlier one. The permit does not come back if the
    /// compute was cancelled or late while it was suspended.
    fn enter_backend(&mut self, permit: Permit, deadline: Option<Instant>) -> (Result<Step, Error>, Option<Permit>) {
        self.claimed.limit(&mut self.control);
        let earlier = deadline.map(|deadline| self.control.clone().with_deadline(deadline));
        let control = earlier.as_ref().unwrap_or(&self.control);
        let (Purpose { call, work, .. }, claimed, bill) = (&self.purpose, &mut self.claimed, &mut self.bill);
        let compute = || match work {
            Work::Outputs => claimed.compute(call, |backend| backend.compute(control)).map(|()| Step::More),
            Work::Step(of) | Work::Piece(of, _) => claimed.step(call, of, |backend| backend.step(control)),
        };
        let scope = ComputeScope::enter(&self.engine.admission, control, permit);
        let (result, time) = observe::compute(&bill.account, bill.graph, compute);
        let permit = scope.leave();
        bill.time = Some(bill.time.unwrap_or_default() + time);
        bill.ok = result.is_ok();
        self.claimed.context().pace().record(time, result.is_ok(), self.engine.inline_bound);
        (result, permit)
    }

    /// Records how the backend has ended, gives the permit back, and reads the result.
    fn conclude(mut self, permit: Option<Permit>, result: Result<Step, Error>) -> Result<R, Error> {
        self.bill.record();
        let Purpose { call, read, .. } = self.purpose;
        let counters = &self.engine.counters;
        let record_failure = |error: Error| {
            Counters::count(&counters.failed_computes);
            if self.control.cancel.is_cancelled() {
                Counters::count(&counters.cancelled);
            } else if error.kind() == ErrorKind::Timeout {
                Counters::count(&counters.timeouts);
                return Error::timeout(format!(
                    "{call}: exceeded the time limit of {:?}: {}",
                    self.time,
                    error.message()
                ));
            }
            error.of(call)
        };
        let result = result.map_err(record_failure);
        if result.is_ok() {
            Counters::count(&counters.computes);
        }
        // After the counts: a compute that no longer runs is among those that have ended.
        drop(permit);
        let step = result.map_err(|error| self.refused(error))?;
        read(&mut self.claimed, &self.purpose.work, step).map_err(|error| self.refused(error.of(call)))
    }

    /// The error for a compute that never reached the backend.
    fn withdrawn(self, why: Withdrawn) -> Error {
        let call = self.purpose.call;
        let counters = &self.engine.counters;
        let error = match why {
            Withdrawn::Late => {
                Counters::count(&counters.timeouts);
                let why = if self.waiting.is_some() { ", while it waited for its turn" } else { "" };
                Error::timeout(format!("{call}: exceeded the time limit of {:?} before it began{why}", self.time))
            }
            Withdrawn::Cancelled => {
                Counters::count(&counters.cancelled);
                Error::runtime_error(format!("{call}: cancelled before it began"))
            }
            Withdrawn::Displaced => {
                let queue = self.engine.admission.queue_bound();
                Error::limit(
                    ErrorKind::Busy,
                    format!(
                        "{call}: the engine's queue of {queue} computes was full, and a guest with fewer of them took \
                         this place"
                    ),
                )
            }
        };
        self.refused(error)
    }

    fn full(self, Full { own }: Full) -> Error {
        let call = self.purpose.call;
        let queue = self.engine.admission.queue_bound();
        let error = format!("{call}: the engine's queue of {queue} computes is full, {own} of them this guest's");
        self.refused(Error::limit(ErrorKind::Busy, error))
    }

    /// A compute that is called from inside another compute of the same engine is not queued, because its thread may
    /// hold the very permit that it would wait for.
    fn may_queue(&self) -> Result<(), Error> {
        let admission = &self.engine.admission;
        if !is_inside(admission) {
            return Ok(());
        }
        let (call, bound) = (self.purpose.call, admission.bound());
        let error = format!(
            "{call}: the engine already runs its maximum of {bound} computes, and a call from inside a compute cannot \
             wait for its turn"
        );
        Err(self.refused(Error::limit(ErrorKind::Busy, error)))
    }

    fn refused(&self, error: Error) -> Error {
        let (counters, call, bill) = (&self.engine.counters, self.purpose.call, &self.bill);
        self.caller.run(|| observe::compute_refused(counters, call, &bill.account, bill.graph, error))
    }
}

/// A waker that withdraws a ticket when the compute is cancelled.
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
