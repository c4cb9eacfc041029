//! This program again, for what needs a process of its own.

use std::env;
use std::process::Command;

use wasmtime::Result;

/// What such a process has printed, and its exit code; none where a signal ended it.
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
}

/// Runs this program with those arguments.
pub fn run(args: &[&str]) -> Result<Output> {
    let output = Command::new(env::current_exe()?).args(args).output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Output { stdout: text(output.stdout), stderr: text(output.stderr), code: output.status.code() })
}
