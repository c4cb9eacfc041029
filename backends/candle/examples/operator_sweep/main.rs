//! Times operators beside onnxruntime: models of one operator each, at three sizes, on one thread.
//!
//! ```sh
//! python3 -m venv venv && venv/bin/python -m pip install -r scripts/requirements.txt
//! PYTHON=venv/bin/python cargo run --release -p graphpool-candle --example operator_sweep
//! ```
//!
//! `python3`, or the program in `PYTHON`, needs numpy, onnx and onnxruntime: `scripts/time_operators.py` makes the
//! models and times onnxruntime. Arguments choose the rows whose names contain one of them.
//!
//! Both take turns of 20 milliseconds, and the table has the medians of the turns. A time is that of a run from its
//! inputs, which are in place, to its outputs, which are not copied out.
//!
//! Outputs are compared with onnxruntime's. The exit status is 1 if one differs by more than its row's tolerance.
mod ours;
mod peer;

use std::process::ExitCode;

use graphpool::nn::Error;
use ours::Ours;
use peer::{Case, Peer};

/// The turns of each side.
const TURNS: usize = 5;

/// A line of the table.
struct Line {
    name: String,
    ratio: f64,
}

fn main() -> ExitCode {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    match sweep(&asked) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("operator_sweep: {why}");
            ExitCode::from(2)
        }
    }
}

/// Prints the table and its summary. False if an output is wrong or an operator does not run.
fn sweep(asked: &[String]) -> Result<bool, String> {
    let mut peer = Peer::start(asked)?;
    println!("{:<34}{:<8}{:>12}{:>14}{:>8}{:>12}", "operator", "size", "ms", "onnxruntime", "ratio", "worst");
    let (mut lines, mut wrong) = (Vec::new(), 0);
    while let Some(case) = peer.case()? {
        let head = format!("{:<34}{:<8}", case.name, case.size);
        if let Some(why) = &case.error {
            println!("{head}onnxruntime: {why}");
        } else {
            match measure(&case, &mut peer) {
                Ok(Measured { ours, theirs, worst, right }) => {
                    let (ratio, note) = (ours / theirs, if right { "" } else { "  WRONG" });
                    println!("{head}{ours:>12.4}{theirs:>14.4}{ratio:>8.2}{worst:>12.1e}{note}");
                    lines.push(Line { name: format!("{} ({})", case.name, case.size), ratio });
                    wrong += usize::from(!right);
                }
                Err(Failure::Ours(error)) => {
                    println!("{head}{error}");
                    wrong += 1;
                }
                Err(Failure::Peer(why)) => return Err(why),
            }
        }
        peer.go_on()?;
    }
    summarize(lines);
    Ok(wrong == 0)
}

/// What a case gave.
struct Measured {
    /// Median milliseconds.
    ours: f64,
    theirs: f64,
    /// The largest difference of an output.
    worst: f64,
    right: bool,
}

/// Why a case gave nothing.
enum Failure {
    Ours(Error),
    Peer(String),
}

/// Compares the outputs of a case, then measures both in turns.
fn measure(case: &Case, peer: &mut Peer) -> Result<Measured, Failure> {
    let run = Ours::load(case).map_err(Failure::Ours)?;
    let (worst, right) = run.check(case).map_err(Failure::Ours)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        theirs.push(peer.turn().map_err(Failure::Peer)?);
        ours.push(run.turn().map_err(Failure::Ours)?);
    }
    Ok(Measured { ours: median(&mut ours), theirs: median(&mut theirs), worst, right })
}

/// Prints the median of the ratios, and the rows above 2 and above 3.
fn summarize(mut lines: Vec<Line>) {
    let mut ratios: Vec<f64> = lines.iter().map(|line| line.ratio).collect();
    let above = |least: f64| ratios.iter().filter(|&&ratio| ratio > least).count();
    let (twice, thrice) = (above(2.0), above(3.0));
    println!("\n{} rows: median ratio {:.2}, {twice} above 2, {thrice} above 3", lines.len(), median(&mut ratios));
    lines.retain(|line| line.ratio > 2.0);
    lines.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
    for line in lines {
        println!("{:>8.2}  {}", line.ratio, line.name);
    }
}

/// The middle number, or NaN of none.
fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
