//! Passes that the sessions of a model share: sessions that are in a step at the same moment read the weights once.
//!
//! A session gives its tokens and its cache as a request, and has both back with the results. Who computes it, and
//! beside what, is the [`queue`](super::queue)'s matter; a row's results don't depend on the rows beside it. A pass takes
//! at most [`MOST_ROWS`] rows, and a request has at most [`CHUNK`]. So between the chunks of a long prompt every other
//! session has its turn (B1).
//!
//! * B7, bounds of a pass: a pass of one request ends by that request's deadline and cancel token. A pass of several ends
//!   before its time only when all of its requests are cancelled, or when the latest of their deadlines has passed and
//!   each has one. So no session's bounds end another's pass.
//! * B8, failure: an error or a panic of a pass fails the requests that are in it. What one request alone could be to
//!   blame for is checked before it waits.
//! * B11, goodbye: a session that is in a step is expected again, until its text has ended or a call has failed.
//! * B9, memory: each session is charged for its own rows. The memory of a pass is at most the sum of these charges, is
//!   allocated for the pass, and freed at its end.

use super::cache::Cache;
use super::forward::{Buffers, Model, Results, Run};
use super::queue::{BatchQueue, Joined, Seat};
use graphpool::backend::{CancelToken, ComputeControl, Error};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};
use std::thread;
use std::time::Duration;

/// The longest time for which a pass waits for the sessions of the last one. They choose a token meanwhile.
const PATIENCE: Duration = Duration::from_millis(2);

/// The most passes through a model that run at one time. More of them use more processors, and have fewer rows each for
/// which the weights are read from memory.
const MOST_PASSES: usize = 8;

/// The most rows of a pass.
pub(crate) const MOST_ROWS: usize = 128;

/// The most rows of a request.
pub(crate) const CHUNK: usize = 64;

/// The sessions of a model that are in a step.
#[derive(Debug)]
pub(crate) struct Batches {
    queue: Arc<BatchQueue<Request>>,
    #[cfg(test)]
    counts: Mutex<Counts>,
}

/// What passes there were.
#[cfg(test)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) passes: usize,
    pub(crate) rows: usize,
    /// The most sessions in a pass.
    pub(crate) sessions: usize,
}

/// Tokens of a session that are to be passed.
#[derive(Debug)]
pub(crate) struct Request {
    /// Has room for the tokens ([`Cache::reserve`]).
    pub(crate) cache: Cache,
    pub(crate) tokens: Vec<u32>,
    /// Of how many tokens, from the end, the results are wanted.
    pub(crate) wanted: usize,
    pub(crate) results: Results,
    /// For a pass of this request alone. They have the results of any other pass, too.
    pub(crate) buffers: Buffers,
    pub(crate) control: ComputeControl,
    pub(crate) interrupt: Arc<Interrupt>,
    pub(crate) outcome: Result<(), Error>,
}

/// A call whose requests are passed: its bounds, and what a cancellation does.
#[derive(Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) control: &'a ComputeControl,
    interrupt: Arc<Interrupt>,
    /// The number of the waker.
    waker: u64,
}

/// Told of the cancellation of a call.
#[derive(Debug)]
pub(crate) struct Interrupt {
    queue: Arc<BatchQueue<Request>>,
    seat: Arc<Seat>,
    /// The last pass beside other requests.
    pass: Mutex<Option<Arc<JointPass>>>,
}

/// A pass of several requests.
#[derive(Debug)]
struct JointPass {
    /// Requests that are not cancelled.
    left: AtomicUsize,
    cancel: CancelToken,
}

/// Passes at one time: as many as there are processors, up to a bound.
pub(super) fn passes() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(MOST_PASSES)
}

impl Batches {
    /// With `passes` passes at one time.
    pub(crate) fn new(passes: usize) -> Self {
        Self {
            queue: BatchQueue::new(MOST_ROWS, passes, |pass| (pass / 2).min(PATIENCE)),
            #[cfg(test)]
            counts: Mutex::default(),
        }
    }

    /// A call of the session that has the seat, with these bounds.
    pub(crate) fn caller<'a>(&self, control: &'a ComputeControl, seat: &Arc<Seat>) -> Caller<'a> {
        let (queue, seat, pass) = (Arc::clone(&self.queue), Arc::clone(seat), Mutex::new(None));
        let interrupt = Arc::new(Interrupt { queue, seat, pass });
        let waker = control.cancel.wake_on_cancel(Waker::from(Arc::clone(&interrupt)));
        Caller { control, interrupt, waker }
    }

    /// B11.
    pub(crate) fn say_goodbye(&self, seat: &Seat) {
        self.queue.say_goodbye(seat);
    }

    /// Passes the tokens of a request of `caller`'s through the model, on this thread or another, beside those of other
    /// sessions. The outcome is in the request. Where it is an error, the cache may have the new positions, or not.
    pub(crate) fn pass(&self, model: &Model, request: Request, caller: &Caller<'_>) -> Request {
        let (rows, control) = (request.tokens.len(), caller.control);
        let stopped = || control.cancel.is_cancelled();
        match self.queue.join(request, rows, &caller.interrupt.seat, control.deadline, stopped, || control.suspend()) {
            Joined::Leads(mut leader) => {
                #[cfg(test)]
                self.count(leader.requests());
                compute(model, leader.requests());
                leader.finish()
            }
            Joined::Computed(request) => request,
            Joined::CutOff(request) => {
                let why = "a panic has ended the pass through the model, beside other sessions";
                Request { outcome: Err(Error::runtime_error(why)), ..request }
            }
            Joined::Left(request) => {
                let outcome = control.check().and(Err(Error::runtime_error("cancelled")));
                Request { outcome, ..request }
            }
        }
    }
}

#[cfg(test)]
impl Batches {
    fn count(&self, requests: &[Request]) {
        let mut counts = self.counts.lock().unwrap();
        counts.passes += 1;
        counts.rows += requests.iter().map(|request| request.tokens.len()).sum::<usize>();
        counts.sessions = counts.sessions.max(requests.len());
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.counts.lock().unwrap()
    }

    pub(crate) const fn queue(&self) -> &Arc<BatchQueue<Request>> {
        &self.queue
    }
}

impl Caller<'_> {
    /// For [`Request::interrupt`].
    pub(crate) fn interrupt(&self) -> Arc<Interrupt> {
        Arc::clone(&self.interrupt)
    }
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        self.control.cancel.forget_waker(self.waker);
    }
}

impl Wake for Interrupt {
    fn wake(self: Arc<Self>) {
        self.queue.wake(&self.seat);
        self.leave_pass();
    }
}

impl Interrupt {
    fn enter_pass(&self, pass: Option<Arc<JointPass>>) {
        *self.pass.lock().unwrap_or_else(PoisonError::into_inner) = pass;
    }

    /// B7: once for each pass.
    fn leave_pass(&self) {
        let pass = self.pass.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Relaxed: only the count matters.
        if let Some(pass) = pass
            && pass.left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            pass.cancel.cancel();
        }
    }
}

/// Computes the requests of a pass.
pub(crate) fn compute(model: &Model, requests: &mut [Request]) {
    if let [alone] = requests {
        let Request { cache, tokens, wanted, results, buffers, control, .. } = alone;
        let run = Run { cache, tokens, wanted: *wanted };
        alone.outcome = model.step(&mut [run], *results, buffers, control);
        return;
    }
    let control = joint_control(requests);
    for results in [Results::Logits, Results::States] {
        let mut together: Vec<&mut Request> =
            requests.iter_mut().filter(|request| request.results == results).collect();
        if !together.is_empty() {
            compute_together(model, &mut together, results, &control);
        }
    }
    for request in requests {
        request.interrupt.enter_pass(None);
    }
}

/// Computes requests that want the same kind of results.
fn compute_together(model: &Model, requests: &mut [&mut Request], results: Results, control: &ComputeControl) {
    // B9.
    let mut buffers = Buffers::default();
    let runs = requests.iter_mut().map(|request| {
        let Request { cache, tokens, wanted, buffers, .. } = &mut **request;
        buffers.shrink();
        Run { cache, tokens, wanted: *wanted }
    });
    let outcome = model.step(&mut runs.collect::<Vec<_>>(), results, &mut buffers, control);
    let mut rest = &*buffers.results();
    for request in requests {
        if outcome.is_ok() {
            let rows = request.wanted.min(request.tokens.len());
            let (own, others) = rest.split_at(rows * model.result_len(results));
            request.buffers.set_results(own);
            rest = others;
        }
        request.outcome.clone_from(&outcome);
    }
}

/// B7: the bounds of a pass of several requests.
fn joint_control(requests: &[Request]) -> ComputeControl {
    let cancel = CancelToken::default();
    let pass = Arc::new(JointPass { left: AtomicUsize::new(requests.len()), cancel: cancel.clone() });
    for request in requests {
        request.interrupt.enter_pass(Some(Arc::clone(&pass)));
        // A cancellation before this sees no pass, and one after it sees this.
        if request.control.cancel.is_cancelled() {
            request.interrupt.leave_pass();
        }
    }
    let deadlines: Option<Vec<_>> = requests.iter().map(|request| request.control.deadline).collect();
    let latest = deadlines.and_then(|deadlines| deadlines.into_iter().max());
    ComputeControl::default().with_cancel(cancel).with_deadline(latest)
}
