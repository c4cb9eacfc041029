//! The threads on which computes run whose callers do not wait.
//!
//! A job comes here only with a permit of the engine's admission, so there are never more of them than computes may
//! run, and never more than twice as many threads: a job that hands its permit on has not ended yet. A thread that has
//! had nothing to do for a while ends.
//!
//! * W1: whoever has [reserved](Workers::reserve) has a thread for its job: one is there until then, even where no more
//!   can be started. So it is the caller that is told where there is none, and nobody after it.
//! * W2: every job runs once, though the engine has ended meanwhile.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::nn::schedule::threads;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// How long an idle thread waits for the next job.
const IDLE: Duration = Duration::from_secs(10);

/// What a thread is to do.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// The threads; those that idle end when this is dropped.
#[derive(Default)]
pub(crate) struct Workers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// Jobs that are still to come.
    reserved: usize,
    threads: usize,
    /// Threads that wait for a job, or have just been started.
    idle: usize,
    closed: bool,
}

/// A job that is still to come, for which there is a thread.
pub(crate) struct Reserved(Arc<Shared>);

impl Workers {
    /// Sees to it that there is a thread for a job to come, or says why there is none.
    pub(crate) fn reserve(&self) -> io::Result<Reserved> {
        let mut state = self.0.lock();
        if state.threads == 0 {
            self.0.start(&mut state)?;
        }
        state.reserved += 1;
        Ok(Reserved(Arc::clone(&self.0)))
    }

    /// Has `job` run on a thread.
    pub(crate) fn run(&self, reserved: Reserved, job: Job) {
        let mut state = self.0.lock();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            self.0.more.notify_one();
        } else {
            // W1: where no more can be started, one of those that are there runs it.
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
        threads::spawn("graphpool-compute", move || shared.work())?;
        state.threads += 1;
        // Until it takes a job, so that none is started beside it for the one that it is started for.
        state.idle += 1;
        Ok(())
    }

    fn work(&self) {
        let mut state = self.lock();
        state.idle -= 1;
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                // Backends are shielded; what may panic here is a waker of the host's. The hook has told it.
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
        let workers = Workers::default();
        let (sender, received) = mpsc::channel();
        let barrier = Arc::new(std::sync::Barrier::new(3));
        for _ in 0..3 {
            let (barrier, sender) = (Arc::clone(&barrier), sender.clone());
            let job = move || {
                barrier.wait();
                sender.send(()).unwrap();
                panic!("as it was told");
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
