//! Everything at once, for as long as you like: two engines, hundreds of guests, models that are reloaded and removed
//! under load, computes that are cancelled or out of time, backends that fail and panic in every call.
//!
//! ```sh
//! cargo run --release --no-default-features --features nn --example soak -- --seconds 60
//! ```
//!
//! Ends with what was done and what is alive. The exit status is 1 where a stale or foreign handle reached anything,
//! an output was wrong, a call was refused for no reason, or anything was alive at the end.

#[cfg(not(loom))]
mod backend;
#[cfg(not(loom))]
mod session;

#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};
    use std::{panic, thread};

    use crate::session::{Tally, host, play};

    let seconds = match seconds() {
        Ok(seconds) => seconds,
        Err(error) => {
            eprintln!("soak: {error}");
            return ExitCode::from(2);
        }
    };
    // The backends panic as they are told, thousands of times.
    panic::set_hook(Box::new(|_| {}));

    let tally = Tally::default();
    let stop = AtomicBool::new(false);
    let engines = [engine(2, 64), engine(1, 4)];
    let (start, time) = (Instant::now(), Duration::from_secs(seconds));
    thread::scope(|scope| {
        for (place, engine) in engines.iter().enumerate() {
            let (tally, stop) = (&tally, &stop);
            scope.spawn(move || host(engine, tally, stop));
            for thread in 0..4 {
                scope.spawn(move || play(engine, place as u64 * 4 + thread, tally, stop));
            }
        }
        while start.elapsed() < time {
            thread::sleep(Duration::from_secs(1).min(time.saturating_sub(start.elapsed())));
            println!("{:4} s  {}", start.elapsed().as_secs(), tally.line());
        }
        stop.store(true, Ordering::Relaxed);
    });

    let mut failures = tally.failures();
    for (place, engine) in engines.into_iter().enumerate() {
        for model in engine.model_names() {
            let _ = engine.remove_model(&model);
        }
        let settled = Instant::now() + Duration::from_secs(10);
        let alive = loop {
            let stats = engine.stats();
            let alive = [
                stats.graphs,
                stats.graph_bytes,
                stats.graph_handles,
                stats.contexts,
                stats.context_bytes,
                stats.guests,
                stats.computing,
                stats.queued,
            ];
            if alive == [0; 8] || Instant::now() > settled {
                break alive;
            }
            thread::sleep(Duration::from_millis(1));
        };
        let stats = engine.stats();
        println!(
            "engine {place}: {} builds, {} reloads, {} computes, {} failed, {} panics, {} refused, {} busy, {} timeouts, \
             {} cancelled",
            stats.builds,
            stats.reloads,
            stats.computes,
            stats.failed_computes,
            stats.panics,
            stats.limited,
            stats.busy_contexts,
            stats.timeouts,
            stats.cancelled
        );
        let [graphs, bytes, handles, contexts, context_bytes, guests, computing, queued] = alive;
        println!(
            "engine {place} alive: {graphs} graphs of {bytes} bytes, {handles} handles, {contexts} contexts of \
             {context_bytes} bytes, {guests} guests, {computing} computing, {queued} queued"
        );
        if alive != [0; 8] {
            failures.push(format!("engine {place} has something alive"));
        }
    }
    let alive = backend::ALIVE.load(Ordering::SeqCst);
    println!("backends alive: {alive}");
    if alive > 0 {
        failures.push(format!("{alive} of the backends' graphs and contexts are alive"));
    }
    println!("{}", tally.line());
    for failure in &failures {
        eprintln!("soak: {failure}");
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The one option.
#[cfg(not(loom))]
fn seconds() -> Result<u64, String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &*arguments {
        [] => Ok(60),
        [flag, value] if flag == "--seconds" => value.parse().map_err(|error| format!("--seconds {value}: {error}")),
        _ => Err("--seconds N is all that it takes".to_owned()),
    }
}

/// One with so many computes that run, and that wait.
#[cfg(not(loom))]
fn engine(computing: usize, queued: usize) -> graphpool::nn::Engine {
    use graphpool::nn::{Engine, EngineLimits, Limits};

    let limits = EngineLimits::default()
        .with_max_computing(computing)
        .with_max_queued(queued)
        .with_max_graphs(200)
        .with_max_contexts(2_000);
    let guest = Limits::default()
        .with_max_graphs(6)
        .with_max_contexts(8)
        .with_max_context_bytes(600)
        .with_max_compute_time(std::time::Duration::from_millis(200));
    Engine::builder(backend::Factor).with_engine_limits(limits).with_limits(guest).build()
}
