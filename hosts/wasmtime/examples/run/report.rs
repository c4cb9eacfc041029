//! What the instances did, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};

use crate::calls::{Calls, Times};
use crate::fleet::Outcome;
use crate::options::Options;

/// The summary of a run.
pub struct Report<'a> {
    options: &'a Options,
    outcome: &'a Outcome,
    calls: BTreeMap<String, Times>,
}

impl<'a> Report<'a> {
    /// The summary of these.
    pub fn new(options: &'a Options, outcome: &'a Outcome, calls: &Calls) -> Self {
        Self { options, outcome, calls: calls.by_name() }
    }

    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.outcome.elapsed.as_secs_f64()
    }

    /// Contexts and guests that are alive at the end, and graphs that have no name.
    fn alive(&self) -> usize {
        let stats = &self.outcome.stats;
        stats.contexts + stats.guests + stats.graphs.saturating_sub(stats.names)
    }

    /// The numbers for a program.
    pub fn json(&self) -> Value {
        let Self { options, outcome, calls } = self;
        let calls = calls.iter().map(|(name, times)| {
            let (p50, p99) = (times.percentile(0.5), times.percentile(0.99));
            let times = json!({ "count": times.count(), "p50_ns": nanoseconds(p50), "p99_ns": nanoseconds(p99) });
            (name.clone(), times)
        });
        json!({
            "instances": options.instances,
            "threads": options.threads,
            "seconds": outcome.elapsed.as_secs_f64(),
            "failed": outcome.failed,
            "exit_code": outcome.code,
            "differing_outputs": outcome.differing,
            "instances_per_second": self.per_second(options.instances as u64),
            "inferences": outcome.stats.computes,
            "inferences_per_second": self.per_second(outcome.stats.computes),
            "refused_by_limits": outcome.stats.limited,
            "resident_bytes": outcome.resident,
            "alive_at_end": self.alive(),
            "calls": calls.collect::<serde_json::Map<_, _>>(),
        })
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { options, outcome, calls } = self;
        let mut line = |name: &str, value: String| writeln!(f, "{name:<18} {value}");
        let rate = |count: u64| format!("{}, {:.0} a second", HumanCount(count), self.per_second(count));
        line("instances", rate(options.instances as u64))?;
        line("threads", format!("{} for {:.2} s", options.threads, outcome.elapsed.as_secs_f64()))?;
        line("inferences", rate(outcome.stats.computes))?;
        line("failed", HumanCount(outcome.failed as u64).to_string())?;
        line("other outputs", HumanCount(outcome.differing as u64).to_string())?;
        let memory =
            outcome.resident.map_or_else(|| "not known here".to_owned(), |bytes| HumanBytes(bytes).to_string());
        line("resident memory", memory)?;
        line("alive at the end", format!("{} graphs, contexts and guests", self.alive()))?;
        if calls.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n{:<28} {:>12} {:>10} {:>10}", "call", "count", "p50", "p99")?;
        for (name, times) in calls {
            let (p50, p99) = (times.percentile(0.5), times.percentile(0.99));
            let count = HumanCount(times.count()).to_string();
            writeln!(f, "{name:<28} {count:>12} {:>10} {:>10}", shown(p50), shown(p99))?;
        }
        Ok(())
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A time in three digits or so.
fn shown(time: Duration) -> String {
    match nanoseconds(time) {
        n @ 0..1_000 => format!("{n} ns"),
        n @ 1_000..1_000_000 => format!("{:.1} µs", n as f64 / 1e3),
        n @ 1_000_000..1_000_000_000 => format!("{:.1} ms", n as f64 / 1e6),
        n => format!("{:.1} s", n as f64 / 1e9),
    }
}
