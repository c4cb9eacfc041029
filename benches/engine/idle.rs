//! What calls cost while other threads are alive and idle, each of which has used a pool, the engine and a guard
//! before.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use graphpool::nn::{Encoding, Engine, ModelSource, Target};
use graphpool::{Pool, pin};

use super::verdict;

const NAMES: [&str; 5] = ["pin", "insert and remove", "flush", "open and close a context", "load by name and unload"];

/// Nanoseconds a call: the least of 15 rounds.
fn cost(calls: u32, mut call: impl FnMut()) -> f64 {
    let mut round = || {
        let start = Instant::now();
        (0..calls).for_each(|_| call());
        start.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
    };
    (0..15).map(|_| round()).fold(f64::MAX, f64::min)
}

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
        cost(1_000, || {
            let context = guest.init_execution_context(graph).unwrap();
            guest.drop_context(context).unwrap();
        }),
        cost(1_000, || guest.unload(guest.load_by_name("named").unwrap()).unwrap()),
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
    let model = ModelSource::bytes(vec![0]);
    engine.register_model_now("named", model, Encoding::Onnx, Target::Cpu).expect("the name is free");
    let line = |threads: &str, costs: [f64; 5]| {
        println!("    {threads:>8} {}", costs.map(|cost| format!("{cost:>26.1}")).concat());
        costs
    };
    let alone = line("0", costs(engine, &pool));
    for (name, cost) in NAMES.into_iter().zip(alone).skip(3) {
        verdict(&format!("{name}: under 0.8 µs"), cost < 800.0);
    }
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
