//! The choice of a unit at run time, and products of whole matrices.

use std::sync::LazyLock;

use super::Unsigned;
#[cfg(target_arch = "x86_64")]
use super::avx2::Avx2;
use super::kernel::Job;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
use super::neon::Neon;
use super::pack::{Flip, PackRows, pack_row};
use super::plain::Plain;
use super::unit::{Task, Unit, WORD};
#[cfg(target_arch = "x86_64")]
use super::vnni::Vnni;

/// The words of a row that are multiplied in one pass over its panel, which then stays in a core's cache.
const DEPTH: usize = 1 << 10;

/// The rows that are multiplied between two calls of `step`.
const ROWS: usize = 64;

/// The instructions that products are computed with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Processor {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Vnni(Vnni),
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    Neon(Neon),
}

/// The sizes of a unit.
#[derive(Clone, Copy)]
struct Sizes {
    lanes: usize,
    group: usize,
    rows: usize,
    width: usize,
    both_signed: bool,
}

impl Sizes {
    const fn of<U: Unit>() -> Self {
        Self {
            lanes: U::LANES,
            group: U::GROUP,
            rows: U::ROWS,
            width: U::LANES * U::VECTORS,
            both_signed: U::BOTH_SIGNED,
        }
    }
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
    pub(crate) fn best() -> Self {
        static BEST: LazyLock<Processor> = LazyLock::new(|| Processor::available().next().unwrap_or(Processor::Plain));
        *BEST
    }

    const fn sizes(self) -> Sizes {
        match self {
            Self::Plain => Sizes::of::<Plain>(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => Sizes::of::<Avx2>(),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni(_) => Sizes::of::<Vnni>(),
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Self::Neon(_) => Sizes::of::<Neon>(),
        }
    }

    fn run(self, task: impl Task) {
        match self {
            Self::Plain => Plain::run(task),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(unit) => unit.run(task),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni(unit) => unit.run(task),
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            Self::Neon(unit) => unit.run(task),
        }
    }

    /// The rows of a tile.
    pub(crate) const fn rows(self) -> usize {
        self.sizes().rows
    }

    /// The columns of a panel.
    pub(crate) const fn columns(self) -> usize {
        self.sizes().width
    }

    /// The rows of the right operand that make up one line.
    pub(crate) const fn group(self) -> usize {
        self.sizes().group
    }

    /// The bytes of a row of `k` elements of the left operand; `None` on overflow.
    pub(crate) fn left_row_len(self, k: usize) -> Option<usize> {
        k.div_ceil(self.group()).checked_mul(WORD)
    }

    /// The bytes of a right operand of k×n; `None` on overflow.
    pub(crate) fn right_len(self, k: usize, n: usize) -> Option<usize> {
        let Sizes { lanes, group, .. } = self.sizes();
        k.checked_next_multiple_of(group)?.checked_mul(n.checked_next_multiple_of(lanes)?)
    }

    /// How the bytes of the left operand are turned.
    pub(crate) const fn left_flip(self, signed: bool, unsigned: Unsigned) -> Flip {
        Flip::new(signed, self.sizes().both_signed || matches!(unsigned, Unsigned::Right))
    }

    /// How the bytes of the right operand are turned.
    pub(crate) const fn right_flip(self, signed: bool, unsigned: Unsigned) -> Flip {
        Flip::new(signed, self.sizes().both_signed || matches!(unsigned, Unsigned::Left))
    }

    /// Whether the left operand's bytes have no sign once they are packed.
    pub(crate) const fn left_unsigned(self, unsigned: Unsigned) -> bool {
        matches!(unsigned, Unsigned::Left) && !self.sizes().both_signed
    }

    /// Whether rows of `k` bytes are packed already, if no byte is turned.
    pub(crate) const fn takes_plain_rows(self, k: usize) -> bool {
        self.group() == WORD && k.is_multiple_of(WORD)
    }

    /// Appends rows of `k` bytes as rows of the left operand. `step` is called with the number of bytes of each row
    /// before; an error ends the packing.
    pub(crate) fn pack_left<E>(
        self,
        rows: &[u8],
        k: usize,
        (flip, unsigned): (Flip, Unsigned),
        out: &mut Vec<u8>,
        mut step: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<(), E> {
        for row in rows.chunks_exact(k.max(1)) {
            step(k)?;
            pack_row(row, flip.mask(), self.group(), self.left_unsigned(unsigned), out);
        }
        Ok(())
    }

    /// Writes one group of rows of the right operand, of which `words` are all, to panels. `starts` are where its rows
    /// of `columns` bytes begin in `elements`.
    pub(crate) fn pack_group(
        self,
        elements: &[u8],
        (starts, columns): (&[usize], usize),
        flip: Flip,
        place: (usize, usize),
        out: &mut [u8],
    ) {
        self.run(PackRows { elements, starts, columns, mask: flip.mask(), out, place });
    }

    /// Writes a matrix of k×n, row by row, to panels, [`right_len`](Self::right_len) bytes. `step` is called with the
    /// number of bytes of each group of rows before; an error ends the packing.
    pub(crate) fn pack_right<E>(
        self,
        elements: &[u8],
        (k, n): (usize, usize),
        flip: Flip,
        out: &mut [u8],
        mut step: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let group = self.group();
        for first in (0..k).step_by(group) {
            step(group * n)?;
            let mut starts = [0; WORD];
            let rows = group.min(k - first);
            starts.iter_mut().zip(first..first + rows).for_each(|(start, row)| *start = row * n);
            self.pack_group(elements, (&starts[..rows], n), flip, (first / group, k.div_ceil(group)), out);
        }
        Ok(())
    }

    /// The bytes of a row of ones of the left operand, by which a product gives the sums of columns.
    pub(crate) fn ones(self, k: usize) -> impl Iterator<Item = u8> {
        let pattern: [u8; WORD] = if self.group() == WORD { [1; WORD] } else { [1, 0, 1, 0] };
        (0..k.div_ceil(self.group())).flat_map(move |_| pattern)
    }

    /// Writes the sums of the products of rows and columns. `step` is called with the number of multiplications before
    /// each of its parts; an error ends the product.
    pub(crate) fn multiply<E>(
        self,
        right: Right<'_>,
        sums: Sums<'_>,
        mut step: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let Sizes { lanes, group, width, .. } = self.sizes();
        let Right { panels, k, n, unsigned } = right;
        let Sums { left, rows, out, pitch } = sums;
        let (words, left) = (k.div_ceil(group), left.as_chunks::<WORD>().0);
        for first in (0..n).step_by(width) {
            let columns = width.min(n - first);
            let line = columns.next_multiple_of(lanes) * group;
            for from in (0..words).step_by(DEPTH) {
                let to = words.min(from + DEPTH);
                let panel = &panels[first * words * group + from * line..][..(to - from) * line];
                for top in (0..rows).step_by(ROWS) {
                    let here = ROWS.min(rows - top);
                    step(here * (to - from) * line)?;
                    self.run(Multiply(Job {
                        left: &left[top * words..],
                        pitch: words,
                        words: (from, to),
                        panel,
                        out: &mut out[top * pitch + first..],
                        out_pitch: pitch,
                        rows: here,
                        columns,
                        add: from > 0,
                        left_unsigned: self.left_unsigned(unsigned),
                    }));
                }
            }
        }
        Ok(())
    }
}

/// A packed right operand.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a> {
    pub(crate) panels: &'a [u8],
    pub(crate) k: usize,
    pub(crate) n: usize,
    /// Which operand's bytes have no sign, if the unit's instructions want one without.
    pub(crate) unsigned: Unsigned,
}

/// The sums that a product writes.
pub(crate) struct Sums<'a> {
    /// The packed rows of the left operand.
    pub(crate) left: &'a [u8],
    pub(crate) rows: usize,
    /// The sums of all columns, row by row.
    pub(crate) out: &'a mut [i32],
    /// Elements of `out` from one row to the next.
    pub(crate) pitch: usize,
}

struct Multiply<'a>(Job<'a>);

impl Task for Multiply<'_> {
    #[inline(always)]
    fn run<U: Unit>(self, unit: U) {
        self.0.run(unit);
    }
}
