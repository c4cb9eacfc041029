//! Where the bytes of a GGUF file are: in memory, or in a file that is read piece by piece.
//!
//! A file is read, and not mapped: whoever shortens a mapped file ends the process at its next access (SIGBUS on Unix),
//! and weights are rearranged for vector instructions anyway, so that a mapping would save no memory.

use crate::tensor::budget::{LoadBudget, allocation};
use graphpool::backend::{Error, ModelFile};
use std::ops::Range;

/// Bytes that are read from a file together.
const PIECE: usize = 1 << 20;

/// The bytes of a GGUF file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    Bytes(&'a [u8]),
    File(&'a ModelFile),
}

/// Reads bytes of a file in ascending order.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    source: Source<'a>,
    /// Bytes of the file from `at` on.
    piece: Vec<u8>,
    at: usize,
    charged: usize,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(source: Source<'a>) -> Self {
        Self { source, piece: Vec::new(), at: 0, charged: 0 }
    }

    /// Charges what reads of up to `most` bytes need, for those of a tensor of `len` bytes.
    pub(crate) fn prepare(&mut self, most: usize, len: usize, budget: &mut LoadBudget) -> Result<(), Error> {
        let piece = most.max(PIECE).min(len);
        if matches!(self.source, Source::Bytes(_)) || piece <= self.piece.capacity() {
            return Ok(());
        }
        self.end(budget);
        budget.charge(allocation(piece))?;
        self.charged = allocation(piece);
        self.piece
            .try_reserve_exact(piece)
            .map_err(|_| Error::too_large(format!("the allocation of {piece} bytes of a file failed")))
    }

    /// The bytes `range` of the file, for which [`prepare`](Self::prepare) was called. Of those up to `end` some more
    /// are read for the next call.
    pub(crate) fn bytes(&mut self, range: Range<usize>, end: usize) -> Result<&[u8], Error> {
        let file = match self.source {
            Source::Bytes(bytes) => return Ok(&bytes[range]),
            Source::File(file) => file,
        };
        if range.start < self.at || range.end > self.at + self.piece.len() {
            let len = end.min(range.start + self.piece.capacity()).max(range.end) - range.start;
            self.piece.resize(len, 0);
            self.at = range.start;
            if let Err(error) = file.read_at(range.start, &mut self.piece) {
                self.piece.clear();
                return Err(error);
            }
        }
        Ok(&self.piece[range.start - self.at..range.end - self.at])
    }

    /// Frees what was charged.
    pub(crate) fn end(&mut self, budget: &mut LoadBudget) {
        self.piece = Vec::new();
        budget.release(std::mem::take(&mut self.charged));
    }
}
