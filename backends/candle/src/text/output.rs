//! The tokens of a text while they are made: bounded in number, with regular checks of a deadline.

use graphpool::backend::Error;

/// Steps between two calls of a check: well under a millisecond.
const INTERVAL: usize = 1 << 12;

/// Called at regular intervals in a long call; its error ends the call.
pub(crate) type Check<'a> = dyn FnMut() -> Result<(), Error> + 'a;

/// Receives tokens and counts work.
pub(super) struct Output<'a> {
    tokens: Vec<u32>,
    limit: usize,
    steps: usize,
    check: &'a mut Check<'a>,
}

impl<'a> Output<'a> {
    /// Bytes that the tokens of a text of `len` bytes take.
    pub(super) fn memory(len: usize, limit: usize) -> usize {
        // A list that grows has twice its length and, while it is copied, the half of that.
        len.saturating_add(1).min(limit).saturating_mul(3 * size_of::<u32>()).saturating_add(64)
    }

    /// For the tokens of one text, at most `limit` of them.
    pub(super) fn new(limit: usize, check: &'a mut Check<'a>) -> Self {
        Self { tokens: Vec::new(), limit, steps: 0, check }
    }

    /// Appends a token.
    pub(super) fn push(&mut self, token: u32) -> Result<(), Error> {
        if self.tokens.len() == self.limit {
            return Err(Error::too_large(format!("the text has more than {} tokens", self.limit)));
        }
        self.tokens.push(token);
        Ok(())
    }

    /// Counts work in units of some ten nanoseconds.
    pub(super) fn step(&mut self, steps: usize) -> Result<(), Error> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps >= INTERVAL {
            self.steps = 0;
            (self.check)()?;
        }
        Ok(())
    }

    pub(super) fn into_tokens(self) -> Vec<u32> {
        self.tokens
    }
}
