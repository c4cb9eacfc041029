//! A program that is measured in turns with ours. It is started once, gets a line for each work, and answers with the
//! seconds that it took, as `llama.cpp` beside this file does.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::{Measured, Work};

/// The program.
pub struct Peer {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts the words of a command, and the model's file after them.
    pub fn start(command: &OsStr, file: &Path) -> Result<Self, String> {
        let text = command.to_string_lossy();
        let mut words = text.split_whitespace();
        let name = words.next().ok_or("--peer has no command")?;
        let mut process = Command::new(name)
            .args(words)
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{name}: {error}"))?;
        match (process.stdin.take(), process.stdout.take()) {
            (Some(input), Some(output)) => Ok(Self { process, input, output: BufReader::new(output) }),
            _ => Err(format!("{name} has no input and output")),
        }
    }

    /// Measures one work, whose prompts have `tokens` tokens.
    pub fn measure(&mut self, work: Work, tokens: usize) -> Result<Measured, String> {
        let request = match work {
            Work::Prompt(_) => format!("prompt {tokens}\n"),
            Work::Generate { sessions, tokens, depth } => format!("generate {sessions} {tokens} {depth}\n"),
        };
        self.input.write_all(request.as_bytes()).map_err(|error| format!("the peer does not read: {error}"))?;
        let mut answer = String::new();
        self.output.read_line(&mut answer).map_err(|error| format!("the peer does not answer: {error}"))?;
        let seconds =
            answer.trim().parse().map_err(|_| format!("the peer answered {answer:?}, which are no seconds"))?;
        Ok(Measured { tokens, seconds })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
