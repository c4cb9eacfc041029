//! What came of it: a table, or JSON.

use std::fmt;
use std::time::Duration;

use graphpool::nn::Stats;
use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};

use crate::options::Options;
use crate::player::Tally;
use crate::probe::Origin;
use crate::record::Record;

/// The result of a run.
pub struct Report {
    model: String,
    checked_against: String,
    threads: usize,
    guests_at_a_time: usize,
    elapsed: Duration,
    /// All threads' tallies, added up.
    total: Tally,
    /// Rows whose class was told rightly, and rows inferred; `None` for a model that is no classifier.
    accuracy: Option<(usize, usize)>,
    graphs: usize,
    contexts: usize,
    guests: usize,
    peak_memory: Option<u64>,
}

impl Report {
    /// Of the threads' tallies and of what was alive at the end.
    pub fn new(options: &Options, record: &Record, tallies: &[Tally], elapsed: Duration, alive: &Stats) -> Self {
        let mut total = Tally { right: vec![None; record.rows.len()], ..Tally::default() };
        for tally in tallies {
            total.guests += tally.guests;
            total.inferences += tally.inferences;
            total.handles += tally.handles;
            total.resolved += tally.resolved;
            total.wrong += tally.wrong;
            total.probes.iter_mut().zip(tally.probes).for_each(|(total, probes)| *total += probes);
            total.right.iter_mut().zip(&tally.right).for_each(|(total, right)| *total = total.or(*right));
        }
        let seen = total.right.iter().flatten();
        let accuracy = record.has_labels().then(|| (seen.clone().filter(|right| **right).count(), seen.count()));
        Self {
            model: format!("{}, {}", record.name, HumanBytes(record.model.len() as u64)),
            checked_against: record.made_with.clone(),
            threads: options.threads,
            guests_at_a_time: options.guests,
            elapsed,
            total,
            accuracy,
            graphs: alive.graphs,
            contexts: alive.contexts,
            guests: alive.guests,
            peak_memory: peak_memory(),
        }
    }

    /// What should not have been, in words; nothing where all was well.
    pub fn failures(&self) -> Vec<String> {
        [
            (self.total.wrong, "wrong outputs"),
            (self.total.resolved, "stale, forged or foreign handles that were not refused"),
            (self.alive(), "graphs, contexts and guests alive at the end"),
            (u64::from(self.total.inferences == 0), "run without an inference"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect()
    }

    /// The numbers for a program.
    pub fn json(&self) -> Value {
        json!({
            "inferences": self.total.inferences,
            "inferences_per_second": self.inferences_per_second(),
            "handles": self.total.handles,
            "stale_probes": self.probes(),
            "stale_resolved": self.total.resolved,
            "wrong_outputs": self.total.wrong,
            "alive_at_end": self.alive(),
            "peak_rss_bytes": self.peak_memory,
        })
    }

    fn alive(&self) -> u64 {
        (self.graphs + self.contexts + self.guests) as u64
    }

    fn probes(&self) -> u64 {
        self.total.probes.iter().sum()
    }

    fn inferences_per_second(&self) -> f64 {
        self.total.inferences as f64 / self.elapsed.as_secs_f64()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { total, .. } = self;
        let probes = |origin: Origin| HumanCount(total.probes[origin as usize]);
        let mut line = |name: &str, value: String| writeln!(f, "{name:<18} {value}");
        line("model", self.model.clone())?;
        line("checked against", self.checked_against.clone())?;
        line("threads", format!("{} for {:.1} s", self.threads, self.elapsed.as_secs_f64()))?;
        line("guests", format!("{} at a time, {} in all", self.guests_at_a_time, HumanCount(total.guests)))?;
        let rate = HumanCount(self.inferences_per_second() as u64);
        line("inferences", format!("{}, {rate} a second", HumanCount(total.inferences)))?;
        line("wrong outputs", HumanCount(total.wrong).to_string())?;
        if let Some((right, seen)) = self.accuracy {
            let share = 100.0 * right as f64 / seen.max(1) as f64;
            line("accuracy", format!("{right} of {seen} held-out rows, {share:.2}%"))?;
        }
        line("handles made", HumanCount(total.handles).to_string())?;
        line(
            "probes",
            format!(
                "{}: {} stale, {} forged, {} foreign",
                HumanCount(self.probes()),
                probes(Origin::Stale),
                probes(Origin::Forged),
                probes(Origin::Foreign)
            ),
        )?;
        line("probes refused", HumanCount(self.probes() - total.resolved).to_string())?;
        line(
            "alive at the end",
            format!("{} graphs, {} contexts, {} guests", self.graphs, self.contexts, self.guests),
        )?;
        let peak = self.peak_memory.map_or_else(|| "not known here".to_owned(), |bytes| HumanBytes(bytes).to_string());
        line("peak memory", peak)
    }
}

/// The most memory that the process has had, in bytes; Linux tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    Some(kibibytes * 1024)
}
