//! The command line, and the options of a session that follow from it.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use lexopt::prelude::*;
use serde_json::json;

use crate::format::Format;

/// The model of the repository.
const DEFAULT_MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/models/austen/austen.gguf");

/// What `--help` prints.
pub const HELP: &str = "\
A chat with a language model in the terminal.

Usage: cargo run --release --example chat -- [OPTIONS] [FILE.gguf]

Without FILE.gguf the model is one of the repository, which continues a text as
Jane Austen might have. scripts/fetch_models.sh --all fetches one that answers:
.cache/models/smollm2/model.gguf.

Options:
  --prompt TEXT       one question, and the end after its answer
  --guests N          N guests ask at the same time, of one copy of the weights  [1]
  --format NAME       how conversations are written: chatml, llama3, gemma, phi3,
                      mistral, lines (\"User:\"), or text, which the model only
                      continues  [by the template of the file, or the model's tokens]
  --raw               the bare prompt, which the model continues: --format text
  --system TEXT       what the model is told first  [You are a helpful assistant.]
  --tokens N          the most tokens of an answer  [256]
  --temperature T     0 for the likeliest token each time, more for more variety  [0.7]
  --seed N            the same number gives the same answers  [by chance]
  --context N         the most tokens of a conversation  [what the model was made for]
  --help              this

In a chat, /new begins another conversation, and /quit or the end of the input ends the program.

Exit status: 0 where all was well; 1 where the model or an answer failed; 2 for a wrong option.
";

/// What the command line asks for.
pub struct Options {
    /// The file of the model.
    pub file: PathBuf,
    /// Whether the file is the one that a script fetches.
    pub is_default: bool,
    /// The only question.
    pub prompt: Option<String>,
    /// Guests that ask at the same time.
    pub guests: usize,
    /// How conversations are written, if it is given.
    pub format: Option<Format>,
    /// What the model is told first; nothing if empty.
    pub system: String,
    tokens: usize,
    temperature: f32,
    seed: Option<u32>,
    context: Option<u32>,
}

impl Options {
    /// The most tokens of an answer.
    pub const fn tokens(&self) -> usize {
        self.tokens
    }

    /// The options of a guest's session in JSON. `guest` counts from 0; guests have different seeds. A text ends before
    /// each of the strings `stop`.
    pub fn session(&self, guest: usize, stop: &[&str]) -> String {
        let mut options = json!({ "n-predict": self.tokens, "temp": self.temperature });
        if let Some(seed) = self.seed {
            options["seed"] = json!(u64::from(seed) + guest as u64);
        }
        if let Some(context) = self.context {
            options["ctx-size"] = json!(context);
        }
        if !stop.is_empty() {
            options["reverse-prompt"] = json!(stop);
        }
        options.to_string()
    }
}

fn count(text: &str) -> Result<usize, &'static str> {
    text.parse().map(NonZeroUsize::get).map_err(|_| "it is no whole number from 1")
}

fn number(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_| "it is no whole number from 0 to 4294967295")
}

fn temperature(text: &str) -> Result<f32, &'static str> {
    let temperature = text.parse().ok().filter(|temperature: &f32| temperature.is_finite() && *temperature >= 0.0);
    temperature.ok_or("a temperature is a number from 0")
}

/// The options of this process, or `None` where help is wanted.
pub fn parse() -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        file: PathBuf::from(DEFAULT_MODEL),
        is_default: true,
        prompt: None,
        guests: 1,
        format: None,
        system: "You are a helpful assistant.".to_owned(),
        tokens: 256,
        temperature: 0.7,
        seed: None,
        context: None,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Value(file) if options.is_default => {
                options.file = file.into();
                options.is_default = false;
            }
            Long("prompt") => options.prompt = Some(parser.value()?.string()?),
            Long("guests") => options.guests = parser.value()?.parse_with(count)?,
            Long("format") => options.format = Some(parser.value()?.parse_with(Format::named)?),
            Long("raw") => options.format = Some(Format::Text),
            Long("system") => options.system = parser.value()?.string()?,
            Long("tokens") => options.tokens = parser.value()?.parse_with(count)?,
            Long("temperature") => options.temperature = parser.value()?.parse_with(temperature)?,
            Long("seed") => options.seed = Some(parser.value()?.parse_with(number)?),
            Long("context") => options.context = Some(parser.value()?.parse_with(number)?),
            Long("help") | Short('h') => return Ok(None),
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(Some(options))
}
