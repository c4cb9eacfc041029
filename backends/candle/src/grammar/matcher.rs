//! Where a session is in its grammar.

use super::Allowed;
use super::guard::guarded;
use crate::quote::quote;
use graphpool::backend::Error;
use llguidance::TokenParser;
use llguidance::api::StopReason;
use std::fmt::{self, Display};
use std::sync::Arc;

/// Bytes that are counted for each item of the parser's, and for each byte of the text: rows, stacks, and lists that
/// have twice their length.
const PER_ITEM: usize = 32;
const PER_BYTE: usize = 192;

/// The state of a session in its grammar, after the tokens that it has taken.
///
/// It shares nothing that changes with other sessions: neither their limits nor a panic in one reaches another.
pub(crate) struct Matcher {
    name: Arc<str>,
    parser: TokenParser,
    /// After a failure the parser is not used again.
    failed: Option<Error>,
    /// Bytes of masks and of what is the same for all tokens.
    beside: usize,
    /// Items of the parser that the tokens so far have added.
    items: usize,
    text: usize,
    lexer: usize,
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher").field("name", &self.name).field("text", &self.text).finish_non_exhaustive()
    }
}

impl Matcher {
    /// A copy of `first`, a parser at the beginning of a text, for a model of so many tokens. `room` hears how many
    /// bytes it takes, and may refuse.
    ///
    /// # Errors
    ///
    /// That of `room`, and `RuntimeError` where the copy fails.
    pub(super) fn from_first(
        name: Arc<str>,
        first: &TokenParser,
        tokens: usize,
        room: impl FnOnce(usize) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let failed = |why| Error::runtime_error(format!("the grammar {} failed: {why}", quote(&name)));
        let bytes = |parser: &TokenParser| guarded(|| Ok::<_, String>(parser.parser.lexer_stats().num_bytes));
        let lexer = bytes(first).map_err(failed)?;
        // A mask here, and one that the parser keeps.
        let beside = size_of::<Self>() + tokens.div_ceil(32) * 2 * size_of::<u32>();
        room(lexer.saturating_add(beside))?;
        let parser = guarded(|| Ok::<_, String>(first.deep_clone())).map_err(failed)?;
        Ok(Self { name, parser, failed: None, beside, items: 0, text: 0, lexer })
    }

    /// The tokens that may come next.
    ///
    /// # Errors
    ///
    /// `TooLarge` where the grammar needs more steps than the limits have, and `RuntimeError` where no token of the
    /// model fits and the text may not end. Further calls fail in the same way.
    pub(crate) fn allowed(&mut self) -> Result<Allowed, Error> {
        let may_end = self.call(|parser| Ok::<_, String>(parser.is_accepting()))?;
        let mask = guarded(|| self.parser.compute_mask());
        match mask {
            Ok(mask) => Ok(Allowed { tokens: mask.into(), may_end }),
            // The tree has no token that fits.
            Err(_) if self.parser.stop_reason() == StopReason::NoExtensionBias && may_end => {
                Ok(Allowed { tokens: Vec::new(), may_end })
            }
            Err(_) if self.parser.stop_reason() == StopReason::NoExtensionBias => {
                let error = self.none_fits();
                Err(self.failed.insert(error).clone())
            }
            Err(why) => Err(self.fail(&why)),
        }
    }

    /// The error of a text that can neither go on nor end.
    pub(crate) fn none_fits(&self) -> Error {
        let why = format!("no token of the model fits the grammar {} after {} bytes", quote(&self.name), self.text);
        Error::runtime_error(why)
    }

    /// Goes on by a token, one of those that [`allowed`](Self::allowed) has. `true` where the text must end after it.
    ///
    /// # Errors
    ///
    /// `TooLarge` past a limit of the grammar's steps. Further calls fail in the same way.
    pub(crate) fn take(&mut self, token: u32) -> Result<bool, Error> {
        let before = self.parser.parser_stats().all_items;
        self.call(|parser| parser.consume_token(token))?;
        let complete = self.call(TokenParser::check_stop)?;
        self.items += self.parser.parser_stats().all_items.saturating_sub(before);
        self.text = self.parser.final_bytes().len();
        self.lexer = self.call(|parser| Ok::<_, String>(parser.parser.lexer_stats().num_bytes))?;
        Ok(complete)
    }

    fn call<T, E: Display>(&mut self, call: impl FnOnce(&mut TokenParser) -> Result<T, E>) -> Result<T, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        guarded(|| call(&mut self.parser)).map_err(|why| self.fail(&why))
    }

    /// The error of a failure, which the parser is left with.
    fn fail(&mut self, why: &str) -> Error {
        let name = quote(&self.name);
        let error = match self.parser.stop_reason() {
            StopReason::LexerTooComplex | StopReason::ParserTooComplex => {
                Error::too_large(format!("the grammar {name} needs too many steps: {why}"))
            }
            _ => Error::runtime_error(format!("the grammar {name} failed: {why}")),
        };
        self.failed.insert(error).clone()
    }

    /// About the bytes of the state.
    pub(crate) const fn memory(&self) -> usize {
        self.beside + self.items * PER_ITEM + self.text * PER_BYTE + self.lexer
    }
}
