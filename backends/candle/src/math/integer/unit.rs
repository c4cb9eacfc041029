//! What a set of instructions has to do for a product.

/// Bytes of one word of the left operand: four bytes, or two i16.
pub(super) const WORD: usize = 4;

/// The most rows of a tile.
pub(super) const MOST_ROWS: usize = 8;

/// The most i32 of a tile's row.
pub(super) const MOST_COLUMNS: usize = 48;

/// A set of instructions.
pub(super) trait Unit: Copy {
    /// A line of the right operand: [`GROUP`](Self::GROUP) bytes for each lane.
    type Line: Copy;
    /// A line that was loaded.
    type Right: Copy;
    /// A vector of i32.
    type Ints: Copy;

    /// The lanes of a vector of i32.
    const LANES: usize;
    /// The rows of the right operand in a line: 4, or 2 if a word has two i16.
    const GROUP: usize;
    /// The rows of a tile.
    const ROWS: usize;
    /// The vectors of a tile's row, 3 or less.
    const VECTORS: usize;
    /// Whether the operand that others have unsigned is signed too.
    const BOTH_SIGNED: bool;

    /// The lines in bytes.
    fn lines(bytes: &[u8]) -> &[Self::Line];

    /// Zeros.
    fn zero(self) -> Self::Ints;

    /// Loads a line; its bytes are unsigned unless the left operand's are.
    fn load<const LEFT: bool>(self, line: &Self::Line) -> Self::Right;

    /// Adds the products of a word and the line's bytes to each lane. `LEFT` is as for [`load`](Self::load).
    fn add<const LEFT: bool>(self, sums: Self::Ints, word: [u8; WORD], right: Self::Right) -> Self::Ints;

    /// Stores the lanes, as many as `out` has elements.
    fn store(self, sums: Self::Ints, out: &mut [i32]);

    /// Appends lines of `columns` columns from rows of bytes, each of which has so many, `flip` applied to each byte.
    /// Columns that are missing in the last line are 0.
    fn interleave(self, rows: &[&[u8]], flip: u8, out: &mut [u8]);
}

/// Something that is compiled for each unit.
pub(super) trait Task {
    /// Runs it.
    fn run<U: Unit>(self, unit: U);
}
