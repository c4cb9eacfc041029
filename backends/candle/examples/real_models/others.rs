//! The times of onnxruntime: measured if it is installed, recorded otherwise.

use std::process::{Command, Stdio};
use std::{env, fs};

/// The median time of an inference with onnxruntime on one thread, in milliseconds. `None` if Python lacks onnxruntime.
pub fn onnxruntime(name: &str) -> Option<f64> {
    let python = env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/time_models.py");
    let output = Command::new(python).args([script, name]).stderr(Stdio::null()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// The recorded time of an inference, relative to onnxruntime's.
pub fn recorded(name: &str) -> Option<f64> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/real_models/recorded.txt");
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}
