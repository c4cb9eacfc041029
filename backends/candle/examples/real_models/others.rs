//! What onnxruntime takes: measured if it is installed, recorded otherwise.

use std::process::{Command, Stdio};
use std::{env, fs, io};

/// The ratios of the last recorded run, one model a line.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/real_models/recorded.txt");

/// What onnxruntime takes on one thread.
#[derive(Debug, Clone)]
pub struct Onnxruntime {
    /// The median time of an inference, in milliseconds.
    pub ms: f64,
    /// The most memory, as [`memory::used`](crate::memory::used).
    pub memory: Option<u64>,
    pub version: String,
}

impl Onnxruntime {
    /// Measures a model. `None` if Python lacks onnxruntime.
    pub fn measure(name: &str) -> Option<Self> {
        let python = env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/time_models.py");
        let output = Command::new(python).args([script, name]).stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let mut words = text.split_whitespace();
        let (ms, memory) = (words.next()?.parse().ok()?, words.next()?.parse().ok());
        Some(Self { ms, memory, version: words.next()?.to_owned() })
    }

    /// The least of two measurements.
    pub fn least(self, other: &Self) -> Self {
        let memory = self.memory.zip(other.memory).map(|(own, other)| own.min(other));
        Self { ms: self.ms.min(other.ms), memory, version: self.version }
    }
}

/// The recorded time of an inference, relative to onnxruntime's.
pub fn recorded(name: &str) -> Option<f64> {
    let text = fs::read_to_string(RECORDED).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Records these ratios, beside those of models that are not among them.
pub fn record(ratios: &[(&str, f64)]) -> io::Result<()> {
    let lines = crate::MODELS.into_iter().filter_map(|name| {
        let new = ratios.iter().find_map(|(known, ratio)| (*known == name).then_some(*ratio));
        Some(format!("{name} {:.2}\n", new.or_else(|| recorded(name))?))
    });
    let text: String = lines.collect();
    fs::write(RECORDED, text)
}
