//! Weights in floats of 32 or 16 bits: their bytes as in the file, at an address that suits vector instructions.

use graphpool::backend::{ComputeControl, Error};
use half::{bf16, f16};

use super::dense::Job;
use super::processor::Processor;
use super::rows::RowSource;
use super::tile::{Half, TILE};
use super::types::QuantType;
use super::vector::{FloatUnit, Product, VectorUnit};

/// The alignment of the first row, in bytes: that of a cache line.
const ALIGNMENT: usize = 64;

/// The floats of a matrix.
#[derive(Debug)]
pub(super) struct Floats {
    ty: QuantType,
    rows: usize,
    cols: usize,
    /// The weights begin at `start`.
    bytes: Vec<u8>,
    start: usize,
}

impl Floats {
    /// The bytes that a matrix takes. `None` for a type of blocks, and for a number that is too large.
    pub(super) fn bytes(ty: QuantType, rows: usize, cols: usize) -> Option<usize> {
        (ty.block_len() == 1).then(|| ty.matrix_bytes(rows, cols)?.checked_add(ALIGNMENT))?
    }

    /// Copies the floats of a file's rows, which are little-endian. `None` for a type of blocks.
    pub(super) fn read(
        ty: QuantType,
        rows: usize,
        cols: usize,
        source: &mut dyn RowSource,
    ) -> Result<Option<Self>, Error> {
        let Some(len) = Self::bytes(ty, rows, cols) else { return Ok(None) };
        let mut bytes = Vec::<u8>::new();
        bytes.try_reserve_exact(len).map_err(|_| Error::too_large(format!("no memory for {len} bytes of weights")))?;
        // The function may give no answer, a number that is too large; the weights are only slower then.
        let start = Some(bytes.as_ptr().align_offset(ALIGNMENT)).filter(|&start| start < ALIGNMENT).unwrap_or(0);
        bytes.resize(start, 0);
        for row in (0..rows).step_by(TILE) {
            bytes.extend_from_slice(source.rows(row..rows.min(row + TILE))?);
        }
        Ok(Some(Self { ty, rows, cols, bytes, start }))
    }

    fn weights(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Writes the weights of a row, which is as long as `out`.
    pub(super) fn row(&self, index: usize, out: &mut [f32]) {
        let row = &self.weights()[index * out.len() * self.ty.block_bytes()..];
        match self.ty {
            QuantType::F32 => convert(row, out, f32::from_le_bytes),
            QuantType::F16 => convert(row, out, |bytes| f16::from_le_bytes(bytes).to_f32()),
            _ => convert(row, out, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        }
    }

    /// The product with the rows of `x`, of `cols` elements each, by rows of `rows` elements of `out`.
    pub(super) fn product(
        &self,
        processor: Processor,
        x: &[f32],
        out: &mut [f32],
        control: &ComputeControl,
    ) -> Result<(), Error> {
        let (ty, rows, cols, weights) = (self.ty, self.rows, self.cols, self.weights());
        // A whole number of the rows that are multiplied together.
        let step = (processor.interval() / x.len().max(1)).max(1).next_multiple_of(4);
        for start in (0..rows).step_by(step) {
            control.check()?;
            let range = (start, rows.min(start + step));
            processor.run(Job { ty, weights, rows, cols, range, x, out });
        }
        Ok(())
    }
}

fn convert<const N: usize>(bytes: &[u8], out: &mut [f32], float: impl Fn([u8; N]) -> f32) {
    for (out, &bytes) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *out = float(bytes);
    }
}

/// Converts f16 to f32. The slices have the same length.
pub(crate) fn widen(halves: &[f16], out: &mut [f32]) {
    Processor::best().run(Widen(halves, out));
}

/// What [`widen`] computes.
pub(super) struct Widen<'a>(pub(super) &'a [f16], pub(super) &'a mut [f32]);

impl Product for Widen<'_> {
    #[inline(always)]
    fn run<V: VectorUnit + FloatUnit>(self, v: V) {
        let ((halves, rest), (out, rest_of_out)) = (self.0.as_chunks::<TILE>(), self.1.as_chunks_mut());
        for (halves, out) in halves.iter().zip(out) {
            let mut half = Half([0; 32]);
            for (bytes, x) in half.0.as_chunks_mut().0.iter_mut().zip(halves) {
                *bytes = x.to_le_bytes();
            }
            for part in 0..TILE / V::LANES {
                v.store(v.floats(&half, part), out, part);
            }
        }
        for (out, half) in rest_of_out.iter_mut().zip(rest) {
            *out = half.to_f32();
        }
    }
}
