//! The merges of `SentencePiece` (T. Kudo, J. Richardson: "`SentencePiece`: a simple and language independent subword
//! tokenizer and detokenizer for neural text processing", 2018), as llama's vocabularies have them: two neighbours are
//! merged if their text is a token, that of the highest score first. Characters without a token become bytes.

use super::bpe::{BLANK, Scratch, blanks_escaped, bytes_of};
use super::characters::character;
use super::merge::{Merger, Merges, NONE, Symbol};
use super::output::Output;
use super::tokens::Tokens;
use graphpool::backend::Error;

/// Bytes that a token may have to be the result of merges: each merge looks for a text of at most this length.
const LONGEST: usize = 512;

/// The scores of a vocabulary, as ranks.
#[derive(Debug)]
pub(super) struct ScoredPairs {
    /// For each token, how many different scores are higher than its own.
    ranks: Vec<u32>,
    /// The longest text of a token, in bytes.
    longest: usize,
    /// Whether a token has U+2581 after another character. Where none has, merges never cross the beginning of a word,
    /// and words are merged one by one.
    across_words: bool,
    /// The token of each byte.
    bytes: Box<[Option<u32>; 256]>,
    unknown: Option<u32>,
}

impl ScoredPairs {
    /// Bytes that the scores of `count` tokens take, with those of [`new`](Self::new).
    pub(super) const fn memory(count: usize) -> usize {
        count.saturating_mul(2 * size_of::<u32>())
    }

    pub(super) fn new(scores: &[f32], unknown: Option<u32>, tokens: &Tokens) -> Self {
        let score = |token: u32| scores.get(token as usize).copied().unwrap_or_default();
        let mut order: Vec<u32> = (0..tokens.len() as u32).collect();
        // By total order, in which NaN has a place. Negative zero equals zero.
        let compare = |a: f32, b: f32| (b + 0.0).total_cmp(&(a + 0.0));
        order.sort_unstable_by(|&a, &b| compare(score(a), score(b)));
        let (mut ranks, mut rank) = (vec![0; tokens.len()], 0);
        for (at, &token) in order.iter().enumerate() {
            if at > 0 && compare(score(order[at - 1]), score(token)).is_ne() {
                rank += 1;
            }
            ranks[token as usize] = rank;
        }
        let texts = || tokens.texts.iter().filter(|text| text.len() <= LONGEST);
        Self {
            ranks,
            longest: texts().map(<[u8]>::len).max().unwrap_or_default(),
            across_words: texts().any(|text| next_word(text, 0) < text.len()),
            bytes: tokens.of_bytes(),
            unknown,
        }
    }

    /// Bytes of scratch memory for a text of `len` bytes and a blank before it.
    pub(super) const fn scratch_memory(len: usize) -> usize {
        Merger::memory(len.saturating_add(1)).saturating_add(len.saturating_add(1).saturating_mul(4))
    }

    /// Appends the tokens of a text without special tokens, with a blank before it if `blank`.
    pub(super) fn encode(
        &self,
        tokens: &Tokens,
        text: &[u8],
        blank: bool,
        scratch: &mut Scratch,
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        let mut rest = text;
        let mut blank = blank;
        while !rest.is_empty() {
            // A blank before the text is the beginning of its first word, which another blank continues.
            let end = if self.across_words { rest.len() } else { next_word(rest, 0) };
            let (word, others) = rest.split_at(end);
            self.encode_word(tokens, word, std::mem::take(&mut blank), scratch, output)?;
            rest = others;
        }
        Ok(())
    }

    fn encode_word(
        &self,
        tokens: &Tokens,
        word: &[u8],
        blank: bool,
        scratch: &mut Scratch,
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        let Scratch { merger, text } = scratch;
        blanks_escaped(word, text);
        if blank {
            text.splice(0..0, BLANK.iter().copied());
        }
        output.step(text.len())?;
        let mut at = 0;
        merger.begin(word.len() + usize::from(blank));
        while at < text.len() {
            let end = at + character(text, at).len;
            merger.push(end, tokens.find(&text[at..end]));
            at = end;
        }
        let merges = Pairs { tokens, scores: self };
        merger.run(text, &merges, output, |symbol, output| match symbol.token {
            NONE => bytes_of(&text[symbol.start as usize..symbol.end as usize], &self.bytes, self.unknown, output),
            token => output.push(token),
        })
    }
}

/// The merges of a text.
struct Pairs<'a> {
    tokens: &'a Tokens,
    scores: &'a ScoredPairs,
}

impl Merges for Pairs<'_> {
    fn find(&self, text: &[u8], left: &Symbol, right: &Symbol) -> Option<(u32, u32)> {
        let both = &text[left.start as usize..right.end as usize];
        let token = if both.len() <= self.scores.longest { self.tokens.find(both)? } else { return None };
        Some((self.scores.ranks[token as usize], token))
    }
}

/// Where the next word begins after `at`: at a blank or U+2581 after another character.
fn next_word(text: &[u8], at: usize) -> usize {
    let blank = |at: usize| text[at] == b' ' || text[at..].starts_with(BLANK);
    let mut at = at;
    while at < text.len() && blank(at) {
        at += if text[at] == b' ' { 1 } else { BLANK.len() };
    }
    while at < text.len() && !blank(at) {
        at += 1;
    }
    at
}
