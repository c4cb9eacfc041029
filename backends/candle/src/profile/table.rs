//! A report as a table.

use std::fmt;
use std::time::Duration;

use crate::profile::report::{ModelProfile, ProfileReport};
use crate::profile::text::{bytes, bytes_a_run, count, step, time};

/// The most steps of a model in a table.
const ROWS: usize = 60;

impl fmt::Display for ProfileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, model) in self.models.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            writeln!(f, "Model {}: {}", index + 1, model.title())?;
            writeln!(f, "{}", model.summary())?;
            table(f, model)?;
        }
        if self.left_out > 0 {
            writeln!(f, "{} loads of models were not recorded for want of room.", count(self.left_out))?;
        }
        Ok(())
    }
}

impl ModelProfile {
    /// What model it is.
    pub(super) fn title(&self) -> String {
        let place = if self.on_device { ", on a device" } else { "" };
        format!("a file of {} bytes, {} steps{place}", count(self.file_bytes as u64), count(self.steps.len() as u64))
    }

    /// Its computes.
    pub(super) fn summary(&self) -> String {
        let all = &self.computes;
        let part = |part: Duration| format!("{} ({:.1}%)", time(part), 100.0 * self.share(part));
        format!(
            "{} computes ({} failed) in {}: median {}, longest {}; in steps {}, between them {}",
            count(all.runs),
            count(all.failed),
            time(all.total),
            time(all.median),
            time(all.longest),
            part(self.in_steps()),
            part(self.between_steps())
        )
    }
}

fn table(f: &mut fmt::Formatter<'_>, model: &ModelProfile) -> fmt::Result {
    let order = model.by_time();
    if order.is_empty() {
        return Ok(());
    }
    let [time_, share, sum, runs, median, longest, size] =
        ["time", "share", "sum", "runs", "median", "longest", "bytes/run"];
    writeln!(f, "{time_:>9} {share:>7} {sum:>7} {runs:>11} {median:>9} {longest:>9} {size:>9}  step")?;
    let mut sum = Duration::ZERO;
    for &index in order.iter().take(ROWS) {
        let Some(row) = model.steps.get(index) else { continue };
        sum = sum.saturating_add(row.own);
        writeln!(
            f,
            "{:>9} {:>6.1}% {:>6.1}% {:>11} {:>9} {:>9} {:>9}  {}",
            time(row.own),
            100.0 * model.share(row.own),
            100.0 * model.share(sum),
            count(row.timing.runs),
            time(row.timing.median),
            time(row.timing.longest),
            bytes(bytes_a_run(row)),
            step(index, row)
        )?;
    }
    let others = order.len().saturating_sub(ROWS);
    if others > 0 {
        let rest = model.in_steps().saturating_sub(sum);
        let share = 100.0 * model.share(rest);
        writeln!(f, "{:>9} {share:>6.1}%         {} further steps", time(rest), count(others as u64))?;
    }
    Ok(())
}
