//! Names, numbers and shapes for people.

use std::fmt::Write as _;
use std::time::Duration;

use crate::profile::report::StepProfile;
use crate::profile::times::nanoseconds;
use crate::tensor::dims::Dims;

/// A name without characters that move the cursor, change the direction of text, or are no characters.
pub(super) fn plain(name: &str) -> String {
    name.chars().map(|c| if is_plain(c) { c } else { '?' }).collect()
}

fn is_plain(c: char) -> bool {
    let moves = matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    !(c.is_control() || moves || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{ffff}'))
}

/// A time in three or four digits.
pub(super) fn time(time: Duration) -> String {
    match nanoseconds(time) {
        n @ 0..1_000 => format!("{n} ns"),
        n @ 1_000..1_000_000 => number(n as f64 / 1e3, "µs"),
        n @ 1_000_000..1_000_000_000 => number(n as f64 / 1e6, "ms"),
        n => number(n as f64 / 1e9, "s"),
    }
}

/// A number of bytes in three or four digits.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        n @ 0..1_000 => format!("{n} B"),
        n @ 1_000..1_000_000 => number(n as f64 / 1e3, "kB"),
        n @ 1_000_000..1_000_000_000 => number(n as f64 / 1e6, "MB"),
        n => number(n as f64 / 1e9, "GB"),
    }
}

fn number(number: f64, unit: &str) -> String {
    if number < 100.0 { format!("{number:.2} {unit}") } else { format!("{number:.0} {unit}") }
}

/// A number with its digits in groups of three.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A step's index, name, and the shapes of its outputs.
pub(super) fn step(index: usize, step: &StepProfile) -> String {
    let mut text = format!("{index} {}", plain(&step.label));
    // Writing to a string can't fail.
    if let Some(parent) = step.parent {
        let _ = write!(text, ", in {parent}");
    }
    for (shape, mark) in step.shapes.iter().zip(std::iter::once(" → ").chain(std::iter::repeat(", "))) {
        let _ = write!(text, "{mark}{}", Dims(shape));
    }
    match step.outputs.saturating_sub(step.shapes.len()) {
        0 => {}
        more => _ = write!(text, " and {more} more"),
    }
    if step.timing.failed > 0 {
        let _ = write!(text, " ({} failed)", count(step.timing.failed));
    }
    text
}

/// The bytes of an average run.
pub(super) fn bytes_a_run(step: &StepProfile) -> u64 {
    step.bytes.checked_div(step.timing.runs.saturating_sub(step.timing.failed)).unwrap_or(0)
}
