//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;

use crate::Work;

/// What `--help` prints.
pub const HELP: &str = "\
llm_speed [OPTIONS] FILE.gguf

Measures a language model: tokens a second of a prompt, and of the text of 1, 2 and 8 sessions at a time.

  --peer COMMAND   a program to measure in turns: llama.cpp's, as scripts/build_llama_speed.sh names it
  --rounds N       rounds, of which medians are taken (5)
  --prompt N       tokens of the prompt (512)
  --tokens N       tokens of each text (64)
  --depth N        tokens before each text (16)
  --sessions LIST  how many sessions are measured (1,2,8)
";

/// The options.
pub struct Options {
    pub file: PathBuf,
    pub peer: Option<OsString>,
    pub rounds: usize,
    pub prompt: usize,
    pub tokens: usize,
    pub depth: usize,
    pub sessions: Vec<usize>,
}

impl Options {
    /// What is measured, in turn.
    pub fn works(&self) -> Vec<Work> {
        let &Self { prompt, tokens, depth, .. } = self;
        let prompts = (prompt > 0).then_some(Work::Prompt(prompt));
        let texts = self.sessions.iter().map(|&sessions| Work::Generate { sessions, tokens, depth });
        prompts.into_iter().chain(texts).collect()
    }
}

/// Reads the command line; `None` for `--help`.
pub fn parse() -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        file: PathBuf::new(),
        peer: None,
        rounds: 5,
        prompt: 512,
        tokens: 64,
        depth: 16,
        sessions: vec![1, 2, 8],
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("peer") => options.peer = Some(parser.value()?),
            Long("rounds") => options.rounds = parser.value()?.parse::<usize>()?.max(1),
            Long("prompt") => options.prompt = parser.value()?.parse()?,
            Long("tokens") => options.tokens = parser.value()?.parse::<usize>()?.max(1),
            Long("depth") => options.depth = parser.value()?.parse::<usize>()?.max(1),
            Long("sessions") => {
                let list = parser.value()?.string()?;
                let numbers: Result<_, _> = list.split(',').filter(|one| !one.is_empty()).map(str::parse).collect();
                options.sessions = numbers.map_err(|error| format!("--sessions {list}: {error}"))?;
            }
            Long("help") => return Ok(None),
            Value(file) if options.file.as_os_str().is_empty() => options.file = file.into(),
            _ => return Err(argument.unexpected()),
        }
    }
    if options.file.as_os_str().is_empty() {
        return Err("a GGUF file is needed".into());
    }
    Ok(Some(options))
}
