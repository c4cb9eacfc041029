//! Splits a text into the words in which byte pairs are merged.
//!
//! Tokenizers define this by regular expressions with look-ahead. Those need an engine that backtracks, whose time can
//! be quadratic in a run of spaces or worse, and a prompt is a guest's. Each expression is written here as a [`Rule`]
//! that looks at each character a bounded number of times, and keeps nothing but positions.
//!
//! * [`rule`]: one rule, which says what is a piece at a position.
//! * [`words`]: the rules that make words out of letters, numbers, symbols and spaces.
//! * [`named`]: the rules of each pre-tokenizer that a file can name.

pub(super) mod named;
mod rule;
mod words;

use graphpool::backend::Error;
use rule::Rule;

/// Splits `text` by the first rule, each of its pieces by the second one, and so on. What lies between two matches of a
/// rule is a piece, too, so the pieces are the whole text in order.
pub(super) fn split(
    rules: &[Rule],
    text: &[u8],
    each: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some((rule, others)) = rules.split_first() else { return each(text) };
    let (mut piece, mut at) = (0, 0);
    while at < text.len() {
        let (matches, len) = rule.next(text, at);
        if matches {
            if piece < at {
                split(others, &text[piece..at], each)?;
            }
            split(others, &text[at..at + len], each)?;
            piece = at + len;
        }
        at += len;
    }
    if piece < at {
        split(others, &text[piece..at], each)?;
    }
    Ok(())
}
