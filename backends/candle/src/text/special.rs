//! Finds the tokens in a text that stand for themselves: marks for the model, and what its makers defined.

use super::tokens::Tokens;
use super::vocabulary::TokenKind;
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use graphpool::backend::Error;

/// Bytes that the texts of special tokens may have together. Vocabularies have up to 30,000.
const MOST_BYTES: usize = 1 << 18;

/// Bytes that the text of a special token may have: after each match the search starts again at its end, so its time is
/// up to this times the length of a text.
pub(super) const LONGEST: usize = 256;

/// Memory of an automaton for each byte of its texts, and beside that, its construction included: half as much again
/// as was measured for random texts of any length.
const BYTES_FOR_EACH: usize = 96;
const BYTES_FOR_ALL: usize = 1 << 17;

/// Two sets of special tokens.
#[derive(Debug)]
pub(super) struct SpecialTokens {
    /// Marks for the model, and those below.
    all: Option<Finder>,
    /// Those that are special in every text.
    user_defined: Option<Finder>,
}

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a [u8]),
    Token(u32),
}

impl SpecialTokens {
    /// Bytes that the special tokens of these texts and kinds take, [`new`](Self::new) included.
    pub(super) fn memory<'a>(tokens: impl Iterator<Item = (&'a [u8], TokenKind)>) -> usize {
        let (mut all, mut user_defined) = (0_usize, 0_usize);
        for (text, kind) in tokens.filter(|(_, kind)| is_special(*kind)) {
            all = all.saturating_add(text.len());
            user_defined += if kind == TokenKind::UserDefined { text.len() } else { 0 };
        }
        // A vocabulary may have marks that it does not call so.
        BYTES_FOR_EACH * (all.min(MOST_BYTES) + user_defined.min(MOST_BYTES)) + 2 * BYTES_FOR_ALL
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        let finders = [&self.all, &self.user_defined].into_iter().flatten();
        finders.map(|finder| finder.automaton.memory_usage() + finder.tokens.capacity() * size_of::<u32>()).sum()
    }

    /// The special tokens of a vocabulary.
    ///
    /// # Errors
    ///
    /// `TooLarge` for texts of more bytes than are supported.
    pub(super) fn new(tokens: &Tokens) -> Result<Self, Error> {
        Ok(Self {
            all: Finder::new(tokens, is_special)?,
            user_defined: Finder::new(tokens, |kind| kind == TokenKind::UserDefined)?,
        })
    }

    /// Calls `each` with the parts of `text` in order. Where special tokens overlap, the leftmost counts, and of those
    /// the longest. With `strip`, white space of ASCII after a token for which it is true is left out.
    pub(super) fn split(
        &self,
        text: &[u8],
        all: bool,
        strip: impl Fn(u32) -> bool,
        each: &mut dyn FnMut(Part<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut at = 0;
        if let Some(finder) = if all { &self.all } else { &self.user_defined } {
            for found in finder.automaton.find_iter(text) {
                // A space that was left out can't be part of a token.
                if found.start() < at {
                    continue;
                }
                if found.start() > at {
                    each(Part::Text(&text[at..found.start()]))?;
                }
                let token = finder.tokens[found.pattern().as_usize()];
                each(Part::Token(token))?;
                at = found.end();
                if strip(token) {
                    let is_space = |byte: &&u8| matches!(byte, b'\t'..=b'\r' | b' ');
                    at += text[at..].iter().take_while(is_space).count();
                }
            }
        }
        if at < text.len() { each(Part::Text(&text[at..])) } else { Ok(()) }
    }
}

const fn is_special(kind: TokenKind) -> bool {
    matches!(kind, TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined)
}

#[derive(Debug)]
struct Finder {
    automaton: AhoCorasick,
    /// The token of each pattern.
    tokens: Vec<u32>,
}

impl Finder {
    fn new(tokens: &Tokens, is_one: fn(TokenKind) -> bool) -> Result<Option<Self>, Error> {
        let is_pattern = |&token: &u32| is_one(tokens.kind(token)) && !tokens.text(token).is_empty();
        let patterns: Vec<u32> = (0..tokens.len() as u32).filter(is_pattern).collect();
        if patterns.is_empty() {
            return Ok(None);
        }
        let lens = || patterns.iter().map(|&token| tokens.text(token).len());
        let (bytes, longest) = (lens().sum::<usize>(), lens().max().unwrap_or_default());
        if bytes > MOST_BYTES || longest > LONGEST {
            return Err(Error::too_large(format!(
                "the special tokens of the vocabulary have {bytes} bytes, and the longest has {longest}: at most \
                 {MOST_BYTES} and {LONGEST} are supported"
            )));
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            // Its time depends on the patterns, which are a guest's.
            .prefilter(false)
            // Tables of 256 entries for the first states take 2,000 bytes for each byte of many short patterns.
            .dense_depth(0)
            .build(patterns.iter().map(|&token| tokens.text(token)));
        let automaton =
            automaton.map_err(|error| Error::too_large(format!("the special tokens of the vocabulary: {error}")))?;
        Ok(Some(Self { automaton, tokens: patterns }))
    }
}
