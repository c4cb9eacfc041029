//! Where the bytes of a GGUF file are: in memory, or in a file that is read piece by piece.
//!
//! A file is read, and not mapped: whoever shortens a mapped file ends the process at its next access (SIGBUS on Unix),
//! and weights are rearranged for vector instructions anyway, so that a mapping would save no memory.

use super::file::Gguf;
use crate::tensor::budget::{LoadBudget, allocation};
use graphpool::backend::{Error, ModelFile};
use std::ops::Range;

/// Bytes that are read from a file together.
const PIECE: usize = 1 << 20;

/// Bytes of a file that are read first. Most headers are shorter.
const HEAD: usize = 1 << 20;

/// Reads the header of a file, and as little else as it can, and calls `work` with it and with what is left of the
/// budget. The bytes that are read are charged, and freed after the call.
///
/// # Errors
///
/// Those of [`Gguf::read_head`], of the file and of `work`, and `TooLarge` past the budget.
pub(crate) fn with_head<T>(
    file: &ModelFile,
    mut budget: LoadBudget,
    work: impl FnOnce(&Gguf<'_>, LoadBudget) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut length = file.len().min(HEAD);
    loop {
        budget.charge(allocation(length))?;
        let mut head = Vec::new();
        head.try_reserve_exact(length)
            .map_err(|_| Error::too_large(format!("the allocation of {length} bytes of a file failed")))?;
        head.resize(length, 0);
        file.read_at(0, &mut head)?;
        if let Some(header) = Gguf::read_head(&head, file.len(), &mut budget)? {
            return work(&header, budget);
        }
        budget.release(allocation(length));
        length = file.len().min(length.saturating_mul(2));
    }
}

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
