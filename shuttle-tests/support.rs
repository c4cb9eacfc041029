//! Runs tests under many schedules.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};

use crate::history::{Clock, History, Timed};

pub const THREADS: u64 = 4;
pub const CALLS: usize = 8;

/// Runs `test` under schedules of both kinds: random ones, and some with few preemptions at places drawn at random
/// (Burckhardt et al., *A randomized scheduler with probabilistic guarantees of finding bugs*, 2010).
pub fn explore(name: &str, times: usize, test: impl Fn() + Send + Sync + Clone + 'static) {
    let seed = std::env::var("SHUTTLE_RANDOM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_412);
    run(&format!("{name}: random schedules"), seed, RandomScheduler::new_from_seed(seed, times), test.clone());
    for depth in [2, 4] {
        let pct = PctScheduler::new_from_seed(seed, depth, times / 2);
        run(&format!("{name}: PCT of depth {depth}"), seed, pct, test.clone());
    }
}

fn run(name: &str, seed: u64, scheduler: impl Scheduler + 'static, test: impl Fn() + Send + Sync + 'static) {
    let reclaiming = Arc::new(AtomicU64::new(0));
    let mut config = Config::new();
    config.silence_warnings = true;
    let count = Arc::clone(&reclaiming);
    let times = Runner::new(scheduler, config).run(move || {
        let before = graphpool::verification::RECLAMATIONS.get();
        test();
        let reclaimed = graphpool::verification::RECLAMATIONS.get() > before;
        count.fetch_add(reclaimed.into(), Ordering::Relaxed);
    });
    let reclaiming = reclaiming.load(Ordering::Relaxed);
    eprintln!("{name}: {times} schedules, {reclaiming} reclaimed, seed {seed}");
}

/// The calls of an execution and the handles that were given out, in std types, so that recording is no switch point.
pub struct Log<C, H> {
    clock: Clock,
    calls: Mutex<Vec<Timed<C>>>,
    /// Handles that were given out so far.
    pub given: Mutex<Vec<H>>,
}

impl<C, H: Copy> Log<C, H> {
    pub fn new() -> Self {
        Self { clock: Clock::default(), calls: Mutex::default(), given: Mutex::default() }
    }

    /// Makes a call and records it, unless the result is `None`.
    pub fn record(&self, call: impl FnOnce() -> Option<C>) {
        let Timed { what, called, answered } = self.clock.time(call);
        if let Some(what) = what {
            self.calls.lock().unwrap().push(Timed { what, called, answered });
        }
    }

    /// One of the handles that were given out.
    pub fn some(&self, at: usize) -> Option<H> {
        let given = self.given.lock().unwrap();
        given.get(at % given.len().max(1)).copied()
    }

    pub fn history(&self) -> History<C>
    where
        C: Clone,
    {
        self.calls.lock().unwrap().iter().cloned().collect()
    }
}
