//! A report as JSON.

use std::fmt::Write as _;

use crate::profile::report::{ModelProfile, ProfileReport, StepProfile};
use crate::profile::times::{Timing, nanoseconds};

impl ProfileReport {
    /// The report as one JSON object in one line. Times are in nanoseconds.
    ///
    /// ```text
    /// {"models": [{"file_bytes", "on_device",
    ///              "computes": {"runs", "failed", "total_ns", "median_ns", "longest_ns"},
    ///              "steps": [{"index", "parent", "name", "runs", "failed", "total_ns", "median_ns", "longest_ns",
    ///                         "own_ns", "bytes", "outputs", "shapes"}]}],
    ///  "left_out"}
    /// ```
    ///
    /// They are the fields of [`ProfileReport`], [`ModelProfile`] and [`StepProfile`]; `parent` is null for a step of
    /// the model's own graph. Names have only ASCII characters, others are escaped.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!("{{\"models\": {}, \"left_out\": {}}}", list(self.models.iter().map(model)), self.left_out)
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    let mut text = String::from("[");
    for (index, item) in items.enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        text.push_str(&item);
    }
    text.push(']');
    text
}

fn model(model: &ModelProfile) -> String {
    format!(
        "{{\"file_bytes\": {}, \"on_device\": {}, \"computes\": {{{}}}, \"steps\": {}}}",
        model.file_bytes,
        model.on_device,
        timing(&model.computes),
        list(model.steps.iter().enumerate().map(|(index, one)| step(index, one)))
    )
}

fn timing(timing: &Timing) -> String {
    let [total, median, longest] = [timing.total, timing.median, timing.longest].map(nanoseconds);
    format!(
        "\"runs\": {}, \"failed\": {}, \"total_ns\": {total}, \"median_ns\": {median}, \"longest_ns\": {longest}",
        timing.runs, timing.failed
    )
}

fn step(index: usize, step: &StepProfile) -> String {
    let parent = step.parent.map_or_else(|| "null".to_owned(), |parent| parent.to_string());
    let shapes = list(step.shapes.iter().map(|shape| list(shape.iter().map(usize::to_string))));
    format!(
        "{{\"index\": {index}, \"parent\": {parent}, \"name\": {}, {}, \"own_ns\": {}, \"bytes\": {}, \
         \"outputs\": {}, \"shapes\": {shapes}}}",
        string(&step.label),
        timing(&step.timing),
        nanoseconds(step.own),
        step.bytes,
        step.outputs
    )
}

/// A JSON string of ASCII characters.
fn string(text: &str) -> String {
    let mut escaped = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            ' '..='~' => escaped.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string can't fail.
                    let _ = write!(escaped, "\\u{unit:04x}");
                }
            }
        }
    }
    escaped.push('"');
    escaped
}
