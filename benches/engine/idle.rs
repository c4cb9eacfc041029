//! What calls cost while other threads are alive and idle, each of which has used a pool, the engine and a guard
//! before.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};

use graphpool::nn::{Encoding, Engine, Target};
use graphpool::{Pool, pin};

use super::small::{self, cost};
use super::verdict;

const NAMES: [&str; 5] = ["pin", "insert and remove", "flush", "open and close a context", "load by name and unload"];

fn costs(engine: &Engine, pool: &Pool<u64>) -> [f64; 5] {
    let guest = engine.guest();
    let graph = guest.load(&[&[0]], Encoding::Onnx, Target::Cpu).unwrap();
    [
        cost(12_800, || drop(black_box(pin()))),
        cost(6_400, || drop(pool.remove(pool.insert(1).unwrap()))),
        cost(200, || {
            drop(pool.remove(pool.insert(1).unwrap()));
            pool.flush();
        }),
        small::open_and_close(&guest, graph),
        small::load_and_unload(&guest, small::NAME),
    ]
}

fn idle(engine: &Engine, pool: &Arc<Pool<u64>>, begun: &Arc<Barrier>, end: &Arc<Barrier>) -> JoinHandle<()> {
    let (engine, pool, begun, end) = (engine.clone(), Arc::clone(pool), Arc::clone(begun), Arc::clone(end));
    let run = move || {
        let _ = costs_nothing(&engine, &pool);
        begun.wait();
        end.wait();
    };
    thread::Builder::new().stack_size(128 << 10).spawn(run).expect("the system has room for another thread")
}

/// What an idle thread has done.
fn costs_nothing(engine: &Engine, pool: &Pool<u64>) -> usize {
    let guest = engine.guest();
    let graph = guest.load(&[&[0]], Encoding::Onnx, Target::Cpu).unwrap();
    guest.init_execution_context(graph).unwrap();
    let _guard = pin();
    drop(pool.remove(pool.insert(1).unwrap()));
    pool.len()
}

pub fn main(engine: &Engine) {
    println!("ns a call (least of 15 rounds), with idle threads alive:");
    println!("    {:>8} {}", "threads", NAMES.map(|name| format!("{name:>26}")).concat());
    let pool = Arc::new(Pool::new());
    let line = |threads: &str, costs: [f64; 5]| {
        println!("    {threads:>8} {}", costs.map(|cost| format!("{cost:>26.1}")).concat());
        costs
    };
    let alone = line("0", costs(engine, &pool));
    let mut worst = [0.0_f64; 5];
    for threads in [100, 1_000, 3_900] {
        let (begun, end) = (Arc::new(Barrier::new(threads + 1)), Arc::new(Barrier::new(threads + 1)));
        let idle: Vec<_> = (0..threads).map(|_| idle(engine, &pool, &begun, &end)).collect();
        begun.wait();
        let costs = line(&threads.to_string(), costs(engine, &pool));
        end.wait();
        for thread in idle {
            thread.join().expect("no panic");
        }
        for (worst, (cost, alone)) in worst.iter_mut().zip(costs.into_iter().zip(alone)) {
            *worst = worst.max(cost / alone);
        }
    }
    let after = line("ended", costs(engine, &pool));
    for ((name, worst), (after, alone)) in NAMES.into_iter().zip(worst).zip(after.into_iter().zip(alone)) {
        let (ratio, holds) = (after / alone, worst <= 2.0 && after / alone <= 2.0);
        verdict(
            &format!("{name}: at most twice (it is {worst:.2} times, and {ratio:.2} after they have ended)"),
            holds,
        );
    }
}
