//! `cargo bench --bench tails`: how long the slowest calls take, and what memory a long life costs.
//!
//! Latency: each call is timed on its own, on one thread, while another inserts and removes; first on its own, then
//! while graphs whose destructors take 10 ms are removed again and again; both in turns, in one process. What the
//! clock takes is in every figure and is printed. Memory: the resident set over 100 million insertions and removals,
//! then with a reader pinned until a thread's part of the pool is full, and after it has let go. `--quick` does less.

#![allow(missing_docs, reason = "a program")]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use graphpool::{InsertError, Pool, PoolStats, pin};

fn main() {
    let quick = env::args().any(|argument| argument == "--quick");
    latency(if quick { 3 } else { 9 }, Duration::from_millis(if quick { 200 } else { 1000 }));
    memory(if quick { 2_000_000 } else { 100_000_000 });
}

/// A graph of a size that matters, or one that takes long to let go of.
enum Graph {
    Small(u64),
    Slow,
}

impl Drop for Graph {
    fn drop(&mut self) {
        if matches!(self, Self::Slow) {
            // Sleeps rather than spins, so that on few cores it isn't the scheduler that is measured.
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn latency(rounds: usize, time: Duration) {
    println!("## Latency in ns, of calls that are timed one by one, the median of {rounds} rounds\n");
    println!("| call | others | p50 | p99 | p99.9 | max |\n|---|---|---:|---:|---:|---:|");
    let row = |call: &str, others: &str, tail: &Tail| {
        let Tail { p50, p99, p999, max } = tail;
        println!("| {call} | {others} | {p50} | {p99} | {p999} | {max} |");
    };
    let mut clock = Vec::new();
    let mut tails = [const { Vec::new() }; 4];
    for _ in 0..rounds {
        clock.push(timed(time / 4, || ()));
        for (tails, (slow, call)) in
            tails.iter_mut().zip([(false, Call::Get), (true, Call::Get), (false, Call::Churn), (true, Call::Churn)])
        {
            tails.push(round(time, slow, call));
        }
    }
    let [get, get_slow, churn, churn_slow] = tails.each_ref().map(|tails| Tail::median(tails));
    row("the clock alone", "", &Tail::median(&clock));
    row("get", "churn", &get);
    row("get", "churn, slow destructors", &get_slow);
    row("insert+remove", "churn", &churn);
    row("insert+remove", "churn, slow destructors", &churn_slow);
    println!();
    goal("p99.9 of get during slow destructors / without", get_slow.p999 as f64 / get.p999 as f64, 1.5);
}

#[derive(Clone, Copy)]
enum Call {
    Get,
    Churn,
}

/// The latencies of one kind of call in `time`, while another thread churns and, where it is said, a third removes
/// slow graphs.
fn round(time: Duration, slow: bool, call: Call) -> Tail {
    let pool = Pool::new();
    let handles: Vec<_> = (0..1024).map(|value| pool.insert(Graph::Small(value)).expect("there is room")).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                insert_and_remove(&pool, 1);
            }
        });
        if slow {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if let Ok(handle) = pool.insert(Graph::Slow) {
                        drop(pool.remove(handle));
                    }
                    // On the thread that removes: it is what an engine has a reaper for.
                    pool.flush();
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
        let mut next = 0_usize;
        let tail = match call {
            Call::Get => timed(time, || {
                next = (next * 5 + 7) % handles.len();
                let guard = pin();
                if let Some(Graph::Small(value)) = pool.get(handles[next], &guard) {
                    black_box(value);
                }
            }),
            Call::Churn => timed(time, || insert_and_remove(&pool, 2)),
        };
        done.store(true, Ordering::Relaxed);
        tail
    })
}

/// Inserts and removes. A thread that sleeps in one destructor after the other holds reclamation back, so that at this
/// rate the pool may be full of removed values: then the insertion is refused, and the thread gives way.
fn insert_and_remove(pool: &Pool<Graph>, value: u64) {
    match pool.insert(Graph::Small(value)) {
        Ok(handle) => drop(pool.remove(black_box(handle))),
        Err(_) => thread::yield_now(),
    }
}

struct Tail {
    p50: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

impl Tail {
    /// The median of each.
    fn median(tails: &[Self]) -> Self {
        let middle = |of: fn(&Self) -> u64| {
            let mut values: Vec<_> = tails.iter().map(of).collect();
            values.sort_unstable();
            values[values.len() / 2]
        };
        Self { p50: middle(|t| t.p50), p99: middle(|t| t.p99), p999: middle(|t| t.p999), max: middle(|t| t.max) }
    }
}

/// Calls `call` for that time, and times each.
fn timed(time: Duration, mut call: impl FnMut()) -> Tail {
    let mut histogram = vec![0_u32; 1 << 20];
    let (mut count, mut max) = (0_u64, 0);
    let start = Instant::now();
    let mut before = Instant::now();
    while before - start < time {
        call();
        let now = Instant::now();
        let nanoseconds = (now - before).as_nanos() as u64;
        let bucket = (nanoseconds as usize).min(histogram.len() - 1);
        histogram[bucket] += 1;
        max = max.max(nanoseconds);
        count += 1;
        before = Instant::now();
    }
    let quantile = |share: f64| {
        let mut left = (count as f64 * share) as u64;
        let reached = histogram.iter().position(|calls| match left.checked_sub(u64::from(*calls)) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        reached.unwrap_or(histogram.len()) as u64
    };
    Tail { p50: quantile(0.5), p99: quantile(0.99), p999: quantile(0.999), max }
}

/// Insertions and removals by two threads, each in its own part of the pool, and half of them removed by the other:
/// what one thread inserts another removes, so slots have to come back.
fn memory(total: u64) {
    println!("\n## Resident memory over {total} insertions and removals\n");
    println!("| after | resident MiB | live | awaiting reclamation | retired slots |\n|---|---:|---:|---:|---:|");
    let pool = Pool::new();
    report("the start", &pool.stats());
    let first = (total / 100).min(1_000_000);
    churn(&pool, first);
    let early = report(&format!("{first} without a pinned reader"), &pool.stats());
    churn(&pool, total - first);
    let late = report(&format!("{total} without a pinned reader"), &pool.stats());

    let (held_back, before_full) = pinned_throughout(&pool, total);
    report(&format!("{before_full} more with a reader pinned throughout"), &held_back);
    pool.flush();
    report("the reader has let go, and a flush", &pool.stats());
    churn(&pool, total / 10);
    pool.flush();
    report(&format!("{} more, in the same slots", total / 10), &pool.stats());
    let refused = before_full < total;
    println!("\nA pinned reader holds back everything. Refused, with the value given back, at the bound: {refused}\n");
    goal("resident memory after all / after the first", late / early, 1.1);
}

fn churn(pool: &Pool<u64>, total: u64) {
    let (send, receive) = mpsc::sync_channel(1024);
    thread::scope(|scope| {
        scope.spawn(move || {
            for value in 0..total / 2 {
                let handle = pool.insert(value).expect("there is room");
                if value % 16 == 0 {
                    send.send(handle).expect("the other thread receives to the end");
                } else {
                    drop(pool.remove(handle));
                }
            }
        });
        scope.spawn(move || {
            for value in 0..total / 2 {
                let handle = pool.insert(value).expect("there is room");
                drop(pool.remove(handle));
                for handle in receive.try_iter() {
                    drop(pool.remove(handle));
                }
            }
            for handle in &receive {
                drop(pool.remove(handle));
            }
        });
    });
}

/// Inserts and removes under a guard that is held, up to `total` times or until the pool is full, and gives what the
/// statistics said then and how often that was.
fn pinned_throughout(pool: &Pool<u64>, total: u64) -> (PoolStats, u64) {
    let guard = pin();
    thread::scope(|scope| {
        let churning = scope.spawn(|| {
            for done in 0..total {
                match pool.insert(done) {
                    Ok(handle) => drop(pool.remove(handle)),
                    Err(InsertError::Full(_)) => return done,
                    Err(refusal) => panic!("{refusal:?}"),
                }
            }
            total
        });
        let done = churning.join().expect("no panic");
        let stats = pool.stats();
        report("(meanwhile: the reader is pinned)", &stats);
        drop(guard);
        (stats, done)
    })
}

/// Prints a row, and gives the resident set in MiB.
fn report(after: &str, stats: &PoolStats) -> f64 {
    let resident = resident_mebibytes();
    let PoolStats { live, awaiting_reclamation, exhausted_slots, .. } = stats;
    println!("| {after} | {resident:.1} | {live} | {awaiting_reclamation} | {exhausted_slots} |");
    resident
}

fn resident_mebibytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kibibytes.map_or(f64::NAN, |kibibytes| kibibytes / 1024.0)
}

fn goal(what: &str, ratio: f64, bound: f64) {
    println!("{what}: {ratio:.2}, at most {bound}: {}", if ratio <= bound { "holds" } else { "DOESN'T HOLD" });
}
