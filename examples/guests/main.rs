//! Many wasm guests sharing one model: what graphpool is for, checked as it runs.
//!
//! ```sh
//! cargo run --release --example guests -- --guests 64 --seconds 5
//! ```
//!
//! Every thread plays guests that load a model by name and from bytes, open contexts, run inferences on recorded
//! inputs, compare each output with onnxruntime's, drop what they have in random order, and try handles that are not
//! theirs to use: stale ones, forged ones, other guests'. `--help` has the options. The exit status is 1 where an
//! output was wrong, such a handle reached anything, or anything was alive at the end.

// candle is no dependency of a loom build, and neither is what the example prints with.
#[cfg(not(loom))]
mod options;
#[cfg(not(loom))]
mod player;
#[cfg(not(loom))]
mod probe;
#[cfg(not(loom))]
mod random;
#[cfg(not(loom))]
mod record;
#[cfg(not(loom))]
mod report;
#[cfg(not(loom))]
mod run;

#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    let options = match options::parse() {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("guests: {error}\nTry --help.");
            return ExitCode::from(2);
        }
    };
    match run::run(&options) {
        Ok(report) => {
            if options.json {
                println!("{}", report.json());
            } else {
                print!("{report}");
            }
            report.failures().iter().for_each(|failure| eprintln!("guests: {failure}"));
            if report.failures().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("guests: {error}");
            ExitCode::FAILURE
        }
    }
}
