//! Runs a guest, or thousands of its instances, with WASI and wasi-nn.
//!
//! ```sh
//! cargo run --release -p graphpool-wasmtime --example run -- --graph onnx::examples/models/digits --dir . FILE.wasm
//! ```
//!
//! `FILE.wasm` is a command: a core module that imports `wasi_snapshot_preview1` and `wasi_ephemeral_nn`, or a
//! component that imports WASI 0.2 and `wasi:nn`. One engine serves all instances, with candle as its backend for ONNX.
//! `--help` lists the options.

mod calls;
mod fleet;
mod instance;
mod options;
#[path = "../../../../backends/candle/examples/real_models/output.rs"]
mod output;
mod program;
mod report;

use std::io::Write as _;
use std::process::ExitCode;

use graphpool_candle::Profile;

use crate::fleet::Fleet;
use crate::options::Options;
use crate::report::Report;

fn main() -> ExitCode {
    let options = match options::parse() {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("run: {error}\nTry --help.");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what the options ask for, and returns the exit code of the first instance that failed, or 0.
fn run(options: &Options) -> wasmtime::Result<u8> {
    let calls = calls::Calls::install();
    let profile = options.profile.is_some().then(Profile::new);
    let outcome = Fleet::new(options, profile.as_ref())?.run()?;
    if let (Some(output), Some(profile)) = (&options.profile, &profile) {
        output.write(&profile.report()).map_err(wasmtime::Error::msg)?;
    }
    if let Some(trap) = &outcome.trap {
        eprintln!("run: {trap}");
    }
    if options.alone() {
        return Ok(outcome.code);
    }
    // What the guests printed, once: they are to print the same.
    let mut output: Box<dyn std::io::Write> =
        if options.json { Box::new(std::io::stderr()) } else { Box::new(std::io::stdout()) };
    output.write_all(&outcome.output)?;
    let report = Report::new(options, &outcome, &calls);
    if options.json {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    std::io::stdout().flush()?;
    Ok(outcome.code)
}
