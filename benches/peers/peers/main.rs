//! `cargo bench -p graphpool-peers --bench peers`: the pool beside everything that could be used in its place, in one
//! process.
//!
//! Threads are started outside the timing, the subjects take turns, and each figure is the median of their rounds.
//! It prints a table and whether the goals hold, and writes `target/peers.json` and charts; nothing fails on a time.
//!
//! ```text
//! --quick          fewer and shorter rounds
//! --only WORKLOAD  one workload (may be repeated); the goals of the others aren't looked at
//! --record         writes the figures, the table and the charts to benches/results/ too
//! ```

#![allow(missing_docs, reason = "a program")]

mod charts;
mod goals;
mod measure;
mod report;
mod subject;
mod subjects;
mod workload;

use std::path::Path;
use std::time::{Duration, Instant};

use measure::Effort;
use report::Figures;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse()?;
    let start = Instant::now();
    let mut figures = Figures::default();
    for workload in workload::ALL.into_iter().filter(|workload| options.wants(workload)) {
        let contenders = workload::contenders(workload);
        for threads in measure::thread_counts() {
            let medians = measure::medians(&contenders, threads, options.effort);
            for (contender, median) in contenders.iter().zip(medians) {
                figures.add(workload, threads, contender.name(), median);
            }
            eprintln!("{workload}, {threads} threads: done after {:.0} s", start.elapsed().as_secs_f64());
        }
    }
    let table = figures.table();
    let goals = goals::table(&figures);
    println!("{table}\n{goals}");
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    figures.write(&root.join("target"), &table, &goals)?;
    if options.record {
        figures.write(&root.join("benches/results"), &table, &goals)?;
    }
    Ok(())
}

struct Options {
    effort: Effort,
    only: Vec<String>,
    record: bool,
}

impl Options {
    fn parse() -> Result<Self, lexopt::Error> {
        use lexopt::prelude::*;
        let full = Effort { rounds: 15, time: Duration::from_millis(20) };
        let mut options = Self { effort: full, only: Vec::new(), record: false };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                // What cargo passes.
                Long("bench") => {}
                Long("quick") => options.effort = Effort { rounds: 7, time: Duration::from_millis(5) },
                Long("only") => options.only.push(arguments.value()?.string()?),
                Long("record") => options.record = true,
                other => return Err(other.unexpected()),
            }
        }
        Ok(options)
    }

    fn wants(&self, workload: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == workload)
    }
}
