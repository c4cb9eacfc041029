//! The option `--profile[=FORMAT:FILE]`, of this example and of the runner for Wasmtime.

use std::fs;

use graphpool_candle::ProfileReport;

/// How a profile is written, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    format: Format,
    /// `None` for the terminal.
    file: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Table,
    Json,
    Svg,
}

impl Output {
    /// What follows `--profile=`, or nothing.
    pub fn parse(text: Option<&str>) -> Result<Self, String> {
        let Some(text) = text else { return Ok(Self { format: Format::Table, file: None }) };
        let wrong = || format!("--profile={text} is not --profile=FORMAT:FILE, where FORMAT is table, json or svg");
        let (format, file) = text.split_once(':').filter(|(_, file)| !file.is_empty()).ok_or_else(wrong)?;
        let format = match format {
            "table" => Format::Table,
            "json" => Format::Json,
            "svg" => Format::Svg,
            _ => return Err(wrong()),
        };
        Ok(Self { format, file: Some(file.to_owned()) })
    }

    /// Writes a report: to its file, or to the standard error output.
    pub fn write(&self, report: &ProfileReport) -> Result<(), String> {
        let text = match self.format {
            Format::Table => report.to_string(),
            Format::Json => report.to_json() + "\n",
            Format::Svg => report.to_svg(),
        };
        if let Some(file) = &self.file {
            return fs::write(file, text).map_err(|error| format!("the profile {file}: {error}"));
        }
        eprint!("{text}");
        Ok(())
    }
}
