//! Pooling: MaxPool, AveragePool, GlobalMaxPool, GlobalAveragePool, over one to three spatial dimensions.
//!
//! The maximum of elements with a NaN is NaN, as in Max and ReduceMax; its index is that of the first NaN.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::math::loops;
use crate::ops::average_pool::{averages, spans};
use crate::ops::cast::convert;
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::ops::real::{Real, with_reals};
use crate::ops::reduce::row_means;
use crate::ops::window::{Slide, Window};
use crate::ops::{pool_last, pool_rows, real};
use crate::tensor::dim_list::DimVec;
use crate::tensor::dims::{Dims, count, product};
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] = &[
    since(1, "MaxPool", (1, 1), max_pool).heavy().channels_last(pool_last::max_pool).device(form!(pool::max_pool)),
    since(1, "AveragePool", (1, 1), average_pool)
        .heavy()
        .channels_last(pool_last::average_pool)
        .device(form!(pool::average_pool)),
    since(1, "GlobalMaxPool", (1, 1), |_| global(true))
        .channels_last(|_| Some(pool_last::global(true)))
        .device(form!(|_| pool::global(true))),
    since(1, "GlobalAveragePool", (1, 1), |_| global(false))
        .channels_last(|_| Some(pool_last::global(false)))
        .device(form!(|_| pool::global(false))),
];

/// The window of a pool over a value, and the dimensions of the output.
pub(super) struct Pool {
    pub(super) slides: [Slide; 3],
    pub(super) dims: DimVec,
}

pub(super) fn pool(window: &Window, value: &Value) -> Result<Pool, Error> {
    let [n, c, spatial @ ..] = value.dims() else {
        return Err(Error::invalid_argument(format!("{} has no spatial dimensions", Dims(value.dims()))));
    };
    let kernel = window.kernel().ok_or_else(|| Error::invalid_encoding("attribute kernel_shape is missing"))?;
    let over = window.slides_over(spatial, kernel)?;
    let slides = Slide::as_three(&over)?;
    let mut dims: DimVec = smallvec::smallvec![*n, *c];
    dims.extend(over.iter().map(|slide| slide.output));
    Ok(Pool { slides, dims })
}

/// Converts the input of a pool to the type that it computes in; returns its own type too.
pub(super) fn promote(value: Value, cx: &ExecContext<'_>) -> Result<(Value, ElementType), Error> {
    match value.ty() {
        // f32 holds every 8-bit integer exactly.
        ty @ (ElementType::I8 | ElementType::U8) => Ok((convert(value, ElementType::F32, cx)?, ty)),
        _ => real::promote(value, cx),
    }
}

/// Whether an element replaces the maximum of those before it: if it is larger, or the first NaN.
pub(super) fn exceeds<T: Real>(element: T, best: T) -> bool {
    element > best || (element.is_nan() && !best.is_nan())
}

fn max_pool(node: &Node<'_>) -> Result<OpFn, Error> {
    let window = Window::new(node)?.ceil(node.opset >= 10 && node.flag("ceil_mode", false)?);
    let column_major = node.opset >= 8 && node.flag("storage_order", false)?;
    let indices = node.outputs() > 1;
    node.limit_outputs(2)?;
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = promote(args.take(0)?, cx)?;
        let Pool { slides: [zs, ys, xs], dims } = pool(&window, &value)?;
        if !indices && !value.is_empty() && value.ty() == ElementType::F32 && pool_rows::suits(&zs, &xs) {
            let result = pool_rows::max(value.elements::<f32>()?, &dims, [ys, xs], cx)?;
            return Ok(values![convert(result, ty, cx)?]);
        }
        let order = indices.then_some(column_major);
        let (result, found_indices) = with_reals!(value, T => maxima::<T>(&value, [zs, ys, xs], &dims, order, cx))?;
        let result = convert(result, ty, cx)?;
        Ok(std::iter::once(result).chain(found_indices).collect())
    }))
}

/// The largest element of each window and, if `indices` is given, its index: in column-major order if it is true.
fn maxima<T: Real>(
    value: &Value,
    [zs, ys, xs]: [Slide; 3],
    dims: &[usize],
    indices: Option<bool>,
    cx: &ExecContext<'_>,
) -> Result<(Value, Option<Value>), Error> {
    let (elements, plane) = (value.elements::<T>()?, zs.input * ys.input * xs.input);
    let spans = |slide: &Slide| spans(slide, Slide::kernel_range, cx);
    let (deep, high, wide) = (spans(&zs)?, spans(&ys)?, spans(&xs)?);
    let mut checkpoint = Checkpoint::default();
    let index_count = if indices.is_some() { count(dims)? } else { 0 };
    let (mut found_indices, charge) = cx.scratch::<i64>(index_count)?;
    let result = cx.output::<T>(dims)?.append(|out| {
        if plane == 0 {
            return Ok(());
        }
        for (index, plane_elements) in elements.chunks_exact(plane).enumerate() {
            for (z, &(z_first, z_end)) in deep.iter().enumerate() {
                for (y, &(y_first, y_end)) in high.iter().enumerate() {
                    for (x, &(x_first, x_end)) in wide.iter().enumerate() {
                        checkpoint.step(1, cx)?;
                        let (mut best, mut winner) = (T::NEG_INFINITY, None);
                        for dz in z_first..z_end {
                            let slab = zs.source(z, dz) * ys.input;
                            for dy in y_first..y_end {
                                checkpoint.step(x_end - x_first, cx)?;
                                let line = (slab + ys.source(y, dy)) * xs.input;
                                for dx in x_first..x_end {
                                    let at = line + xs.source(x, dx);
                                    let element = plane_elements[at];
                                    // The first element wins even if it is -∞.
                                    if exceeds(element, best) || winner.is_none() {
                                        (best, winner) = (element, Some(at));
                                    }
                                }
                            }
                        }
                        out.push(best);
                        if let Some(column_major) = indices {
                            let counted =
                                storage_index(winner.unwrap_or(0), column_major, ys.input, xs.input, zs.input);
                            found_indices.push((index * plane + counted) as i64);
                        }
                    }
                }
            }
        }
        Ok(())
    })?;
    let found_indices = indices.map(|_| Value::charged(dims, found_indices, charge)).transpose()?;
    Ok((result, found_indices))
}

/// An index in a plane, converted to column-major order if asked for.
fn storage_index(position: usize, column_major: bool, height: usize, width: usize, depth: usize) -> usize {
    if !column_major {
        return position;
    }
    let (x, y, z) = (position % width, position / width % height, position / width / height);
    z + depth * (y + height * x)
}

fn average_pool(node: &Node<'_>) -> Result<OpFn, Error> {
    let window = Window::new(node)?.ceil(node.opset >= 10 && node.flag("ceil_mode", false)?);
    let count_pads = node.opset >= 7 && node.flag("count_include_pad", false)?;
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = promote(args.take(0)?, cx)?;
        let pool = pool(&window, &value)?;
        let [zs, ys, xs] = pool.slides;
        if !value.is_empty() && value.ty() == ElementType::F32 && pool_rows::suits(&zs, &xs) {
            let result = pool_rows::average(value.elements::<f32>()?, &pool.dims, [ys, xs], count_pads, cx)?;
            return Ok(values![convert(result, ty, cx)?]);
        }
        let result = with_reals!(value, T => averages::<T>(&value, pool.slides, &pool.dims, count_pads, cx))?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

fn global(largest: bool) -> Result<OpFn, Error> {
    Ok(Box::new(move |mut args, cx| {
        let (value, ty) = promote(args.take(0)?, cx)?;
        let [n, c, spatial @ ..] = value.dims() else {
            return Err(Error::invalid_argument(format!("{} has no spatial dimensions", Dims(value.dims()))));
        };
        let (outer, inner) = (n * c, product(spatial));
        if inner == 0 {
            return Err(Error::invalid_argument("the spatial dimensions of a pool are empty"));
        }
        let mut dims: DimVec = smallvec::smallvec![*n, *c];
        dims.resize(value.rank(), 1);
        let result = with_reals!(value, T => {
            if largest {
                row_maxima::<T>(&value, inner, &dims, cx)
            } else {
                row_means::<T>(&value, outer, inner, &dims, cx)
            }
        })?;
        Ok(values![convert(result, ty, cx)?])
    }))
}

/// The largest of each row of `inner` elements.
fn row_maxima<T: Real>(value: &Value, inner: usize, dims: &[usize], cx: &ExecContext<'_>) -> Result<Value, Error> {
    let (elements, mut checkpoint) = (value.elements::<T>()?, Checkpoint::default());
    cx.output::<T>(dims)?.append(|out| {
        for row in elements.chunks_exact(inner) {
            let mut tops = [T::NEG_INFINITY; loops::PARTS];
            for piece in row.chunks(PIECE) {
                checkpoint.step(piece.len(), cx)?;
                loops::fold(&mut tops, piece, |top, x| if exceeds(x, top) { x } else { top });
            }
            out.push(tops.into_iter().fold(T::NEG_INFINITY, |top, x| if exceeds(x, top) { x } else { top }));
        }
        Ok(())
    })
}
