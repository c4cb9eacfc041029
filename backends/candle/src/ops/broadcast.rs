//! Elementwise loops over tensors of different shapes, under the broadcasting rules of ONNX.
//!
//! A loop is split into runs. Along a run each operand has a stride of 1 or 0, so that the inner loops are over slices.
//! Adjacent dimensions that are contiguous in every operand are merged.

use smallvec::{SmallVec, smallvec};

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::loops;
use crate::tensor::dim_list::DimVec;
pub(super) use crate::tensor::dims::broadcast as shape;
use crate::tensor::dims::strides;
use crate::tensor::element::{Element, ElementType};
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// Strides of an operand of `dims` in a loop over `out`; 0 along broadcast dimensions.
fn operand_strides(dims: &[usize], out: &[usize]) -> DimVec {
    let skipped = out.len().saturating_sub(dims.len());
    let own = dims.iter().zip(strides(dims)).map(|(&dim, stride)| if dim == 1 { 0 } else { stride });
    std::iter::repeat_n(0, skipped).chain(own).collect()
}

/// One run: `len` elements of the result from index `out` on, with the first index and the stride of each operand.
pub(super) struct Run<const N: usize> {
    pub(super) out: usize,
    pub(super) len: usize,
    pub(super) starts: [usize; N],
    pub(super) steps: [usize; N],
}

/// Calls `visit` for each run of operands of these dimensions, each of which broadcasts to `out`.
pub(super) fn runs<const N: usize>(
    out: &[usize],
    operands: [&[usize]; N],
    cx: &ExecContext<'_>,
    mut visit: impl FnMut(&Run<N>),
) -> Result<(), Error> {
    if out.contains(&0) {
        return Ok(());
    }
    let operands = operands.map(|dims| operand_strides(dims, out));
    let mut checkpoint = Checkpoint::default();
    // The dimensions other than 1 with the strides of each operand, outermost first, contiguous ones merged.
    let mut merged: SmallVec<[(usize, [usize; N]); 6]> = SmallVec::with_capacity(out.len());
    for (position, &dim) in out.iter().enumerate() {
        if dim == 1 {
            continue;
        }
        let steps: [usize; N] =
            std::array::from_fn(|operand| operands.get(operand).and_then(|s| s.get(position)).copied().unwrap_or(0));
        match merged.last_mut() {
            Some((before, outer)) if outer.iter().zip(&steps).all(|(&outer, &step)| outer == step * dim) => {
                *before *= dim;
                *outer = steps;
            }
            _ => merged.push((dim, steps)),
        }
    }
    let (len, steps) = merged.pop().unwrap_or((1, [0; N]));
    let mut run = Run { out: 0, len, starts: [0; N], steps };
    let mut index: DimVec = smallvec![0; merged.len()];
    loop {
        for from in (0..len).step_by(PIECE) {
            let piece = PIECE.min(len - from);
            checkpoint.step(piece, cx)?;
            let starts = std::array::from_fn(|operand| run.starts[operand] + from * steps[operand]);
            visit(&Run { out: run.out + from, len: piece, starts, steps });
        }
        run.out += len;
        // The next index of the outer dimensions, the last of which changes fastest.
        let mut moved = false;
        for ((index, (dim, steps)), _) in index.iter_mut().zip(&merged).rev().zip(0..) {
            *index += 1;
            for (start, step) in run.starts.iter_mut().zip(steps) {
                *start += step;
            }
            if *index < *dim {
                moved = true;
                break;
            }
            *index = 0;
            for (start, step) in run.starts.iter_mut().zip(steps) {
                *start -= step * dim;
            }
        }
        if !moved {
            return Ok(());
        }
    }
}

/// Whether loops over elements of a type are compiled for the widest vectors. For the others that would take more time
/// and room than it saves.
const fn is_common(ty: ElementType) -> bool {
    matches!(ty, ElementType::F32 | ElementType::I32 | ElementType::I64 | ElementType::Bool)
}

/// Calls `f` with each item of a loop over elements of `T`.
#[inline]
fn each<T: Element, I: Iterator>(items: I, f: impl FnMut(I::Item)) {
    if const { is_common(T::TYPE) } { loops::for_each(items, f) } else { items.for_each(f) }
}

/// Appends the items of a loop over elements of `T`.
#[inline]
fn append<T: Element, U>(out: &mut Vec<U>, items: impl Iterator<Item = U>) {
    if const { is_common(T::TYPE) } { loops::extend(out, items) } else { out.extend(items) }
}

/// `f` of each pair of elements of two tensors.
pub(super) fn zip<T: Element, U: Element>(
    a: &Value,
    b: &Value,
    cx: &ExecContext<'_>,
    f: impl Fn(T, T) -> U + Copy,
) -> Result<Value, Error> {
    let out = shape(a.dims(), b.dims())?;
    let (left, right) = (a.elements::<T>()?, b.elements::<T>()?);
    let output = cx.output::<U>(&out)?;
    output.append(|elements| {
        runs(&out, [a.dims(), b.dims()], cx, |run| {
            let ([i, j], len) = (run.starts, run.len);
            match run.steps {
                [1, 1] => {
                    let pairs = left[i..i + len].iter().zip(&right[j..j + len]);
                    append::<T, _>(elements, pairs.map(move |(&a, &b)| f(a, b)));
                }
                [1, _] => {
                    let b = right[j];
                    append::<T, _>(elements, left[i..i + len].iter().map(move |&a| f(a, b)));
                }
                [_, 1] => {
                    let a = left[i];
                    append::<T, _>(elements, right[j..j + len].iter().map(move |&b| f(a, b)));
                }
                _ => elements.extend(std::iter::repeat_n(f(left[i], right[j]), len)),
            }
        })
    })
}

/// As [`zip`], in place if an operand has the shape of the result and no other owner.
pub(super) fn zip_into<T: Element>(
    mut a: Value,
    mut b: Value,
    cx: &ExecContext<'_>,
    f: impl Fn(T, T) -> T + Copy,
) -> Result<Value, Error> {
    if a.dims() == b.dims() {
        return zip_alike(a, b, cx, f);
    }
    let out = shape(a.dims(), b.dims())?;
    if a.dims() == &*out
        && let Some(left) = a.elements_mut::<T>()
    {
        let right = b.elements::<T>()?;
        runs(&out, [b.dims()], cx, |run| {
            let left = &mut left[run.out..run.out + run.len];
            let j = run.starts[0];
            if run.steps == [1] {
                each::<T, _>(left.iter_mut().zip(&right[j..j + run.len]), move |(a, &b)| *a = f(*a, b));
            } else {
                let b = right[j];
                each::<T, _>(left.iter_mut(), move |a| *a = f(*a, b));
            }
        })?;
        return Ok(a);
    }
    if b.dims() == &*out
        && let Some(right) = b.elements_mut::<T>()
    {
        let left = a.elements::<T>()?;
        runs(&out, [a.dims()], cx, |run| {
            let right = &mut right[run.out..run.out + run.len];
            let i = run.starts[0];
            if run.steps == [1] {
                each::<T, _>(right.iter_mut().zip(&left[i..i + run.len]), move |(b, &a)| *b = f(a, *b));
            } else {
                let a = left[i];
                each::<T, _>(right.iter_mut(), move |b| *b = f(a, *b));
            }
        })?;
        return Ok(b);
    }
    zip(&a, &b, cx, f)
}

/// [`zip_into`] of two tensors of the same shape.
fn zip_alike<T: Element>(
    mut a: Value,
    mut b: Value,
    cx: &ExecContext<'_>,
    f: impl Fn(T, T) -> T + Copy,
) -> Result<Value, Error> {
    let mut checkpoint = Checkpoint::default();
    if let Some(left) = a.elements_mut::<T>() {
        for (left, right) in left.chunks_mut(PIECE).zip(b.elements::<T>()?.chunks(PIECE)) {
            checkpoint.step(left.len(), cx)?;
            each::<T, _>(left.iter_mut().zip(right), move |(a, &b)| *a = f(*a, b));
        }
        return Ok(a);
    }
    if let Some(right) = b.elements_mut::<T>() {
        for (left, right) in a.elements::<T>()?.chunks(PIECE).zip(right.chunks_mut(PIECE)) {
            checkpoint.step(left.len(), cx)?;
            each::<T, _>(right.iter_mut().zip(left), move |(b, &a)| *b = f(a, *b));
        }
        return Ok(b);
    }
    let (left, right) = (a.elements::<T>()?, b.elements::<T>()?);
    cx.output::<T>(a.dims())?.append(|out| {
        for (left, right) in left.chunks(PIECE).zip(right.chunks(PIECE)) {
            checkpoint.step(left.len(), cx)?;
            append::<T, _>(out, left.iter().zip(right).map(move |(&a, &b)| f(a, b)));
        }
        Ok(())
    })
}

/// `f` of each element, in place if the tensor has no other owner.
pub(super) fn map_into<T: Element>(
    mut value: Value,
    cx: &ExecContext<'_>,
    f: impl Fn(T) -> T + Copy,
) -> Result<Value, Error> {
    if let Some(elements) = value.elements_mut::<T>() {
        let mut checkpoint = Checkpoint::default();
        for piece in elements.chunks_mut(PIECE) {
            checkpoint.step(piece.len(), cx)?;
            each::<T, _>(piece.iter_mut(), move |element| *element = f(*element));
        }
        return Ok(value);
    }
    map(&value, cx, f)
}

/// `f` of each element.
pub(super) fn map<T: Element, U: Element>(
    value: &Value,
    cx: &ExecContext<'_>,
    f: impl Fn(T) -> U + Copy,
) -> Result<Value, Error> {
    let (elements, mut checkpoint) = (value.elements::<T>()?, Checkpoint::default());
    cx.output::<U>(value.dims())?.append(|out| {
        for piece in elements.chunks(PIECE) {
            checkpoint.step(piece.len(), cx)?;
            append::<T, _>(out, piece.iter().map(move |&element| f(element)));
        }
        Ok(())
    })
}

/// The value, broadcast to `out`.
pub(super) fn expand<T: Element>(value: &Value, out: &[usize], cx: &ExecContext<'_>) -> Result<Value, Error> {
    let elements = value.elements::<T>()?;
    cx.output::<T>(out)?.append(|expanded| {
        runs(out, [value.dims()], cx, |run| {
            let i = run.starts[0];
            if run.steps == [1] {
                expanded.extend_from_slice(&elements[i..i + run.len]);
            } else {
                expanded.extend(std::iter::repeat_n(elements[i], run.len));
            }
        })
    })
}

/// The elements of `value`, in the type of `_like`.
pub(super) fn elements_like<'a, T: Element>(_like: &[T], value: &'a Value) -> Result<&'a [T], Error> {
    value.elements::<T>()
}

/// The value broadcast to `out`, in the type of `_like`.
pub(super) fn expand_like<T: Element>(
    _like: &[T],
    value: &Value,
    out: &[usize],
    cx: &ExecContext<'_>,
) -> Result<Value, Error> {
    expand::<T>(value, out, cx)
}
