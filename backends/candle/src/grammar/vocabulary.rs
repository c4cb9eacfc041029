//! The tokens of a graph as a tree of their bytes, from which a grammar's step finds those that fit.

use crate::text::tokenizer::{TextKind, Tokenizer};
use graphpool::backend::Error;
use llguidance::ParserFactory;
use llguidance::api::ParserLimits;
use llguidance::toktrie::{ApproximateTokEnv, INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie};
use std::sync::Arc;

use super::guard::guarded;

/// Longer tokens are never chosen under a grammar: the tree is built by a recursion that is as deep as they are long.
const LONGEST: usize = 256;

/// The most bytes of all tokens together; the tree counts its nodes with 22 bits.
const MOST_BYTES: usize = (1 << 22) - 2;

/// The most tokens; the tree has 24 bits for their numbers.
const MOST_TOKENS: usize = (1 << 24) - 1;

/// Bytes of the trees for each token and for each byte of their texts, and besides: measured, and rounded up.
const PER_TOKEN: usize = 300;
const PER_BYTE: usize = 30;
const BESIDE: usize = 1 << 18;

/// The most states of a lexer. Each takes one to two kilobytes.
const MOST_STATES: usize = 1 << 15;

/// The limits of all grammars. A step makes at most 50,000 items and spends as much on the lexer, some 20 ms.
pub(super) fn limits() -> ParserLimits {
    ParserLimits { max_lexer_states: MOST_STATES, verbose_errors: false, ..ParserLimits::default() }
}

/// What makes parsers for the vocabulary of `tokenizer`, of which a model has the first `tokens`.
///
/// # Errors
///
/// `UnsupportedOperation` for a vocabulary with more tokens or text than a tree may have.
pub(super) fn factory(tokenizer: &Tokenizer, tokens: usize) -> Result<ParserFactory, Error> {
    let words = words(tokenizer, tokens);
    let bytes: usize = words.iter().map(Vec::len).sum();
    if words.len() >= MOST_TOKENS || bytes > MOST_BYTES {
        let (count, most) = (words.len(), MOST_BYTES);
        let why = format!("{count} tokens of {bytes} bytes are too many for a grammar, which takes {most} bytes");
        return Err(Error::unsupported(why));
    }
    let ends: Vec<u32> = tokenizer.ends().iter().copied().filter(|&end| (end as usize) < words.len()).collect();
    let info = TokRxInfo::new(words.len() as u32, ends.first().copied().unwrap_or(INVALID_TOKEN));
    let trie = guarded(|| {
        let trie = TokTrie::from(&info, &words);
        Ok::<_, String>(if ends.is_empty() { trie } else { trie.with_eos_tokens(&ends) })
    });
    trie.and_then(|trie| of_environment(&(Arc::new(ApproximateTokEnv::new(trie)) as TokEnv)))
        .map_err(|why| Error::unsupported(format!("the vocabulary can't be used with a grammar: {why}")))
}

/// What makes parsers for tokens of one byte each, to try grammars before there is a model.
///
/// # Errors
///
/// Why it can't be made.
pub(super) fn factory_of_bytes() -> Result<ParserFactory, String> {
    of_environment(&ApproximateTokEnv::single_byte_env())
}

fn of_environment(environment: &TokEnv) -> Result<ParserFactory, String> {
    let mut factory = guarded(|| ParserFactory::new_simple(environment))?;
    factory.quiet();
    *factory.limits_mut() = limits();
    Ok(factory)
}

/// About the bytes that [`factory`] takes for a vocabulary.
pub(super) fn memory(tokenizer: &Tokenizer, tokens: usize) -> usize {
    let (mut bytes, mut text) = (0_usize, Vec::new());
    let count = tokens.min(tokenizer.len());
    for token in 0..count {
        text.clear();
        tokenizer.decode(token as u32, true, &mut text);
        bytes = bytes.saturating_add(text.len().min(LONGEST));
    }
    bytes.saturating_mul(PER_BYTE).saturating_add(count.saturating_mul(PER_TOKEN)).saturating_add(BESIDE)
}

/// For each token its bytes as the tree has them; none for a token that no grammar allows.
///
/// Marks for the model, such as the end of a turn, have a byte in front that is in no UTF-8, so that only their names
/// in a grammar stand for them. Of tokens with the same bytes, one is left: hostile files have many.
fn words(tokenizer: &Tokenizer, tokens: usize) -> Vec<Vec<u8>> {
    let count = tokens.min(tokenizer.len());
    let mut words: Vec<Vec<u8>> = (0..count as u32).map(|token| word(tokenizer, token)).collect();
    let is_byte = |token: usize| tokenizer.text_kind(token as u32) == TextKind::Byte;
    let mut order: Vec<usize> = (0..count).filter(|&token| !words[token].is_empty()).collect();
    // Those of a byte last: models use them for what has no other token.
    order.sort_by(|&a, &b| words[a].cmp(&words[b]).then_with(|| (is_byte(a), a).cmp(&(is_byte(b), b))));
    let again: Vec<usize> = order.windows(2).filter(|two| words[two[0]] == words[two[1]]).map(|two| two[1]).collect();
    for token in again {
        words[token] = Vec::new();
    }
    words
}

fn word(tokenizer: &Tokenizer, token: u32) -> Vec<u8> {
    let marker = TokTrie::SPECIAL_TOKEN_MARKER;
    let mut text = Vec::new();
    tokenizer.decode(token, true, &mut text);
    if text.len() > LONGEST || text.contains(&marker) {
        return Vec::new();
    }
    if !text.is_empty() && tokenizer.text_kind(token) == TextKind::Mark {
        text.insert(0, marker);
    }
    text
}
