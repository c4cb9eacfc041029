//! Runs ONNX's node tests on the candle backend and counts the outcomes: those of 1.17.0, and those that 1.23.2 adds.
//!
//! ```sh
//! cargo run --release -p graphpool-candle --example onnx_conformance
//! ```
//!
//! The tests of 1.17.0 are fetched by `scripts/fetch_node_tests.sh` (with pip, verified, stored in `.cache/`). The
//! newer ones must have been made by `scripts/make_node_tests.sh`; otherwise they are reported as skipped. Each case
//! runs in its own process, so that an abort ends only that case; on a GPU, several share one. The report has the
//! number of cases that passed, are unsupported, failed, gave a wrong result or panicked: in total, for the f32 subset,
//! and by operator. `--help` lists the options.
//!
//! * A case passes if every output of every data set has the right type and dimensions, the right integers, and floats
//!   within 1e-6 absolute plus 1e-3 relative (for a bfloat16, one step).
//! * The f32 subset is the 924 cases of ai.onnx alone whose inputs and outputs are f32, i64, i32 or bool, at least one
//!   of them f32.
//! * A case whose expected output is known to be wrong, or to be one of many that are right, is counted separately,
//!   with the reason: `case::DISPUTED`.
mod case;
mod compare;
mod processes;
mod report;
mod serve;
const HELP: &str = "\
Runs the node tests of ONNX 1.17.0, and those that 1.23.2 adds, on the candle backend.

Usage: cargo run --release -p graphpool-candle --example onnx_conformance -- [OPTIONS]

Options:
  --device    run on candle's CPU through the device forms of the operators (needs the feature candle)
  --gpu       run on the first GPU (needs the feature cuda or metal); the counts are compared with those of --device
  --check     compare with the recorded counts: exit 1 on a wrong result or a panic, or on fewer passes
  --record    write recorded.txt and recorded-new.txt
  --list      print each case that did not pass, with the reason
  --only TEXT run the cases whose name contains TEXT, and print each
  --operators print the operators and element types that the backend has, as JSON
  --serve     read folders of cases from standard input, one in each line; run each, write its outputs to its folder,
              and print a line of JSON (for scripts/differential.py)
  --help      print this
";
fn main() -> std::process::ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("onnx_conformance: {error}");
            std::process::ExitCode::from(2)
        }
    }
}
fn run() -> Result<std::process::ExitCode, Box<dyn std::error::Error>> {
    use lexopt::prelude::*;
    use std::process::ExitCode;

    let (mut check, mut record, mut list, mut only) = (false, false, false, String::new());
    let (mut place, mut served) = (case::Place::Host, false);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("device") => place = case::Place::Device,
            Long("gpu") => place = case::Place::Gpu,
            Long("check") => check = true,
            Long("record") => record = true,
            Long("list") => list = true,
            Long("only") => (only, list) = (parser.value()?.string()?, true),
            // The child process of some cases: prints each outcome in one line. A failure can spoil what a process has
            // of a GPU, so it ends here.
            Long("case") => {
                let verdict = case::run(std::path::Path::new(&parser.value()?), place);
                println!("{verdict}");
                if verdict.outcome == case::Outcome::Failed {
                    return Ok(ExitCode::SUCCESS);
                }
                served = true;
            }
            Long("operators") => {
                println!("{}", serve::operators());
                return Ok(ExitCode::SUCCESS);
            }
            Long("serve") => {
                serve::serve()?;
                return Ok(ExitCode::SUCCESS);
            }
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            _ => return Err(argument.unexpected().into()),
        }
    }
    if served {
        return Ok(ExitCode::SUCCESS);
    }
    if record && place == case::Place::Gpu {
        return Err("counts of a GPU are not recorded".into());
    }
    let mut fine = true;
    for suite in &case::SUITES {
        let Some(cases) = case::all(suite, &only, place)? else {
            println!("{}: skipped; scripts/make_node_tests.sh makes them", suite.name);
            continue;
        };
        let report = report::Report::new(suite, &cases, place);
        print!("{report}");
        if list {
            report.list();
        }
        if record {
            report.record()?;
        }
        fine &= !check || report.check()?;
    }
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
