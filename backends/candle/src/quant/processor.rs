//! The choice of a vector unit at run time, and the products of a matrix in tiles.

use graphpool::backend::{ComputeControl, Error};

use super::activations::Activations;
#[cfg(target_arch = "x86_64")]
use super::avx2::Avx2;
use super::kernel::Job;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
use super::neon::Neon;
use super::plain::Plain;
use super::tile::{TILE, Tiles};
use super::vector::{Product, VectorUnit};
#[cfg(target_arch = "x86_64")]
use super::vnni::Vnni;
use crate::compute::context::{CHECK_INTERVAL, VECTOR_CHECK_INTERVAL};

/// What the rows of activations that are multiplied in one pass over a matrix take, about: they stay in a core's cache.
const GROUP_BYTES: usize = 1 << 18;

/// The instructions that products are computed with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Processor {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Vnni(Vnni),
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    Neon(Neon),
}

impl Processor {
    /// All that this processor has, the fastest first.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let units = [Vnni::try_new().map(Self::Vnni), Avx2::try_new().map(Self::Avx2)].into_iter().flatten();
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        let units = Neon::try_new().map(Self::Neon).into_iter();
        #[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little"))))]
        let units = std::iter::empty();
        units.chain([Self::Plain])
    }

    /// The fastest.
    pub(super) fn best() -> Self {
        Self::available().next().unwrap_or(Self::Plain)
    }

    const fn width(self) -> usize {
        match self {
            Self::Plain => Plain::WIDTH,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => Avx2::WIDTH,
            #[cfg(target_arch = "x86_64")]
            Self::Vnni(_) => Vnni::WIDTH,
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Self::Neon(_) => Neon::WIDTH,
        }
    }

    const fn bytes_offset(self) -> i32 {
        match self {
            Self::Plain => Plain::BYTES_OFFSET,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => Avx2::BYTES_OFFSET,
            #[cfg(target_arch = "x86_64")]
            Self::Vnni(_) => Vnni::BYTES_OFFSET,
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Self::Neon(_) => Neon::BYTES_OFFSET,
        }
    }

    /// Multiplications between two checks of deadline and cancel token.
    pub(super) const fn interval(self) -> usize {
        match self {
            Self::Plain => CHECK_INTERVAL,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) | Self::Vnni(_) => VECTOR_CHECK_INTERVAL,
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Self::Neon(_) => VECTOR_CHECK_INTERVAL,
        }
    }

    /// Computes a product.
    pub(super) fn run(self, product: impl Product) {
        match self {
            Self::Plain => Plain::run(product),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(unit) => unit.run(product),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni(unit) => unit.run(product),
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Self::Neon(unit) => unit.run(product),
        }
    }

    /// Writes the product of the rows of `x` with the rows of a matrix to `out`. The slices have the lengths for that.
    #[cfg(test)]
    pub(super) fn product(
        self,
        tiles: &Tiles,
        x: &[f32],
        out: &mut [f32],
        activations: &mut Activations,
        control: &ComputeControl,
    ) -> Result<(), Error> {
        let group = group(tiles.cols());
        for (x, out) in x.chunks(group * tiles.cols()).zip(out.chunks_mut(group * tiles.rows())) {
            self.quantize(tiles, x, activations);
            self.multiply(tiles, activations, out, control)?;
        }
        Ok(())
    }

    /// Quantizes a [`group`] of rows for products with a matrix, and with others that have its type.
    pub(super) fn quantize(self, tiles: &Tiles, x: &[f32], activations: &mut Activations) {
        self.run(activations.quantization(tiles.ty(), x, tiles.cols(), self.width(), self.bytes_offset()));
    }

    /// Writes the product of quantized rows with the rows of a matrix to `out`, whose length says how many they are.
    pub(super) fn multiply(
        self,
        tiles: &Tiles,
        activations: &Activations,
        out: &mut [f32],
        control: &ComputeControl,
    ) -> Result<(), Error> {
        let n = out.len() / tiles.rows();
        let step = (self.interval() / TILE / (n * tiles.cols())).max(1);
        for start in (0..tiles.len()).step_by(step) {
            control.check()?;
            let range = (start, tiles.len().min(start + step));
            self.run(Job { tiles, range, activations, n, out });
        }
        Ok(())
    }
}

/// The rows of activations that are quantized together.
pub(super) fn group(cols: usize) -> usize {
    (GROUP_BYTES / cols).clamp(32, 256).next_multiple_of(8)
}

/// The most elements of a group of at most `n` rows. It grows with both arguments.
pub(super) fn group_elements(n: usize, cols: usize) -> usize {
    let most = GROUP_BYTES.saturating_add(cols.saturating_mul(8)).max(cols.saturating_mul(32));
    n.saturating_mul(cols).min(most)
}
