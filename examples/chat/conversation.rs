//! The chat itself: a person at the terminal, or one question from the command line.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::process;

use graphpool::GuestHandle;
use graphpool::nn::{Error, ErrorKind, Guest, Step};

use crate::answer::{Answer, answer};
use crate::model::{Model, session_with};
use crate::options::Options;
use crate::report::Report;

/// One question from the command line, and its answer.
pub fn ask_once(model: &Model, options: &Options, prompt: &str) -> Result<Report, String> {
    let guest = model.engine.guest();
    let ask = || {
        let context = session_with(model, &guest, options, 0)?;
        let prompt = model.style.prompt(&options.system, &[(prompt.to_owned(), None)])?;
        let answer = answer(&guest, context, &prompt, show)?;
        if answer.end == Step::PromptTooLong { Err(too_long()) } else { Ok(answer) }
    };
    if model.style.continues() {
        show(prompt);
    }
    let answer = ask().map_err(|error| error.to_string())?;
    show("\n\n");
    Ok(Report::of_answers(model, vec![answer]))
}

/// A chat with the person at the terminal, until they leave.
pub fn talk(model: &Model, options: &Options) -> Result<Report, String> {
    let guest = model.engine.guest();
    let context = session_with(model, &guest, options, 0).map_err(|error| error.to_string())?;
    let does = if model.style.continues() { "continues what you begin" } else { "answers" };
    eprintln!("{} {does}. /new begins another conversation, /quit ends the chat.\n", model.file.0);
    let (mut turns, mut answers) = (Vec::new(), Vec::new());
    let lines = Lines { is_terminal: io::stdin().is_terminal() };
    for line in lines {
        let line = line.map_err(|error| format!("the input cannot be read: {error}"))?;
        match line.trim() {
            "" => continue,
            "/quit" => break,
            "/new" => {
                turns.clear();
                continue;
            }
            question => turns.push((question.to_owned(), None)),
        }
        let answer = next(model, &guest, context, options, &mut turns).map_err(|error| error.to_string())?;
        show("\n\n");
        if answer.end == Step::ContextFull {
            eprintln!("(The answer is cut: the conversation is as long as the model can take.)\n");
        }
        if let Some((_, said)) = turns.last_mut() {
            *said = Some(answer.text.clone());
        }
        answers.push(answer);
    }
    Ok(Report::of_answers(model, answers))
}

/// The next answer. A conversation that is too long loses its oldest turns.
fn next(
    model: &Model,
    guest: &Guest,
    context: GuestHandle,
    options: &Options,
    turns: &mut Vec<(String, Option<String>)>,
) -> Result<Answer, Error> {
    loop {
        // The session keeps what it knows of the last prompt, so only what is new is passed.
        let prompt = model.style.prompt(&options.system, turns)?;
        let result = answer(guest, context, &prompt, show);
        let is_too_long = match &result {
            Ok(answer) => answer.end == Step::PromptTooLong,
            Err(error) => error.kind() == ErrorKind::TooLarge,
        };
        if !is_too_long {
            return result;
        }
        if turns.len() == 1 {
            return result.and(Err(too_long()));
        }
        turns.remove(0);
    }
}

fn too_long() -> Error {
    Error::new(ErrorKind::PromptTooLong, "the question does not fit into the context of the model")
}

/// Shows a piece of an answer at once.
pub fn show(piece: &str) {
    let mut out = io::stdout().lock();
    if out.write_all(piece.as_bytes()).and_then(|()| out.flush()).is_err() {
        // Nobody reads what would follow.
        process::exit(0);
    }
}

/// The lines that the person writes.
struct Lines {
    is_terminal: bool,
}

impl Iterator for Lines {
    type Item = io::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_terminal {
            eprint!("> ");
        }
        let mut line = String::new();
        match io::stdin().lock().read_line(&mut line) {
            Ok(0) => {
                if self.is_terminal {
                    eprintln!();
                }
                None
            }
            Ok(_) => Some(Ok(line)),
            Err(error) => Some(Err(error)),
        }
    }
}
