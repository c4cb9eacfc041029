//! The charts, as SVG that reads on light and on dark ground.

use std::fmt::Write as _;

use crate::report::{Figure, Figures};
use crate::workload;

/// Time against time on a logarithmic scale: from 10^-0.5 to 10^3.5 ns.
const DECADES: (f64, f64) = (-0.5, 3.5);
const WIDTH: f64 = 860.0;
const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#24292f}.title{font-size:14px;font-weight:600}.small{font-size:11px}\
.end{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:#8c959f;stroke-opacity:.35}\
.ours{fill:#0969da;stroke:#0969da}.limit{fill:#1a7f37;stroke:#1a7f37}.peer{fill:#9a6700;stroke:#9a6700}\
polyline{fill:none!important;stroke-width:1.5}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.ours{fill:#58a6ff;stroke:#58a6ff}\
.limit{fill:#3fb950;stroke:#3fb950}.peer{fill:#d29922;stroke:#d29922}}";

/// A panel of bars for each workload, one thread.
pub fn bars(figures: &Figures, machine: &str) -> String {
    const ROW: f64 = 17.0;
    let (left, right) = (170.0, WIDTH - 60.0);
    let mut body = String::new();
    let mut y = 46.0;
    for workload in workload::ALL {
        let bars: Vec<_> = figures.of(workload, 1).collect();
        if bars.is_empty() {
            continue;
        }
        text(&mut body, (10.0, y), "title", workload);
        y += 8.0;
        let bottom = y + ROW * bars.len() as f64;
        decades(&mut body, |x| {
            let x = left + x * (right - left);
            ((x, y), (x, bottom), (x, bottom + 13.0))
        });
        for bar in bars {
            let width = scale(bar.ns_per_op) * (right - left);
            text(&mut body, (left - 6.0, y + 13.0), "end", bar.subject);
            let class = class(bar);
            let (top, height) = (y + 3.0, ROW - 5.0);
            let _ = writeln!(
                body,
                r#"<rect class="{class}" x="{left}" y="{top:.1}" width="{width:.1}" height="{height}"/>"#
            );
            text(&mut body, (left + width + 5.0, y + 13.0), "small", &format!("{:.1}", bar.ns_per_op));
            y += ROW;
        }
        y += 42.0;
    }
    document(y, &format!("ns per operation, one thread, logarithmic ({machine})"), &body)
}

/// A panel of lines over the number of threads for each workload.
pub fn scaling(figures: &Figures, machine: &str) -> String {
    const HEIGHT: f64 = 260.0;
    let threads = figures.threads();
    let (left, right) = (60.0, WIDTH - 190.0);
    let x_of = |number: usize| left + (right - left) * number as f64 / (threads.len() - 1).max(1) as f64;
    let mut body = String::new();
    let mut top = 56.0;
    for workload in workload::ALL {
        if figures.of(workload, 1).next().is_none() {
            continue;
        }
        text(&mut body, (10.0, top - 10.0), "title", workload);
        let y_of = |share: f64| top + HEIGHT * (1.0 - share);
        decades(&mut body, |share| ((left, y_of(share)), (right, y_of(share)), (left - 24.0, y_of(share) + 4.0)));
        for (number, count) in threads.iter().enumerate() {
            text(&mut body, (x_of(number), top + HEIGHT + 16.0), "middle small", &format!("{count} threads"));
        }
        let mut labels = Vec::new();
        for line in figures.of(workload, 1) {
            let times = threads.iter().map(|count| figures.get(workload, *count, line.subject));
            let points: Vec<_> =
                times.enumerate().filter_map(|(number, time)| Some((x_of(number), y_of(scale(time?))))).collect();
            let mut list = String::new();
            for (x, y) in &points {
                let _ = write!(list, "{x:.1},{y:.1} ");
            }
            let _ = writeln!(body, r#"<polyline class="{}" points="{}"/>"#, class(line), list.trim_end());
            labels.extend(points.last().map(|(_, y)| (*y, line)));
        }
        // Labels stand at their lines' ends, moved down where they would lie over each other.
        labels.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut free = f64::MIN;
        for (y, line) in labels {
            let y = y.max(free);
            free = y + 12.0;
            let (x, class) = (right + 8.0, class(line));
            let _ = writeln!(body, r#"<rect class="{class}" x="{x}" y="{:.1}" width="6" height="6"/>"#, y - 3.0);
            text(&mut body, (x + 11.0, y + 4.0), "small", line.subject);
        }
        top += HEIGHT + 70.0;
    }
    document(top, &format!("ns per operation of each thread, logarithmic ({machine})"), &body)
}

fn class(figure: &Figure) -> &'static str {
    match figure.subject {
        "vec" => "limit",
        ours if ours.starts_with("graphpool") => "ours",
        _ => "peer",
    }
}

/// Where a time lies on the scale, from 0 to 1.
fn scale(time: f64) -> f64 {
    ((time.log10() - DECADES.0) / (DECADES.1 - DECADES.0)).clamp(0.0, 1.0)
}

type Point = (f64, f64);

/// A line and a label at each power of ten; `place` says from where to where, and where the label stands.
fn decades(body: &mut String, place: impl Fn(f64) -> (Point, Point, Point)) {
    for time in [1_u32, 10, 100, 1000] {
        let ((x1, y1), (x2, y2), label) = place(scale(f64::from(time)));
        let _ = writeln!(body, r#"<line class="grid" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#);
        text(body, label, "middle small", &time.to_string());
    }
}

fn text(body: &mut String, (x, y): Point, class: &str, text: &str) {
    let _ = writeln!(body, r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{text}</text>"#);
}

fn document(height: f64, title: &str, body: &str) -> String {
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" width="{WIDTH}">
<style>{STYLE}</style>
<text class="title" x="10" y="20">{title}</text>
{body}</svg>
"#
    )
}
