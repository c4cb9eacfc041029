//! Where the rows of a matrix come from: bytes in memory, or what reads them piece by piece.

use graphpool::backend::Error;
use std::ops::Range;

/// The bytes of the rows of a matrix, as a file has them. They are asked for from the first row to the last.
pub(crate) trait RowSource {
    /// The bytes of `rows`. There are at most 16 of them.
    ///
    /// # Errors
    ///
    /// What keeps the source from reading them.
    fn rows(&mut self, rows: Range<usize>) -> Result<&[u8], Error>;
}

/// Rows of so many bytes each, in memory.
#[cfg(test)]
pub(super) struct RowsOf<'a>(pub(super) &'a [u8], pub(super) usize);

#[cfg(test)]
impl RowSource for RowsOf<'_> {
    fn rows(&mut self, rows: Range<usize>) -> Result<&[u8], Error> {
        Ok(&self.0[rows.start * self.1..rows.end * self.1])
    }
}
