//! The node tests of ONNX 1.17.0, and those that 1.23.2 adds, run one by one and counted.
//!
//! ```sh
//! cargo run --release -p graphpool-candle --example onnx_conformance
//! ```
//!
//! Fetches the tests of 1.17.0 (`scripts/fetch_node_tests.sh`: by pip, checked, kept in `.cache/`), takes the newer
//! ones where `scripts/make_node_tests.sh` has made them, and says so where it has not. Runs each case in a process of
//! its own, so that not even an abort ends the count, and prints how many passed, are unsupported, failed, gave a wrong
//! answer or panicked: in all, for the f32 subset and by operator. `--help` has the options.
//!
//! * A case passes where every output of every data set has the right type and dimensions, the right integers, and
//!   floats within 1e-6 absolute plus 1e-3 relative (one step of a bfloat16).
//! * The f32 subset is the 924 cases of ai.onnx alone whose inputs and outputs are f32, i64, i32 or bool, at least one
//!   of them f32.
//! * A case whose expected output is known to be wrong, or one of many, is counted apart, with the reason:
//!   `case::DISPUTED`.
mod case;
mod compare;
mod report;
mod serve;
const HELP: &str = "\
Runs the node tests of ONNX 1.17.0, and those that 1.23.2 adds, on the candle backend.

Usage: cargo run --release -p graphpool-candle --example onnx_conformance -- [OPTIONS]

Options:
  --check     compare with what is recorded: exit 1 on any wrong answer or panic, or on fewer passes
  --record    write recorded.txt and recorded-new.txt
  --list      print each case that did not pass, with the reason
  --only TEXT run the cases whose name contains TEXT, and print each
  --operators print the operators and element types that the backend has, as JSON
  --serve     read folders of cases from standard input, one a line; run each, write its outputs beside its inputs, and
              print a line of JSON (scripts/differential.py asks so)
  --help      this
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
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("check") => check = true,
            Long("record") => record = true,
            Long("list") => list = true,
            Long("only") => (only, list) = (parser.value()?.string()?, true),
            // What the parent starts: one case, whose outcome is one line.
            Long("case") => {
                println!("{}", case::run(std::path::Path::new(&parser.value()?)));
                return Ok(ExitCode::SUCCESS);
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
    let mut fine = true;
    for suite in &case::SUITES {
        let Some(cases) = case::all(suite, &only)? else {
            println!("{}: skipped, scripts/make_node_tests.sh makes them", suite.name);
            continue;
        };
        let report = report::Report::new(suite, &cases);
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
