//! The string table of a model: each string is stored once, and tensors of strings hold its id.
//!
//! No operator creates a string that the model does not contain. So a graph's strings are complete after the load, and
//! operators that move elements move strings like numbers. A string that a caller passes in and that the model does not
//! contain gets the id [`StringId::UNKNOWN`]: it equals no string of the model, and an output that has it is an error.

use std::collections::HashMap;
use std::sync::Arc;

/// The id of a string in its model's string table. The default is the id of the empty string.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct StringId(u32);

impl StringId {
    /// The id of every string that the model does not contain.
    pub(crate) const UNKNOWN: Self = Self(u32::MAX);

    /// The position in the table.
    pub(crate) fn index(self) -> u32 {
        self.0
    }
}

/// Bytes that a string takes besides its own: its entries in the list and in the map, and its allocation.
const BOOKKEEPING: usize = 80;

/// The strings of a model.
#[derive(Debug)]
pub(crate) struct StringTable {
    strings: Vec<Arc<str>>,
    ids: HashMap<Arc<str>, u32>,
    bytes: usize,
}

impl StringTable {
    /// A table with the empty string, whose id is 0.
    pub(crate) fn new() -> Self {
        let empty: Arc<str> = Arc::from("");
        Self { strings: vec![Arc::clone(&empty)], ids: HashMap::from([(empty, 0)]), bytes: 0 }
    }

    /// The id of a string, which is added if it is new.
    pub(crate) fn intern(&mut self, string: &str) -> StringId {
        if let Some(&id) = self.ids.get(string) {
            return StringId(id);
        }
        // The limit of a load is reached long before 2³² strings are decoded.
        let Ok(id) = u32::try_from(self.strings.len()) else { return StringId::UNKNOWN };
        let shared: Arc<str> = Arc::from(string);
        self.strings.push(Arc::clone(&shared));
        self.ids.insert(shared, id);
        self.bytes += string.len() + BOOKKEEPING;
        StringId(id)
    }

    /// The id of a string, or [`StringId::UNKNOWN`].
    pub(crate) fn find(&self, string: &str) -> StringId {
        self.ids.get(string).map_or(StringId::UNKNOWN, |&id| StringId(id))
    }

    /// The string of an id; `None` for [`StringId::UNKNOWN`].
    pub(crate) fn get(&self, id: StringId) -> Option<&str> {
        self.strings.get(id.0 as usize).map(|string| &**string)
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
    fn equal_strings_have_one_id() {
        let mut table = StringTable::new();
        let (one, two) = (table.intern("one"), table.intern("two"));
        assert_ne!(one, two);
        assert_eq!((table.intern("one"), table.find("two"), table.find("three")), (one, two, StringId::UNKNOWN));
        let found = (table.get(one), table.get(StringId::default()), table.get(StringId::UNKNOWN));
        assert_eq!(found, (Some("one"), Some(""), None));
        assert_eq!(table.bytes(), 6 + 2 * BOOKKEEPING);
    }
}
