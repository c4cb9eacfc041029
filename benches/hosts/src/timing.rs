//! First and later inferences, and two threads on one graph.

use std::thread;
use std::time::{Duration, Instant};

use wasmtime::{Engine, InstancePre, Result};

use crate::model::{Model, Models};
use crate::programs::Program;
use crate::puppet::{self, Puppet};
use crate::way::{Ours, Preload, Shared, State, Way};

/// Rounds in which each way has its turn.
const ROUNDS: usize = 60;
/// Inferences of a turn, where one is too short to be timed.
const INFERENCES: u32 = 50;
/// The pause before a turn: threads of onnxruntime spin for a while after a compute, which is not to disturb the next.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the threads of a turn infer, and how many such turns there are.
const TURN: Duration = Duration::from_millis(150);
const TURNS: usize = 10;

/// Prints the table of times.
pub fn compare(models: &Models) -> Result<()> {
    let engine = Engine::default();
    let all = [&models.digits, &models.large];
    let ours = Bench::<Ours>::new(&engine, models, &all)?;
    let preload = Bench::<Preload>::new(&engine, models, &[&models.digits])?;
    let shared = Bench::<Shared>::new(&engine, models, &all)?;

    println!("| median of {ROUNDS} rounds | here | `preload` for each store | an embedder's registry |");
    println!("| --- | ---: | ---: | ---: |");
    let digits = &models.digits;
    let first =
        medians(ROUNDS, [&mut || ours.first(digits), &mut || preload.first(digits), &mut || shared.first(digits)])?;
    row("a fresh store to its first result, digits", &first.map(Some));
    for (form, place) in [("core module with WASI", 0), ("component with WASI", 1)] {
        let times = medians(
            ROUNDS,
            [&mut || ours.program(place, models), &mut || preload.program(place, models), &mut || {
                shared.program(place, models)
            }],
        )?;
        row(&format!("the same, {form}"), &times.map(Some));
    }
    for model in all {
        let (mut here, mut there) =
            (Puppet::open(&ours.pre, &ours.way, model)?, Puppet::open(&shared.pre, &shared.way, model)?);
        let [here, there] = medians(ROUNDS, [&mut || later(&mut here), &mut || later(&mut there)])?;
        row(&format!("a later inference, {}", model.name()), &[Some(here), None, Some(there)]);
    }
    println!("\n| two threads on one graph, times one thread's inferences | here | an embedder's registry |");
    println!("| --- | ---: | ---: |");
    for model in all {
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            here.push(ours.gain(model)?);
            there.push(shared.gain(model)?);
        }
        println!("| {} | {:.2} | {:.2} |", model.name(), median(here), median(there));
    }
    println!();
    Ok(())
}

/// One way, with all that is measured of it.
struct Bench<W: Way> {
    way: W,
    pre: InstancePre<State<W>>,
    programs: [Program<W>; 2],
}

impl<W: Way> Bench<W> {
    fn new(engine: &Engine, models: &Models, loaded: &[&Model]) -> Result<Self> {
        let programs =
            [Program::load(engine, models, "classify")?, Program::load(engine, models, "classify_component")?];
        Ok(Self { way: W::new(loaded)?, pre: puppet::link(engine)?, programs })
    }

    fn first(&self, model: &Model) -> Result<Duration> {
        let start = Instant::now();
        Puppet::open(&self.pre, &self.way, model)?.infer()?;
        Ok(start.elapsed())
    }

    fn program(&self, place: usize, models: &Models) -> Result<Duration> {
        let start = Instant::now();
        self.programs[place].run(&self.way, models, &["digits", "/digits/images.bin", "1"])?;
        Ok(start.elapsed())
    }

    /// How many times the inferences of one thread two threads make, each with a store of its own.
    fn gain(&self, model: &Model) -> Result<f64> {
        let one = self.count(model, 1)?;
        Ok(self.count(model, 2)? as f64 / one as f64)
    }

    fn count(&self, model: &Model, threads: usize) -> Result<u64> {
        thread::sleep(10 * PAUSE);
        thread::scope(|scope| {
            let one = || {
                let mut puppet = Puppet::open(&self.pre, &self.way, model)?;
                let (start, mut count) = (Instant::now(), 0);
                while start.elapsed() < TURN {
                    puppet.infer()?;
                    count += 1;
                }
                Ok::<u64, wasmtime::Error>(count)
            };
            let threads = (0..threads).map(|_| scope.spawn(one)).collect::<Vec<_>>();
            threads.into_iter().map(|thread| thread.join().expect("no thread panics")).sum()
        })
    }
}

fn later<W: Way>(puppet: &mut Puppet<W>) -> Result<Duration> {
    let start = Instant::now();
    for _ in 0..INFERENCES {
        puppet.infer()?;
    }
    Ok(start.elapsed() / INFERENCES)
}

/// The median of each over that many rounds, in which they take turns.
fn medians<const N: usize>(
    rounds: usize,
    mut measured: [&mut dyn FnMut() -> Result<Duration>; N],
) -> Result<[Duration; N]> {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..rounds {
        for (times, measure) in times.iter_mut().zip(&mut measured) {
            thread::sleep(PAUSE);
            times.push(measure()?);
        }
    }
    Ok(times.map(median))
}

fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("times and ratios have an order"));
    values[values.len() / 2]
}

fn row(what: &str, times: &[Option<Duration>]) {
    let microseconds = |time: Duration| format!("{:.1} µs", time.as_secs_f64() * 1e6);
    let cells = times.iter().map(|time| time.map_or(String::new(), microseconds));
    println!("| {what} | {} |", cells.collect::<Vec<_>>().join(" | "));
}
