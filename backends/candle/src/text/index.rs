//! Finds a token by its text, and a merge by its two tokens.
//!
//! Both are hash tables with a random key, so no vocabulary can be made whose texts collide.

use super::strings::StringList;
use hashbrown::HashTable;
use std::hash::{BuildHasher as _, RandomState};

/// Bytes of a hash table with room for `count` entries of `entry` bytes: it has a power of two of slots, of which it
/// fills 7 in 8, each with a byte of its own, and a group of these at the end.
pub(super) const fn table_bytes(count: usize, entry: usize) -> usize {
    if count == 0 {
        return 0;
    }
    match (count.saturating_mul(8) / 7).checked_next_power_of_two() {
        Some(slots) => slots.saturating_mul(entry + 1).saturating_add(512),
        None => usize::MAX,
    }
}

/// The tokens by their texts.
#[derive(Debug)]
pub(super) struct TokenIndex {
    tokens: HashTable<u32>,
    state: RandomState,
}

impl TokenIndex {
    /// An index of all tokens with a text. Of tokens with the same text, it has the first.
    pub(super) fn new(texts: &StringList) -> Self {
        let mut index = Self { tokens: HashTable::with_capacity(texts.len()), state: RandomState::new() };
        for (token, text) in texts.iter().enumerate().filter(|(_, text)| !text.is_empty()) {
            if index.find(texts, text).is_none() {
                let Self { tokens, state } = &mut index;
                let hash = |&token: &u32| state.hash_one(texts.get(token as usize));
                tokens.insert_unique(hash(&(token as u32)), token as u32, hash);
            }
        }
        index
    }

    /// The token of a text, among the texts that the index was made of.
    pub(super) fn find(&self, texts: &StringList, text: &[u8]) -> Option<u32> {
        let hash = self.state.hash_one(Some(text));
        self.tokens.find(hash, |&token| texts.get(token as usize) == Some(text)).copied()
    }
}

/// Two tokens that become one.
#[derive(Debug, Clone, Copy)]
struct Merge {
    left: u32,
    right: u32,
    /// Merges of a lower rank come first.
    rank: u32,
    both: u32,
}

/// The merges by their two tokens.
#[derive(Debug)]
pub(super) struct MergeIndex {
    merges: HashTable<Merge>,
    state: RandomState,
}

impl MergeIndex {
    /// Bytes of an index of `count` merges.
    pub(super) const fn memory(count: usize) -> usize {
        table_bytes(count, size_of::<Merge>())
    }

    /// The merges of a file: two texts each, with a blank between them. The first of equal ones counts, and one whose
    /// texts or whose result is no token is left out, because no text could become it.
    pub(super) fn new(lines: &StringList, texts: &StringList, tokens: &TokenIndex) -> Self {
        let mut index = Self { merges: HashTable::with_capacity(lines.len()), state: RandomState::new() };
        let mut result = Vec::new();
        for (rank, line) in lines.iter().enumerate() {
            // A blank at the beginning belongs to the first text.
            let Some(blank) = line.iter().skip(1).position(|&byte| byte == b' ') else { continue };
            let (left, right) = (&line[..=blank], &line[blank + 2..]);
            result.clear();
            result.extend_from_slice(left);
            result.extend_from_slice(right);
            let find = |text: &[u8]| tokens.find(texts, text);
            let (Some(left), Some(right), Some(both)) = (find(left), find(right), find(&result)) else { continue };
            if index.find(left, right).is_none() {
                let Self { merges, state } = &mut index;
                let hash = |merge: &Merge| state.hash_one((merge.left, merge.right));
                let merge = Merge { left, right, rank: rank as u32, both };
                merges.insert_unique(hash(&merge), merge, hash);
            }
        }
        index
    }

    /// The rank of the merge of two tokens, and what they become.
    pub(super) fn find(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let hash = self.state.hash_one((left, right));
        let merge = self.merges.find(hash, |merge| merge.left == left && merge.right == right)?;
        Some((merge.rank, merge.both))
    }
}
