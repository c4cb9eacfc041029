//! Runs the models with a profile: which steps took how long.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use graphpool::backend::{Backend, LoadRequest};
use graphpool::nn::{Encoding, Error, Target};
use graphpool_candle::{CandleBackend, Profile};

use crate::measure::infer;
use crate::output::Output;
use crate::record::Record;

/// How long each model runs.
const TIME: Duration = Duration::from_millis(500);

/// Profiles the models of these names, or all of them, and writes one report. Fails if a model or the report does.
pub fn profile(asked: &[String], output: &Output) -> ExitCode {
    let (profile, mut fine) = (Profile::new(), true);
    let backend = CandleBackend::new().with_profile(&profile);
    for name in crate::MODELS.into_iter().filter(|&name| asked.is_empty() || asked.iter().any(|asked| asked == name)) {
        let record = match Record::open(name) {
            Ok(record) => record,
            Err(why) => {
                println!("skipped: {why}");
                continue;
            }
        };
        match run(&backend, &record) {
            // minilm and minilm-128 are one file, and so one model of the report.
            Ok(()) => println!("model {} is {name}", profile.report().models.len()),
            Err(error) => {
                println!("{name}: {error}");
                fine = false;
            }
        }
    }
    if let Err(why) = output.write(&profile.report()) {
        eprintln!("real_models: {why}");
        fine = false;
    }
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the rows of a record in turn.
fn run(backend: &CandleBackend, record: &Record) -> Result<(), Error> {
    let parts = [record.model.as_slice()];
    let graph = backend.load(&LoadRequest::new(&parts, Encoding::Onnx, Target::Cpu))?;
    let mut context = graph.init_context()?;
    let end = Instant::now() + TIME;
    for row in record.rows.iter().cycle() {
        infer(&mut *context, row)?;
        if Instant::now() > end {
            break;
        }
    }
    Ok(())
}
