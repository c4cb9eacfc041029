//! How a step of a context ends: the unit in which language models give their output.

use super::{Error, ErrorKind};

/// The outcome of one [step](super::BackendContext::step), which makes the next piece of the outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// The step has made a piece, which may be empty, and more may follow.
    More,
    /// The outputs are complete. The step has made no piece.
    EndOfSequence,
    /// The context has no room for a further piece. The step has made none.
    ContextFull,
    /// The prompt does not fit into the context. No step of the run has made a piece.
    PromptTooLong,
}

impl Step {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::More, Self::EndOfSequence, Self::ContextFull, Self::PromptTooLong];

    /// Whether the run of steps is over.
    #[must_use]
    pub const fn is_end(self) -> bool {
        !matches!(self, Self::More)
    }

    /// The error by which a guest sees the end of a run, whose number is
    /// [`Dialect::errno`](super::wire::Dialect::errno); `None` for [`More`](Self::More).
    #[must_use]
    pub const fn error_kind(self) -> Option<ErrorKind> {
        match self {
            Self::More => None,
            Self::EndOfSequence => Some(ErrorKind::EndOfSequence),
            Self::ContextFull => Some(ErrorKind::ContextFull),
            Self::PromptTooLong => Some(ErrorKind::PromptTooLong),
        }
    }

    /// `Ok` for [`More`](Self::More), and the [`error_kind`](Self::error_kind) with a message for every other outcome.
    ///
    /// # Errors
    ///
    /// The end of the run.
    pub fn into_result(self) -> Result<(), Error> {
        match self {
            Self::More => Ok(()),
            Self::EndOfSequence => Err(Error::end_of_sequence("the sequence is complete")),
            Self::ContextFull => Err(Error::context_full("the context has no room for more")),
            Self::PromptTooLong => Err(Error::prompt_too_long("the prompt does not fit into the context")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_is_an_error_of_its_kind_and_more_is_none() {
        for step in Step::ALL {
            assert_eq!(step.into_result().err().map(|error| error.kind()), step.error_kind());
            assert_eq!(step.is_end(), step != Step::More);
            assert_eq!(step.is_end(), step.error_kind().is_some());
        }
    }
}
