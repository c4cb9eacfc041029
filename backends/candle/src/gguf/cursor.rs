//! The bytes in front of the reader. No read goes past their end.
//!
//! They may be the beginning of a longer file. Numbers are then held against the length of the file, and a read past
//! the bytes that are there is noted, so that it can be made again with more of them.

use graphpool::backend::Error;

/// A position in a file's bytes.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The length of the file.
    length: usize,
    ended: bool,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self::of_file(bytes, bytes.len())
    }

    /// Of a file of `length` bytes, `bytes` are the first ones.
    pub(crate) const fn of_file(bytes: &'a [u8], length: usize) -> Self {
        Self { bytes, at: 0, length, ended: false }
    }

    /// Whether a read has failed that more bytes of the file would have served.
    pub(crate) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Bytes that were read.
    pub(crate) const fn position(&self) -> usize {
        self.at
    }

    /// Bytes that are left of the file.
    pub(crate) const fn left(&self) -> usize {
        self.length - self.at
    }

    /// The next `count` bytes. `what` names them in the error.
    pub(crate) fn take(&mut self, count: u64, what: impl FnOnce() -> String) -> Result<&'a [u8], Error> {
        let left = self.left();
        match usize::try_from(count).ok().filter(|&count| count <= left) {
            Some(count) if self.at + count <= self.bytes.len() => {
                let taken = &self.bytes[self.at..self.at + count];
                self.at += count;
                Ok(taken)
            }
            Some(_) => {
                self.ended = true;
                Err(Error::invalid_encoding(format!("{} is not among the first bytes of the file", what())))
            }
            None => Err(Error::invalid_encoding(format!(
                "the GGUF file ends within {}: {count} bytes are needed at byte {}, and {left} are left",
                what(),
                self.at
            ))),
        }
    }

    fn array<const N: usize>(&mut self, what: impl FnOnce() -> String) -> Result<[u8; N], Error> {
        let taken = self.take(N as u64, what)?;
        let mut array = [0; N];
        array.copy_from_slice(taken);
        Ok(array)
    }

    pub(crate) fn u32(&mut self, what: impl FnOnce() -> String) -> Result<u32, Error> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: impl FnOnce() -> String) -> Result<u64, Error> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// The next string: its length as a u64, then its bytes.
    pub(crate) fn string(&mut self, what: impl Fn() -> String) -> Result<&'a [u8], Error> {
        let length = self.u64(|| format!("the length of {}", what()))?;
        self.take(length, what)
    }

    /// Refuses a count of items that take at least `least` bytes each, if so many bytes are not left.
    pub(crate) fn fits(&self, count: u64, least: usize, what: impl FnOnce() -> String) -> Result<usize, Error> {
        let most = self.left() / least;
        usize::try_from(count).ok().filter(|&count| count <= most).ok_or_else(|| {
            Error::invalid_encoding(format!(
                "the GGUF file declares {count} {}, and the {} bytes that are left hold at most {most}",
                what(),
                self.left()
            ))
        })
    }
}
