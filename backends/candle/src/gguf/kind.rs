//! The types of tensors in a GGUF file: elements in blocks, and the bytes of a block.

use graphpool::backend::Error;

/// A type of tensor that the format has, with its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TensorKind {
    /// The number in the file.
    pub(crate) number: u32,
    /// The name that ggml gives it.
    pub(crate) name: &'static str,
    /// Elements of a block. The length of a row is a multiple of it.
    pub(crate) block_len: usize,
    /// Bytes of a block.
    pub(crate) block_bytes: usize,
}

/// All types, in the order of their numbers. The numbers that are missing were given up by the format.
const KINDS: [TensorKind; 35] = [
    kind(0, "F32", 1, 4),
    kind(1, "F16", 1, 2),
    kind(2, "Q4_0", 32, 18),
    kind(3, "Q4_1", 32, 20),
    kind(6, "Q5_0", 32, 22),
    kind(7, "Q5_1", 32, 24),
    kind(8, "Q8_0", 32, 34),
    kind(9, "Q8_1", 32, 36),
    kind(10, "Q2_K", 256, 84),
    kind(11, "Q3_K", 256, 110),
    kind(12, "Q4_K", 256, 144),
    kind(13, "Q5_K", 256, 176),
    kind(14, "Q6_K", 256, 210),
    kind(15, "Q8_K", 256, 292),
    kind(16, "IQ2_XXS", 256, 66),
    kind(17, "IQ2_XS", 256, 74),
    kind(18, "IQ3_XXS", 256, 98),
    kind(19, "IQ1_S", 256, 50),
    kind(20, "IQ4_NL", 32, 18),
    kind(21, "IQ3_S", 256, 110),
    kind(22, "IQ2_S", 256, 82),
    kind(23, "IQ4_XS", 256, 136),
    kind(24, "I8", 1, 1),
    kind(25, "I16", 1, 2),
    kind(26, "I32", 1, 4),
    kind(27, "I64", 1, 8),
    kind(28, "F64", 1, 8),
    kind(29, "IQ1_M", 256, 56),
    kind(30, "BF16", 1, 2),
    kind(34, "TQ1_0", 256, 54),
    kind(35, "TQ2_0", 256, 66),
    kind(39, "MXFP4", 32, 17),
    kind(40, "NVFP4", 64, 36),
    kind(41, "Q1_0", 128, 18),
    kind(42, "Q2_0", 64, 18),
];

const fn kind(number: u32, name: &'static str, block_len: usize, block_bytes: usize) -> TensorKind {
    TensorKind { number, name, block_len, block_bytes }
}

impl TensorKind {
    /// The type with this number.
    ///
    /// # Errors
    ///
    /// `UnsupportedOperation` for a number that the format does not have, or no longer has.
    pub(crate) fn of(number: u32) -> Result<Self, Error> {
        let found = KINDS.binary_search_by_key(&number, |kind| kind.number);
        found
            .map(|index| KINDS[index])
            .map_err(|_| Error::unsupported(format!("the tensor type {number} is not known")))
    }

    /// Bytes of `rows` rows of `cols` elements. `None` if `cols` is no multiple of a block, or past `usize::MAX`.
    pub(crate) const fn bytes(self, rows: usize, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_len) {
            return None;
        }
        match (cols / self.block_len).checked_mul(self.block_bytes) {
            Some(row) => row.checked_mul(rows),
            None => None,
        }
    }
}
