//! The end of a text at a string that its reader gave.

use graphpool::backend::Error;

/// Looks for stop strings in bytes that come in pieces, and holds back those that may begin one.
///
/// Each byte costs a bounded number of steps for each string (D. Knuth, J. Morris, V. Pratt: "Fast pattern matching in
/// strings", 1977), however the text repeats itself.
#[derive(Debug)]
pub(crate) struct StopStrings {
    strings: Vec<StopString>,
    /// The end of the text: as many bytes as the longest beginning of a string that it may be.
    held: Vec<u8>,
}

#[derive(Debug)]
struct StopString {
    text: Vec<u8>,
    /// For each beginning of the text, the length of the longest shorter one that it ends with.
    shorter: Vec<u32>,
    /// The length of the longest beginning that the text so far ends with.
    matched: usize,
}

impl StopStrings {
    /// The most stop strings.
    pub(crate) const MOST: usize = 64;
    /// The most bytes of a stop string.
    pub(crate) const LONGEST: usize = 4096;

    /// Bytes that the stop strings take, with the bytes that they hold back.
    pub(crate) fn memory(strings: &[Vec<u8>]) -> usize {
        let bytes: usize = strings.iter().map(Vec::len).sum();
        let longest = strings.iter().map(Vec::len).max().unwrap_or_default();
        bytes
            .saturating_mul(1 + size_of::<u32>())
            .saturating_add(strings.len().saturating_mul(size_of::<StopString>()))
            .saturating_add(longest)
    }

    /// Stop strings. Empty ones are left out.
    ///
    /// # Errors
    ///
    /// `TooLarge` for more than [`MOST`](Self::MOST) strings or one of more than [`LONGEST`](Self::LONGEST) bytes.
    pub(crate) fn new(strings: Vec<Vec<u8>>) -> Result<Self, Error> {
        if strings.len() > Self::MOST {
            let why = format!("there are {} stop strings, and at most {} are supported", strings.len(), Self::MOST);
            return Err(Error::too_large(why));
        }
        let longest = strings.iter().map(Vec::len).max().unwrap_or_default();
        if longest > Self::LONGEST {
            let why = format!("a stop string has {longest} bytes, and at most {} are supported", Self::LONGEST);
            return Err(Error::too_large(why));
        }
        let strings = strings.into_iter().filter(|text| !text.is_empty()).map(StopString::new).collect();
        Ok(Self { strings, held: Vec::with_capacity(longest) })
    }

    /// Takes the next bytes of the text, and appends to `out` what can be no part of a stop string. `true` where a stop
    /// string is complete: `out` then ends before it, the rest of `bytes` is dropped, and a new text begins.
    ///
    /// Where several end at the same byte, the longest counts.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        if self.strings.is_empty() {
            out.extend_from_slice(bytes);
            return false;
        }
        for &byte in bytes {
            let (mut complete, mut longest) = (0, 0);
            for string in &mut self.strings {
                string.advance(byte);
                longest = longest.max(string.matched);
                if string.matched == string.text.len() {
                    complete = complete.max(string.matched);
                }
            }
            if complete > 0 {
                // The last byte was not appended.
                self.held.truncate(self.held.len() - (complete - 1));
                self.finish(out);
                return true;
            }
            self.held.push(byte);
            out.extend(self.held.drain(..self.held.len() - longest));
        }
        false
    }

    /// The number of bytes that are held back.
    pub(crate) const fn held(&self) -> usize {
        self.held.len()
    }

    /// Appends the bytes that are held back: at the end of a text they are part of it. A new text begins.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        for string in &mut self.strings {
            string.matched = 0;
        }
    }
}

impl StopString {
    fn new(text: Vec<u8>) -> Self {
        let mut string = Self { shorter: vec![0; text.len() + 1], text, matched: 0 };
        for at in 1..string.text.len() {
            string.advance(string.text[at]);
            string.shorter[at + 1] = string.matched as u32;
        }
        string.matched = 0;
        string
    }

    /// Goes on by one byte.
    fn advance(&mut self, byte: u8) {
        while self.matched > 0 && self.text.get(self.matched) != Some(&byte) {
            self.matched = self.shorter[self.matched] as usize;
        }
        if self.text.get(self.matched) == Some(&byte) {
            self.matched += 1;
        }
    }
}
