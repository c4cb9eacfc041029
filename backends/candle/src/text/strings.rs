//! A list of byte strings in one block of memory.

/// Byte strings, one after another in one allocation, with the end of each in another.
///
/// A list of n strings with b bytes takes 4 n + b bytes, so a file that consists of empty strings does not grow when it
/// is read. The strings have at most `u32::MAX` bytes together.
#[derive(Debug, Clone, Default)]
pub(crate) struct StringList {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl StringList {
    /// An empty list with room for `count` strings of `bytes` bytes together.
    pub(crate) fn with_capacity(count: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(count) }
    }

    /// Memory that [`with_capacity`](Self::with_capacity) allocates, in bytes.
    pub(crate) const fn memory(count: usize, bytes: usize) -> usize {
        bytes.saturating_add(count.saturating_mul(size_of::<u32>()))
    }

    /// Appends a string. `false`, and nothing is appended, if the list would have more bytes than it can.
    #[must_use]
    pub(crate) fn push(&mut self, string: &[u8]) -> bool {
        let Ok(end) = u32::try_from(self.bytes.len().saturating_add(string.len())) else { return false };
        self.bytes.extend_from_slice(string);
        self.ends.push(end);
        true
    }

    /// The number of strings.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The string at `index`.
    pub(crate) fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)? as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        Some(&self.bytes[start..end])
    }

    /// The strings in order.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }
}

impl<'a> FromIterator<&'a [u8]> for StringList {
    /// # Panics
    ///
    /// If the strings have more bytes than a list can.
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(strings: I) -> Self {
        let mut list = Self::default();
        for string in strings {
            assert!(list.push(string), "a list of strings has at most u32::MAX bytes");
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_back_as_they_were_pushed() {
        let mut list = StringList::with_capacity(3, 4);
        for string in [&b""[..], b"one", b"", b"\xff"] {
            assert!(list.push(string));
        }
        assert_eq!(list.len(), 4);
        assert_eq!(list.iter().collect::<Vec<_>>(), [&b""[..], b"one", b"", b"\xff"]);
        assert_eq!(list.get(4), None);
    }
}
