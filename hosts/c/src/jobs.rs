//! Computes on threads of the engine, for hosts that must not block.

use std::ffi::c_void;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use graphpool::GuestHandle;
use graphpool::nn::{Compute, Error};
use graphpool_ffi::{Arguments, held};

use crate::call::{call, close, find, keep};
use crate::code::{gp_code, gp_error};
use crate::guest::{gp_guest, guest as find_guest};
use crate::limits::time;

/// Called once, when a job is done; `data` is the caller's. It may call the library, must return soon, and must not
/// wait for a job.
pub type gp_done = Option<unsafe extern "C" fn(data: *mut c_void)>;

/// A compute on a thread of the engine.
struct Job {
    state: Mutex<State>,
    signal: Arc<Signal>,
}

held! {
    Job, "job";
}

struct State {
    /// `None` once it is done, and after the job was closed.
    compute: Option<Compute>,
    result: Option<Result<(), Error>>,
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
    fn wake(self: Arc<Self>) {
        *lock(&self.done) = true;
        self.changed.notify_all();
        if let Some(call) = self.call {
            // SAFETY: C's own function with its own data.
            unsafe { call(self.data.0) };
        }
    }
}

impl Signal {
    /// Waits until the compute is done; `false` if `until` passes first.
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

impl Job {
    /// Takes the result out of the compute if it is there. If it is not, the signal comes with it.
    fn poll(&self) -> Option<Result<(), Error>> {
        let mut state = lock(&self.state);
        if let Some(compute) = &mut state.compute {
            let waker = Waker::from(Arc::clone(&self.signal));
            if let Poll::Ready(result) = Pin::new(compute).poll(&mut Context::from_waker(&waker)) {
                state.result = Some(result);
                state.compute = None;
            }
        }
        state.result.clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a compute of a context on a thread of the engine, and returns at once. `time_ms` is as for gp_compute_within.
/// `done`, which may be null, is called with `data` when it is done, on a thread of the engine or on this one, maybe
/// before the call returns. If the call fails, it is not called. `job` gets the number that gp_job_wait and
/// gp_job_close take.
///
/// Threads: any, at any time. The context is in use until the job is done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_compute_start(
    guest: *mut gp_guest,
    context: u32,
    time_ms: u64,
    done: gp_done,
    data: *mut c_void,
    job: *mut u64,
    error: *mut gp_error,
) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let held = find_guest(arguments, guest)?;
        let out = arguments.out("job", job)?;
        let context = GuestHandle::from_bits(context);
        let compute = match time(time_ms) {
            Some(time) => held.guest.compute_async_within(context, time),
            None => held.guest.compute_async(context),
        };
        let signal = Signal { done: Mutex::new(false), changed: Condvar::new(), call: done, data: Data(data) };
        let started =
            Job { state: Mutex::new(State { compute: Some(compute), result: None }), signal: Arc::new(signal) };
        let signal = Arc::clone(&started.signal);
        // A compute that was refused has no job.
        let result = started.poll();
        if let Some(Err(error)) = result {
            return Err(error.into());
        }
        out.write(keep(arguments, started)? as u64);
        if result.is_some() {
            signal.wake();
        }
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("compute_start", error, run) }
}

/// Waits until a job is done, for at most `time_ms` milliseconds (GP_NO_LIMIT: for as long as it takes), and gives the
/// result of its compute. GP_CODE_TIMEOUT if the job is not done by then: it goes on.
///
/// Threads: any, at any time, several for one job too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_job_wait(job: u64, time_ms: u64, error: *mut gp_error) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let job = find::<Job>(arguments, job as usize)?;
        let until = time(time_ms).and_then(|time| Instant::now().checked_add(time));
        if !job.signal.wait(until) {
            return Err(Error::timeout(format!("job_wait: the job is not done after {time_ms} ms")).into());
        }
        let closed = || Error::runtime_error("job_wait: the job was closed, and its compute cancelled");
        Ok(job.poll().ok_or_else(closed)??)
    };
    // SAFETY: the rules of the header.
    unsafe { call("job_wait", error, run) }
}

/// Closes a job. Its compute is cancelled if it is not done; then `done` may still be called, once. Every job is closed
/// by its host.
///
/// Threads: any, at any time. Of several calls with one job, one succeeds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gp_job_close(job: u64, error: *mut gp_error) -> gp_code {
    let run = |arguments: &mut Arguments| {
        let job = close::<Job>(arguments, job as usize)?;
        // A statement of its own: the drop cancels the compute, which may end in it and call C.
        let compute = lock(&job.state).compute.take();
        drop(compute);
        Ok(())
    };
    // SAFETY: the rules of the header.
    unsafe { call("job_close", error, run) }
}
