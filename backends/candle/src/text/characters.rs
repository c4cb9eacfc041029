//! The characters of a text that may not be UTF-8, and the classes of Unicode that words are split by.

use unicode_general_category::{GeneralCategory, get_general_category};

/// Classes of a character, one bit each. Each character has at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Classes(u16);

impl Classes {
    /// No class: what a missing character has.
    pub(super) const NONE: Self = Self(0);
    /// `\p{Lu}` and `\p{Lt}`.
    pub(super) const UPPER: Self = Self(1);
    /// `\p{Ll}`.
    pub(super) const LOWER: Self = Self(1 << 1);
    /// `\p{Lm}` and `\p{Lo}`.
    pub(super) const UNCASED: Self = Self(1 << 2);
    /// `\p{L}`.
    pub(super) const LETTER: Self = Self(0b111);
    /// `\p{M}`.
    pub(super) const MARK: Self = Self(1 << 3);
    /// `\p{N}`.
    pub(super) const NUMBER: Self = Self(1 << 4);
    /// `\p{P}`.
    pub(super) const PUNCTUATION: Self = Self(1 << 5);
    /// `\p{S}`.
    pub(super) const SYMBOL: Self = Self(1 << 6);
    /// `\s`: the property `White_Space`, which is no general category.
    pub(super) const SPACE: Self = Self(1 << 7);
    /// None of the above: controls, formats, numbers without a character.
    pub(super) const OTHER: Self = Self(1 << 8);
    /// All of them.
    pub(super) const ALL: Self = Self(0x1ff);

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the two have a class in common.
    pub(super) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn of(character: char) -> Self {
        use GeneralCategory as G;
        // Ahead of the category, as white space among controls and separators is only white space here.
        if character.is_whitespace() {
            return Self::SPACE;
        }
        match get_general_category(character) {
            G::UppercaseLetter | G::TitlecaseLetter => Self::UPPER,
            G::LowercaseLetter => Self::LOWER,
            G::ModifierLetter | G::OtherLetter => Self::UNCASED,
            G::NonspacingMark | G::SpacingMark | G::EnclosingMark => Self::MARK,
            G::DecimalNumber | G::LetterNumber | G::OtherNumber => Self::NUMBER,
            G::ConnectorPunctuation
            | G::DashPunctuation
            | G::OpenPunctuation
            | G::ClosePunctuation
            | G::InitialPunctuation
            | G::FinalPunctuation
            | G::OtherPunctuation => Self::PUNCTUATION,
            G::MathSymbol | G::CurrencySymbol | G::ModifierSymbol | G::OtherSymbol => Self::SYMBOL,
            _ => Self::OTHER,
        }
    }
}

/// A character, or a byte that is part of none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Character {
    /// Its number; that of U+FFFD for a byte that is part of no character, and for no character.
    pub(super) code: char,
    pub(super) classes: Classes,
    /// Its bytes; 0 past the end of the text.
    pub(super) len: usize,
}

impl Character {
    pub(super) const fn is(self, classes: Classes) -> bool {
        self.classes.intersects(classes)
    }

    pub(super) const fn is_line_end(self) -> bool {
        matches!(self.code, '\r' | '\n')
    }
}

#[cfg(test)]
thread_local! {
    /// How many characters were looked at, for tests of the time that rules take.
    pub(super) static LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// A set of characters. None holds what is past the end of a text.
pub(super) type Set = fn(Character) -> bool;

/// The character at `at`. A byte that begins no valid one is a character of its own, a symbol as U+FFFD is, so that
/// every text splits into characters and is the sum of them.
pub(super) fn character(text: &[u8], at: usize) -> Character {
    #[cfg(test)]
    LOOKED_AT.set(LOOKED_AT.get() + 1);
    let Some(&first) = text.get(at) else {
        return Character { code: char::REPLACEMENT_CHARACTER, classes: Classes::NONE, len: 0 };
    };
    if first < 0x80 {
        return Character { code: first as char, classes: ASCII[first as usize], len: 1 };
    }
    let len = encoded_len(first);
    let code = text.get(at..at + len).and_then(|bytes| std::str::from_utf8(bytes).ok()).and_then(|s| s.chars().next());
    match code {
        Some(code) => Character { code, classes: Classes::of(code), len },
        None => Character { code: char::REPLACEMENT_CHARACTER, classes: Classes::SYMBOL, len: 1 },
    }
}

/// The end of the longest run from `at` of at most `most` characters in a set.
pub(super) fn run(text: &[u8], at: usize, set: impl Fn(Character) -> bool, most: usize) -> usize {
    let (mut end, mut count) = (at, 0);
    while count < most {
        let next = character(text, end);
        if next.len == 0 || !set(next) {
            break;
        }
        (end, count) = (end + next.len, count + 1);
    }
    end
}

/// Bytes of the character that begins with `first`; 1 where none begins so.
const fn encoded_len(first: u8) -> usize {
    match first {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    }
}

const ASCII: [Classes; 128] = {
    let mut table = [Classes::OTHER; 128];
    let mut at = 0_u8;
    while at < 128 {
        table[at as usize] = match at {
            b'\t'..=b'\r' | b' ' => Classes::SPACE,
            b'A'..=b'Z' => Classes::UPPER,
            b'a'..=b'z' => Classes::LOWER,
            b'0'..=b'9' => Classes::NUMBER,
            b'$' | b'+' | b'<' | b'=' | b'>' | b'^' | b'`' | b'|' | b'~' => Classes::SYMBOL,
            b'!'..=b'~' => Classes::PUNCTUATION,
            _ => Classes::OTHER,
        };
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_ascii_agrees_with_unicode() {
        for code in 0..128_u8 {
            assert_eq!(ASCII[code as usize], Classes::of(code as char), "{code}");
        }
    }

    #[test]
    fn each_byte_that_is_no_character_is_one_of_its_own() {
        let lens = |text: &[u8]| {
            let (mut at, mut lens) = (0, Vec::new());
            while at < text.len() {
                lens.push(character(text, at).len);
                at += lens[lens.len() - 1];
            }
            lens
        };
        assert_eq!(lens("aä€🦙".as_bytes()), [1, 2, 3, 4]);
        assert_eq!(lens(b"\xff\xc3(\xe2\x82\xf0\x9f\xa6"), [1; 8]);
        // A surrogate, an overlong form, and a number past the last.
        assert_eq!(lens(b"\xed\xa0\x80\xc0\x80\xf4\x90\x80\x80"), [1; 9]);
        assert_eq!(character(b"", 0).len, 0);
    }

    #[test]
    fn white_space_is_no_control_and_no_separator() {
        for space in ['\n', '\u{85}', '\u{a0}', '\u{2028}', '\u{3000}'] {
            assert_eq!(Classes::of(space), Classes::SPACE, "{space:?}");
        }
        // Zero width space is a format character.
        assert_eq!(Classes::of('\u{200b}'), Classes::OTHER);
    }
}
