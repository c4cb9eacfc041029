//! A pool, called by three threads at once: each history is checked to be linearizable in real time.
//!
//! The clock's counts are read-modify-writes between any two calls, and so full fences where the machine has them. A
//! failure depends on how the threads were scheduled, so each sequence is run several times.

use std::sync::{Barrier, Mutex};
use std::thread;

use graphpool::pool::for_tests::{LayoutPool, Tiny};
use graphpool::{Handle, pin};
use proptest::prelude::*;

use crate::history::checker::linearize;
use crate::history::pool::{self, Call};
use crate::history::{Clock, History, Timed};

const THREADS: usize = 3;
const RUNS: usize = 8;

/// A handle is named by its number among those that were given so far, and by how far it is from it.
#[derive(Debug, Clone, Copy)]
enum Step {
    Insert,
    Get(usize, u64),
    Acquire(usize, u64),
    Contains(usize, u64),
    Remove(usize, u64),
}

fn scripts() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let handle = || (0..8_usize, prop_oneof![8 => Just(0), 1 => Just(1), 1 => Just(Tiny::GENERATION)]);
    let step = prop_oneof![
        3 => Just(Step::Insert),
        1 => handle().prop_map(|(at, away)| Step::Get(at, away)),
        1 => handle().prop_map(|(at, away)| Step::Acquire(at, away)),
        1 => handle().prop_map(|(at, away)| Step::Contains(at, away)),
        3 => handle().prop_map(|(at, away)| Step::Remove(at, away)),
    ];
    prop::collection::vec(prop::collection::vec(step, 0..12), THREADS)
}

#[derive(Default)]
struct Log {
    clock: Clock,
    given: Mutex<Vec<u64>>,
    calls: Mutex<Vec<Timed<Call>>>,
}

impl Log {
    fn handle(&self, at: usize, away: u64) -> Option<(u64, Handle<u64>)> {
        let given = self.given.lock().unwrap();
        let bits = given.get(at % given.len().max(1))? + away;
        Some((bits, Handle::from_bits(bits)?))
    }

    fn call(&self, pool: &LayoutPool<u64, Tiny>, step: Step, value: u64) -> Option<Timed<Call>> {
        let timed = match step {
            Step::Insert => {
                let Timed { what, called, answered } = self.clock.time(|| pool.insert(value));
                // Full, perhaps: then nothing was done.
                let handle = what.ok()?.to_bits();
                self.given.lock().unwrap().push(handle);
                Timed { what: Call::Insert { value, handle }, called, answered }
            }
            Step::Get(at, away) => {
                let (handle, some) = self.handle(at, away)?;
                self.clock.time(|| Call::Get { handle, value: pool.get(some, &pin()).copied() })
            }
            Step::Acquire(at, away) => {
                let (handle, some) = self.handle(at, away)?;
                self.clock.time(|| Call::Get { handle, value: pool.acquire(some).as_deref().copied() })
            }
            Step::Contains(at, away) => {
                let (handle, some) = self.handle(at, away)?;
                self.clock.time(|| Call::Contains { handle, live: pool.contains(some) })
            }
            Step::Remove(at, away) => {
                let (handle, some) = self.handle(at, away)?;
                self.clock.time(|| Call::Remove { handle, value: pool.remove(some).as_deref().copied() })
            }
        };
        Some(timed)
    }
}

fn run(scripts: &[Vec<Step>]) -> History<Call> {
    let pool = LayoutPool::new();
    let log = Log::default();
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for (first, script) in (0..).step_by(100).zip(scripts) {
            let (pool, log, barrier) = (&pool, &log, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for (value, step) in (first..).zip(script) {
                    let call = log.call(pool, *step, value);
                    log.calls.lock().unwrap().extend(call);
                }
            });
        }
    });
    log.calls.into_inner().unwrap().into_iter().collect()
}

proptest! {
    #![proptest_config(crate::regressions::kept_in("tests/regressions/threads.txt"))]
    #[test]
    fn what_three_threads_see_of_a_pool_is_linearizable(scripts in scripts()) {
        for _ in 0..RUNS {
            let history = run(&scripts);
            prop_assert!(linearize::<pool::Pool>(&history).is_some(), "no order of {:#?}", history);
        }
    }
}
