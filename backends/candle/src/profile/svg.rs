//! A report as a picture: for each model a strip of its steps in the order of the plan, and a bar for each step.

use std::fmt::Write as _;

use crate::profile::report::{ModelProfile, ProfileReport, StepProfile};
use crate::profile::text::{bytes, bytes_a_run, count, plain, step, time};

/// The most steps of a model in a picture.
const ROWS: usize = 200;
/// The characters of a name beside its bar.
const NAME: usize = 58;

/// Sizes in the picture's units, which are pixels.
const WIDTH: f64 = 1_200.0;
const MARGIN: f64 = 16.0;
const LINE: f64 = 18.0;
const STRIP: f64 = 28.0;
/// Where bars begin, and how long the longest one is. The rest is for its number.
const BARS: f64 = 456.0;
const LONGEST: f64 = 560.0;

/// The colours of operators, and that of the time between steps.
const COLOURS: [&str; 8] = ["#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#9c755f"];
const BETWEEN: &str = "#cccccc";

impl ProfileReport {
    /// The report as an SVG picture that refers to no other file.
    ///
    /// Each model has a strip, in which its steps are as wide as the time that they took, and the time between steps is
    /// grey; and below it a bar for each step in the order of the plan. Steps of one operator have one colour. A viewer
    /// that shows titles has the details of a step under the pointer.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let (mut body, mut y) = (String::new(), MARGIN);
        for (index, model) in self.models.iter().enumerate() {
            let title = format!("Model {}: {}", index + 1, model.title());
            draw(model, &title, &mut body, &mut y);
        }
        if self.left_out > 0 {
            let note = format!("{} loads of models were not recorded for want of room.", count(self.left_out));
            line(&note, "", &mut body, &mut y);
        }
        let height = y + MARGIN;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
        )
    }
}

/// Text for an element or an attribute.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A line of text.
fn line(text: &str, style: &str, body: &mut String, y: &mut f64) {
    *y += LINE;
    // Writing to a string can't fail, here and below.
    let _ = writeln!(body, "<text x=\"{MARGIN}\" y=\"{:.0}\"{style}>{}</text>", *y - 5.0, escape(text));
}

/// The colour of a step's operator, which is the first word of its name.
fn colour(step: &StepProfile) -> &'static str {
    let operator = step.label.split(' ').next().unwrap_or("");
    let hash = operator.bytes().fold(5_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    COLOURS.get(hash % COLOURS.len()).copied().unwrap_or(BETWEEN)
}

fn draw(model: &ModelProfile, title: &str, body: &mut String, y: &mut f64) {
    line(title, " font-size=\"15\" font-weight=\"bold\"", body, y);
    line(&model.summary(), "", body, y);
    let mut order = model.by_time();
    let others = order.len().saturating_sub(ROWS);
    order.truncate(ROWS);
    order.sort_unstable();
    let steps: Vec<_> = order.iter().filter_map(|&index| Some((index, model.steps.get(index)?))).collect();
    strip(model, &steps, body, *y);
    *y += STRIP;
    let most = steps.iter().map(|(_, step)| step.own.as_secs_f64()).fold(f64::MIN_POSITIVE, f64::max);
    for (index, one) in steps {
        let width = LONGEST * one.own.as_secs_f64() / most;
        let (text, at) = (*y + LINE - 5.0, *y + 2.0);
        let (name, colour, details) = (name(index, one), colour(one), details(model, index, one));
        let share = format!("{} {:.1}%", time(one.own), 100.0 * model.share(one.own));
        let _ = writeln!(
            body,
            "<g><title>{details}</title><text x=\"{MARGIN}\" y=\"{text:.0}\">{name}</text>\
             <rect x=\"{BARS}\" y=\"{at:.0}\" width=\"{width:.1}\" height=\"14\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{text:.0}\">{}</text></g>",
            BARS + width + 6.0,
            escape(&share)
        );
        *y += LINE;
    }
    if others > 0 {
        line(&format!("{} further steps, which took less time", count(others as u64)), "", body, y);
    }
    *y += MARGIN;
}

/// The steps side by side, each as wide as its part of the computes' time.
fn strip(model: &ModelProfile, steps: &[(usize, &StepProfile)], body: &mut String, y: f64) {
    let (whole, at) = (WIDTH - 2.0 * MARGIN, y + 4.0);
    let _ = writeln!(body, "<rect x=\"{MARGIN}\" y=\"{at:.0}\" width=\"{whole}\" height=\"20\" fill=\"{BETWEEN}\"/>");
    let mut x = MARGIN;
    for &(index, one) in steps {
        let width = whole * model.share(one.own);
        let (colour, details) = (colour(one), details(model, index, one));
        let _ = writeln!(
            body,
            "<rect x=\"{x:.2}\" y=\"{at:.0}\" width=\"{width:.2}\" height=\"20\" fill=\"{colour}\">\
             <title>{details}</title></rect>"
        );
        x += width;
    }
}

/// A step's index and name, cut to the space beside its bar.
fn name(index: usize, step: &StepProfile) -> String {
    let full = format!("{index} {}", plain(&step.label));
    let cut: String = full.chars().take(NAME).collect();
    let more = if cut.len() < full.len() { "…" } else { "" };
    escape(&format!("{cut}{more}"))
}

fn details(model: &ModelProfile, index: usize, one: &StepProfile) -> String {
    escape(&format!(
        "{}: {} ({:.1}%), {} runs, median {}, longest {}, {} a run",
        step(index, one),
        time(one.own),
        100.0 * model.share(one.own),
        count(one.timing.runs),
        time(one.timing.median),
        time(one.timing.longest),
        bytes(bytes_a_run(one))
    ))
}
