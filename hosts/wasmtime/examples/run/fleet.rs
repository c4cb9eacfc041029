//! The instances: as many threads as are asked for start one after another until all have run.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use graphpool::nn::{Engine, Limits, Stats};
use graphpool_candle::{CandleBackend, Profile};
use graphpool_wasmtime::{preload_with, split_graph};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use wasmtime::{Result, Store};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;

use crate::instance::Instance;
use crate::options::Options;
use crate::program::{Ended, Program, TRAPPED};

/// How long what the instances had may take to be gone at the end.
const SETTLING: Duration = Duration::from_secs(10);

/// The most that an instance may print; a guest that prints more gets an error.
const MAX_OUTPUT: usize = 1 << 24;

/// The unit in which a timeout is measured.
const TICK: Duration = Duration::from_millis(10);

/// What the threads share.
pub struct Fleet<'a> {
    options: &'a Options,
    nn: Engine,
    program: Program,
    /// Instances that were begun, and those that have ended.
    begun: AtomicUsize,
    ended: AtomicUsize,
    /// Instances that ended otherwise than with 0, and those that printed otherwise than the first.
    failed: AtomicUsize,
    differing: AtomicUsize,
    /// What the first instance to end has printed.
    output: OnceLock<Vec<u8>>,
    /// The code of the first failure, with the trap if it was one.
    failure: OnceLock<(u8, Option<String>)>,
    done: AtomicBool,
}

/// How the instances ended.
pub struct Outcome {
    /// 0, or the code of the first instance that failed.
    pub code: u8,
    /// The trap of the first instance that failed, if it did by one.
    pub trap: Option<String>,
    /// Instances that failed.
    pub failed: usize,
    /// Instances that printed otherwise than the first.
    pub differing: usize,
    /// What the first instance to end has printed.
    pub output: Vec<u8>,
    /// From the first instance's start to the last one's end.
    pub elapsed: Duration,
    /// Resident memory while the last instances ended, in bytes, if the system tells.
    pub resident: Option<u64>,
    /// The engine's numbers after the end.
    pub stats: Stats,
}

impl<'a> Fleet<'a> {
    /// Preloads the models and compiles the program. The steps of models are timed in `profile`.
    pub fn new(options: &'a Options, profile: Option<&Profile>) -> Result<Self> {
        let mut limits = Limits::default();
        if let Some(contexts) = options.max_contexts {
            limits = limits.with_max_contexts(contexts);
        }
        // A compute that the timeout would end is ended by its own limit: epochs end the guest's code only.
        if let Some(time) = options.compute_time.into_iter().chain(options.timeout).min() {
            limits = limits.with_max_compute_time(time);
        }
        let backend = CandleBackend::new();
        let backend = if let Some(profile) = profile { backend.with_profile(profile) } else { backend };
        let nn = Engine::builder(backend).with_limits(limits).build();
        let graphs = options.graphs.iter().map(|graph| split_graph(graph)).collect::<Result<Vec<_>>>()?;
        preload_with(&nn, &graphs, |source| source.with_guest_configs(options.configs))?;
        let program = Program::compile(&options.file, options.timeout.is_some())?;
        Ok(Self {
            options,
            nn,
            program,
            begun: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            differing: AtomicUsize::new(0),
            output: OnceLock::new(),
            failure: OnceLock::new(),
            done: AtomicBool::new(false),
        })
    }

    /// Runs all instances. An error is one that could not be made; the others then stop.
    pub fn run(self) -> Result<Outcome> {
        let start = Instant::now();
        let result = thread::scope(|scope| {
            let helper = scope.spawn(|| self.tick_and_show());
            let threads = (0..self.options.threads).map(|_| scope.spawn(|| self.play())).collect::<Vec<_>>();
            let results = threads.into_iter().map(|thread| thread.join().expect("a guest cannot panic its host"));
            // Every thread is waited for before the helper is told.
            let results = results.collect::<Vec<_>>();
            self.done.store(true, Ordering::Relaxed);
            helper.thread().unpark();
            results.into_iter().collect::<Result<()>>()
        });
        let (elapsed, resident) = (start.elapsed(), resident_memory());
        result?;
        let stats = self.settle();
        let (code, trap) = self.failure.into_inner().unwrap_or_default();
        Ok(Outcome {
            code,
            trap,
            failed: self.failed.into_inner(),
            differing: self.differing.into_inner(),
            output: self.output.into_inner().unwrap_or_default(),
            elapsed,
            resident,
            stats,
        })
    }

    /// One thread: an instance after another.
    fn play(&self) -> Result<()> {
        while self.begun.fetch_add(1, Ordering::Relaxed) < self.options.instances {
            if let Err(error) = self.play_one() {
                self.begun.store(self.options.instances, Ordering::Relaxed);
                return Err(error);
            }
            self.ended.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn play_one(&self) -> Result<()> {
        let output = (!self.options.alone()).then(|| MemoryOutputPipe::new(MAX_OUTPUT));
        let mut store = Store::new(self.program.engine(), Instance::new(self.options, &self.nn, output.clone())?);
        store.limiter(|instance| &mut instance.limits);
        // A component may pass the largest model that the engine lets it load, where Wasmtime's default is 128 MiB.
        store.set_hostcall_fuel(self.nn.limits().max_graph_bytes().saturating_add(1 << 16));
        if let Some(timeout) = self.options.timeout {
            store.set_epoch_deadline(1 + (timeout.as_millis() / TICK.as_millis()) as u64);
        }
        match self.program.run(&mut store) {
            Ended::Exit(0) => {}
            Ended::Exit(code) => self.fail(code, None),
            Ended::Trap(trap) => self.fail(TRAPPED, Some(trap)),
        }
        drop(store);
        if let Some(output) = output.and_then(MemoryOutputPipe::try_into_inner) {
            let differs = *self.output.get_or_init(|| output.to_vec()) != *output;
            self.differing.fetch_add(usize::from(differs), Ordering::Relaxed);
        }
        Ok(())
    }

    fn fail(&self, code: u8, trap: Option<String>) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        // A later failure is one of the count.
        let _ = self.failure.set((code, trap));
    }

    /// Drives the epoch, and shows how it goes: a bar on a terminal, a line a second elsewhere.
    fn tick_and_show(&self) {
        let (start, total) = (Instant::now(), self.options.instances);
        let bar = (!self.options.alone() && io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{bar:40} {pos} of {len} instances  {msg}");
            ProgressBar::new(total as u64).with_style(style.expect("the template is well-formed"))
        });
        let mut next_line = 1;
        while !self.done.load(Ordering::Relaxed) {
            self.program.engine().increment_epoch();
            let (ended, inferences) = (self.ended.load(Ordering::Relaxed), self.nn.stats().computes);
            if let Some(bar) = &bar {
                bar.set_position(ended as u64);
                bar.set_message(format!("{} inferences", HumanCount(inferences)));
            } else if !self.options.alone() && start.elapsed().as_secs() >= next_line {
                next_line = start.elapsed().as_secs() + 1;
                eprintln!("{:3} s  {ended} of {total} instances, {} inferences", next_line - 1, HumanCount(inferences));
            }
            thread::park_timeout(TICK);
        }
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    }

    /// Waits until nothing of the instances is alive any more, or as long as that may take.
    fn settle(&self) -> Stats {
        let deadline = Instant::now() + SETTLING;
        loop {
            let stats = self.nn.stats();
            let alive = stats.guests + stats.contexts + stats.graphs.saturating_sub(stats.names);
            if alive == 0 || Instant::now() > deadline {
                return stats;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The memory that the process has now, in bytes; Linux tells.
fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
