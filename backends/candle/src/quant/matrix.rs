//! A matrix of weights of any supported type: its construction from a file's bytes, its products, its rows.

use graphpool::backend::{ComputeControl, Error};

use super::activations::Activations;
use super::floats::Floats;
use super::processor::{self, Processor};
use super::rows::RowSource;
#[cfg(test)]
use super::rows::RowsOf;
use super::tile::Tiles;
use super::types::QuantType;

/// A matrix of weights. Immutable, so that any number of threads can multiply by it.
#[derive(Debug)]
pub(crate) struct QuantMatrix {
    rows: usize,
    cols: usize,
    weights: Weights,
}

#[derive(Debug)]
enum Weights {
    Tiles(Tiles),
    Floats(Floats),
}

/// Memory that products use and leave for the next product. It grows to what the largest needs
/// ([`QuantMatrix::scratch_bytes`]).
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    activations: Activations,
}

impl Scratch {
    /// The bytes that it has.
    pub(crate) fn bytes(&self) -> usize {
        self.activations.bytes()
    }
}

impl QuantMatrix {
    /// As [`read`](Self::read), from the bytes of all rows.
    #[cfg(test)]
    pub(crate) fn new(ty: QuantType, rows: usize, cols: usize, bytes: &[u8]) -> Result<Self, Error> {
        let expected = file_bytes(ty, rows, cols)?;
        if bytes.len() != expected {
            return Err(Error::invalid_encoding(format!(
                "a matrix of {rows} × {cols} weights of type {} has {expected} bytes, not {}",
                ty.name(),
                bytes.len()
            )));
        }
        Self::read(ty, rows, cols, &mut RowsOf(bytes, expected / rows))
    }

    /// A matrix of `rows` rows of `cols` weights each, from the bytes of a file, which are read row after row.
    ///
    /// The bytes need no alignment and are not kept. [`resident_bytes`](Self::resident_bytes) says what is allocated;
    /// the caller charges it before.
    ///
    /// # Errors
    ///
    /// * [`InvalidEncoding`](graphpool::backend::ErrorKind::InvalidEncoding) if a row is no whole number of blocks, or
    ///   if the matrix has no element.
    /// * [`TooLarge`](graphpool::backend::ErrorKind::TooLarge) if the allocation fails.
    /// * Those of the source.
    pub(crate) fn read(ty: QuantType, rows: usize, cols: usize, source: &mut dyn RowSource) -> Result<Self, Error> {
        file_bytes(ty, rows, cols)?;
        let weights = if let Some(tiles) = Tiles::read(ty, rows, cols, source)? {
            Weights::Tiles(tiles)
        } else if let Some(floats) = Floats::read(ty, rows, cols, source)? {
            Weights::Floats(floats)
        } else {
            return Err(Error::unsupported(format!("matrices of type {} are not supported", ty.name())));
        };
        Ok(Self { rows, cols, weights })
    }

    /// The bytes that a matrix takes in memory, for which the caller has to charge.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), for numbers that can't be those of a matrix.
    pub(crate) fn resident_bytes(ty: QuantType, rows: usize, cols: usize) -> Result<usize, Error> {
        file_bytes(ty, rows, cols)?;
        let bytes = Tiles::bytes(ty, rows, cols).or_else(|| Floats::bytes(ty, rows, cols));
        bytes.ok_or_else(|| Error::too_large(format!("a matrix of {rows} × {cols} weights is too large")))
    }

    /// The most bytes that products of up to `n` rows with this matrix let a [`Scratch`] have.
    ///
    /// The largest of the numbers of several matrices is the bound for a scratch that serves all of them, whatever
    /// their types.
    pub(crate) fn scratch_bytes(&self, n: usize) -> usize {
        // For each element a level and up to half a byte of scales and sums.
        processor::group_elements(n, self.cols).saturating_mul(3).div_ceil(2)
    }

    /// The number of rows: the elements of one row of a product.
    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }

    /// The product with one matrix, as [`products`](Self::products).
    #[cfg(test)]
    pub(crate) fn product(
        &self,
        x: &[f32],
        n: usize,
        out: &mut [f32],
        scratch: &mut Scratch,
        control: &ComputeControl,
    ) -> Result<(), Error> {
        Self::products([(self, out)], x, n, scratch, control)
    }

    /// Writes the product of `n` rows of activations, `x` (`n` × `cols`), with the rows of each matrix to the slice beside
    /// it, `out` (`n` × `rows`): `out[i][j]` is the sum of `x[i][k] * weights[j][k]` over all `k`.
    ///
    /// The activations are quantized to 8 bits, except for matrices of floats, and once for neighbours of the same type.
    /// Deadline and cancel token are checked at least once a millisecond.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`](graphpool::backend::ErrorKind::RuntimeError) if a slice has another length, and as
    /// [`ComputeControl::check`]. The contents of `out` are unspecified then.
    pub(crate) fn products<const N: usize>(
        mut products: [(&Self, &mut [f32]); N],
        x: &[f32],
        n: usize,
        scratch: &mut Scratch,
        control: &ComputeControl,
    ) -> Result<(), Error> {
        for (matrix, out) in &products {
            if n.checked_mul(matrix.cols) != Some(x.len()) || n.checked_mul(matrix.rows) != Some(out.len()) {
                return Err(Error::runtime_error(format!(
                    "a product of {n} rows with {} × {} weights has {} activations and {} results",
                    matrix.rows,
                    matrix.cols,
                    x.len(),
                    out.len()
                )));
            }
        }
        control.check()?;
        let (processor, activations) = (Processor::best(), &mut scratch.activations);
        let group = processor::group(products.first().map_or(1, |(matrix, _)| matrix.cols));
        for start in (0..n).step_by(group) {
            let end = n.min(start + group);
            let mut quantized_for = None;
            for (matrix, out) in &mut products {
                let (x, out) =
                    (&x[start * matrix.cols..end * matrix.cols], &mut out[start * matrix.rows..end * matrix.rows]);
                match &matrix.weights {
                    Weights::Tiles(tiles) => {
                        if quantized_for != Some(tiles.ty()) {
                            processor.quantize(tiles, x, activations);
                            quantized_for = Some(tiles.ty());
                        }
                        processor.multiply(tiles, activations, out, control)?;
                    }
                    Weights::Floats(floats) => floats.product(processor, x, out, control)?,
                }
            }
        }
        Ok(())
    }

    /// Writes the weights of row `index` to `out`, which has `cols` elements.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`](graphpool::backend::ErrorKind::RuntimeError) if there is no such row, or `out` has another
    /// length.
    pub(crate) fn row(&self, index: usize, out: &mut [f32]) -> Result<(), Error> {
        if index >= self.rows || out.len() != self.cols {
            return Err(Error::runtime_error(format!(
                "row {index} of {} × {} weights was read into {} elements",
                self.rows,
                self.cols,
                out.len()
            )));
        }
        match &self.weights {
            Weights::Tiles(tiles) => tiles.row(index, out),
            Weights::Floats(floats) => floats.row(index, out),
        }
        Ok(())
    }
}

/// The bytes of a matrix in a file, or why there is no such matrix.
fn file_bytes(ty: QuantType, rows: usize, cols: usize) -> Result<usize, Error> {
    if rows == 0 || cols == 0 {
        return Err(Error::invalid_encoding(format!("a matrix of {rows} × {cols} weights has no element")));
    }
    ty.matrix_bytes(rows, cols).ok_or_else(|| {
        Error::invalid_encoding(format!(
            "a matrix of {rows} × {cols} weights of type {} is too large, or its rows are no whole blocks of {} weights",
            ty.name(),
            ty.block_len()
        ))
    })
}
