//! Operands of 8 bits, and products of matrices of them.

use std::convert::Infallible;
use std::sync::Arc;

use crate::compute::context::{Checkpoint, ExecContext, VECTOR_CHECK_INTERVAL};
use crate::math::integer::{Flip, Processor, Right, Sums, Unsigned, Zeros, add_bytes, correct};
use crate::ops::batches::multiply_expanded;
use crate::ops::broadcast;
use crate::ops::fusion::{PackLayout, PackedBytes, PackedWeights};
use crate::ops::requantize::Finish;
use crate::tensor::budget::Charge;
use crate::tensor::dims::{Dims, count, product};
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, no_type};
use graphpool::backend::Error;

/// The most sums that are made before results are made of them.
const SUMS: usize = 1 << 15;

/// The elements of a value of U8 or I8 as bytes, and whether they have a sign.
pub(super) fn bytes(value: &Value) -> Result<(&[u8], bool), Error> {
    match value.ty() {
        ElementType::U8 => Ok((value.elements::<u8>()?, false)),
        ElementType::I8 => Ok((pulp::bytemuck::cast_slice(value.elements::<i8>()?), true)),
        _ => Err(no_type(value)),
    }
}

/// Broadcasts a value of U8 or I8.
pub(super) fn expand(value: &Value, dims: &[usize], cx: &ExecContext<'_>) -> Result<Value, Error> {
    match value.ty() {
        ElementType::U8 => broadcast::expand::<u8>(value, dims, cx),
        _ => broadcast::expand::<i8>(value, dims, cx),
    }
}

/// The number of a byte.
pub(super) fn number(byte: u8, signed: bool) -> i32 {
    if signed { i32::from(byte.cast_signed()) } else { i32::from(byte) }
}

/// Zero points of an operand: one, or one for each of `len` indexes of an axis. They fit bytes that are `flip`ped.
pub(super) struct ZeroPoints {
    zeros: Vec<i32>,
    _charge: Option<Charge>,
}

impl ZeroPoints {
    /// `axis` is the length of the axis that may have a zero point for each index, if there is one.
    pub(super) fn new(
        zero: Option<&Value>,
        axis: Option<usize>,
        flip: Flip,
        cx: &ExecContext<'_>,
    ) -> Result<Self, Error> {
        let Some(value) = zero else { return Ok(Self { zeros: vec![flip.zero_point(0)], _charge: None }) };
        let (elements, signed) = bytes(value)?;
        if let &[one] = elements {
            return Ok(Self { zeros: vec![flip.zero_point(number(one, signed))], _charge: None });
        }
        if value.rank() != 1 || axis != Some(value.len()) {
            return Err(Error::invalid_argument(format!(
                "the zero points {} do not fit the input",
                Dims(value.dims())
            )));
        }
        let (mut zeros, charge) = cx.scratch::<i32>(value.len())?;
        let mut checkpoint = Checkpoint::default();
        for piece in elements.chunks(crate::compute::context::PIECE) {
            checkpoint.step(piece.len(), cx)?;
            zeros.extend(piece.iter().map(|&byte| flip.zero_point(number(byte, signed))));
        }
        Ok(Self { zeros, _charge: Some(charge) })
    }

    /// The zero point of an index, which wraps around.
    pub(super) fn at(&self, index: usize) -> i32 {
        self.zeros[index % self.zeros.len()]
    }

    pub(super) fn all(&self) -> &[i32] {
        &self.zeros
    }

    /// Whether all are 0.
    pub(super) fn none(&self) -> bool {
        self.zeros.iter().all(|&zero| zero == 0)
    }
}

/// A constant right operand, which was packed at load.
pub(super) struct PackedMatrix {
    packed: Arc<PackedBytes>,
    dims: [usize; 2],
    signed: bool,
}

impl PackedMatrix {
    /// Packs a matrix.
    pub(super) fn new(weights: &Value, packs: &mut PackedWeights) -> Option<Self> {
        let (&[k, n], (elements, signed)) = (weights.dims(), bytes(weights).ok()?) else { return None };
        if k == 0 || n == 0 {
            return None;
        }
        let processor = Processor::best();
        let (flip, len) = (processor.right_flip(signed, Unsigned::Left), processor.right_len(k, n)?);
        let packed = packs.packed_bytes((weights, elements), PackLayout::ByteColumns, (len, n), |out| {
            let step = |_| Ok::<(), Infallible>(());
            out.bytes.resize(len, 0);
            let Ok(()) = processor.pack_right(elements, (k, n), flip, &mut out.bytes, step);
            out.sums.resize(n, 0);
            let ones: Vec<u8> = processor.ones(k).collect();
            let Ok(()) = column_sums(right(&out.bytes, k, n), &ones, &mut out.sums, step);
        })?;
        Some(Self { packed, dims: [k, n], signed })
    }

    /// The inner dimension and the columns.
    pub(super) fn dims(&self) -> [usize; 2] {
        self.dims
    }
}

/// The right operand of a product.
#[derive(Clone, Copy)]
pub(super) enum Weights<'a> {
    Packed(&'a PackedMatrix),
    /// Its bytes, and whether they have a sign.
    Plain(&'a [u8], bool),
}

pub(super) fn right(panels: &[u8], k: usize, n: usize) -> Right<'_> {
    Right { panels, k, n, unsigned: Unsigned::Left }
}

/// Writes the sum of each column; `ones` are a row of ones.
pub(super) fn column_sums<E>(
    right: Right<'_>,
    ones: &[u8],
    sums: &mut [i32],
    step: impl FnMut(usize) -> Result<(), E>,
) -> Result<(), E> {
    Processor::best().multiply(right, Sums { left: ones, rows: 1, out: sums, pitch: right.n }, step)
}

/// Counts multiplications, and checks deadline and cancel token.
pub(super) struct Counter(usize);

impl Counter {
    pub(super) fn new() -> Self {
        Self(VECTOR_CHECK_INTERVAL)
    }

    pub(super) fn step(&mut self, work: usize, cx: &ExecContext<'_>) -> Result<(), Error> {
        self.0 = self.0.saturating_add(work);
        if self.0 >= VECTOR_CHECK_INTERVAL {
            self.0 = 0;
            cx.control.check()?;
        }
        Ok(())
    }
}

/// A batch of products: m×k by k×n each, or one k×n for all rows.
pub(super) struct ByteProduct<'a, F> {
    pub(super) weights: Weights<'a>,
    /// Zero points of both operands.
    pub(super) zeros: [Option<&'a Value>; 2],
    /// The rows of one matrix on the left, which may have a zero point each.
    pub(super) zero_rows: usize,
    pub(super) finish: F,
}

impl<F: Finish> ByteProduct<'_, F> {
    /// The results of `batch` products.
    pub(super) fn multiply(
        &self,
        a: &Value,
        (batch, m, n, k): (usize, usize, usize, usize),
        cx: &ExecContext<'_>,
    ) -> Result<(Vec<F::Out>, Charge), Error> {
        let processor = Processor::best();
        let (left, left_signed) = bytes(a)?;
        let (mut out, charge) = cx.filled(F::Out::default(), count(&[batch, m, n])?)?;
        let right_signed = match self.weights {
            Weights::Packed(matrix) => matrix.signed,
            Weights::Plain(_, signed) => signed,
        };
        let left_flip = processor.left_flip(left_signed, Unsigned::Left);
        let right_flip = processor.right_flip(right_signed, Unsigned::Left);
        let left_zeros = ZeroPoints::new(self.zeros[0], Some(self.zero_rows), left_flip, cx)?;
        let right_zeros = ZeroPoints::new(self.zeros[1], Some(n), right_flip, cx)?;
        if out.is_empty() {
            return Ok((out, charge));
        }
        let panel_len = || processor.right_len(k, n).ok_or_else(|| Error::too_large("a matrix is too large"));
        // Room for the packed matrix and the sums of its columns, if it was not packed at load.
        let ((mut panels, _panels), (mut sums, _sums)) = match self.weights {
            Weights::Packed(_) => (cx.scratch::<u8>(0)?, cx.scratch::<i32>(0)?),
            Weights::Plain(..) => (cx.filled(0, panel_len()?)?, cx.filled(0, if left_zeros.none() { 0 } else { n })?),
        };
        let row_len = if sums.is_empty() { 0 } else { processor.left_row_len(k).unwrap_or(0) };
        let (mut ones, _ones) = cx.scratch::<u8>(row_len)?;
        if row_len > 0 {
            ones.extend(processor.ones(k));
        }
        for (index, out) in out.chunks_exact_mut(m * n).enumerate() {
            let (panels, sums): (&[u8], &[i32]) = match self.weights {
                Weights::Packed(matrix) => (&matrix.packed.bytes, &matrix.packed.sums),
                Weights::Plain(bytes, _) => {
                    let mut counter = Counter::new();
                    let bytes = &bytes[index * k * n..][..k * n];
                    processor.pack_right(bytes, (k, n), right_flip, &mut panels, |work| counter.step(4 * work, cx))?;
                    if !sums.is_empty() {
                        column_sums(right(&panels, k, n), &ones, &mut sums, |work| counter.step(work, cx))?;
                    }
                    (&panels, &sums)
                }
            };
            let rows = Rows {
                elements: &left[index * m * k..][..m * k],
                flip: left_flip,
                signed: left_signed,
                zeros: (&left_zeros, &right_zeros),
                first: index * m,
            };
            self.rows(&rows, (right(panels, k, n), sums), m, out, cx)?;
        }
        Ok((out, charge))
    }

    /// The results of `m` rows.
    fn rows(
        &self,
        rows: &Rows<'_>,
        (right, column_sums): (Right<'_>, &[i32]),
        m: usize,
        out: &mut [F::Out],
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let processor = Processor::best();
        let Right { k, n, .. } = right;
        let plain = rows.flip == Flip::None && processor.takes_plain_rows(k);
        let row_len = processor.left_row_len(k).ok_or_else(|| Error::too_large("a row is too long"))?;
        let tile = processor.rows();
        let most = (SUMS / n).clamp(tile, 128).next_multiple_of(tile).min(m.next_multiple_of(tile));
        let in_place = F::as_sums(&mut []).is_some();
        let parts = cx.parts(m.div_ceil(tile), m.saturating_mul(n).saturating_mul(k) / 4);
        let scratch = |_| {
            let left = cx.scratch::<u8>(if plain { 0 } else { count(&[most.min(m), row_len])? })?;
            Ok((left, cx.filled(0_i32, if in_place { 0 } else { count(&[most.min(m), n])? })?))
        };
        let mut scratches = (0..parts).map(scratch).collect::<Result<Vec<_>, Error>>()?;
        cx.parallel_for(&mut scratches, out, tile * n, |cx, ((packed, _), (sums, _)), start, out| {
            let mut counter = Counter::new();
            for (index, out) in out.chunks_mut(most * n).enumerate() {
                let (first, count) = (start / n + index * most, out.len() / n);
                let bytes = &rows.elements[first * k..(first + count) * k];
                let left: &[u8] = if plain {
                    bytes
                } else {
                    packed.clear();
                    let step = |work: usize| counter.step(4 * work, cx);
                    processor.pack_left(bytes, k, (rows.flip, Unsigned::Left), packed, step)?;
                    packed
                };
                let mut compute = |sums: &mut [i32]| {
                    let product = Sums { left, rows: count, out: &mut *sums, pitch: n };
                    processor.multiply(right, product, |work| counter.step(work, cx))?;
                    for (row, sums) in sums.chunks_exact_mut(n).enumerate() {
                        counter.step(8 * n + k, cx)?;
                        rows.correct(first + row, &bytes[row * k..(row + 1) * k], column_sums, sums);
                    }
                    Ok::<(), Error>(())
                };
                if let Some(sums) = F::as_sums(out) {
                    compute(sums)?;
                    continue;
                }
                let sums = &mut sums[..count * n];
                compute(sums)?;
                for (row, (sums, out)) in sums.chunks_exact(n).zip(out.chunks_exact_mut(n)).enumerate() {
                    counter.step(8 * n, cx)?;
                    self.finish.finish(rows.first + first + row, 0, sums, out);
                }
            }
            Ok(())
        })
    }
}

/// The rows on the left of one product.
struct Rows<'a> {
    elements: &'a [u8],
    flip: Flip,
    /// Whether the bytes have a sign.
    signed: bool,
    /// Of both operands.
    zeros: (&'a ZeroPoints, &'a ZeroPoints),
    /// The number of the first row among those of all products.
    first: usize,
}

impl Rows<'_> {
    /// Applies the zero points to the sums of a row.
    fn correct(&self, row: usize, bytes: &[u8], column_sums: &[i32], sums: &mut [i32]) {
        let (left_zeros, right_zeros) = self.zeros;
        let k = bytes.len();
        let row_sum = if right_zeros.none() {
            0
        } else {
            // The sum of what the bytes are once they are packed.
            let sum = add_bytes(bytes, self.signed);
            sum.wrapping_add(self.flip.zero_point(0).wrapping_mul(k as i32))
        };
        let left = left_zeros.at(self.first + row);
        correct(sums, Zeros { left, row_sum, right: right_zeros.all(), column_sums, k, bias: 0 });
    }
}

/// The product of two tensors of any rank, or of one by the matrix that was packed at load instead of the second.
pub(super) fn multiply<F: Finish>(
    (a, b): (Value, Option<Value>),
    packed: Option<&PackedMatrix>,
    zeros: [Option<&Value>; 2],
    finish: F,
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    let zero_rows = if a.rank() > 1 { a.dims()[a.rank() - 2] } else { 1 };
    if let Some(matrix) = packed {
        let (m, dims) = rows_by(&a, matrix.dims)?;
        let [k, n] = matrix.dims;
        let product = ByteProduct { weights: Weights::Packed(matrix), zeros, zero_rows, finish };
        let (out, charge) = product.multiply(&a, (1, m, n, k), cx)?;
        return Value::charged(dims, out, charge);
    }
    let b = b.ok_or_else(|| Error::invalid_argument("the right operand is missing"))?;
    let ((_, _), (_, _)) = (bytes(&a)?, bytes(&b)?);
    // A vector on the right is a column, for which one zero point is enough.
    multiply_expanded(a, b, cx, expand, |a, b, size, one_b, cx| {
        let (elements, signed) = bytes(b)?;
        let weights = Weights::Plain(elements, signed);
        debug_assert!(!one_b || size.batch == 1);
        let product = ByteProduct { weights, zeros, zero_rows, finish: &finish };
        product.multiply(a, (size.batch, size.m, size.n, size.k), cx)
    })
}

/// The rows of the product of a tensor by a constant matrix, and the dimensions of the result.
fn rows_by(a: &Value, [k, n]: [usize; 2]) -> Result<(usize, Vec<usize>), Error> {
    match a.dims() {
        [outer @ .., last] if *last == k => Ok((product(outer), [outer, &[n]].concat())),
        dims => {
            let why = format!("matrices {} and {} do not multiply", Dims(dims), Dims(&[k, n]));
            Err(Error::invalid_argument(why))
        }
    }
}
