//! Merges neighbouring symbols of a text until no two of them can be merged: the loop that byte pair encoding and
//! `SentencePiece`'s merges have in common.
//!
//! The symbols are a linked list in an array. The merges that are possible are in a heap, by rank and then by position,
//! and stay there when a neighbour changes: one that does not fit any more is recognized when its turn comes. Of n
//! symbols, at most n - 1 merges are made and each adds at most two to the heap, so the time is n log n whatever the
//! text and the merges are.

use super::output::Output;
use graphpool::backend::Error;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// No symbol, or no token.
pub(super) const NONE: u32 = u32::MAX;

/// A part of a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbol {
    /// Where it begins in the text.
    pub(super) start: u32,
    /// Where it ends.
    pub(super) end: u32,
    /// The token of its text, or [`NONE`].
    pub(super) token: u32,
    /// The symbols before and after it, or [`NONE`].
    previous: u32,
    next: u32,
    /// The rank of its merge with the next one, and the token that it would make. Meaningless without a merge.
    rank: u32,
    merged: u32,
}

/// A pair of symbols to a merge: its rank, and the token that the two become.
pub(super) trait Merges {
    fn find(&self, text: &[u8], left: &Symbol, right: &Symbol) -> Option<(u32, u32)>;
}

/// The memory of merges, which is used again for the next text.
#[derive(Debug, Default)]
pub(super) struct Merger {
    symbols: Vec<Symbol>,
    /// Rank in the upper half, position of the left symbol in the lower one.
    heap: BinaryHeap<Reverse<u64>>,
}

impl Merger {
    /// Bytes that the merger takes for a text of `symbols` symbols.
    pub(super) const fn memory(symbols: usize) -> usize {
        // The heap has one entry for each symbol, and one more for each merge, which takes one away and adds two.
        symbols.saturating_mul(size_of::<Symbol>() + 2 * size_of::<u64>())
    }

    /// Bytes that are allocated.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.symbols.capacity() * size_of::<Symbol>() + self.heap.capacity() * size_of::<u64>()
    }

    /// Begins a text of at most `symbols` symbols.
    pub(super) fn begin(&mut self, symbols: usize) {
        self.symbols.clear();
        self.symbols.reserve_exact(symbols);
        self.heap.clear();
        self.heap.reserve_exact(symbols.saturating_mul(2));
    }

    /// Appends a symbol: the text from the end of the last one to `end`.
    pub(super) fn push(&mut self, end: usize, token: Option<u32>) {
        let at = self.symbols.len() as u32;
        let start = self.symbols.last_mut().map_or(0, |last| {
            last.next = at;
            last.end
        });
        let previous = at.checked_sub(1).unwrap_or(NONE);
        let token = token.unwrap_or(NONE);
        self.symbols.push(Symbol { start, end: end as u32, token, previous, next: NONE, rank: NONE, merged: NONE });
    }

    /// Merges the symbols of `text`, and calls `each` with those that are left, in order.
    pub(super) fn run(
        &mut self,
        text: &[u8],
        pairs: &impl Merges,
        output: &mut Output<'_>,
        mut each: impl FnMut(&Symbol, &mut Output<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for left in 0..self.symbols.len() as u32 {
            output.step(1)?;
            self.look(text, pairs, left);
        }
        while let Some(Reverse(entry)) = self.heap.pop() {
            output.step(1)?;
            let (rank, left) = ((entry >> 32) as u32, entry as u32);
            let symbol = self.symbols[left as usize];
            // Taken by the one before it, without one after it, or with another one after it than at that time.
            if symbol.start == symbol.end || symbol.next == NONE || symbol.merged == NONE || symbol.rank != rank {
                continue;
            }
            let right = self.symbols[symbol.next as usize];
            self.symbols[symbol.next as usize].end = right.start;
            let merged = &mut self.symbols[left as usize];
            (merged.end, merged.next, merged.token) = (right.end, right.next, symbol.merged);
            if right.next != NONE {
                self.symbols[right.next as usize].previous = left;
            }
            self.look(text, pairs, left);
            if symbol.previous != NONE {
                self.look(text, pairs, symbol.previous);
            }
        }
        let mut at = if self.symbols.is_empty() { NONE } else { 0 };
        while at != NONE {
            let symbol = &self.symbols[at as usize];
            each(symbol, output)?;
            at = symbol.next;
        }
        Ok(())
    }

    /// Finds the merge of a symbol with the next one.
    fn look(&mut self, text: &[u8], pairs: &impl Merges, left: u32) {
        let symbol = self.symbols[left as usize];
        let found = self.symbols.get(symbol.next as usize).and_then(|right| pairs.find(text, &symbol, right));
        let (rank, merged) = found.unwrap_or((NONE, NONE));
        (self.symbols[left as usize].rank, self.symbols[left as usize].merged) = (rank, merged);
        if merged != NONE {
            self.heap.push(Reverse(u64::from(rank) << 32 | u64::from(left)));
        }
    }
}
