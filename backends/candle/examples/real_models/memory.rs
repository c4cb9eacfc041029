//! The most memory that a model takes: in a process of its own, which loads it and computes some times.

use std::env;
use std::fs;
use std::hint::black_box;
use std::process::{Command, ExitCode, Stdio};

use graphpool::backend::{Backend, LoadRequest};
use graphpool::nn::{Encoding, Error, Target};
use graphpool_candle::CandleBackend;

use crate::measure::infer;
use crate::record::Record;

/// The option with which this program measures one model and prints the bytes.
pub const OPTION: &str = "--memory-of";

/// Computes before the memory is read, in rows of the record at least once each.
const COMPUTES: usize = 10;

/// The most resident memory of a load and some computes, beyond that of a process with this program and the record's
/// inputs, in bytes. The file in memory counts until the load has ended. `None` where Linux doesn't tell.
pub fn used(name: &str) -> Option<u64> {
    let child = Command::new(env::current_exe().ok()?).args([OPTION, name]).stderr(Stdio::null()).output().ok()?;
    String::from_utf8(child.stdout).ok()?.trim().parse().ok()
}

/// The process that [`used`] starts.
pub fn print(name: &str) -> ExitCode {
    match measure(name) {
        Ok(Some(bytes)) => println!("{bytes}"),
        Ok(None) => println!("-"),
        Err(why) => {
            eprintln!("real_models: {why}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn measure(name: &str) -> Result<Option<u64>, String> {
    let mut record = Record::open(name)?;
    // Another model first, so that what is read of this program doesn't count.
    let digits = Record::open("digits")?;
    run(digits.model.clone(), &digits).map_err(|error| error.to_string())?;
    let Some(before) = status("VmRSS:") else { return Ok(None) };
    // Forgets the peak of reading the record, on systems that can.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let model = std::mem::take(&mut record.model);
    let before = before.saturating_sub(model.len() as u64);
    run(model, &record).map_err(|error| error.to_string())?;
    Ok(status("VmHWM:").map(|peak| peak.saturating_sub(before)))
}

fn run(model: Vec<u8>, record: &Record) -> Result<(), Error> {
    let parts = [model.as_slice()];
    let graph = CandleBackend::new().load(&LoadRequest::new(&parts, Encoding::Onnx, Target::Cpu))?;
    drop(model);
    let mut context = graph.init_context()?;
    for row in record.rows.iter().cycle().take(COMPUTES.max(record.rows.len())) {
        infer(&mut *context, row)?;
        for (index, _) in &row.outputs {
            black_box(context.output(*index as usize)?.data().len());
        }
    }
    Ok(())
}

/// A line of the process's status, in bytes.
fn status(key: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    Some(kibibytes * 1024)
}
