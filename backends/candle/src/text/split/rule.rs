//! One rule: whether a piece begins at a position, and where it ends.

use super::words::{Cased, Words};
use crate::text::characters::{Character, Classes, Set, character, run};

/// A rule that finds pieces in a text. In the regular expressions beside them, `X` is the set.
#[derive(Debug, Clone, Copy)]
pub(in crate::text) enum Rule {
    /// `X{1,n}`.
    Runs(Set, usize),
    /// `\s?X+`.
    Spaced(Set),
    /// ` ?X+`.
    AfterBlank(Set),
    /// `\s+$`.
    LastSpaces,
    /// `[0-9][0-9][0-9]`.
    ThreeDigits,
    /// `[^\n]+|\n+`.
    Lines,
    /// Words of letters of any case.
    Words(&'static Words),
    /// Words that begin where lower case ends.
    Cased(&'static Cased),
}

impl Rule {
    /// Whether a piece begins at `at`, and the bytes that it has. Where none begins, the bytes in which none begins:
    /// at least those of one character.
    pub(super) fn next(&self, text: &[u8], at: usize) -> (bool, usize) {
        let first = character(text, at);
        match *self {
            Self::Runs(set, most) => found(run(text, at, set, most) - at, first),
            Self::Spaced(set) => {
                let start = at + if first.is(Classes::SPACE) { first.len } else { 0 };
                let end = run(text, start, set, usize::MAX);
                found(if end > start { end - at } else { 0 }, first)
            }
            Self::AfterBlank(set) => {
                let start = at + usize::from(first.code == ' ');
                let end = run(text, start, set, usize::MAX);
                found(if end > start { end - at } else { 0 }, first)
            }
            Self::LastSpaces => {
                // All of them are passed where they are not the last: else each would look for the end again.
                let end = run(text, at, |c| c.is(Classes::SPACE), usize::MAX);
                (end > at && end == text.len(), (end - at).max(first.len))
            }
            Self::ThreeDigits => {
                let digits = text[at..].iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
                found(if digits == 3 { 3 } else { 0 }, first)
            }
            Self::Lines if first.code == '\n' => (true, run(text, at, |c| c.code == '\n', usize::MAX) - at),
            Self::Lines => (true, text[at..].iter().position(|&byte| byte == b'\n').unwrap_or(text.len() - at)),
            Self::Words(words) => found(words.next(text, at), first),
            Self::Cased(words) => found(words.next(text, at), first),
        }
    }
}

/// A match of `len` bytes, or none at `first` if that is 0.
const fn found(len: usize, first: Character) -> (bool, usize) {
    if len > 0 { (true, len) } else { (false, first.len) }
}
