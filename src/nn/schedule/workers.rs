//! The worker threads that run asynchronous computes, and those that run asynchronous loads.
//!
//! A job was admitted by an admission, so there are at most as many jobs as that one admits to run and to be suspended,
//! and few more threads: a job that has handed its permit on may not have ended when the next one needs a thread. A
//! thread that has been idle for a while ends.
//!
//! * W1: a caller that has [reserved](Workers::reserve) a thread gets one for its job, even if no more can be started
//!   later. So a shortage of threads is reported by the reservation.
//! * W2: every job runs once, even if the engine has ended meanwhile.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::nn::schedule::threads;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// How long an idle thread waits for the next job.
const IDLE: Duration = Duration::from_secs(10);

/// A task for a thread.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// The threads; the drop ends the idle ones.
pub(crate) struct Workers(Arc<Shared>);

struct Shared {
    /// The name of each thread.
    name: &'static str,
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// The number of jobs that are reserved and not here yet.
    reserved: usize,
    threads: usize,
    /// The number of threads that wait for a job, or have just been started.
    idle: usize,
    closed: bool,
}

/// The reservation of a thread for a future job.
pub(crate) struct Reserved(Arc<Shared>);

impl Workers {
    pub(crate) fn new(name: &'static str) -> Self {
        Self(Arc::new(Shared { name, state: Mutex::default(), more: Condvar::new() }))
    }

    /// Reserves a thread for a future job, or returns why there is none.
    pub(crate) fn reserve(&self) -> io::Result<Reserved> {
        let mut state = self.0.lock();
        if state.threads == 0 {
            self.0.start(&mut state)?;
        }
        state.reserved += 1;
        Ok(Reserved(Arc::clone(&self.0)))
    }

    /// Runs `job` on a thread.
    pub(crate) fn run(&self, reserved: Reserved, job: Job) {
        let mut state = self.0.lock();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            self.0.more.notify_one();
        } else {
            // W1: if no more can be started, one of the existing threads runs it.
            let _ = self.0.start(&mut state);
        }
        drop(state);
        drop(reserved);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.0.lock().reserved -= 1;
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.more.notify_all();
    }
}

impl Shared {
    fn start(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let shared = Arc::clone(self);
        threads::spawn(self.name, move || shared.work())?;
        state.threads += 1;
        // Counted until it takes a job, so that no second thread is started for the same job.
        state.idle += 1;
        Ok(())
    }

    fn work(&self) {
        let mut state = self.lock();
        state.idle -= 1;
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                // Backends are shielded; a waker of the host may panic here. The panic hook has reported it.
                let _ = catch_unwind(AssertUnwindSafe(job));
                state = self.lock();
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let (woken, waited) = self.more.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            let needed = state.threads == 1 && state.reserved > 0;
            if waited.timed_out() && state.jobs.is_empty() && !needed {
                break;
            }
        }
        state.threads -= 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn jobs_run_side_by_side_and_a_panic_of_one_is_nothing_to_the_others() {
        let workers = Workers::new("worker");
        let (sender, received) = mpsc::channel();
        let barrier = Arc::new(std::sync::Barrier::new(3));
        for _ in 0..3 {
            let (barrier, sender) = (Arc::clone(&barrier), sender.clone());
            let job = move || {
                barrier.wait();
                sender.send(()).unwrap();
                panic!("expected");
            };
            workers.run(workers.reserve().unwrap(), Box::new(job));
        }
        (0..3).for_each(|_| received.recv().unwrap());
        workers.run(workers.reserve().unwrap(), Box::new(move || sender.send(()).unwrap()));
        received.recv().unwrap();
        let shared = Arc::clone(&workers.0);
        assert!(shared.lock().threads <= 4);
        assert_eq!(shared.lock().reserved, 0);
        drop(workers);
        while shared.lock().threads > 0 {
            thread::yield_now();
        }
    }
}

#[cfg(all(test, loom))]
mod models;
