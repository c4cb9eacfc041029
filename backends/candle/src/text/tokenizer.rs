//! A prompt's bytes to tokens, and a token to its bytes.

use super::bpe::{BytePairs, Scratch, blanks_unescaped};
use super::index::{MergeIndex, table_bytes};
use super::output::{Check, Output};
use super::sentencepiece::ScoredPairs;
use super::special::{self, Part, SpecialTokens};
use super::split::named::named;
use super::tokens::{Tokens, byte_of};
use super::vocabulary::{TokenKind, Vocabulary};
use crate::quote::quote;
use graphpool::backend::Error;

/// The most bytes of a token's text. Vocabularies have tokens of a few hundred.
const LONGEST: usize = 1 << 14;

/// The tokens of a model. It is immutable, and shared by all sessions of the model.
#[derive(Debug)]
pub(crate) struct Tokenizer {
    tokens: Tokens,
    special: SpecialTokens,
    model: Model,
    start: Option<u32>,
    /// The most bytes of a token's text.
    longest: usize,
    /// Bytes of [`memory`](Self::memory) that only [`new`](Self::new) has needed.
    spare: usize,
    /// Whether white space after special tokens is left out, as Phi-3 has it.
    strips: bool,
}

/// How a text without special tokens becomes tokens.
#[derive(Debug)]
enum Model {
    BytePairs(BytePairs),
    ScoredPairs {
        pairs: ScoredPairs,
        /// Whether a text gets a blank at its beginning and after each special token.
        blank: bool,
    },
}

/// What the bytes of a token are.
#[cfg(feature = "grammar")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextKind {
    Text,
    /// One byte, which other tokens may have, too.
    Byte,
    /// The name of a mark for the model, or of what stands for text that no token covers.
    Mark,
}

impl Tokenizer {
    /// Bytes that a tokenizer of `vocabulary` takes, with what [`new`](Self::new) needs while it runs, and without the
    /// vocabulary's own memory.
    pub(crate) fn memory(vocabulary: &Vocabulary) -> usize {
        let (tokens, merges) = (vocabulary.tokens.len(), vocabulary.merges.len());
        table_bytes(tokens, size_of::<u32>())
            .saturating_add(tokens * size_of::<TokenKind>())
            .saturating_add(ScoredPairs::memory(tokens))
            .saturating_add(MergeIndex::memory(merges))
            .saturating_add(special_memory(vocabulary))
            .saturating_add(1 << 13)
    }

    /// Bytes that [`encode`](Self::encode) takes for a text of `len` bytes, its result included.
    pub(crate) fn encode_memory(&self, len: usize, limit: usize) -> usize {
        let scratch = match self.model {
            Model::BytePairs(_) => BytePairs::memory(len),
            Model::ScoredPairs { .. } => ScoredPairs::scratch_memory(len),
        };
        scratch.saturating_add(Output::memory(len, limit))
    }

    /// Checks a vocabulary and makes its tables.
    ///
    /// # Errors
    ///
    /// * `UnsupportedOperation` for a model or a pre-tokenizer that is not supported.
    /// * `InvalidEncoding` for a vocabulary whose parts do not fit together.
    /// * `TooLarge` for tokens with more text than is supported.
    pub(crate) fn new(mut vocabulary: Vocabulary) -> Result<Self, Error> {
        let count = vocabulary.tokens.len();
        if count == 0 || count > i32::MAX as usize {
            return Err(Error::invalid_encoding(format!("the vocabulary has {count} tokens")));
        }
        // The text of an answer grows by a token between two checks of limits and deadline.
        let longest = vocabulary.tokens.iter().map(<[u8]>::len).max().unwrap_or_default();
        if longest > LONGEST {
            let why = format!("the longest token of the vocabulary has {longest} bytes, and the limit is {LONGEST}");
            return Err(Error::too_large(why));
        }
        // Fewer scores or kinds than tokens would leave some without: a file that is cut or made by hand.
        for (what, have) in [("scores", vocabulary.scores.len()), ("token types", vocabulary.types.len())] {
            if have != 0 && have != count {
                return Err(Error::invalid_encoding(format!("the vocabulary has {count} tokens and {have} {what}")));
            }
        }
        let token = |token: Option<u32>| token.filter(|&token| (token as usize) < count);
        let is_llama = vocabulary.model == "llama";
        let default = |key: Option<u32>, number: u32| token(if is_llama { key.or(Some(number)) } else { key });
        let (bos, unknown) = (default(vocabulary.bos, 1), default(vocabulary.unk, 0));
        vocabulary.eos = default(vocabulary.eos, 2);
        let charged = special_memory(&vocabulary);
        let tokens = Tokens::new(&mut vocabulary);
        let special = SpecialTokens::new(&tokens)?;
        let spare = charged.saturating_sub(special.bytes());
        let (model, add_bos) = match vocabulary.model.as_str() {
            "llama" => {
                let blank = vocabulary.add_space_prefix.unwrap_or(true);
                (Model::ScoredPairs { pairs: ScoredPairs::new(&vocabulary.scores, unknown, &tokens), blank }, true)
            }
            model @ ("gpt2" | "gemma4") => {
                let name = if model == "gemma4" { "gemma4" } else { vocabulary.pre.as_deref().unwrap_or("default") };
                let pre = named(name)
                    .ok_or_else(|| Error::unsupported(format!("the pre-tokenizer {} is not supported", quote(name))))?;
                if vocabulary.merges.len() == 0 {
                    return Err(Error::invalid_encoding("the vocabulary has no merges"));
                }
                (Model::BytePairs(BytePairs::new(pre, &vocabulary.merges, unknown, &tokens)), pre.add_bos)
            }
            model => return Err(Error::unsupported(format!("the tokenizer {} is not supported", quote(model)))),
        };
        let name = vocabulary.name.as_deref().unwrap_or_default().to_ascii_lowercase();
        Ok(Self {
            tokens,
            special,
            model,
            start: bos.filter(|_| vocabulary.add_bos.unwrap_or(add_bos)),
            longest,
            spare,
            strips: name.contains("phi-3") || name.contains("phi3"),
        })
    }

    /// Of the bytes that [`memory`](Self::memory) has said, those that are free again.
    pub(crate) const fn spare(&self) -> usize {
        self.spare
    }

    /// The number of tokens.
    #[cfg(any(test, feature = "grammar"))]
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The tokens of `text`, which may be any bytes, without that of [`start`](Self::start).
    ///
    /// With `parse_special`, the names of control tokens in the text, such as `<|im_end|>`, become those tokens.
    /// Without, no text becomes one. `check` is called in each millisecond or more often.
    ///
    /// The time is at most n log n in the length of the text.
    ///
    /// # Errors
    ///
    /// `TooLarge` if there are more than `limit` tokens, and what `check` returns.
    pub(crate) fn encode(
        &self,
        text: &[u8],
        parse_special: bool,
        limit: usize,
        check: &mut Check<'_>,
    ) -> Result<Vec<u32>, Error> {
        // Positions are numbers of 32 bits, in a text that may get longer by U+2581 for blanks.
        if text.len() > (u32::MAX / 4) as usize {
            return Err(Error::too_large(format!(
                "the text has {} bytes, and at most {} are supported",
                text.len(),
                u32::MAX / 4
            )));
        }
        let mut output = Output::new(limit, check);
        let mut scratch = Scratch::default();
        let strip = |token| self.strips && self.strips_after(token);
        self.special.split(text, parse_special, strip, &mut |part| {
            match part {
                Part::Token(token) => {
                    // The search looks at so many bytes for each match.
                    output.step(special::LONGEST)?;
                    output.push(token)?;
                }
                Part::Text(text) => match &self.model {
                    Model::BytePairs(pairs) => pairs.encode(&self.tokens, text, &mut scratch, &mut output)?,
                    Model::ScoredPairs { pairs, blank } => {
                        pairs.encode(&self.tokens, text, *blank, &mut scratch, &mut output)?;
                    }
                },
            }
            Ok(())
        })?;
        Ok(output.into_tokens())
    }

    fn strips_after(&self, token: u32) -> bool {
        !matches!(self.tokens.text(token), b"<unk>" | b"<s>" | b"<|endoftext|>")
    }

    /// The token that each sequence begins with, if the vocabulary asks for one.
    pub(crate) fn start(&self) -> Option<u32> {
        self.start
    }

    /// Appends the bytes of a token, which may be a part of a character. A number that is no token has none; control
    /// tokens have their name if `special`, and no bytes otherwise.
    pub(crate) fn decode(&self, token: u32, special: bool, out: &mut Vec<u8>) {
        let text = self.tokens.text(token);
        match (self.tokens.kind(token), &self.model) {
            (TokenKind::Control | TokenKind::Unknown, _) if !special => {}
            (TokenKind::Unused, _) => {}
            (TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined, _) => out.extend_from_slice(text),
            (TokenKind::Byte, _) => match byte_of(text) {
                Some(byte) => out.push(byte),
                None => out.extend_from_slice(text),
            },
            (TokenKind::Normal, Model::BytePairs(pairs)) => pairs.decode(text, out),
            (TokenKind::Normal, Model::ScoredPairs { .. }) => blanks_unescaped(text, out),
        }
    }

    /// What the bytes of a token are.
    #[cfg(feature = "grammar")]
    pub(crate) fn text_kind(&self, token: u32) -> TextKind {
        match self.tokens.kind(token) {
            _ if self.is_end(token) => TextKind::Mark,
            TokenKind::Control | TokenKind::Unknown => TextKind::Mark,
            TokenKind::Byte => TextKind::Byte,
            TokenKind::Normal | TokenKind::UserDefined | TokenKind::Unused => TextKind::Text,
        }
    }

    /// The most bytes that [`decode`](Self::decode) appends for a token.
    pub(crate) const fn longest(&self) -> usize {
        self.longest
    }

    /// The tokens with which a model ends its answer, in ascending order.
    pub(crate) fn ends(&self) -> &[u32] {
        self.tokens.ends()
    }

    /// Whether a model ends its answer with this token.
    pub(crate) fn is_end(&self, token: u32) -> bool {
        self.ends().binary_search(&token).is_ok()
    }
}

/// Bytes that special tokens are charged.
fn special_memory(vocabulary: &Vocabulary) -> usize {
    let kinds = vocabulary.types.iter().map(|&number| TokenKind::from_number(number));
    SpecialTokens::memory(vocabulary.tokens.iter().zip(kinds))
}
