//! The command line.

use std::num::NonZeroUsize;
use std::thread;
use std::time::Duration;

use lexopt::prelude::*;

/// What `--help` prints.
pub const HELP: &str = "\
Runs many guests on one pool of graphs and checks every output.

Usage: cargo run --release --example guests -- [OPTIONS]

Options:
  --guests N     guests alive at one time, over all threads  [64]
  --threads N    threads that run them  [all cores]
  --seconds S    how long  [5]
  --model NAME   a model of examples/models; all but digits must be fetched  [digits]
  --json         one JSON object instead of the table
  --help         this

Exit status: 0 where all was well; 1 where an output was wrong, a stale, forged or
foreign handle resolved, or anything was alive at the end; 2 for a wrong option.
";

/// What the command line asks for.
pub struct Options {
    /// Guests alive at one time, over all threads.
    pub guests: usize,
    /// Threads, no more than there are guests.
    pub threads: usize,
    /// How long the guests run.
    pub time: Duration,
    /// A folder's name in `examples/models`.
    pub model: String,
    /// JSON instead of the table.
    pub json: bool,
}

/// The options of this process, or `None` where help is wanted.
pub fn parse() -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        guests: 64,
        threads: thread::available_parallelism().map_or(1, NonZeroUsize::get),
        time: Duration::from_secs(5),
        model: "digits".to_owned(),
        json: false,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("guests") => options.guests = parser.value()?.parse::<NonZeroUsize>()?.get(),
            Long("threads") => options.threads = parser.value()?.parse::<NonZeroUsize>()?.get(),
            Long("seconds") => options.time = parser.value()?.parse_with(seconds)?,
            Long("model") => options.model = parser.value()?.string()?,
            Long("json") => options.json = true,
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(argument.unexpected()),
        }
    }
    options.threads = options.threads.min(options.guests);
    Ok(Some(options))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    let time = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if time.is_zero() { Err("no time at all".to_owned()) } else { Ok(time) }
}
