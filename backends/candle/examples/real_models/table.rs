//! The table of the models: measured, printed line by line, and written as a page.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, thread};

use crate::measure::{self, Measured};
use crate::others::{self, Onnxruntime};
use crate::record::Record;

/// Where the page is written unless a file is named.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../benches/results/real_models.md");

/// One model's line.
struct Line {
    name: &'static str,
    rows: usize,
    measured: Measured,
    memory: Option<u64>,
    theirs: Option<Onnxruntime>,
}

impl Line {
    fn measure(name: &'static str, record: &Record) -> Result<Self, graphpool::nn::Error> {
        let before = Onnxruntime::measure(name);
        let measured = measure::measure(record)?;
        let theirs = before.map(|before| match Onnxruntime::measure(name) {
            Some(after) => before.least(&after),
            None => before,
        });
        Ok(Self { name, rows: record.rows.len(), measured, memory: crate::memory::used(name), theirs })
    }

    /// The time relative to onnxruntime's of the same run.
    fn ratio(&self) -> Option<f64> {
        self.theirs.as_ref().map(|theirs| self.measured.ms / theirs.ms)
    }

    /// Mebibytes, here and with onnxruntime.
    fn memory(&self) -> [String; 2] {
        let theirs = self.theirs.as_ref().and_then(|theirs| theirs.memory);
        [self.memory, theirs].map(|bytes| bytes.map_or("-".to_owned(), |bytes| format!("{:.1}", mebibytes(bytes))))
    }

    fn print(&self) {
        let Self { name, rows, measured, .. } = self;
        let Measured { worst, ms, two_contexts, two_threads, .. } = measured;
        let time = self.theirs.as_ref().map_or("-".to_owned(), |theirs| format!("{:.3}", theirs.ms));
        let (ratio, how) = match self.ratio() {
            Some(ratio) => (Some(ratio), "same run"),
            None => (others::recorded(name), "recorded"),
        };
        let ratio = ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        let [own, theirs] = self.memory();
        println!(
            "{name:<20}{rows:>5}{worst:>12.1e}{ms:>12.3}{time:>14}{ratio:>8}  {how:<9}{:>14}{two_contexts:>11.2}×\
             {two_threads:>11.2}×{}",
            format!("{own}/{theirs}"),
            if measured.right { "" } else { "  WRONG" }
        );
    }

    fn row(&self) -> Option<String> {
        let Self { name, measured: Measured { worst, ms, two_contexts, two_threads, .. }, .. } = self;
        let (theirs, ratio, [memory, their_memory]) = (self.theirs.as_ref()?, self.ratio()?, self.memory());
        Some(format!(
            "| {name} | {worst:.1e} | {ms:.3} | {:.3} | {ratio:.2} | {memory} | {their_memory} | {two_contexts:.2} | \
             {two_threads:.2} |\n",
            theirs.ms
        ))
    }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// Measures the models of these names, or all of them. With `page`, writes the table to that file (or the usual one if
/// it is empty) and the ratios to `recorded.txt`. Fails on a wrong output.
pub fn run(asked: &[String], page: Option<&str>) -> ExitCode {
    let (mut lines, mut skipped, mut wrong) = (Vec::new(), Vec::new(), 0);
    println!(
        "{:<20}{:>5}{:>12}{:>12}{:>14}{:>8}  {:<9}{:>14}{:>12}{:>12}",
        "model", "rows", "worst", "ms", "onnxruntime", "ratio", "", "MiB/its", "2 contexts", "2 threads"
    );
    for name in crate::MODELS.into_iter().filter(|&name| asked.is_empty() || asked.iter().any(|asked| asked == name)) {
        let record = match Record::open(name) {
            Ok(record) => record,
            Err(why) => {
                skipped.push(why);
                continue;
            }
        };
        match Line::measure(name, &record) {
            Ok(line) => {
                line.print();
                wrong += usize::from(!line.measured.right);
                lines.push(line);
            }
            Err(error) => {
                println!("{name:<20}{error}");
                wrong += 1;
            }
        }
    }
    for why in skipped {
        println!("skipped: {why}");
    }
    if let Some(page) = page
        && let Err(why) = write(&lines, if page.is_empty() { PAGE } else { page })
    {
        eprintln!("real_models: {why}");
        return ExitCode::FAILURE;
    }
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn write(lines: &[Line], file: &str) -> Result<(), String> {
    let version = lines.iter().find_map(|line| Some(&line.theirs.as_ref()?.version));
    let version = version.ok_or("--record needs onnxruntime, and at least one model")?;
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let mut page = format!(
        "# `cargo run --release -p graphpool-candle --example real_models -- --record`\n\n\
         {}, {cpus} processors, onnxruntime {version}, {}\n\n\
         Models on one thread here and with onnxruntime: the largest difference of an output, the median time of an \
         inference,\nand the most memory of a load and ten inferences in a process of its own.\n\n\
         | model | difference | ms | onnxruntime, ms | ratio | MiB | onnxruntime, MiB | 2 contexts | 2 threads |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        processor(),
        date(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    );
    lines.iter().filter_map(Line::row).for_each(|row| page.push_str(&row));
    fs::write(file, page).map_err(|error| format!("{file}: {error}"))?;
    let ratios: Vec<_> = lines.iter().filter_map(|line| Some((line.name, line.ratio()?))).collect();
    others::record(&ratios).map_err(|error| format!("recorded.txt: {error}"))?;
    println!("recorded in {file}");
    Ok(())
}

/// The processor's name, where Linux tells it.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// The day of a time since 1970, in the Gregorian calendar.
fn date(since: Duration) -> String {
    let (mut day, mut year) = (since.as_secs() / 86_400, 1970);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while let Some(length) = lengths.get(month).filter(|length| day >= **length) {
        day -= length;
        month += 1;
    }
    let mut text = String::new();
    let _ = write!(text, "{year}-{:02}-{:02}", month + 1, day + 1);
    text
}
