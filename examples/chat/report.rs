//! What came of it, as a table: the speed of each answer, and the memory of weights and sessions.

use std::fmt;
use std::time::Duration;

use indicatif::HumanBytes;

use crate::answer::Answer;
use crate::model::Model;

/// The result of a chat or of a run of guests.
pub struct Report {
    model: String,
    load: Duration,
    /// What a row of the table is.
    what: &'static str,
    answers: Vec<Answer>,
    /// How long all guests took together, and the answer of one alone.
    together: Option<(Duration, Option<Answer>)>,
    weights: usize,
    process: Option<u64>,
}

impl Report {
    /// Of the answers of one session.
    pub fn of_answers(model: &Model, answers: Vec<Answer>) -> Self {
        Self::new(model, "answer", answers, None)
    }

    /// Of the answers of guests that took this time together, and that of one alone.
    pub fn of_guests(model: &Model, answers: Vec<Answer>, time: Duration, alone: Option<Answer>) -> Self {
        Self::new(model, "guest", answers, Some((time, alone)))
    }

    fn new(
        model: &Model,
        what: &'static str,
        answers: Vec<Answer>,
        together: Option<(Duration, Option<Answer>)>,
    ) -> Self {
        let (file, length) = &model.file;
        Self {
            model: format!("{file}, {}, conversations in {}", HumanBytes(*length), model.style.name()),
            load: model.load,
            what,
            answers,
            together,
            weights: model.engine.stats().graph_bytes,
            process: peak_memory(),
        }
    }

    fn row(f: &mut fmt::Formatter<'_>, name: &str, answer: &Answer) -> fmt::Result {
        writeln!(
            f,
            "{name:<10}{:>15}{:>15}{:>13}{:>18.1}{:>16}",
            answer.tokens.prompt,
            format!("{:.2} s", answer.first.as_secs_f64()),
            answer.tokens.text,
            answer.speed(),
            HumanBytes(answer.session as u64).to_string()
        )
    }

    fn memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weights = HumanBytes(self.weights as u64);
        if self.together.is_none() {
            writeln!(f, "memory     {weights} for the weights, and what the session takes")?;
        } else {
            let sessions = self.answers.iter().map(|answer| answer.session as u64).sum();
            writeln!(
                f,
                "memory     {weights} for the weights, which all guests share, and {} for {} sessions",
                HumanBytes(sessions),
                self.answers.len()
            )?;
        }
        match self.process {
            Some(bytes) => {
                writeln!(f, "           {} for the whole process at its peak, while it loaded", HumanBytes(bytes))
            }
            None => Ok(()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "model      {}, loaded in {:.1} s", self.model, self.load.as_secs_f64())?;
        self.memory(f)?;
        if self.answers.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n{:<10}{:>15}{:>15}{:>13}{:>18}{:>16}",
            self.what, "prompt tokens", "first token", "text tokens", "tokens a second", "session"
        )?;
        if let Some((_, Some(alone))) = &self.together {
            Self::row(f, "one alone", alone)?;
        }
        for (index, answer) in self.answers.iter().enumerate() {
            Self::row(f, &(index + 1).to_string(), answer)?;
        }
        if let Some((time, alone)) = &self.together {
            let tokens: usize = self.answers.iter().map(|answer| answer.tokens.text).sum();
            let speed = tokens as f64 / time.as_secs_f64().max(1e-9);
            write!(f, "\n{} guests together: {tokens} tokens in {:.1} s, ", self.answers.len(), time.as_secs_f64())?;
            write!(f, "{speed:.1} a second")?;
            if let Some(alone) = alone {
                let whole = (alone.first + alone.rest).as_secs_f64().max(1e-9);
                write!(f, ", {:.2} times one guest alone", speed / (alone.tokens.text as f64 / whole))?;
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "\nA token is a word or a part of one. \"First token\" is the time in which the model reads the prompt,"
        )?;
        writeln!(
            f,
            "\"tokens a second\" the speed at which it writes then, and \"session\" the memory of what it has read."
        )
    }
}

/// The most memory that the process has had, in bytes; Linux tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    Some(kibibytes * 1024)
}
