//! The threads on which computes run whose callers do not wait.
//!
//! A job comes here only with a permit of the engine's admission, so there are never more of them than computes may
//! run, and never more than twice as many threads: a job that hands its permit on has not ended yet. A thread that has had nothing to do for a while ends.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
#[cfg(not(loom))]
use std::thread;
use std::time::Duration;

/// How long an idle thread waits for the next job.
const IDLE: Duration = Duration::from_secs(10);

/// What a thread is to do.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// The threads; those that idle end when this is dropped.
#[derive(Default)]
pub(super) struct Workers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Workers {
    /// Has `job` run on a thread; gives it back where there is none and none can be started.
    pub(super) fn run(&self, job: Job) -> Result<(), Job> {
        let mut state = self.0.lock();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            self.0.more.notify_one();
            return Ok(());
        }
        let shared = Arc::clone(&self.0);
        if spawn(move || shared.work()).is_ok() {
            state.threads += 1;
        } else if state.threads == 0
            && let Some(job) = state.jobs.pop_back()
        {
            return Err(job);
        }
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.more.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.lock();
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
            if waited.timed_out() && state.jobs.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Under loom a thread that the model does not know cannot touch the pools, so there is none.
#[cfg(loom)]
fn spawn(_: impl FnOnce() + Send + 'static) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(loom))]
fn spawn(f: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("graphpool-compute".into()).spawn(f).map(drop)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn jobs_run_side_by_side_and_a_panic_of_one_is_nothing_to_the_others() {
        let workers = Workers::default();
        let (sender, received) = mpsc::channel();
        let barrier = Arc::new(std::sync::Barrier::new(3));
        for _ in 0..3 {
            let (barrier, sender) = (Arc::clone(&barrier), sender.clone());
            assert!(
                workers
                    .run(Box::new(move || {
                        barrier.wait();
                        sender.send(()).unwrap();
                        panic!("as it was told");
                    }))
                    .is_ok()
            );
        }
        (0..3).for_each(|_| received.recv().unwrap());
        assert!(workers.run(Box::new(move || sender.send(()).unwrap())).is_ok());
        received.recv().unwrap();
        let shared = Arc::clone(&workers.0);
        assert!(shared.lock().threads <= 4);
        drop(workers);
        while shared.lock().threads > 0 {
            thread::yield_now();
        }
    }
}
