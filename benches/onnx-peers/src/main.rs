//! The candle backend beside tract-onnx and rten, on the models of `examples/models`, in one process.
//!
//! ```sh
//! scripts/fetch_models.sh --all
//! venv/bin/python scripts/make_models.py
//! cargo run --release --manifest-path benches/onnx-peers/Cargo.toml
//! ```
//!
//! Each engine runs a record's rows on one thread, from inputs that are there to outputs that are there. They take
//! turns, and the figure of each is its median inference over all turns. An engine that can't run a model has its
//! reason under the table; one whose outputs are further than 1e-4 (relative above 1), or than the record's own
//! tolerance, from what onnxruntime had is marked `≠`. Models can be named on the command line; one that isn't there is
//! skipped.

mod engines;
#[path = "../../../backends/candle/examples/real_models/models.rs"]
mod models;
#[path = "../../../examples/guests/record.rs"]
#[expect(dead_code, reason = "what the guests check and this program does not")]
mod record;

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use engines::{Engine, Graphpool, Rten, Tract};
use models::MODELS;
use record::Record;

/// How often each engine has its turn, and how long one is.
const TURNS: usize = 10;
const TURN: Duration = Duration::from_millis(150);

/// What one engine did with one model.
struct Outcome {
    /// The median milliseconds of an inference.
    ms: f64,
    /// Whether every output was near onnxruntime's.
    right: bool,
}

fn main() -> ExitCode {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = asked.iter().find(|name| !MODELS.contains(&name.as_str())) {
        eprintln!("no model {unknown:?}; there are {}", MODELS.join(", "));
        return ExitCode::from(2);
    }
    println!(
        "{:<20}{:>14}{:>10}{:>10}{:>10}{:>10}",
        "ms (one thread)", "graphpool", "tract", "rten", "/tract", "/rten"
    );
    let mut remarks = Vec::new();
    for name in MODELS.into_iter().filter(|&name| asked.is_empty() || asked.iter().any(|asked| asked == name)) {
        let record = match Record::open(name) {
            Ok(record) => record,
            Err(why) => {
                remarks.push(format!("skipped: {why}"));
                continue;
            }
        };
        let outcomes = compare(&record, &mut remarks);
        let cell = |outcome: &Option<Outcome>| {
            outcome.as_ref().map_or("-".to_owned(), |o| format!("{:.3}{}", o.ms, if o.right { "" } else { "≠" }))
        };
        let [ours, tract, rten] = &outcomes;
        let ratio = |theirs: &Option<Outcome>| match (ours, theirs) {
            (Some(ours), Some(theirs)) => format!("{:.2}", ours.ms / theirs.ms),
            _ => "-".to_owned(),
        };
        let (tract_ms, rten_ms, tract, rten) = (cell(tract), cell(rten), ratio(tract), ratio(rten));
        println!("{name:<20}{:>14}{tract_ms:>10}{rten_ms:>10}{tract:>10}{rten:>10}", cell(ours));
    }
    for remark in remarks {
        println!("{remark}");
    }
    ExitCode::SUCCESS
}

/// Each engine's outcome with the record, in the order of the table's columns.
fn compare(record: &Record, remarks: &mut Vec<String>) -> [Option<Outcome>; 3] {
    type Open = fn(&Record) -> Result<Box<dyn Engine>, Box<dyn Error>>;
    let open: [(&str, Open); 3] = [
        ("graphpool", |record| Ok(Box::new(Graphpool::open(record)?))),
        ("tract", |record| Ok(Box::new(Tract::open(record)?))),
        ("rten", |record| Ok(Box::new(Rten::open(record)?))),
    ];
    let mut runs = open.map(|(engine, open)| {
        let begun = open(record).and_then(|mut engine| {
            let mut right = true;
            for (row, wanted) in record.rows.iter().enumerate() {
                engine.infer(row)?;
                for (index, wanted) in &wanted.outputs {
                    right &= record::agrees(engine.output(*index as usize)?.view(), wanted.view(), record.tolerance);
                }
            }
            Ok((engine, right, Vec::new()))
        });
        begun.inspect_err(|error| remarks.push(format!("{}: {engine}: {error}", record.name))).ok()
    });
    for _ in 0..TURNS {
        for run in &mut runs {
            let Some((engine, _, times)) = run else { continue };
            if let Err(error) = turn(&mut **engine, record.rows.len(), times) {
                remarks.push(format!("{}: {error}", record.name));
                *run = None;
            }
        }
    }
    runs.map(|run| {
        let (_, right, mut times) = run?;
        times.sort_by(f64::total_cmp);
        Some(Outcome { ms: *times.get(times.len() / 2)?, right })
    })
}

/// Times inferences for one turn; the first row again, which doesn't count, is what warms the caches up.
fn turn(engine: &mut dyn Engine, rows: usize, times: &mut Vec<f64>) -> Result<(), Box<dyn Error>> {
    engine.infer(0)?;
    let end = Instant::now() + TURN;
    for row in (0..rows).cycle() {
        let start = Instant::now();
        engine.infer(row)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        if Instant::now() > end {
            break;
        }
    }
    Ok(())
}
