//! The strings of a model: each is stored once, and tensors hold their numbers.
//!
//! No operator makes a string that the model doesn't name, so that a graph's strings are known at load and every
//! operator that moves elements moves strings as it moves numbers. A string that a caller gives and the model doesn't
//! name is [`Text::OTHER`]: it is equal to no string of the model, and no output may have it.

use std::collections::HashMap;
use std::sync::Arc;

/// The number of a string. The default is the empty string's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Text(u32);

impl Text {
    /// A string that the model doesn't name.
    pub(crate) const OTHER: Self = Self(u32::MAX);

    pub(crate) fn number(self) -> u32 {
        self.0
    }
}

/// Bytes that a string takes besides its own: its place in the list, its place in the map, and its allocation.
const BOOKKEEPING: usize = 80;

/// The strings of a model.
#[derive(Debug)]
pub(crate) struct Texts {
    list: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
    bytes: usize,
}

impl Texts {
    /// The empty string alone.
    pub(crate) fn new() -> Self {
        let empty: Arc<str> = Arc::from("");
        Self { list: vec![Arc::clone(&empty)], numbers: HashMap::from([(empty, 0)]), bytes: 0 }
    }

    /// The number of a string, which is new where it isn't there yet.
    pub(crate) fn number(&mut self, text: &str) -> Text {
        if let Some(&number) = self.numbers.get(text) {
            return Text(number);
        }
        // A model of 2³² strings is past what can be decoded.
        let Ok(number) = u32::try_from(self.list.len()) else { return Text::OTHER };
        let shared: Arc<str> = Arc::from(text);
        self.list.push(Arc::clone(&shared));
        self.numbers.insert(shared, number);
        self.bytes += text.len() + BOOKKEEPING;
        Text(number)
    }

    /// The number of a string, where it is there.
    pub(crate) fn find(&self, text: &str) -> Text {
        self.numbers.get(text).map_or(Text::OTHER, |&number| Text(number))
    }

    /// The string of a number; none for [`Text::OTHER`].
    pub(crate) fn get(&self, text: Text) -> Option<&str> {
        self.list.get(text.0 as usize).map(|text| &**text)
    }

    /// Bytes that the strings take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_strings_have_one_number() {
        let mut texts = Texts::new();
        let (one, two) = (texts.number("one"), texts.number("two"));
        assert_ne!(one, two);
        assert_eq!((texts.number("one"), texts.find("two"), texts.find("three")), (one, two, Text::OTHER));
        assert_eq!((texts.get(one), texts.get(Text::default()), texts.get(Text::OTHER)), (Some("one"), Some(""), None));
        assert_eq!(texts.bytes(), 6 + 2 * BOOKKEEPING);
    }
}
