//! Time per operation on some threads at once, and its median over rounds.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// One subject under one workload.
pub trait Contender {
    fn name(&self) -> &'static str;
    /// Nanoseconds per operation of one thread, the mean over `threads` of them that work at the same time.
    fn round(&self, threads: usize, time: Duration) -> f64;
}

/// Starts the threads of a round together.
pub struct Clock {
    barrier: Barrier,
    time: Duration,
}

impl Clock {
    /// Repeats `burst`, which says how many operations it did, for the time of a round, and gives the median of their
    /// times for one operation: a burst takes much less than the system's time slice, so what other processes take is
    /// in few of them, and everything that a subject does now and then is in all. What a thread does once, to register
    /// itself and to fill its caches, is done before.
    pub fn run(&self, mut burst: impl FnMut() -> u64) -> f64 {
        burst();
        let mut figures = Vec::with_capacity(1 << 14);
        self.barrier.wait();
        let start = Instant::now();
        let mut before = Duration::ZERO;
        while before < self.time {
            let operations = burst();
            let now = start.elapsed();
            figures.push(now.saturating_sub(before).as_nanos() as f64 / operations as f64);
            before = now;
        }
        median(figures)
    }
}

/// The mean of what `work` gives on each of `threads`, which are started before the clock is.
pub fn on_threads(threads: usize, time: Duration, work: impl Fn(usize, &Clock) -> f64 + Sync) -> f64 {
    let clock = Clock { barrier: Barrier::new(threads), time };
    let sum: f64 = thread::scope(|scope| {
        let (work, clock) = (&work, &clock);
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread, clock))).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).sum()
    });
    sum / threads as f64
}

/// How long to measure.
#[derive(Clone, Copy)]
pub struct Effort {
    pub rounds: usize,
    pub time: Duration,
}

/// The median of each contender's rounds. They take turns, in an order that shifts by one each round, so that what
/// else the machine does meets all of them.
pub fn medians(contenders: &[Box<dyn Contender>], threads: usize, effort: Effort) -> Vec<f64> {
    let mut figures = vec![Vec::new(); contenders.len()];
    for round in 0..effort.rounds {
        for turn in 0..contenders.len() {
            let number = (round + turn) % contenders.len();
            figures[number].push(contenders[number].round(threads, effort.time));
        }
    }
    figures.into_iter().map(median).collect()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// 1, 2, 4 and so on, and the number of cores.
pub fn thread_counts() -> Vec<usize> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut counts: Vec<_> =
        std::iter::successors(Some(1), |count| Some(count * 2)).take_while(|c| *c < cores).collect();
    counts.push(cores);
    counts
}
