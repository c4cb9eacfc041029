//! Convolutions of bytes: products of the filters and of packed patches, and sums of shifted rows for depthwise ones.

use std::convert::Infallible;
use std::sync::Arc;

use crate::compute::context::{Checkpoint, ExecContext};
use crate::math::integer::{Flip, Processor, Right, Sums, Unsigned, Zeros, add_bytes, correct};
use crate::ops::byte_depthwise;
use crate::ops::byte_depthwise::depthwise;
use crate::ops::byte_patches::{BytePatches, Image};
use crate::ops::byte_product::{Counter, ZeroPoints, bytes, number};
use crate::ops::fusion::{PackLayout, PackedBytes, PackedWeights};
use crate::ops::requantize::Finish;
use crate::ops::window::{ConvShape, Window, planes};
use crate::tensor::dims::{count, product};
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// Filters that are multiplied by one block of patches before results are made of the sums.
const FILTERS: usize = 16;

/// The filters of a convolution.
pub(super) struct ByteFilters {
    dims: Vec<usize>,
    groups: usize,
    signed: bool,
    /// Rows of the left operand and their sums; for depthwise filters the bytes as they are.
    packed: Arc<PackedBytes>,
}

/// Whether filters are those of a depthwise convolution.
fn is_depthwise(dims: &[usize], groups: usize) -> bool {
    groups > 1 && dims.len() < 5 && dims.get(1) == Some(&1) && product(&dims[2..]) <= byte_depthwise::EXACT
}

/// Appends filters as rows of the left operand.
fn pack_filters<E>(
    (elements, signed): (&[u8], bool),
    patch: usize,
    out: &mut PackedBytes,
    mut step: impl FnMut(usize) -> Result<(), E>,
) -> Result<(), E> {
    let processor = Processor::best();
    let flip = processor.left_flip(signed, Unsigned::Right);
    for filter in elements.chunks_exact(patch.max(1)) {
        processor.pack_left(filter, patch, (flip, Unsigned::Right), &mut out.bytes, &mut step)?;
        let moved = flip.zero_point(0).wrapping_mul(patch as i32);
        out.sums.push(add_bytes(filter, signed).wrapping_add(moved));
    }
    Ok(())
}

impl ByteFilters {
    /// Packs constant filters.
    pub(super) fn new(weights: &Value, groups: usize, packs: &mut PackedWeights) -> Option<Self> {
        let (filters, ..) = planes(weights.dims()).ok()?;
        let (elements, signed) = bytes(weights).ok()?;
        if weights.is_empty() || filters % groups != 0 {
            return None;
        }
        let patch = elements.len() / filters;
        let packed = if is_depthwise(weights.dims(), groups) {
            packs.packed_bytes((weights, elements), PackLayout::Plain, (elements.len(), 0), |out| {
                out.bytes.extend_from_slice(elements);
            })?
        } else {
            let len = Processor::best().left_row_len(patch)?.checked_mul(filters)?;
            packs.packed_bytes((weights, elements), PackLayout::ByteGroups(groups), (len, filters), |out| {
                let Ok(()) = pack_filters((elements, signed), patch, out, |_| Ok::<(), Infallible>(()));
            })?
        };
        Some(Self { dims: weights.dims().to_vec(), groups, signed, packed })
    }

    /// The number of filters.
    pub(super) fn filters(&self) -> usize {
        self.dims.first().copied().unwrap_or(0)
    }
}

/// A convolution.
pub(super) struct ByteConv<'a, F> {
    pub(super) window: &'a Window,
    pub(super) groups: usize,
    /// Zero points of the input and of the filters.
    pub(super) zeros: [Option<&'a Value>; 2],
    pub(super) bias: Option<&'a [i32]>,
    pub(super) finish: F,
}

impl<F: Finish> ByteConv<'_, F> {
    /// Convolves by filters that were packed at load, or else by `weights`.
    pub(super) fn run(
        &self,
        x: &Value,
        weights: Option<&Value>,
        filters: Option<&ByteFilters>,
        cx: &ExecContext<'_>,
    ) -> Result<Value, Error> {
        let own;
        let (filters, _charge) = match (filters, weights) {
            (Some(filters), _) => (filters, None),
            (None, None) => return Err(Error::invalid_argument("the filters are missing")),
            (None, Some(weights)) => {
                let ((elements, signed), dims) = (bytes(weights)?, weights.dims());
                // Checks the sizes.
                ConvShape::new(x.dims(), dims, self.window, self.groups)?;
                let (count, patch) = (dims[0], product(&dims[1..]));
                let mut packed = PackedBytes::default();
                let mut checkpoint = Checkpoint::default();
                let charges = if is_depthwise(dims, self.groups) {
                    let (bytes, charge) = cx.scratch::<u8>(elements.len())?;
                    packed.bytes = bytes;
                    checkpoint.copy(elements, &mut packed.bytes, cx)?;
                    (charge, None)
                } else {
                    let len = Processor::best().left_row_len(patch).and_then(|len| len.checked_mul(count));
                    let len = len.ok_or_else(|| Error::too_large("the filters are too large"))?;
                    let ((bytes, charge), (sums, of_sums)) = (cx.scratch::<u8>(len)?, cx.scratch::<i32>(count)?);
                    (packed.bytes, packed.sums) = (bytes, sums);
                    pack_filters((elements, signed), patch, &mut packed, |work| checkpoint.step(work, cx))?;
                    (charge, Some(of_sums))
                };
                own = ByteFilters { dims: dims.to_vec(), groups: self.groups, signed, packed: Arc::new(packed) };
                (&own, Some(charges))
            }
        };
        self.convolve(x, filters, cx)
    }

    fn convolve(&self, x: &Value, filters: &ByteFilters, cx: &ExecContext<'_>) -> Result<Value, Error> {
        let ByteFilters { dims: weights, groups, signed, packed } = filters;
        let shape = ConvShape::new(x.dims(), weights, self.window, *groups)?;
        let (count_filters, dims) = (shape.filters, shape.output.clone());
        if self.bias.is_some_and(|bias| bias.len() != count_filters) {
            let why = format!("the bias must have one element for each of {count_filters} filters");
            return Err(Error::invalid_argument(why));
        }
        let (elements, x_signed) = bytes(x)?;
        if self.zeros[0].is_some_and(|zero| zero.ty() != x.ty()) {
            return Err(Error::invalid_argument("the zero point must have the type of the input"));
        }
        let processor = Processor::best();
        let shifted = is_depthwise(weights, *groups);
        let flip = |flip: Flip| if shifted { Flip::None } else { flip };
        let x_flip = flip(processor.right_flip(x_signed, Unsigned::Right));
        let w_flip = flip(processor.left_flip(*signed, Unsigned::Right));
        let zeros = [
            ZeroPoints::new(self.zeros[0], Some(shape.batch), x_flip, cx)?,
            ZeroPoints::new(self.zeros[1], Some(count_filters), w_flip, cx)?,
        ];
        let total = count(&dims)?;
        let (mut out, charge) = cx.filled(F::Out::default(), total)?;
        if total > 0 && x.is_empty() {
            return Err(Error::invalid_argument("the input of a convolution is empty"));
        }
        if total > 0 && shifted {
            let taps = (&*packed.bytes, *signed);
            depthwise(&shape, (elements, x_signed), taps, &zeros, (self.bias, &self.finish), &mut out, cx)?;
        } else if total > 0 {
            self.products(&shape, (elements, x_signed, x_flip), packed, &zeros, &mut out, cx)?;
        }
        Value::charged(dims, out, charge)
    }

    /// The convolution as products of filters and patches.
    fn products(
        &self,
        shape: &ConvShape<'_>,
        (elements, x_signed, flip): (&[u8], bool, Flip),
        packed: &PackedBytes,
        [x_zeros, w_zeros]: &[ZeroPoints; 2],
        out: &mut [F::Out],
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        let processor = Processor::best();
        let &ConvShape { batch, filters, depth, spatial, kernel, slides, .. } = shape;
        let groups = shape.channels / depth.max(1);
        let (volume, patch, each) = (product(spatial), depth * product(kernel), filters / groups);
        let (slabs, plane) = (slides[0].output, slides[1].output * slides[2].output);
        let row_len = processor.left_row_len(patch).ok_or_else(|| Error::too_large("a filter is too large"))?;
        let mut image = Image::new(slides, depth, cx)?;
        let unit = processor.rows() * slabs * plane;
        let multiplications = (slabs * plane).saturating_mul(patch).saturating_mul(each) / 4;
        let parts = cx.parts(each.div_ceil(processor.rows()), multiplications);
        let need_columns = !w_zeros.none();
        let scratch = |_| {
            let patches = BytePatches::new(&image, patch, cx)?;
            let block = patches.block.min(patches.len);
            let panels = cx.filled(0_u8, patches.block_len()?)?;
            let sums = cx.filled(0_i32, block * each.min(FILTERS))?;
            let columns = cx.filled(0_i32, if need_columns { block } else { 0 })?;
            Ok((patches, panels, sums, columns, cx.filled(F::Out::default(), block)?))
        };
        let mut scratches = (0..parts).map(scratch).collect::<Result<Vec<_>, Error>>()?;
        let (mut ones, _ones) = cx.scratch::<u8>(if need_columns { row_len } else { 0 })?;
        if need_columns {
            ones.extend(processor.ones(patch));
        }
        for index in 0..batch * groups {
            let (item, group) = (index / groups, index % groups);
            let x_zero = x_zeros.at(item);
            // What a pad is before it is flipped.
            let pad = (x_zero - flip.zero_point(0)) as u8;
            debug_assert_eq!(number(pad, x_signed), x_zero - flip.zero_point(0));
            let image = image.fill(&elements[index * depth * volume..][..depth * volume], pad, cx)?;
            let out = &mut out[index * each * slabs * plane..][..each * slabs * plane];
            cx.parallel_for(&mut scratches, out, unit, |cx, scratch, start, out| {
                let (patches, (panels, _), (sums, _), (columns, _), (line, _)) = scratch;
                let first = group * each + start / (slabs * plane);
                let count = out.len() / (slabs * plane);
                let mut counter = Counter::new();
                for at in (0..slabs * patches.len).step_by(patches.len.max(1)) {
                    let slab = at / patches.len;
                    for from in (0..patches.len).step_by(patches.block) {
                        let range = from..patches.len.min(from + patches.block);
                        let n = range.len();
                        patches.pack(image, (slab, range.clone()), flip, panels, |work| counter.step(work, cx))?;
                        let right = Right { panels, k: patch, n, unsigned: Unsigned::Right };
                        if need_columns {
                            let sums = Sums { left: &ones, rows: 1, out: columns, pitch: n };
                            processor.multiply(right, sums, |work| counter.step(work, cx))?;
                        }
                        for top in (0..count).step_by(FILTERS) {
                            let here = FILTERS.min(count - top);
                            let left = &packed.bytes[(first + top) * row_len..][..here * row_len];
                            let product = Sums { left, rows: here, out: sums, pitch: n };
                            processor.multiply(right, product, |work| counter.step(work, cx))?;
                            for (row, sums) in sums.chunks_exact_mut(n).take(here).enumerate() {
                                counter.step(8 * n, cx)?;
                                let filter = first + top + row;
                                let zeros = Zeros {
                                    left: w_zeros.at(filter),
                                    row_sum: packed.sums[filter],
                                    right: &[x_zero],
                                    column_sums: columns,
                                    k: patch,
                                    bias: self.bias.map_or(0, |bias| bias[filter]),
                                };
                                correct(sums, zeros);
                                let out = &mut out[((top + row) * slabs + slab) * plane..][..plane];
                                if patches.whole() {
                                    self.finish.finish(filter, 0, sums, &mut out[range.clone()]);
                                    continue;
                                }
                                let line = &mut line[..n];
                                self.finish.finish(filter, 0, sums, line);
                                patches.runs(range.clone(), |at, outputs| {
                                    let len = outputs.len();
                                    out[outputs].copy_from_slice(&line[at..at + len]);
                                });
                            }
                        }
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}
