//! The types of tensors in ggml's files, their numbers, and the sizes of their blocks.

use graphpool::backend::Error;

/// A type of weights. A row is a sequence of blocks; each has the same number of weights and the same number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum QuantType {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
}

impl QuantType {
    /// Every type.
    pub(crate) const ALL: [Self; 13] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// The type with this number in ggml's `enum ggml_type`.
    ///
    /// # Errors
    ///
    /// [`UnsupportedOperation`](graphpool::backend::ErrorKind::UnsupportedOperation) for a type of ggml's that is not
    /// supported, by its name. [`InvalidEncoding`](graphpool::backend::ErrorKind::InvalidEncoding) for a number that
    /// ggml does not use.
    pub(crate) fn from_ggml(number: u32) -> Result<Self, Error> {
        if let Some(ty) = Self::ALL.into_iter().find(|ty| ty.ggml() == number) {
            return Ok(ty);
        }
        match refused(number) {
            Some(name) => Err(Error::unsupported(format!("tensors of ggml's type {name} are not supported"))),
            None => Err(Error::invalid_encoding(format!("ggml has no tensor type {number}"))),
        }
    }

    /// Its number in ggml's `enum ggml_type`.
    pub(crate) const fn ggml(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q2K => 10,
            Self::Q3K => 11,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Bf16 => 30,
        }
    }

    /// Its name in ggml.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// The number of weights in a block.
    pub(crate) const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// The number of bytes of a block.
    pub(crate) const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// The bytes of a matrix in a file. `None` if `cols` is no whole number of blocks, or if the number is too large.
    pub(crate) fn matrix_bytes(self, rows: usize, cols: usize) -> Option<usize> {
        let blocks = cols.is_multiple_of(self.block_len()).then(|| cols / self.block_len())?;
        blocks.checked_mul(self.block_bytes())?.checked_mul(rows)
    }
}

/// The name of a type of ggml's that is not supported.
const fn refused(number: u32) -> Option<&'static str> {
    Some(match number {
        4 => "Q4_2",
        5 => "Q4_3",
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        31 => "Q4_0_4_4",
        32 => "Q4_0_4_8",
        33 => "Q4_0_8_8",
        34 => "TQ1_0",
        35 => "TQ2_0",
        36 => "IQ4_NL_4_4",
        37 => "IQ4_NL_4_8",
        38 => "IQ4_NL_8_8",
        39 => "MXFP4",
        40 => "NVFP4",
        41 => "Q1_0",
        42 => "Q2_0",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use graphpool::backend::ErrorKind;

    #[test]
    fn every_number_is_a_type_or_refused_by_name() {
        for number in 0..=42 {
            match QuantType::from_ggml(number) {
                Ok(ty) => assert_eq!(ty.ggml(), number),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::UnsupportedOperation, "{number}");
                    assert!(error.message().contains(refused(number).unwrap()));
                }
            }
        }
        for number in [43, 100, u32::MAX] {
            assert_eq!(QuantType::from_ggml(number).unwrap_err().kind(), ErrorKind::InvalidEncoding);
        }
    }

    #[test]
    fn the_bytes_of_a_matrix_are_whole_blocks_or_none() {
        assert_eq!(QuantType::Q8_0.matrix_bytes(3, 64), Some(3 * 2 * 34));
        assert_eq!(QuantType::Q6K.matrix_bytes(2, 512), Some(2 * 2 * 210));
        assert_eq!(QuantType::F16.matrix_bytes(2, 7), Some(28));
        assert_eq!(QuantType::Q8_0.matrix_bytes(3, 63), None);
        assert_eq!(QuantType::Q4K.matrix_bytes(1, 128), None);
        assert_eq!(QuantType::F32.matrix_bytes(usize::MAX / 2, 4), None);
    }
}
