//! The engine, the threads and the clock.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use graphpool::nn::{Encoding, Engine, ModelSource, Stats, Target};
use graphpool_candle::CandleBackend;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use crate::options::Options;
use crate::player::{Player, Tally};
use crate::probe::Board;
use crate::random::Random;
use crate::record::Record;
use crate::report::Report;

/// How long dropped graphs and contexts may take to be gone at the end.
const SETTLING: Duration = Duration::from_secs(10);

/// What the threads share.
pub struct World {
    /// The engine: one for the process.
    pub engine: Engine,
    /// The model and what is known of it.
    pub record: Record,
    /// Handles of others.
    pub board: Board,
    /// For the progress bar.
    pub progress: Progress,
    next_row: AtomicUsize,
    stop: AtomicBool,
}

impl World {
    /// The row to infer next: each in its turn, so that all of them come to it.
    pub fn next_row(&self) -> usize {
        self.next_row.fetch_add(1, Ordering::Relaxed) % self.record.rows.len()
    }
}

/// What is shown while the guests run.
#[derive(Default)]
pub struct Progress {
    inferences: AtomicU64,
    handles: AtomicU64,
}

impl Progress {
    /// One more inference.
    pub fn inference(&self) {
        self.inferences.fetch_add(1, Ordering::Relaxed);
    }

    /// One more handle.
    pub fn handle(&self) {
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    fn line(&self) -> String {
        let inferences = HumanCount(self.inferences.load(Ordering::Relaxed));
        let handles = HumanCount(self.handles.load(Ordering::Relaxed));
        format!("{inferences} inferences, {handles} handles")
    }
}

/// Runs the guests for as long as `options` says; an error is a call of theirs that should have succeeded.
pub fn run(options: &Options) -> Result<Report, String> {
    let record = Record::open(&options.model)?;
    let engine = Engine::new(CandleBackend::new());
    engine
        .register_model(&record.name, ModelSource::bytes(record.model.clone()), Encoding::Onnx, Target::Cpu)
        .map_err(|error| error.to_string())?;
    let world = World {
        engine,
        record,
        board: Board::new(),
        progress: Progress::default(),
        next_row: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    };

    let start = Instant::now();
    let tallies = thread::scope(|scope| {
        let threads = (0..options.threads)
            .map(|thread| {
                // The first threads take the guests that are left over.
                let share = options.guests / options.threads + usize::from(thread < options.guests % options.threads);
                let world = &world;
                scope.spawn(move || {
                    let result = play(world, share, thread as u64);
                    // One thread's error ends the run.
                    world.stop.fetch_or(result.is_err(), Ordering::Relaxed);
                    result
                })
            })
            .collect::<Vec<_>>();
        show_progress(&world, start, options.time);
        world.stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked")?).collect::<Result<Vec<_>, _>>()
    })?;
    let elapsed = start.elapsed();

    // The name holds its graph, which is to be gone at the end like all others.
    world.engine.remove_model(&world.record.name).map_err(|error| error.to_string())?;
    let alive = settle(&world.engine);
    Ok(Report::new(options, &world.record, &tallies, elapsed, &alive))
}

/// One thread: keeps `share` guests alive and lets them take turns until the time is over.
fn play(world: &World, share: usize, seed: u64) -> Result<Tally, String> {
    let random = &mut Random::new(seed);
    let tally = &mut Tally { right: vec![None; world.record.rows.len()], ..Tally::default() };
    let mut players = (0..share).map(|_| Player::new(world, tally, random)).collect::<Vec<_>>();
    while !world.stop.load(Ordering::Relaxed) {
        let place = random.below(share);
        players[place].step(tally, random).map_err(|error| error.to_string())?;
        if players[place].is_done() {
            let fresh = Player::new(world, tally, random);
            let done = std::mem::replace(&mut players[place], fresh);
            done.leave(tally, random).map_err(|error| error.to_string())?;
        }
    }
    for player in players {
        player.leave(tally, random).map_err(|error| error.to_string())?;
    }
    Ok(std::mem::take(tally))
}

/// Shows how it goes until the time is over or a thread has stopped the run: a bar on a terminal, a line a second
/// elsewhere.
fn show_progress(world: &World, start: Instant, time: Duration) {
    let bar = io::stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("{bar:40} {percent:>3}%  {msg}").expect("the template is well-formed");
        ProgressBar::new(time.as_millis() as u64).with_style(style)
    });
    let mut next_line = Duration::from_secs(1);
    loop {
        let elapsed = start.elapsed();
        let Some(left) = time.checked_sub(elapsed) else { break };
        if world.stop.load(Ordering::Relaxed) {
            break;
        }
        if let Some(bar) = &bar {
            bar.set_position(elapsed.as_millis() as u64);
            bar.set_message(world.progress.line());
        } else if elapsed >= next_line {
            eprintln!("{:3} s  {}", elapsed.as_secs(), world.progress.line());
            next_line = Duration::from_secs(elapsed.as_secs() + 1);
        }
        thread::sleep(left.min(Duration::from_millis(100)));
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

/// Waits until nothing is alive any more, or as long as that may take, and tells what is.
fn settle(engine: &Engine) -> Stats {
    let deadline = Instant::now() + SETTLING;
    loop {
        let stats = engine.stats();
        if stats.graphs + stats.contexts + stats.guests == 0 || Instant::now() > deadline {
            return stats;
        }
        thread::sleep(Duration::from_millis(1));
    }
}
