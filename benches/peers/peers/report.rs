//! The figures, as a table and as JSON.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use serde_json::json;

use crate::{charts, workload};

/// Time per operation, by workload and threads, in the order of measurement.
#[derive(Default)]
pub struct Figures(Vec<Figure>);

pub struct Figure {
    pub workload: &'static str,
    pub threads: usize,
    pub subject: &'static str,
    pub ns_per_op: f64,
}

/// What the figures of the others are divided by.
pub const OURS: &str = "graphpool-repin";

impl Figures {
    pub fn add(&mut self, workload: &'static str, threads: usize, subject: &'static str, ns_per_op: f64) {
        self.0.push(Figure { workload, threads, subject, ns_per_op });
    }

    pub fn get(&self, workload: &str, threads: usize, subject: &str) -> Option<f64> {
        let mut figures = self.0.iter();
        let figure = figures.find(|f| f.workload == workload && f.threads == threads && f.subject == subject)?;
        Some(figure.ns_per_op)
    }

    pub fn of(&self, workload: &str, threads: usize) -> impl Iterator<Item = &Figure> + Clone {
        self.0.iter().filter(move |figure| figure.workload == workload && figure.threads == threads)
    }

    /// The thread counts that were measured.
    pub fn threads(&self) -> Vec<usize> {
        let counts: BTreeSet<_> = self.0.iter().map(|figure| figure.threads).collect();
        counts.into_iter().collect()
    }

    /// A Markdown table for each workload: a row for each subject, and for each number of threads the time and its
    /// ratio to ours.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for workload in workload::ALL {
            if self.of(workload, 1).next().is_none() {
                continue;
            }
            let _ = write!(text, "### {workload}: ns per operation of each thread (and as a ratio to {OURS})\n\n| ");
            for threads in self.threads() {
                let _ = write!(text, "| {threads} threads ");
            }
            let _ = writeln!(text, "|\n|---{}|", "|---:".repeat(self.threads().len()));
            for subject in self.of(workload, 1).map(|figure| figure.subject) {
                let _ = write!(text, "| {subject} ");
                for threads in self.threads() {
                    let figure = self.get(workload, threads, subject).unwrap_or(f64::NAN);
                    let ours = self.get(workload, threads, OURS).unwrap_or(f64::NAN);
                    let _ = write!(text, "| {figure:.1} ({:.2}) ", figure / ours);
                }
                text.push_str("|\n");
            }
            text.push('\n');
        }
        text
    }

    /// `peers.json`, `peers.md` and the charts.
    pub fn write(&self, folder: &Path, table: &str, goals: &str) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let figures: Vec<_> = self.0.iter().map(Figure::json).collect();
        fs::write(folder.join("peers.json"), format!("{:#}\n", json!(figures)))?;
        let machine = machine();
        fs::write(
            folder.join("peers.md"),
            format!("# `cargo bench -p graphpool-peers --bench peers`\n\n{machine}\n\n{goals}\n{table}"),
        )?;
        fs::write(folder.join("peers-bars.svg"), charts::bars(self, &machine))?;
        fs::write(folder.join("peers-scaling.svg"), charts::scaling(self, &machine))
    }
}

impl Figure {
    fn json(&self) -> serde_json::Value {
        let Self { workload, threads, subject, ns_per_op } = self;
        json!({ "workload": workload, "threads": threads, "subject": subject, "ns_per_op": ns_per_op })
    }
}

/// The processor's name and how many cores there are.
fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let model =
        fields.find(|(name, _)| name.trim() == "model name").map_or("unknown processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{model}, {cores} cores")
}
