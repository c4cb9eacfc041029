//! Tokens a second of a language model, for a prompt and for the text of one session and of several at a time, through
//! graphpool's engine as guests have them.
//!
//! ```sh
//! scripts/fetch_models.sh --all
//! cargo run --release -p graphpool-candle --features ggml --example llm_speed -- .cache/models/smollm2/model.gguf
//! ```
//!
//! `--peer COMMAND` starts a program that is measured in turns with ours, such as llama.cpp's part of this, which
//! `scripts/build_llama_speed.sh` builds and names. Each row of the table has medians of several rounds, and the ratio
//! of both. `--help` has the options.

mod options;
mod ours;
mod peer;

use std::process::ExitCode;

use options::Options;
use ours::Ours;
use peer::Peer;

/// What is measured.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// A prompt of about so many tokens.
    Prompt(usize),
    /// So many sessions of one graph, each of which makes so many tokens after a prompt of about `depth`.
    Generate { sessions: usize, tokens: usize, depth: usize },
}

/// Tokens, and the seconds that they took.
#[derive(Debug, Clone, Copy)]
struct Measured {
    tokens: usize,
    seconds: f64,
}

impl Measured {
    fn speed(self) -> f64 {
        self.tokens as f64 / self.seconds.max(1e-9)
    }
}

fn main() -> ExitCode {
    match options::parse() {
        Ok(Some(options)) => match run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("llm_speed: {error}");
                ExitCode::FAILURE
            }
        },
        Ok(None) => {
            print!("{}", options::HELP);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("llm_speed: {error}\nTry --help.");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let ours = Ours::load(options)?;
    let mut peer = options.peer.as_deref().map(|command| Peer::start(command, &options.file)).transpose()?;
    println!("tokens a second, medians of {} rounds\n", options.rounds);
    println!("{:<34}{:>10}{:>10}{:>8}{:>16}", "", "graphpool", "peer", "ratio", "to one session");
    let mut one = None;
    for work in options.works() {
        let (mut speeds, mut peers) = (Vec::new(), Vec::new());
        for round in 0..options.rounds {
            let measured = ours.measure(work, round)?;
            speeds.push(measured.speed());
            if let Some(peer) = &mut peer {
                peers.push(peer.measure(work, measured.tokens)?.speed());
            }
        }
        let speed = median(&mut speeds);
        print!("{:<34}{speed:>10.1}", name(work));
        if peers.is_empty() {
            print!("{:>18}", "");
        } else {
            let peer = median(&mut peers);
            print!("{peer:>10.1}{:>8.2}", speed / peer);
        }
        match (work, one) {
            (Work::Generate { sessions: 1, .. }, _) => one = Some(speed),
            (Work::Generate { .. }, Some(one)) => print!("{:>16.2}", speed / one),
            _ => {}
        }
        println!();
    }
    Ok(())
}

fn name(work: Work) -> String {
    match work {
        Work::Prompt(tokens) => format!("prompt of {tokens}"),
        Work::Generate { sessions: 1, tokens, depth } => format!("1 session, {tokens} after {depth}"),
        Work::Generate { sessions, tokens, depth } => format!("{sessions} sessions, {tokens} after {depth}"),
    }
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len() % 2 == 1 { numbers[middle] } else { f64::midpoint(numbers[middle - 1], numbers[middle]) }
}
