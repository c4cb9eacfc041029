//! Byte pair encoding (R. Sennrich, B. Haddow, A. Birch: "Neural machine translation of rare words with subword units",
//! 2016): the symbols of a word are merged in the order in which the merges were learned.
//!
//! * Of bytes, as GPT-2 has it: each byte of a text is a symbol, written as a character in the vocabulary.
//! * Of characters, as Gemma 4 has it: blanks are U+2581, and characters without a token become bytes.

use super::characters::character;
use super::index::MergeIndex;
use super::merge::{Merger, Merges, NONE, Symbol};
use super::output::Output;
use super::split::named::PreTokenizer;
use super::split::split;
use super::strings::StringList;
use super::tokens::Tokens;
use graphpool::backend::Error;

/// U+2581, which stands for a blank in vocabularies.
pub(super) const BLANK: &[u8] = "\u{2581}".as_bytes();

/// The merges of a vocabulary.
#[derive(Debug)]
pub(super) struct BytePairs {
    pre: PreTokenizer,
    merges: MergeIndex,
    /// The token of each byte.
    bytes: Box<[Option<u32>; 256]>,
    unknown: Option<u32>,
}

/// What is used again from word to word.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) merger: Merger,
    pub(super) text: Vec<u8>,
}

impl Merges for MergeIndex {
    fn find(&self, _: &[u8], left: &Symbol, right: &Symbol) -> Option<(u32, u32)> {
        self.find(left.token, right.token)
    }
}

impl BytePairs {
    pub(super) fn new(pre: PreTokenizer, merges: &StringList, unknown: Option<u32>, tokens: &Tokens) -> Self {
        let merges = MergeIndex::new(merges, &tokens.texts, tokens.index());
        let bytes = if pre.of_characters {
            tokens.of_bytes()
        } else {
            Box::new(std::array::from_fn(|byte| {
                tokens.find(BYTES_AS_CHARACTERS[byte].encode_utf8(&mut [0; 4]).as_bytes())
            }))
        };
        Self { pre, merges, bytes, unknown }
    }

    /// Bytes of scratch memory for a text of `len` bytes.
    pub(super) const fn memory(len: usize) -> usize {
        Merger::memory(len).saturating_add(len.saturating_mul(3))
    }

    /// Appends the tokens of a text without special tokens.
    pub(super) fn encode(
        &self,
        tokens: &Tokens,
        text: &[u8],
        scratch: &mut Scratch,
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        split(self.pre.rules, text, &mut |word| {
            output.step(word.len())?;
            if self.pre.of_characters {
                self.encode_characters(tokens, word, scratch, output)
            } else {
                self.encode_bytes(tokens, word, scratch, output)
            }
        })
    }

    fn encode_bytes(
        &self,
        tokens: &Tokens,
        word: &[u8],
        scratch: &mut Scratch,
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        if self.pre.whole_words {
            scratch.text.clear();
            scratch.text.reserve_exact(2 * word.len());
            for &byte in word {
                let character = BYTES_AS_CHARACTERS[byte as usize];
                scratch.text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            if let Some(token) = tokens.find(&scratch.text) {
                return output.push(token);
            }
        }
        scratch.merger.begin(word.len());
        for (at, &byte) in word.iter().enumerate() {
            scratch.merger.push(at + 1, self.bytes[byte as usize]);
        }
        // Only a byte without a token has none after the merges.
        scratch.merger.run(word, &self.merges, output, |symbol, output| {
            let token = if symbol.token == NONE { self.unknown } else { Some(symbol.token) };
            token.map_or(Ok(()), |token| output.push(token))
        })
    }

    fn encode_characters(
        &self,
        tokens: &Tokens,
        line: &[u8],
        scratch: &mut Scratch,
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        if line.first() == Some(&b'\n')
            && let Some(token) = tokens.find(line)
        {
            return output.push(token);
        }
        let Scratch { merger, text } = scratch;
        blanks_escaped(line, text);
        let mut at = 0;
        merger.begin(line.len());
        while at < text.len() {
            let end = at + character(text, at).len;
            merger.push(end, tokens.find(&text[at..end]));
            at = end;
        }
        merger.run(text, &self.merges, output, |symbol, output| match symbol.token {
            NONE => bytes_of(&text[symbol.start as usize..symbol.end as usize], &self.bytes, self.unknown, output),
            token => output.push(token),
        })
    }

    /// Appends the bytes of a token that stands for text.
    pub(super) fn decode(&self, text: &[u8], out: &mut Vec<u8>) {
        if self.pre.of_characters {
            return blanks_unescaped(text, out);
        }
        let mut at = 0;
        while at < text.len() {
            let next = character(text, at);
            let end = at + next.len;
            match character_as_byte(next.code) {
                Some(byte) => out.push(byte),
                // No byte is written so; it can't come from a text.
                None => out.extend_from_slice(&text[at..end]),
            }
            at = end;
        }
    }
}

/// The tokens of bytes that are part of no other token; those that have none are unknown together.
pub(super) fn bytes_of(
    text: &[u8],
    bytes: &[Option<u32>; 256],
    unknown: Option<u32>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    if text.iter().any(|&byte| bytes[byte as usize].is_none()) {
        return unknown.map_or(Ok(()), |token| output.push(token));
    }
    text.iter().filter_map(|&byte| bytes[byte as usize]).try_for_each(|token| output.push(token))
}

/// Writes `text` to `out` with U+2581 for blanks. It has at most three times the bytes, and as many characters.
pub(super) fn blanks_escaped(text: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let blanks = text.iter().map(|&byte| usize::from(byte == b' ')).sum::<usize>();
    out.reserve_exact(text.len() + 2 * blanks);
    for &byte in text {
        if byte == b' ' { out.extend_from_slice(BLANK) } else { out.push(byte) }
    }
}

/// Appends `text` with blanks for U+2581.
pub(super) fn blanks_unescaped(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((&first, others)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(BLANK) {
            out.push(b' ');
            rest = after;
        } else {
            out.push(first);
            rest = others;
        }
    }
}

/// The character that each byte is written as: itself if it can be printed in Latin 1, otherwise one from U+0100.
const BYTES_AS_CHARACTERS: [char; 256] = {
    let mut table = ['\0'; 256];
    let (mut byte, mut others) = (0_u8, 0x100_u16);
    loop {
        table[byte as usize] = match byte {
            0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => byte as char,
            _ => {
                others += 1;
                match char::from_u32(others as u32 - 1) {
                    Some(character) => character,
                    None => panic!("U+0100 to U+0143 are characters"),
                }
            }
        };
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

/// The byte that is written as a character.
fn character_as_byte(character: char) -> Option<u8> {
    match character {
        '\u{21}'..='\u{7e}' | '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{ff}' => Some(character as u8),
        '\u{100}'..='\u{120}' => Some((character as u32 - 0x100) as u8),
        '\u{121}'..='\u{142}' => Some((character as u32 - 0x121 + 0x7f) as u8),
        '\u{143}' => Some(0xad),
        _ => None,
    }
}
