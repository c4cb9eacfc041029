//! Calls that work in the background, for hosts that must not block: their wait, their results and their close.

use std::ffi::c_void;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use graphpool::GuestHandle;
use graphpool::nn::{Error, HostBytes, Step, Tensor};
use graphpool_ffi::{Arguments, Held as _, Out, held};

use crate::call::{call, close, find, keep};
use crate::code::{Failure, gp_code, gp_error};
use crate::guest::HeldGuest;
use crate::inference::deliver;
use crate::limits::time;

/// Called when a job is done: exactly once for each start that has succeeded, also if the job is closed before. `data`
/// is the caller's, and must live until then.
///
/// It is called on any thread that is inside a call of the library, or on one of the library's own. So it must not take
/// a lock that the host holds over a call, must return soon, and must not wait. It may call gp_job_graph,
/// gp_job_output and gp_job_close for its job; a host makes other calls from elsewhere.
pub type gp_done = Option<unsafe extern "C" fn(data: *mut c_void)>;

/// A call in the background.
struct Job {
    state: Mutex<State>,
    signal: Arc<Signal>,
    guest: Weak<HeldGuest>,
}

held! {
    Job, "job";
}

pub(crate) type Work = Pin<Box<dyn Future<Output = Result<Given, Error>> + Send>>;

struct State {
    /// `None` once it is done, and after the job was closed.
    work: Option<Work>,
    result: Option<Result<Given, Error>>,
}

/// What a job gives.
pub(crate) enum Given {
    /// The outputs are the context's.
    Computed,
    /// The piece is the context's; this is how the step has ended.
    Stepped(Step),
    /// A graph, and whether C has asked for it.
    Graph(GuestHandle, bool),
    /// The outputs, whose bytes the guest's limits count.
    Outputs(Vec<Tensor>, #[expect(dead_code, reason = "held for its drop")] HostBytes),
}

/// Wakes those who wait for the job, and calls C.
struct Signal {
    done: Mutex<bool>,
    changed: Condvar,
    call: gp_done,
    data: Data,
}

/// The caller's own pointer, which is only handed back.
struct Data(*mut c_void);

// SAFETY: it is not dereferenced here. That C's function may be called on any thread is in its documentation.
unsafe impl Send for Data {}
// SAFETY: as above.
unsafe impl Sync for Data {}

impl Wake for Signal {
    /// The futures of an engine wake when they are done.
    fn wake(self: Arc<Self>) {
        if self.end()
            && let Some(call) = self.call
        {
            // SAFETY: C's own function with its own data.
            unsafe { call(self.data.0) };
        }
    }
}

impl Signal {
    /// Wakes those who wait. `true` the first time.
    fn end(&self) -> bool {
        let was_done = mem::replace(&mut *lock(&self.done), true);
        self.changed.notify_all();
        !was_done
    }

    /// Waits until the job is done; `false` if `until` passes first.
    fn wait(&self, until: Option<Instant>) -> bool {
        let mut done = lock(&self.done);
        while !*done {
            done = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(done).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return false,
                Some(left) => self.changed.wait_timeout(done, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        true
    }
}

impl State {
    /// Takes the result out of the work if it is there. If it is not, the signal comes with it.
    fn poll(&mut self, signal: &Arc<Signal>) {
        if let Some(work) = &mut self.work {
            let waker = Waker::from(Arc::clone(signal));
            if let Poll::Ready(result) = work.as_mut().poll(&mut Context::from_waker(&waker)) {
                self.result = Some(result);
                self.work = None;
            }
        }
    }
}

impl Job {
    /// The state after a poll.
    fn poll(&self) -> MutexGuard<'_, State> {
        let mut state = lock(&self.state);
        state.poll(&self.signal);
        state
    }

    /// Reads what the job has given, if it is done.
    fn given<R>(
        &self,
        arguments: &Arguments,
        read: impl FnOnce(&mut Given) -> Option<Result<R, Error>>,
    ) -> Result<R, Failure> {
        let mut state = self.poll();
        match &mut state.result {
            None => Err(Failure::not_done(arguments.call())),
            Some(Err(error)) => Err(error.clone().into()),
            Some(Ok(given)) => {
                let other = || Err(arguments.invalid("the job is of another call and gives no such result"));
                Ok(read(given).unwrap_or_else(other)?)
            }
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Nobody knows the number of the graph.
        if let (Some(Ok(Given::Graph(graph, false))), Some(held)) = (&state.result, self.guest.upgrade()) {
            let _ = held.guest.unload(*graph);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a job of a call's work, and writes its number. Work that was refused at once has no job.
pub(crate) fn start(
    arguments: &Arguments,
    held: &Arc<HeldGuest>,
    work: Work,
    (done, data): (gp_done, *mut c_void),
    number: Out<u64>,
) -> Result<(), Failure> {
    let signal = Arc::new(Signal { done: Mutex::new(false), changed: Condvar::new(), call: done, data: Data(data) });
    let state = Mutex::new(State { work: Some(work), result: None });
    let kept = keep(arguments, Job { state, signal, guest: Arc::downgrade(held) })?;
    let job = find::<Job>(arguments, kept)?;
    let mut state = lock(&job.state);
    // Before the first poll: from then on C may be called, which needs the number, and may free its place. Until the
    // poll has returned, the lock keeps threads that have guessed the number from closing the job.
    number.write(kept as u64);
    state.poll(&job.signal);
    match state.result.take_if(|result| result.is_err()) {
        Some(Err(error)) => {
            drop(state);
            drop(Job::take(kept as u64));
            job.signal.end();
            Err(error.into())
        }
        _ if state.result.is_some() => {
            drop(state);
            Arc::clone(&job.signal).wake();
            Ok(())
        }
        // Closed before the poll: its end would be told to nobody.
        _ if state.work.is_none() => Err(Failure::closed(arguments.call(), Job::NAME)),
        _ => Ok(()),
    }
}

/// Waits until a job is done, for at most `time_ms` milliseconds (GP_NO_LIMIT: for as long as it takes), and gives the
/// result of its call. GP_CODE_NOT_DONE if the job is not done by then: it goes on. A job that another thread closes is
/// done when its call has ended.
///
/// Threads: any, at any time, several for one job too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_job_wait(job: u64, time_ms: u64, error: *mut gp_error) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let job = find::<Job>(arguments, job as usize)?;
        let until = time(time_ms).and_then(|time| Instant::now().checked_add(time));
        if !job.signal.wait(until) {
            return Err(Failure::not_done(arguments.call()));
        }
        match &job.poll().result {
            Some(Ok(Given::Stepped(step))) => Failure::of_step(*step),
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(error.clone().into()),
            None => Err(Error::runtime_error("job_wait: the job was closed and cancelled").into()),
        }
    };
    // SAFETY: the rules of the header.
    unsafe { call("job_wait", error, run) }
}

/// Gives the graph of a job of gp_load_start or gp_load_by_name_start. GP_CODE_NOT_DONE while the job is not done, and
/// the error of a load that has failed.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_job_graph(job: u64, graph: *mut u32, error: *mut gp_error) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let job = find::<Job>(arguments, job as usize)?;
        let out = arguments.out("graph", graph)?;
        let graph = job.given(arguments, |given| match given {
            Given::Graph(graph, asked) => {
                *asked = true;
                Some(Ok(*graph))
            }
            _ => None,
        })?;
        out.write(graph.to_bits());
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("job_graph", error, run) }
}

/// Copies the output `index` of a job of gp_infer_start, as gp_get_output does. GP_CODE_NOT_DONE while the job is not
/// done, and the error of an inference that has failed.
///
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_job_output(
    job: u64,
    index: u32,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let job = find::<Job>(arguments, job as usize)?;
        let buffer = arguments.buffer("buffer", buffer.cast(), capacity)?;
        let length = arguments.out("length", length)?;
        job.given(arguments, |given| match given {
            Given::Outputs(outputs, _) => Some(match outputs.get(index as usize) {
                None => Err(arguments
                    .invalid(format_args!("there is no output {index}; the graph has {} outputs", outputs.len()))),
                Some(output) => {
                    length.write(output.data().len());
                    deliver(output.data(), buffer)
                }
            }),
            _ => None,
        })
    };
    // SAFETY: the rules of the header.
    unsafe { call("job_output", error, run) }
}

/// Closes a job. Its call is cancelled if it is not done, and `done` is called when it has ended. A graph that
/// gp_job_graph has not given is unloaded. Every job is closed by its host.
///
/// Threads: any, at any time. Of several calls with one job, one succeeds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_job_close(job: u64, error: *mut gp_error) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let job = close::<Job>(arguments, job as usize)?;
        // A statement of its own: the drop cancels the work, which may end in it and call C.
        let work = lock(&job.state).work.take();
        drop(work);
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("job_close", error, run) }
}
