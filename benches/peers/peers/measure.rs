//! Time per operation on some threads at once, and its median over rounds.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// One subject under one workload.
pub trait Contender {
    fn name(&self) -> &'static str;
    /// Nanoseconds per operation of one thread, over `threads` of them that work at the same time.
    fn round(&self, threads: usize, time: Duration) -> f64;
}

/// Starts the threads of a round together.
pub struct Clock {
    barrier: Barrier,
    time: Duration,
}

impl Clock {
    /// Repeats `burst`, which says how many operations it did, for the time of a round, and gives the mean time for one
    /// operation: what a thread waited for another is in it. What a thread does once, to register itself and to fill
    /// its caches, is done before.
    pub fn run(&self, mut burst: impl FnMut() -> u64) -> f64 {
        burst();
        self.barrier.wait();
        let start = Instant::now();
        let mut operations = 0;
        let mut elapsed = Duration::ZERO;
        while elapsed < self.time {
            operations += burst();
            elapsed = start.elapsed();
        }
        elapsed.as_nanos() as f64 / operations as f64
    }
}

/// The time for one operation of a thread, on `threads` that work at the same time and were started before the clock
/// was: of what `work` gives on each the harmonic mean, which is their number by all that they did in the time.
pub fn on_threads(threads: usize, time: Duration, work: impl Fn(usize, &Clock) -> f64 + Sync) -> f64 {
    let clock = Clock { barrier: Barrier::new(threads), time };
    let rate: f64 = thread::scope(|scope| {
        let (work, clock) = (&work, &clock);
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread, clock))).collect();
        workers.into_iter().map(|worker| 1.0 / worker.join().expect("no panic")).sum()
    });
    threads as f64 / rate
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
