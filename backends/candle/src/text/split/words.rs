//! The rules that make words out of letters, numbers, symbols and spaces.
//!
//! Their regular expressions have the same parts in the same order, of which the first that matches counts.

use crate::text::characters::{Character, Classes, Set, character, run};

/// English contractions as words of their own: `'s|'t|'re|'ve|'m|'ll|'d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contractions {
    No,
    LowerCase,
    AnyCase,
}

/// A rule of the kind
/// `'s|'t|…|[!-~][A-Za-z]+|B?L+| ?N{1,n}| ?Y+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`, where B, L and Y are sets.
#[derive(Debug)]
pub(in crate::text) struct Words {
    pub(super) contractions: Contractions,
    /// Whether a letter of ASCII after a sign of ASCII begins a word of both: `[!-~][A-Za-z]+` without letters and
    /// digits in the first part.
    pub(super) signs: bool,
    /// What may stand before the letters of a word: B.
    pub(super) before: Set,
    /// L.
    pub(super) letters: Set,
    /// Whether a blank may stand before numbers.
    pub(super) blank_numbers: bool,
    /// The most numbers in a word: n.
    pub(super) numbers: usize,
    /// Y.
    pub(super) symbols: Set,
    /// What may follow the symbols of a word.
    pub(super) after: Set,
    /// Whether `\s*[\r\n]+` is a part of the rule.
    pub(super) line_ends: bool,
}

impl Words {
    /// The length of the word at `at`; 0 where none begins.
    pub(super) fn next(&self, text: &[u8], at: usize) -> usize {
        let first = character(text, at);
        let contraction = contraction(text, at, self.contractions);
        if contraction > 0 {
            return contraction;
        }
        if self.signs && first.code.is_ascii_punctuation() {
            let end = run(text, at + 1, |c| c.code.is_ascii_alphabetic(), usize::MAX);
            if end > at + 1 {
                return end - at;
            }
        }
        let second = character(text, at + first.len);
        if (self.letters)(first) || (self.before)(first) && (self.letters)(second) {
            return run(text, at + first.len, self.letters, usize::MAX) - at;
        }
        // A blank that may stand before a word, and the position after it.
        let blank = usize::from(first.code == ' ');
        let start = if self.blank_numbers { at + blank } else { at };
        let end = run(text, start, |c| c.is(Classes::NUMBER), self.numbers);
        if end > start {
            return end - at;
        }
        let end = run(text, at + blank, self.symbols, usize::MAX);
        if end > at + blank {
            return run(text, end, self.after, usize::MAX) - at;
        }
        spaces(text, at, self.line_ends)
    }
}

/// A rule of the kind `B?U*L+C?|B?U+L*C?|\p{N}{1,n}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`, where B is
/// `[^\r\n\p{L}\p{N}]`, U is `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`, L is `[\p{Ll}\p{Lm}\p{Lo}\p{M}]` and C are the
/// contractions.
#[derive(Debug)]
pub(in crate::text) struct Cased {
    pub(super) contractions: Contractions,
    /// n.
    pub(super) numbers: usize,
}

impl Cased {
    /// The length of the word at `at`; 0 where none begins.
    pub(super) fn next(&self, text: &[u8], at: usize) -> usize {
        let first = character(text, at);
        let may_precede = !first.is_line_end() && !first.is(Classes::LETTER.or(Classes::NUMBER));
        let after = if may_precede { at + first.len } else { at };
        let word = |find: fn(&[u8], usize) -> usize, start: usize| Some(find(text, start)).filter(|&end| end > start);
        let end = word(with_lower, after)
            .or_else(|| word(with_lower, at))
            .or_else(|| word(upper, after))
            .or_else(|| word(upper, at));
        if let Some(end) = end {
            return end + contraction(text, end, self.contractions) - at;
        }
        let end = run(text, at, |c| c.is(Classes::NUMBER), self.numbers);
        if end > at {
            return end - at;
        }
        let start = at + usize::from(first.code == ' ');
        let end = run(text, start, not_words, usize::MAX);
        if end > start {
            return run(text, end, |c| c.is_line_end() || c.code == '/', usize::MAX) - at;
        }
        spaces(text, at, true)
    }
}

const UPPER: Classes = Classes::UPPER.or(Classes::UNCASED).or(Classes::MARK);
const LOWER: Classes = Classes::LOWER.or(Classes::UNCASED).or(Classes::MARK);

/// The end of `U*L+` at `start`; `start` where it does not match.
fn with_lower(text: &[u8], start: usize) -> usize {
    let (mut end, mut last) = (start, start);
    loop {
        let next = character(text, end);
        if !next.is(UPPER) {
            break;
        }
        end += next.len;
        // A letter without case is in both sets: the expression gives it back if no other is there for `L+`.
        if next.is(LOWER) {
            last = end;
        }
    }
    if character(text, end).is(LOWER) { run(text, end, |c| c.is(LOWER), usize::MAX) } else { last }
}

/// The end of `U+` at `start`. Where [`with_lower`] does not match there is nothing of `L*` after it.
fn upper(text: &[u8], start: usize) -> usize {
    run(text, start, |c| c.is(UPPER), usize::MAX)
}

/// `[^\s\p{L}\p{N}]`.
pub(super) fn not_words(c: Character) -> bool {
    c.is(Classes::ALL.without(Classes::SPACE).without(Classes::LETTER).without(Classes::NUMBER))
}

/// The length of a contraction at `at`, or 0.
fn contraction(text: &[u8], at: usize, which: Contractions) -> usize {
    if which == Contractions::No || text.get(at) != Some(&b'\'') {
        return 0;
    }
    let letter = |offset: usize| {
        let byte = text.get(at + offset).copied().unwrap_or_default();
        if which == Contractions::AnyCase { byte.to_ascii_lowercase() } else { byte }
    };
    match (letter(1), letter(2)) {
        (b's' | b't' | b'm' | b'd', _) => 2,
        (b'r' | b'v', b'e') | (b'l', b'l') => 3,
        _ => 0,
    }
}

/// The length of `\s*[\r\n]+|\s+(?!\S)|\s+` at `at`, the first part of it only with `line_ends`; or 0.
///
/// Of a run of spaces before a word, the last one is left for the word. All of them are looked at again at most once:
/// after the last end of a line.
fn spaces(text: &[u8], at: usize, line_ends: bool) -> usize {
    let (mut end, mut last, mut after_line) = (at, at, at);
    loop {
        let next = character(text, end);
        if !next.is(Classes::SPACE) {
            break;
        }
        (last, end) = (end, end + next.len);
        if next.is_line_end() {
            after_line = end;
        }
    }
    match () {
        () if line_ends && after_line > at => after_line - at,
        () if last > at && end < text.len() => last - at,
        () => end - at,
    }
}
