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
//! * the throughput of two threads on two contexts, and the speed of an inference on two threads, relative to one
//!   thread.
//!
//! With `--device` first, the models run on candle's CPU through the device forms of the operators (feature `candle`),
//! and the table tells where their steps ran instead of times. With `--gpu` first, they run on the first GPU (feature
//! `cuda` or `metal`).
//!
//! With `--profile` first, each model runs for half a second, and a table on the standard error output tells how long
//! each step of it took. `--profile=FORMAT:FILE` writes the profile to a file, as `table`, `json` or `svg` (a picture).
//!
//! A model that is missing is reported as skipped. The exit status is 1 if an output differs by more than 1e-4 absolute
//! plus 1e-3 relative, and with `--device` or `--gpu` also if more than a tenth of a model's steps ran on the host.
mod device;
mod measure;
mod others;
mod output;
mod profile;
#[path = "../../../../examples/guests/record.rs"]
#[expect(dead_code, reason = "used by the guests example only")]
mod record;

/// The records, in the order of the table.
const MODELS: [&str; 16] = [
    "digits",
    "silero-vad",
    "silero-vad-16k",
    "silero-vad-ifless",
    "silero-vad-half",
    "silero-vad-openvino",
    "silero-vad-lstm",
    "ocr-cls",
    "ocr-det",
    "ocr-rec",
    "magika",
    "minilm",
    "minilm-128",
    "mlp",
    "mlp-32",
    "squeezenet",
];
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
    let (mut wrong, mut skipped) = (0, Vec::new());
    println!(
        "{:<20}{:>5}{:>12}{:>12}{:>14}{:>8}  {:<9}{:>12}{:>12}",
        "model", "rows", "worst", "ms", "onnxruntime", "ratio", "", "2 contexts", "2 threads"
    );
    for name in MODELS.into_iter().filter(|&name| asked.is_empty() || asked.iter().any(|asked| asked == name)) {
        let record = match record::Record::open(name) {
            Ok(record) => record,
            Err(why) => {
                skipped.push(why);
                continue;
            }
        };
        let before = others::onnxruntime(name);
        let measured = match measure::measure(&record) {
            Ok(measured) => measured,
            Err(error) => {
                println!("{name:<20}{error}");
                wrong += 1;
                continue;
            }
        };
        let theirs = before.map(|before| others::onnxruntime(name).unwrap_or(before).min(before));
        let (time, ratio, how) = match theirs {
            Some(time) => (format!("{time:.3}"), Some(measured.ms / time), "same run"),
            None => ("-".to_owned(), others::recorded(name), "recorded"),
        };
        let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        println!(
            "{name:<20}{:>5}{:>12.1e}{:>12.3}{time:>14}{ratio:>8}  {how:<9}{:>11.2}×{:>11.2}×{}",
            record.rows.len(),
            measured.worst,
            measured.ms,
            measured.two_contexts,
            measured.two_threads,
            if measured.right { "" } else { "  WRONG" }
        );
        wrong += usize::from(!measured.right);
    }
    for why in skipped {
        println!("skipped: {why}");
    }
    if wrong == 0 { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}
