//! Loom models of the worker threads, which are threads of the model.

use super::*;
use crate::model_support::{explore, explore_bounded};
use crate::nn::schedule::threads::modelled::Threads;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// The number of jobs that have run, and a way to wait for it.
#[derive(Default)]
struct Done {
    jobs: Mutex<usize>,
    more: Condvar,
}

impl Done {
    fn job(self: &Arc<Self>) -> Job {
        let done = Arc::clone(self);
        Box::new(move || {
            *done.jobs.lock().unwrap() += 1;
            done.more.notify_one();
        })
    }

    fn wait_for(&self, jobs: usize) {
        let mut done = self.jobs.lock().unwrap();
        while *done < jobs {
            done = self.more.wait(done).unwrap();
        }
    }
}

/// W2: a job that comes while the thread of another job goes to sleep runs without a further call.
#[test]
fn a_job_against_a_thread_that_falls_asleep_with_4_preemptions() {
    explore_bounded("a job against a thread that falls asleep", 4, || {
        let _threads = Threads::new();
        let (workers, done) = (Workers::new("worker"), Arc::<Done>::default());
        for jobs in 1..=2 {
            workers.run(workers.reserve().unwrap(), done.job());
            done.wait_for(jobs);
        }
        assert!(workers.0.lock().threads <= 2);
    });
}

/// W1: if no second thread can be started, the first one runs both jobs.
#[test]
fn two_jobs_for_one_thread() {
    explore("two jobs for one thread", || {
        let (workers, done) = (Workers::new("worker"), Arc::<Done>::default());
        let threads = Threads::new();
        let reserved = [(); 2].map(|()| workers.reserve().unwrap());
        drop(threads);
        for reserved in reserved {
            workers.run(reserved, done.job());
        }
        done.wait_for(2);
        let state = workers.0.lock();
        assert_eq!((state.threads, state.reserved), (1, 0));
        drop(state);
    });
}

/// Whether both jobs have run; the drop of the last one sets it.
struct Both(AtomicUsize);

impl Drop for Both {
    fn drop(&mut self) {
        assert_eq!(self.0.load(Ordering::Relaxed), 2);
    }
}

/// W2: jobs that wait when the engine ends run once each, and the threads end after them.
#[test]
fn the_end_of_the_engine_against_two_jobs_with_3_preemptions() {
    explore_bounded("the end of the engine against two jobs", 3, move || {
        let _threads = Threads::new();
        let workers = Workers::new("worker");
        let both = crate::sync::Arc::new(Both(AtomicUsize::new(0)));
        for _ in 0..2 {
            let both = crate::sync::Arc::clone(&both);
            let job = move || {
                both.0.fetch_add(1, Ordering::Relaxed);
            };
            workers.run(workers.reserve().unwrap(), Box::new(job));
        }
        // loom reports a thread that never ends.
        drop((both, workers));
    });
}
