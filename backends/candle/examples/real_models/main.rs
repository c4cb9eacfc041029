//! Runs published models on real inputs and compares outputs and times with those of onnxruntime.
//!
//! ```sh
//! scripts/fetch_models.sh --all
//! venv/bin/python scripts/make_models.py
//! cargo run --release -p graphpool-candle --example real_models
//! ```
//!
//! Each record of `examples/models` whose model is present, or each one that is named on the command line, runs on one
//! thread. The columns of the table are:
//!
//! * the largest difference from the outputs that were recorded with onnxruntime;
//! * the median time of an inference, and that of onnxruntime. If `python3` (or the program in `PYTHON`) has
//!   onnxruntime, `scripts/time_models.py` measures it before and after. Otherwise the ratio is the one in
//!   `recorded.txt`, which is from one run on a shared machine with two processors (Zen 4);
//! * the most memory of a load and ten inferences, in MiB, here and with onnxruntime. Each is measured in a process of
//!   its own, and counts what is resident beyond the program, its libraries and the record; `-` where the system has no
//!   `/proc`;
//! * the throughput of two threads on two contexts, and the speed of an inference on two threads, relative to one
//!   thread.
//!
//! With `--record` first, the table is written to `benches/results/real_models.md` too, or with `--record=FILE` to that
//! file, with the processor's name, and its ratios to `recorded.txt`. That needs onnxruntime. If models are named, the
//! table has these alone, and `recorded.txt` keeps the ratios of the others.
//!
//! With `--device` first, the models run on candle's CPU through the device forms of the operators (feature `candle`),
//! and the table tells where their steps ran instead of times. With `--gpu` first, they run on the first GPU (feature
//! `cuda` or `metal`).
//!
//! With `--profile` first, each model runs for half a second, and a table on the standard error output tells how long
//! each step of it took. `--profile=FORMAT:FILE` writes the profile to a file, as `table`, `json` or `svg` (a picture).
//!
//! A model that is missing is reported as skipped. The exit status is 1 if an output differs by more than 1e-4 absolute
//! (or the record's own tolerance) plus 1e-3 relative, and with `--device` or `--gpu` also if more than a tenth of a
//! model's steps ran on the host, but for six models whose operators have no form for devices.
mod device;
mod measure;
mod memory;
mod models;
mod others;
mod output;
mod profile;
#[path = "../../../../examples/guests/record.rs"]
#[expect(dead_code, reason = "used by the guests example only")]
mod record;
mod table;

use models::MODELS;

fn main() -> std::process::ExitCode {
    let mut asked: Vec<String> = std::env::args().skip(1).collect();
    if let Some(gpu) = asked.first().and_then(|first| ["--device", "--gpu"].iter().position(|option| first == option)) {
        return device::check(&asked.split_off(1), gpu == 1);
    }
    if let Some(option) = asked.first().and_then(|first| first.strip_prefix("--profile")) {
        let output = match option.strip_prefix('=') {
            None if !option.is_empty() => Err(format!("there is no option --profile{option}")),
            value => output::Output::parse(value),
        };
        return match output {
            Ok(output) => profile::profile(&asked.split_off(1), &output),
            Err(why) => {
                eprintln!("real_models: {why}");
                std::process::ExitCode::from(2)
            }
        };
    }
    if asked.first().is_some_and(|first| first == memory::OPTION) {
        return memory::print(asked.get(1).map_or("", String::as_str));
    }
    let page = asked.first().and_then(|first| first.strip_prefix("--record")).map(str::to_owned);
    match page.as_deref().map(|page| if page.is_empty() { Some("") } else { page.strip_prefix('=') }) {
        None => table::run(&asked, None),
        Some(Some(file)) => table::run(&asked.split_off(1), Some(file)),
        Some(None) => {
            eprintln!("real_models: there is no option {}", asked.first().map_or("", String::as_str));
            std::process::ExitCode::from(2)
        }
    }
}
