//! The charts, as SVG that reads on light and on dark ground.

use crate::report::Figures;

pub fn bars(_: &Figures, _: &str) -> String {
    String::new()
}

pub fn scaling(_: &Figures, _: &str) -> String {
    String::new()
}
